"""Candles shorter than a day: the official client against the simulator, within the broker's spans."""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from fastapi.testclient import TestClient

from common.clock import FixedClock, SystemClock
from common.db import Database
from common.testing import client_for
from kite_simulator.server import SimulatorServer
from market_data_service.app import create_app
from market_data_service.config import NAME, Settings
from market_data_service.kite_source import KiteQuoteSource
from market_data_service.loader import load_exchange
from market_data_service.market import Market
from market_data_service.mirror import DatabaseMirror
from market_data_service.source import INTRADAY_SPAN_DAYS_MAX

PATH = "/api/v1/candles/NSE/INFY"
SESSION_MINUTES = 375


@pytest.fixture
def get(
    db: Database,
    kite: KiteQuoteSource,
    simulator: SimulatorServer,
    settings: Settings,
    market: Market,
    authenticator: Callable[..., Any],
    auth_headers: Callable[..., dict[str, str]],
    clock: FixedClock,
) -> Callable[..., Any]:
    """Ask the room, whose broker is the simulator and whose today is the simulator's."""
    clock.set(SystemClock().now())
    load_exchange(db, kite, clock, "NSE")
    DatabaseMirror(db, market).refresh(clock.now())
    app = create_app(settings, db=db, authenticator=authenticator(NAME), market=market, source=kite, clock=clock)
    client: TestClient = client_for(app)
    return lambda **params: client.get(PATH, headers=auth_headers(), params=params)


def whole_day(get: Callable[..., Any], interval: str, back: int = 20) -> tuple[str, list[dict[str, Any]]]:
    """The candles of the newest whole trading day some days ago."""
    today = SystemClock().now().date()
    for days in range(back, back + 10):
        day = (today - timedelta(days=days)).isoformat()
        answer = get(interval=interval, **{"from": day, "to": day})
        assert answer.status_code == 200, answer.text
        if answer.json()["candles"]:
            return day, answer.json()["candles"]
    raise AssertionError("no trading day in ten days")


@pytest.mark.parametrize(("interval", "minutes"), [("minute", 1), ("5minute", 5), ("15minute", 15), ("60minute", 60)])
def test_a_day_is_cut_into_intervals_that_agree_with_its_daily_candle(
    get: Callable[..., Any], interval: str, minutes: int
) -> None:
    day, candles = whole_day(get, interval)
    assert len(candles) == -(-SESSION_MINUTES // minutes)
    times = [datetime.fromisoformat(candle["time"]) for candle in candles]
    assert times[0].isoformat() == f"{day}T09:15:00+05:30"
    assert {later - earlier for earlier, later in pairwise(times)} == {timedelta(minutes=minutes)}
    [daily] = get(**{"from": day, "to": day}).json()["candles"]
    assert (candles[0]["open"], candles[-1]["close"]) == (daily["open"], daily["close"])
    assert max(float(candle["high"]) for candle in candles) <= float(daily["high"])
    assert min(float(candle["low"]) for candle in candles) >= float(daily["low"])


@pytest.mark.parametrize("interval", INTRADAY_SPAN_DAYS_MAX)
def test_the_brokers_longest_span_is_answered_and_a_day_more_is_refused(get: Callable[..., Any], interval: str) -> None:
    today, most = SystemClock().now().date(), INTRADAY_SPAN_DAYS_MAX[interval]
    longest = {"from": (today - timedelta(days=most - 1)).isoformat(), "to": today.isoformat()}
    assert get(interval=interval, **longest).status_code == 200
    longer = {**longest, "from": (today - timedelta(days=most)).isoformat()}
    refused = get(interval=interval, **longer)
    assert (refused.status_code, refused.json()["code"], refused.json()["days_max"]) == (422, "invalid_span", most)


def test_what_the_broker_does_not_know_is_refused(get: Callable[..., Any]) -> None:
    assert get(interval="2minute").json()["code"] == "invalid_request"
    backwards = get(interval="minute", **{"from": "2026-01-02", "to": "2026-01-01"})
    assert (backwards.status_code, backwards.json()["code"]) == (422, "invalid_span")
