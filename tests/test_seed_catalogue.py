"""The seeded catalogue over smallcase-service and its real database: twelve smallcases, computed weights, once."""

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from common.auth import Authenticator
from common.clock import FixedClock, trading_date
from common.db import Database
from common.http import ServiceClient
from common.market_data import History
from common.money import format_rupees
from common.testing import StaticMarketData
from scripts.demo_client import Client
from scripts.seed_catalogue import entries, seed
from smallcase_service.app import create_app
from smallcase_service.config import NAME, Settings
from smallcase_service.portfolio_orders import PortfolioClient
from smallcase_service.universes import universes

NAMED = {name: [symbol for _, symbol in one.keys] for name, one in universes().items()}
CATEGORIES = {
    "banking", "it", "staples", "dividend", "momentum", "pharma", "infrastructure", "auto", "metals", "all_weather",
    "core", "esg",
}  # fmt: skip


@pytest.fixture
def market(clock: FixedClock) -> StaticMarketData:
    """Every share of the named lists with two years of candles; a few rise steadily."""
    symbols = NAMED["nifty_50"]
    market = StaticMarketData({("NSE", symbol): 1_000_00 for symbol in symbols}, clock)
    days = [trading_date(clock.now()) - timedelta(days=n) for n in range(520, 0, -1)]
    for place, symbol in enumerate(symbols):
        rng, value, closes = random.Random(place), 1_000_00.0, []  # noqa: S311
        for _ in days:
            value *= 1 + rng.gauss(0.002 if place < 15 else -0.002, 0.01)
            closes.append(round(value))
        market.candles["NSE", symbol] = History(days, closes, [1_000] * len(days), True)
    return market


@pytest.fixture
def door(
    service_database: Callable[..., Database],
    authenticator: Callable[..., Authenticator],
    market: StaticMarketData,
    clock: FixedClock,
) -> FastAPI:
    """smallcase-service, and the candles of market-data-service's public route."""
    db = service_database("smallcase_service")
    nobody = PortfolioClient(ServiceClient("http://127.0.0.1:9", audience="portfolio-service"))
    app = create_app(
        Settings(database_url=db.url),
        db=db,
        authenticator=authenticator(NAME),
        market=market,
        portfolio=nobody,
        clock=clock,
    )

    @app.get("/api/v1/candles/{exchange}/{symbol}")
    def candles(exchange: str, symbol: str) -> dict[str, Any]:
        history = market.candles[exchange, symbol]
        return {"candles": [{"close": format_rupees(close)} for close in history.closes_paise]}

    return app


def seeded(door: FastAPI, token: str, clock: FixedClock) -> tuple[dict[str, bool], list[dict[str, Any]]]:
    async def run() -> tuple[dict[str, bool], list[dict[str, Any]]]:
        transport = httpx.ASGITransport(app=door)
        async with httpx.AsyncClient(transport=transport, base_url="http://door") as http:
            admin = Client(http)
            admin._token = token
            made = await seed(admin, trading_date(clock.now()))
            found = (await admin.get("/api/v1/smallcases", limit=100))["items"]
            return made, [await admin.get(f"/api/v1/smallcases/{row['smallcase_id']}") for row in found]

    return asyncio.run(run())


def test_twelve_are_made_once_with_computed_weights(
    door: FastAPI, user_token: Callable[..., str], clock: FixedClock
) -> None:
    token = user_token(roles=("admin",))
    made, found = seeded(door, token, clock)
    assert len(made) == 12
    assert all(made.values())
    assert {row["attributes"]["category"] for row in found} == CATEGORIES
    for row in found:
        assert row["visibility"] == "published"
        assert sum(one["weight_bps"] for one in row["constituents"]) == 10_000
        assert row["validation"]["valid"]
        assert row["attributes"]["weighting_note"]
    leaders = next(row for row in found if row["attributes"]["category"] == "momentum")
    assert {one["tradingsymbol"] for one in leaders["constituents"]} == set(NAMED["nifty_50"][:15])
    again, still = seeded(door, token, clock)
    assert not any(again.values())
    assert {(row["smallcase_id"], row["version"]) for row in still} == {(row["smallcase_id"], 1) for row in found}


def test_catalogue_names_known_shares_and_says_why() -> None:
    catalogue = entries(NAMED)
    assert len({entry.name for entry in catalogue}) == 12
    known = set(NAMED["nifty_50"])
    for entry in catalogue:
        assert set(entry.symbols) <= known
        assert 1 <= len(entry.symbols) <= 50
        assert entry.body["attributes"]["rationale"]
