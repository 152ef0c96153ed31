"""market-data-service as its tests see it: real PostgreSQL, the Kite simulator over HTTP with the official client."""

import csv
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from common.auth import Authenticator
from common.cache import MemoryCache
from common.clock import FixedClock
from common.db import Database
from common.testing import client_for
from kite_simulator.config import Settings as SimulatorSettings
from kite_simulator.server import SimulatorServer
from market_data_service.app import create_app
from market_data_service.config import NAME, PACKAGE, Settings
from market_data_service.instruments import Key
from market_data_service.kite_source import BrokerSession, KiteQuoteSource
from market_data_service.loader import load_exchange
from market_data_service.market import Market
from market_data_service.mirror import DatabaseMirror
from market_data_service.prices import DayQuote, LastPrice
from market_data_service.source import DayCandle, NoBrokerSession

API_KEY = "saras-dev"
ACCESS_TOKEN = "market-data-tests"
CALENDAR_CSV = Path(__file__).resolve().parents[3] / "shared" / "data" / "nse_calendar_2026_2027.csv"


@pytest.fixture
def db(service_database: Callable[..., Database]) -> Database:
    """This service's empty database."""
    return service_database(PACKAGE)


@pytest.fixture
def settings() -> Settings:
    """The exchange's calendar; everything else as it comes."""
    return Settings(market_calendar="nse")


@pytest.fixture
def market(settings: Settings) -> Market:
    """An empty market."""
    return Market.create(settings)


@pytest.fixture
def simulator() -> Iterator[SimulatorServer]:
    """A running simulator with prices that stand still and no rate limits."""
    chosen = SimulatorSettings(
        api_key=API_KEY, access_token=ACCESS_TOKEN, rate_limits=False, partial_fill_probability=0.0
    )
    with SimulatorServer(chosen) as server:
        server.call(lambda engine: engine.control.freeze_prices(True))
        yield server


class HeldSessions:
    """BrokerSessions whose session a test sets; None: nobody is logged in. Counts how often it was asked."""

    def __init__(self, session: BrokerSession | None) -> None:
        self.session = session
        self.asked = 0

    def current(self) -> BrokerSession:
        self.asked += 1
        if self.session is None:
            raise NoBrokerSession("There is no broker session at the moment.")
        return self.session


@pytest.fixture
def sessions(simulator: SimulatorServer) -> HeldSessions:
    """A session the simulator accepts."""
    return HeldSessions(BrokerSession(API_KEY, ACCESS_TOKEN, simulator.url))


@pytest.fixture
def kite(sessions: HeldSessions, clock: FixedClock) -> KiteQuoteSource:
    """The official client against the simulator, without pauses between quotes."""
    return KiteQuoteSource(sessions, clock, quote_pause_s=0.0)


RowFactory = Callable[..., dict[str, Any]]


@pytest.fixture
def row() -> RowFactory:
    """Factory: one row of an instrument file as the client parses it."""
    return file_row


def file_row(symbol: str, **changes: Any) -> dict[str, Any]:
    """A share with tick 0.05 and lot 1 unless told otherwise."""
    return {
        "instrument_token": 256 * (1 + sum(map(ord, symbol))) + 1,
        "exchange_token": "1",
        "tradingsymbol": symbol,
        "name": f"{symbol} LIMITED",
        "last_price": 0.0,
        "expiry": "",
        "strike": 0.0,
        "tick_size": 0.05,
        "lot_size": 1,
        "instrument_type": "EQ",
        "segment": "NSE",
        "exchange": "NSE",
        **changes,
    }


