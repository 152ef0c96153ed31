"""Two processes: one polls, the other answers; they share tables and a cache that may be lost."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from common.auth import ServiceIdentity
from common.cache import MemoryCache, RedisCache
from common.clock import FixedClock
from common.config import InvalidSettings
from common.db import Database
from common.http import ServiceClient
from common.testing import eventually
from market_data_service import mirror
from market_data_service.config import Settings
from market_data_service.kite_source import ExecutorSessions, KiteQuoteSource
from market_data_service.market import Market
from market_data_service.mirror import CacheMirror, DatabaseMirror
from market_data_service.poller import Poller
from market_data_service.source import NoBrokerSession

INFY = ("NSE", "INFY")


@pytest.fixture
def cache() -> MemoryCache:
    return MemoryCache()


@pytest.fixture
def poller(
    db: Database, settings: Settings, clock: FixedClock, loaded: Market, kite: KiteQuoteSource, cache: MemoryCache
) -> Poller:
    return Poller(settings=settings, db=db, clock=clock, market=loaded, source=kite, cache=cache)


@pytest.fixture
def other(db: Database, settings: Settings, clock: FixedClock, loaded: Market) -> Market:
    """The memory of a second process, as fresh as the tables."""
    market = Market.create(settings)
    DatabaseMirror(db, market).refresh(clock.now())
    return market


def test_prices_day_figures_and_state_cross_over_by_the_cache(
    poller: Poller,
    loaded: Market,
    other: Market,
    db: Database,
    cache: MemoryCache,
    settings: Settings,
    clock: FixedClock,
) -> None:
    poller.step()
    poller.step()
    CacheMirror(db, cache, other, settings).refresh(clock.now())
    assert other.prices.price(INFY) == loaded.prices.price(INFY)
    assert other.prices.quote(INFY) == loaded.prices.quote(INFY)
    assert other.feed.status == loaded.feed.status


def test_without_a_cache_prices_come_from_the_table(
    poller: Poller, other: Market, loaded: Market, db: Database, settings: Settings, clock: FixedClock
) -> None:
    poller.step()
    poller.store()
    lost = CacheMirror(db, RedisCache("redis://127.0.0.1:9/0"), other, settings)
    lost.refresh(clock.now())
    assert other.prices.price(INFY) == loaded.prices.price(INFY)
    assert other.feed.status.state == "ok"


def test_foreign_content_of_the_cache_is_ignored(
    other: Market, db: Database, cache: MemoryCache, settings: Settings, clock: FixedClock
) -> None:
    rubbish = ("", "null", "[]", "{}", '{"price_paise": "x", "at": "now"}', "\x00")
    for text in rubbish:
        cache.set_many({"price:NSE:INFY": text, "quote:NSE:INFY": text, "feed:market-data": text}, 60)
        CacheMirror(db, cache, other, settings).refresh(clock.now())
    assert other.prices.price(INFY) is None
    assert other.feed.status.state == "unknown"


def test_the_answering_process_keeps_itself_up_to_date(
    poller: Poller,
    db: Database,
    cache: MemoryCache,
    settings: Settings,
    clock: FixedClock,
    make_app: Callable[..., FastAPI],
    room: dict[str, str],
) -> None:
    market = Market.create(settings)

    def keep(stop: threading.Event) -> None:
        quick = settings.model_copy(update={"mirror_interval_s": 0.1})
        mirror.run(stop, settings=quick, db=db, clock=clock, market=market, cache=cache)

    poller.step()
    with TestClient(make_app(market=market, background=[keep])) as client:
        path = "/internal/v1/prices?i=NSE:INFY"
        prices = eventually(lambda: client.get(path, headers=room).json()["prices"])
        assert prices[0]["price_paise"] == 1_154_60
        assert client.get("/health/ready").json()["checks"]["instruments"]["count"] == 52
        # The wish travels to the table, where the poller's process reads it.
        eventually(lambda: INFY in _interest(db, clock))
    assert not [thread for thread in threading.enumerate() if thread.name == "market-data-mirror"]


def _interest(db: Database, clock: FixedClock) -> list[tuple[str, str]]:
    with db.session() as session:
        return mirror.read_interest(session, clock.now())


def test_the_database_is_read_again_only_when_something_changed(
    db: Database, loaded: Market, settings: Settings, clock: FixedClock
) -> None:
    from common.db import count_statements

    watcher = DatabaseMirror(db, loaded)
    watcher.refresh(clock.now())
    with count_statements(db) as statements:
        watcher.refresh(clock.now())
    assert len(statements) == 2


class _Executor(BaseHTTPRequestHandler):
    """trade-executor's internal route: 503 until somebody is logged in."""

    answer: dict[str, str] | None = None
    tokens: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        type(self).tokens.append(self.headers["Authorization"])
        known = self.path == "/internal/v1/market-data-session" and self.answer is not None
        body = self.answer if known else {"code": "broker_session_missing", "detail": "Log in first.", "status": 503}
        payload = json.dumps(body).encode()
        self.send_response(200 if known else 503)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def executor() -> Iterator[str]:
    _Executor.answer, _Executor.tokens = None, []
    server = HTTPServer(("127.0.0.1", 0), _Executor)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_the_broker_session_comes_from_the_executor(
    executor: str, service_identity: Callable[[str], ServiceIdentity]
) -> None:
    identity = service_identity("market-data-service")
    client = ServiceClient(executor, audience="trade-executor", identity=identity)
    sessions = ExecutorSessions(client)
    with pytest.raises(NoBrokerSession):
        sessions.current()
    _Executor.answer = {"api_key": "key", "access_token": "token", "root_url": "http://127.0.0.1:9010"}
    session = sessions.current()
    assert (session.api_key, session.access_token, session.root_url) == ("key", "token", "http://127.0.0.1:9010")
    assert _Executor.tokens[0] == f"Bearer {identity.token('trade-executor')}"
    _Executor.answer = {"api_key": "key"}
    with pytest.raises(NoBrokerSession):
        sessions.current()
    client.close()


def test_an_executor_that_is_away_means_no_session() -> None:
    client = ServiceClient("http://127.0.0.1:9", audience="trade-executor", timeout_s=0.5)
    with pytest.raises(NoBrokerSession):
        ExecutorSessions(client).current()
    client.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MARKET_DATA_EXCHANGES", "NSE,MCX"),
        ("MARKET_DATA_EXCHANGES", ","),
        ("MARKET_DATA_WATCH_LIST", "INFY"),
        ("MARKET_DATA_POLL_INTERVAL_S", "0.2"),
        ("MARKET_DATA_POLL_INTERVALL_S", "2"),
        ("MARKET_CALENDAR", "lse"),
    ],
)
def test_wrong_settings_fail_at_start_with_their_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings, match=name):
        Settings.load()


def test_lists_in_the_environment_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKET_DATA_EXCHANGES", "NSE, BSE")
    monkeypatch.setenv("MARKET_DATA_WATCH_LIST", "nse:infy,NSE:NIFTY 50")
    settings = Settings.load()
    assert settings.exchanges == ("NSE", "BSE")
    assert settings.watch_list == ("NSE:INFY", "NSE:NIFTY 50")
    assert settings.market_calendar == "nse"
