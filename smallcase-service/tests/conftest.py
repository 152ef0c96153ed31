"""Parts that the tests of smallcase-service share."""

import random
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from common.auth import Authenticator
from common.clock import FixedClock, trading_date
from common.db import Database
from common.http import PeerUnavailable, ServiceClient
from common.market_data import History, Instrument, Key
from common.testing import StaticMarketData, client_for
from smallcase_service.app import create_app
from smallcase_service.config import NAME, Settings
from smallcase_service.portfolio_orders import PortfolioClient

PATH = "/api/v1/smallcases"


@pytest.fixture
def nobody() -> PortfolioClient:
    """portfolio-service that does not answer: nothing is bought in these tests, baskets are tested with the real one."""
    return PortfolioClient(ServiceClient("http://127.0.0.1:9", audience="portfolio-service"))


@pytest.fixture
def db(service_database: Callable[..., Database]) -> Database:
    return service_database("smallcase_service")


@pytest.fixture
def market(clock: FixedClock) -> StaticMarketData:
    """The prices of the published example, and one share more."""
    shares = {("NSE", "TCS"): 1400_00, ("NSE", "ITC"): 250_00, ("NSE", "MARUTI"): 2400_00, ("BSE", "TCS"): 1401_00}
    return StaticMarketData(shares, clock)


@pytest.fixture
def client(
    db: Database,
    authenticator: Callable[..., Authenticator],
    market: StaticMarketData,
    nobody: PortfolioClient,
    clock: FixedClock,
) -> TestClient:
    settings = Settings(database_url=db.url)
    return client_for(
        create_app(settings, db=db, authenticator=authenticator(NAME), market=market, portfolio=nobody, clock=clock)
    )


class SilentMarket(StaticMarketData):
    """Market data that does not answer."""

    def instruments(self, keys: Iterable[Key]) -> Mapping[Key, Instrument]:
        raise PeerUnavailable("market-data-service does not answer at the moment; try again shortly.")


@pytest.fixture
def silent_client(
    db: Database, authenticator: Callable[..., Authenticator], nobody: PortfolioClient, clock: FixedClock
) -> TestClient:
    """A client of the room while market data does not answer."""
    settings, market = Settings(database_url=db.url), SilentMarket({}, clock)
    return client_for(
        create_app(settings, db=db, authenticator=authenticator(NAME), market=market, portfolio=nobody, clock=clock)
    )


@pytest.fixture
def basket() -> Callable[..., dict[str, Any]]:
    """Factory: the body of the published example, weights 50/30/20 %; every field may be given."""

    def make(**fields: Any) -> dict[str, Any]:
        weights = {"TCS": 5_000, "ITC": 3_000, "MARUTI": 2_000}
        constituents = [
            {"exchange": "NSE", "tradingsymbol": symbol, "weight_bps": bps} for symbol, bps in weights.items()
        ]
        return {"name": "Three of a kind", "description": "An example", "constituents": constituents, **fields}

    return make


@pytest.fixture
def created(client: TestClient, basket: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Factory: make a smallcase over HTTP and answer it; fields go into the body."""

    def make(headers: dict[str, str], **fields: Any) -> dict[str, Any]:
        answer = client.post(PATH, headers={**headers, "Idempotency-Key": uuid4().hex}, json=basket(**fields))
        assert answer.status_code == 201, answer.text
        body: dict[str, Any] = answer.json()
        return body

    return make


@pytest.fixture
def walked(clock: FixedClock) -> Callable[..., History]:
    """Factory: complete candles of a share on weekdays up to yesterday, from a seeded walk."""

    def make(seed: int, *, count: int = 800, start: float = 1_000_00, volume: int = 1_000_000) -> History:
        rng = random.Random(seed)  # noqa: S311
        day, days = trading_date(clock.now()), []
        while len(days) < count:
            day -= timedelta(days=1)
            if day.weekday() < 5:
                days.append(day)
        closes, value = [], start
        for _ in range(count):
            value *= 1 + rng.gauss(0.0004, 0.012)
            closes.append(round(value))
        return History(days[::-1], closes, [volume] * count, True)

    return make


@pytest.fixture
def charted(market: StaticMarketData, walked: Callable[..., History]) -> StaticMarketData:
    """The market with candles of every share and of the NIFTY 50."""
    for seed, key in enumerate([*market.shares, ("NSE", "NIFTY 50")]):
        market.candles[key] = walked(seed)
    return market