@dataclass
class ScriptedSource:
    """QuoteSource that a test scripts where a broker's misbehaviour is the point: files, prices, candles, failures."""

    rows: list[Mapping[str, Any]] = field(default_factory=list)
    prices: dict[Key, LastPrice] = field(default_factory=dict)
    day: dict[Key, tuple[LastPrice, DayQuote]] = field(default_factory=dict)
    candles: list[DayCandle] = field(default_factory=list)
    failure: Exception | None = None
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def instruments(self, exchange: str) -> Sequence[Mapping[str, Any]]:
        self._called("instruments", exchange)
        return self.rows

    def last_prices(self, keys: Sequence[Key]) -> Mapping[Key, LastPrice]:
        self._called("ltp", tuple(keys))
        return {key: self.prices[key] for key in keys if key in self.prices}

    def quotes(self, keys: Sequence[Key]) -> Mapping[Key, tuple[LastPrice, DayQuote]]:
        self._called("quote", tuple(keys))
        return {key: self.day[key] for key in keys if key in self.day}

    def day_candles(self, instrument_token: int, first: date, last: date) -> Sequence[DayCandle]:
        self._called("candles", first, last)
        return [candle for candle in self.candles if first <= candle.on <= last]

    def _called(self, *call: Any) -> None:
        self.calls.append(call)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def scripted() -> ScriptedSource:
    """A broker that says what the test wants."""
    return ScriptedSource()


@pytest.fixture
def loaded(db: Database, kite: KiteQuoteSource, clock: FixedClock, market: Market) -> Market:
    """A market that knows the simulator's NSE instruments."""
    load_exchange(db, kite, clock, "NSE")
    DatabaseMirror(db, market).refresh(clock.now())
    return market


AppFactory = Callable[..., FastAPI]


@pytest.fixture
def make_app(
    db: Database,
    settings: Settings,
    authenticator: Callable[..., Authenticator],
    clock: FixedClock,
    market: Market,
    kite: KiteQuoteSource,
) -> AppFactory:
    """Factory of the real app; collaborators can be replaced by name."""

    def make(**changes: Any) -> FastAPI:
        chosen = {"market": market, "source": kite, "clock": clock, "cache": MemoryCache(), **changes}
        return create_app(chosen.pop("settings", settings), db=db, authenticator=authenticator(NAME), **chosen)

    return make


@pytest.fixture
def client(make_app: AppFactory, loaded: Market) -> TestClient:
    """The app over a loaded market."""
    return client_for(make_app())


@pytest.fixture
def user(auth_headers: Callable[..., dict[str, str]]) -> dict[str, str]:
    """Headers of some user."""
    return auth_headers()


@pytest.fixture
def admin(auth_headers: Callable[..., dict[str, str]]) -> dict[str, str]:
    """Headers of an admin."""
    return auth_headers(roles=("user", "admin"), mfa=True)


@pytest.fixture
def room(service_identity: Callable[[str], Any]) -> dict[str, str]:
    """Headers of another room."""
    return {"Authorization": f"Bearer {service_identity('portfolio-service').token(NAME)}"}


@pytest.fixture
def served() -> Iterator[Callable[[FastAPI], str]]:
    """Factory: serve an app on a free port of this machine and answer its URL."""
    running: list[tuple[uvicorn.Server, threading.Thread, socket.socket]] = []

    def serve(app: FastAPI) -> str:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        running.append((server, thread, listener))
        thread.start()
        deadline = time.monotonic() + 10
        while not server.started:
            assert time.monotonic() < deadline, "the app did not start"
            time.sleep(0.01)
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield serve
    for server, thread, listener in running:
        server.should_exit = True
        thread.join(10)
        listener.close()


@pytest.fixture(scope="session")
def official_days() -> dict[str, set[date]]:
    """The collected calendar of the exchange by kind of day."""
    if not CALENDAR_CSV.exists():
        pytest.skip(f"the collected exchange calendar is not here: {CALENDAR_CSV.name} in ../shared/data")
    days: dict[str, set[date]] = {}
    with CALENDAR_CSV.open() as file:
        for line in csv.DictReader(file):
            days.setdefault(line["kind"], set()).add(date.fromisoformat(line["date"]))
    return days
