"""Stored closes of many shares: answered at once, completed by the backlog, on common days."""

import threading
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from common.clock import FixedClock
from common.db import Database
from common.http import ServiceClient
from common.market_data import MarketDataClient
from common.testing import client_for, eventually
from market_data_service import candle_histories
from market_data_service.candle_histories import BACKLOG_MAX, READS_MAX, CandleBacklog
from market_data_service.candle_spans import Span
from market_data_service.instruments import Listing
from market_data_service.market import Market
from market_data_service.source import BrokerReadFailed, DayCandle, NoBrokerSession

TODAY = date(2026, 11, 23)
YESTERDAY = TODAY - timedelta(days=1)
INFY, TCS, NIFTY = ("NSE", "INFY"), ("NSE", "TCS"), ("NSE", "NIFTY 50")
PATH = "/internal/v1/histories"


def listing(symbol: str) -> Listing:
    return Listing("NSE", symbol, symbol, 408065, "1594", 10, 1, "NSE", "EQ", TODAY)


@pytest.fixture
def served_app(make_app: Callable[..., Any], loaded: Market) -> Any:
    return make_app()


def test_first_answer_is_incomplete_and_the_backlog_completes_it(served_app: Any, room: dict[str, str]) -> None:
    client, backlog = client_for(served_app), served_app.state.backlog
    params = [
        ("i", "NSE:INFY"),
        ("i", "NSE:NIFTY 50"),
        ("i", "NSE:NOSUCH"),
        ("from", "2026-10-01"),
        ("to", "2027-01-01"),
    ]
    first = client.get(PATH, params=params, headers=room).json()
    assert first["days"] == []
    assert {row["tradingsymbol"]: row["is_complete"] for row in first["histories"]} == {
        "INFY": False,
        "NIFTY 50": False,
    }
    assert len(backlog) == 2
    while backlog.step():
        pass
    again = client.get(PATH, params=params, headers=room).json()
    assert all(row["is_complete"] for row in again["histories"])
    assert again["days"][0] == "2026-10-01"
    assert date.fromisoformat(again["days"][-1]) <= YESTERDAY, "today's candle is not final"
    assert all(len(row["closes_paise"]) == len(again["days"]) == len(row["volumes"]) for row in again["histories"])
    assert len(backlog) == 0


def test_a_thread_of_the_app_completes_what_was_asked_for(
    served_app: Any, room: dict[str, str], service_identity: Callable[[str], Any]
) -> None:
    with TestClient(served_app) as client:
        service = ServiceClient("http://market", audience="market-data-service")
        service._client = client
        service._headers = lambda: room  # type: ignore[method-assign]
        market = MarketDataClient(service)

        def whole() -> Any:
            market._histories.clear()
            found = market.histories([INFY, TCS], date(2026, 9, 1), YESTERDAY)
            return found if all(history.is_complete for history in found.values()) else None

        found = eventually(whole)
        assert found[INFY].days == found[TCS].days
        assert all(close > 0 for close in found[INFY].closes_paise)
        calls = client.get
        client.get = None  # type: ignore[assignment,method-assign]
        assert market.histories([INFY], date(2026, 9, 1), YESTERDAY)[INFY] is found[INFY], "complete ones are kept"
        client.get = calls  # type: ignore[method-assign]


def test_days_on_which_a_share_did_not_trade_are_gaps(
    db: Database, scripted: Any, clock: FixedClock, make_app: Callable[..., Any], loaded: Market, room: dict[str, str]
) -> None:
    app = make_app(source=scripted)
    days = [date(2026, 11, day) for day in (16, 17, 18)]
    scripted.candles = [DayCandle(day, 1, 1, 1, 100, 5) for day in days]
    params = [("i", "NSE:INFY"), ("i", "NSE:TCS"), ("from", "2026-11-16"), ("to", "2026-11-18")]
    client = client_for(app)
    client.get(PATH, params=params[:1] + params[2:], headers=room)
    app.state.backlog.step()
    scripted.candles = scripted.candles[:1] + scripted.candles[2:]
    client.get(PATH, params=params, headers=room)
    app.state.backlog.step()
    rows = {row["tradingsymbol"]: row for row in client.get(PATH, params=params, headers=room).json()["histories"]}
    assert rows["INFY"]["closes_paise"] == [100, 100, 100]
    assert rows["TCS"]["closes_paise"] == [100, None, 100]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"i": "NSE:INFY", "from": "2026-11-23", "to": "2026-11-23"}, "history_too_long"),
        ({"i": "NSE:INFY", "from": "2010-01-01", "to": "2026-11-20"}, "history_too_long"),
        ({"i": [f"NSE:S{n}" for n in range(61)], "from": "2026-11-01", "to": "2026-11-20"}, "too_many_instruments"),
        ({"i": "INFY", "from": "2026-11-01", "to": "2026-11-20"}, "instrument_key_invalid"),
    ],
)
def test_impossible_requests_say_what_is_wrong(
    client: TestClient, room: dict[str, str], user: dict[str, str], params: dict[str, Any], code: str
) -> None:
    answer = client.get(PATH, params=params, headers=room)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert client.get(PATH, params=params, headers=user).status_code == 401


def test_backlog_gives_a_share_up_after_failures_and_waits_for_a_session(
    db: Database, scripted: Any, clock: FixedClock
) -> None:
    backlog = CandleBacklog(db, scripted, clock)
    backlog.want({INFY: listing("INFY")}, Span(date(2026, 11, 2), YESTERDAY))
    scripted.failure = NoBrokerSession("nobody is logged in")
    with pytest.raises(NoBrokerSession):
        backlog.step()
    assert len(backlog) == 1
    scripted.failure = BrokerReadFailed("no answer")
    for _ in range(READS_MAX):
        assert backlog.step()
    assert len(backlog) == 0
    assert not backlog.step()


def test_backlog_is_bounded_and_joins_wishes(db: Database, scripted: Any, clock: FixedClock) -> None:
    backlog = CandleBacklog(db, scripted, clock)
    backlog.want({("NSE", f"S{n}"): listing(f"S{n}") for n in range(BACKLOG_MAX + 5)}, Span(YESTERDAY, YESTERDAY))
    assert len(backlog) == BACKLOG_MAX
    few = CandleBacklog(db, scripted, clock)
    few.want({INFY: listing("INFY")}, Span(date(2026, 11, 2), date(2026, 11, 10)))
    few.want({INFY: listing("INFY")}, Span(date(2026, 10, 1), date(2026, 11, 5)))
    assert few.step()
    assert scripted.calls[0] == ("candles", date(2026, 10, 1), date(2026, 11, 10))
    assert not few.step()


def test_backlog_survives_a_silent_broker(
    db: Database, scripted: Any, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candle_histories, "NO_SESSION_PAUSE_S", 0.01)
    backlog, stop = CandleBacklog(db, scripted, clock), threading.Event()
    scripted.failure = NoBrokerSession("nobody is logged in")
    backlog.want({INFY: listing("INFY")}, Span(date(2026, 11, 2), YESTERDAY))
    thread = threading.Thread(target=backlog.run, args=(stop,))
    thread.start()
    eventually(lambda: len(scripted.calls) > 2)
    scripted.failure = None
    eventually(lambda: len(backlog) == 0)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
