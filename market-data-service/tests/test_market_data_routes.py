"""The HTTP side: who may ask, what is answered, how bad input is refused, and the other end in `common`."""

import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from common.auth import ServiceIdentity
from common.cache import RedisCache
from common.clock import FixedClock
from common.db import Database, count_statements
from common.http import ServiceClient
from common.market_data import MarketDataClient, UnknownInstrument, instrument_of
from common.testing import client_for
from market_data_service import routes_internal
from market_data_service.config import NAME, Settings
from market_data_service.market import Market
from market_data_service.models import InstrumentLoad
from market_data_service.prices import DayQuote, LastPrice
from market_data_service.source import BrokerReadFailed

INFY, TCS, NIFTY = ("NSE", "INFY"), ("NSE", "TCS"), ("NSE", "NIFTY 50")
AppFactory = Callable[..., FastAPI]
RowFactory = Callable[..., dict[str, Any]]

USER_GETS = [
    "/api/v1/tokens/search?q=INFY",
    "/api/v1/instruments?symbols=NSE:INFY",
    "/api/v1/instruments/NSE/INFY",
    "/api/v1/market/ltp/INFY",
    "/api/v1/market/ltp?i=NSE:INFY",
    "/api/v1/market/quotes?i=NSE:INFY",
    "/api/v1/market/status",
    "/api/v1/candles/NSE/INFY?from=2026-06-01&to=2026-06-02",
    "/api/v1/calendar?year=2026",
]
INTERNAL_GETS = [
    "/internal/v1/instruments?i=NSE:INFY",
    "/internal/v1/prices?i=NSE:INFY",
    "/internal/v1/session",
    "/internal/v1/candles?i=NSE:INFY&from=2026-06-01&to=2026-06-02",
]
ADMIN_CALLS = [
    ("GET", "/api/v1/calendar/overrides", None),
    ("PUT", "/api/v1/calendar/overrides", {"date": "2026-12-01", "kind": "holiday", "reason": "a test of access"}),
    ("DELETE", "/api/v1/calendar/overrides/2026-12-01?reason=a+test+of+access", None),
    ("POST", "/api/v1/market/instruments/reload", None),
]


@pytest.fixture
def priced(loaded: Market, clock: FixedClock) -> Market:
    """INFY and the index have a price, INFY day figures too."""
    loaded.prices.put_prices({INFY: LastPrice(1_154_60, clock.now()), NIFTY: LastPrice(22_512_65, clock.now())})
    quote = DayQuote(1_150_00, 1_160_00, 1_149_90, 1_152_10, 4_711, 1_039_20, 1_270_00, clock.now())
    loaded.prices.put_quotes({INFY: quote})
    return loaded


@pytest.mark.parametrize("path", USER_GETS)
def test_users_need_a_token(client: TestClient, priced: Market, user: dict[str, str], path: str) -> None:
    anonymous = client.get(path)
    assert (anonymous.status_code, anonymous.json()["code"]) == (401, "unauthorized")
    assert client.get(path, headers={"Authorization": "Bearer forged"}).status_code == 401
    assert client.get(path, headers=user).status_code == 200


@pytest.mark.parametrize("path", INTERNAL_GETS)
def test_internal_routes_are_for_rooms_only(
    client: TestClient, priced: Market, user: dict[str, str], admin: dict[str, str], room: dict[str, str], path: str
) -> None:
    assert client.get(path).status_code == 401
    assert client.get(path, headers=user).status_code == 401
    assert client.get(path, headers=admin).status_code == 401
    assert client.get(path, headers=room).status_code == 200


def test_a_service_token_for_another_room_or_of_a_stranger_is_refused(
    client: TestClient, service_identity: Callable[[str], ServiceIdentity]
) -> None:
    elsewhere = service_identity("portfolio-service").token("trade-executor")
    assert client.get("/internal/v1/session", headers={"Authorization": f"Bearer {elsewhere}"}).status_code == 401
    itself = service_identity(NAME).token(NAME)
    assert client.get("/internal/v1/session", headers={"Authorization": f"Bearer {itself}"}).status_code == 403


@pytest.mark.parametrize(("method", "path", "body"), ADMIN_CALLS)
def test_admin_routes_refuse_everybody_else(
    client: TestClient, user: dict[str, str], room: dict[str, str], method: str, path: str, body: Any, db: Database
) -> None:
    for headers, status in (({}, 401), (user, 403), (room, 401)):
        assert client.request(method, path, json=body, headers=headers).status_code == status
    with db.session() as session:
        assert len(session.scalars(select(InstrumentLoad)).all()) == 1


def test_search_finds_by_symbol_and_name(client: TestClient, user: dict[str, str]) -> None:
    def found(q: str, **params: Any) -> list[str]:
        answer = client.get("/api/v1/tokens/search", params={"q": q, **params}, headers=user)
        return [item["tradingsymbol"] for item in answer.json()["instruments"]]

    assert found("tata") == ["TATASTEEL", "TATACONSUM", "TCS", "TMPV"]
    assert found("tata", limit=2) == ["TATASTEEL", "TATACONSUM"]
    assert found("m&m") == ["M&M"]
    assert found("reliance")[0] == "RELIANCE"
    assert found("no such company") == []


@pytest.mark.parametrize(
    "params", [{}, {"q": ""}, {"q": "   "}, {"q": "x" * 65}, {"q": "a", "limit": 0}, {"q": "a", "limit": 51}]
)
def test_bad_searches_are_refused(client: TestClient, user: dict[str, str], params: dict[str, Any]) -> None:
    answer = client.get("/api/v1/tokens/search", params=params, headers=user)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_one_instrument_in_rupees_with_its_band(client: TestClient, user: dict[str, str], priced: Market) -> None:
    answer = client.get("/api/v1/instruments/nse/INFY", headers=user).json()
    assert answer == {
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "name": "Infosys Ltd.",
        "isin": None,
        "instrument_token": 408065,
        "exchange_token": "1594",
        "tick_size": "0.10",
        "lot_size": 1,
        "segment": "NSE",
        "instrument_type": "EQ",
        "is_active": True,
        "is_tradable": True,
        "lower_circuit_limit": "1039.20",
        "upper_circuit_limit": "1270.00",
    }
    assert client.get("/api/v1/instruments/NSE/M%26M", headers=user).json()["tradingsymbol"] == "M&M"
    index = client.get("/api/v1/instruments/NSE/NIFTY%2050", headers=user).json()
    assert (index["is_tradable"], index["lower_circuit_limit"]) == (False, None)


@pytest.mark.parametrize(
    "path", ["instruments/NSE/NOSUCH", "instruments/MCX/GOLD", "market/ltp/NOSUCH", "market/ltp/MCX:GOLD"]
)
def test_an_unknown_symbol_is_404(client: TestClient, user: dict[str, str], path: str) -> None:
    answer = client.get(f"/api/v1/{path}", headers=user)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unknown_instrument"


def test_a_delisted_share_is_still_described_but_cannot_be_traded(
    make_app: AppFactory,
    db: Database,
    scripted: Any,
    market: Market,
    row: RowFactory,
    admin: dict[str, str],
    user: dict[str, str],
    room: dict[str, str],
) -> None:
    client = client_for(make_app(source=scripted))
    for symbols in (["A", "B", "C"], ["A", "B"]):
        scripted.rows = [row(symbol) for symbol in symbols]
        assert client.post("/api/v1/market/instruments/reload", headers=admin).status_code == 200
    gone = client.get("/api/v1/instruments/NSE/C", headers=user).json()
    assert (gone["is_active"], gone["is_tradable"]) == (False, False)
    assert client.get("/internal/v1/instruments?i=NSE:C", headers=room).json() == {"instruments": []}


def test_many_instruments_come_in_the_order_asked_for(client: TestClient, user: dict[str, str]) -> None:
    answer = client.get("/api/v1/instruments?symbols=NSE:TCS, nse:infy,NSE:NOSUCH,NSE:TCS", headers=user).json()
    assert [item["tradingsymbol"] for item in answer["instruments"]] == ["TCS", "INFY"]
    assert answer["unknown"] == ["NSE:NOSUCH"]


FIFTY_ONE = [f"NSE:S{number}" for number in range(51)]


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("instruments", {"symbols": "INFY"}, "instrument_key_invalid"),
        ("instruments", {"symbols": ","}, "instrument_key_invalid"),
        ("instruments", {"symbols": ",".join(FIFTY_ONE)}, "too_many_instruments"),
        ("instruments", {}, "invalid_request"),
        ("market/ltp", {"i": "INFY"}, "instrument_key_invalid"),
        ("market/ltp", {"i": "NFO:X"}, "instrument_key_invalid"),
        ("market/ltp", {"i": FIFTY_ONE}, "too_many_instruments"),
        ("market/ltp", {}, "invalid_request"),
        ("market/quotes", {"i": FIFTY_ONE}, "too_many_instruments"),
        ("market/status", {"i": "INFY"}, "instrument_key_invalid"),
        ("calendar", {"year": "2010"}, "year_out_of_range"),
        ("calendar", {"year": "2028"}, "year_out_of_range"),
        ("calendar", {"year": "soon"}, "invalid_request"),
    ],
)
def test_bad_input_is_422_with_a_code(
    client: TestClient, user: dict[str, str], path: str, params: dict[str, Any], code: str
) -> None:
    answer = client.get(f"/api/v1/{path}", params=params, headers=user)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_a_price_says_when_it_was_seen_and_when_it_is_too_old(
    client: TestClient, user: dict[str, str], priced: Market, clock: FixedClock
) -> None:
    fresh = client.get("/api/v1/market/ltp/INFY", headers=user).json()
    assert fresh == {
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "last_price": "1154.60",
        "at": "2026-11-23T04:30:00Z",
        "is_stale": False,
    }
    assert client.get("/api/v1/market/ltp/NSE:NIFTY 50", headers=user).json()["last_price"] == "22512.65"
    clock.advance(10.0)
    assert client.get("/api/v1/market/ltp/INFY", headers=user).json()["is_stale"] is False
    clock.advance(0.001)
    old = client.get("/api/v1/market/ltp/INFY", headers=user).json()
    assert (old["is_stale"], old["last_price"], old["at"]) == (True, "1154.60", "2026-11-23T04:30:00Z")


def test_a_share_without_price_is_wanted_from_now_on(client: TestClient, user: dict[str, str], priced: Market) -> None:
    answer = client.get("/api/v1/market/ltp/TCS", headers=user)
    assert (answer.status_code, answer.json()["code"]) == (503, "price_missing")
    many = client.get("/api/v1/market/ltp?i=NSE:INFY&i=NSE:WIPRO&i=NSE:NOSUCH", headers=user).json()
    assert [item["tradingsymbol"] for item in many["prices"]] == ["INFY"]
    assert (many["missing"], many["unknown"]) == (["NSE:WIPRO"], ["NSE:NOSUCH"])
    assert priced.prices.wanted() == {INFY, TCS, ("NSE", "WIPRO")}


def test_quotes_carry_the_days_figures(client: TestClient, user: dict[str, str], priced: Market) -> None:
    answer = client.get("/api/v1/market/quotes?i=NSE:INFY&i=NSE:NIFTY 50", headers=user).json()
    infy, index = answer["quotes"]
    assert infy == {
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "last_price": "1154.60",
        "at": "2026-11-23T04:30:00Z",
        "is_stale": False,
        "open": "1150.00",
        "high": "1160.00",
        "low": "1149.90",
        "previous_close": "1152.10",
        "change": "2.50",
        "volume": 4711,
        "lower_circuit_limit": "1039.20",
        "upper_circuit_limit": "1270.00",
        "day_at": "2026-11-23T04:30:00Z",
    }
    assert (index["open"], index["change"], index["day_at"]) == (None, None, None)


def test_the_status_of_the_market_and_of_one_share(
    client: TestClient, auth_headers: Callable[..., dict[str, str]], clock: FixedClock
) -> None:
    clock.set(datetime(2026, 11, 23, 9, 50, tzinfo=UTC))  # 15:20 IST
    user = auth_headers()
    market = client.get("/api/v1/market/status", headers=user).json()
    assert (market["is_open"], market["phase"]) == (False, "CLOSING_AUCTION_ENTRY")
    assert (market["trading_date"], market["next_open_at"]) == ("2026-11-25", "2026-11-25T03:45:00Z")
    assert (market["calendar"], market["share_class"]) == ("nse", "closing_auction")
    index = client.get("/api/v1/market/status?i=NSE:NIFTY BANK", headers=user).json()
    assert (index["is_open"], index["share_class"], index["closes_at"]) == (True, "regular", "2026-11-23T10:00:00Z")
    assert client.get("/api/v1/market/status?i=NSE:NOSUCH", headers=user).status_code == 404


def test_the_calendar_of_a_year(client: TestClient, user: dict[str, str]) -> None:
    answer = client.get("/api/v1/calendar", headers=user).json()
    assert (answer["year"], answer["mode"], answer["is_published"]) == (2026, "nse", True)
    assert (len(answer["trading_days"]), len(answer["holidays"])) == (247, 16)
    assert answer["holidays"][0]["name"] == "Municipal corporation elections in Maharashtra"
    assert [day["date"] for day in answer["special_sessions"]] == ["2026-02-01", "2026-11-08"]
    assert client.get("/api/v1/calendar?year=2027", headers=user).json()["is_published"] is False


def test_an_admin_reloads_and_is_told_of_an_implausible_file(
    make_app: AppFactory, db: Database, scripted: Any, row: RowFactory, admin: dict[str, str], user: dict[str, str]
) -> None:
    client = client_for(make_app(source=scripted))
    path = "/api/v1/market/instruments/reload"
    not_yet = client.get("/api/v1/tokens/search?q=a", headers=user)
    assert (not_yet.status_code, not_yet.json()["code"]) == (503, "instruments_not_loaded")
    scripted.rows = [row(f"S{number}") for number in range(10)]
    [load] = client.post(path, headers=admin).json()["loads"]
    assert (load["outcome"], load["rows_usable"]) == ("LOADED", 10)
    assert client.get("/api/v1/instruments/NSE/S7", headers=user).status_code == 200
    scripted.rows = [row("S1")]
    refused = client.post(path, headers=admin)
    assert (refused.status_code, refused.json()["code"]) == (409, "instrument_file_implausible")
    assert "accept_fewer_rows" in refused.json()["detail"]
    assert client.get("/api/v1/instruments/NSE/S7", headers=user).json()["is_active"] is True
    assert client.post(path, headers=admin, json={"force": True}).status_code == 422
    assert client.post(path, headers=admin, json={"accept_fewer_rows": True}).status_code == 200
    assert client.get("/api/v1/instruments/NSE/S7", headers=user).json()["is_active"] is False
    scripted.failure = BrokerReadFailed("no answer")
    failed = client.post(path, headers=admin)
    assert (failed.status_code, failed.json()["code"]) == (503, "broker_read_failed")
    with db.session() as session:
        loads = session.scalars(select(InstrumentLoad).order_by(InstrumentLoad.load_id)).all()
    assert [load.outcome for load in loads] == ["LOADED", "REFUSED", "LOADED", "FAILED"]
    assert all(load.requested_by is not None for load in loads)


def test_readiness_names_what_is_missing(make_app: AppFactory, db: Database, market: Market, clock: FixedClock) -> None:
    client = client_for(make_app())
    body = client.get("/health/ready").json()
    assert client.get("/health/ready").status_code == 503
    assert body["checks"]["instruments"]["ok"] is False
    assert body["checks"]["db"]["ok"] is True
    assert client.get("/health").status_code == 200


def test_a_missing_broker_login_shows_but_does_not_take_the_room_down(
    client: TestClient, priced: Market, clock: FixedClock
) -> None:
    priced.feed.report("no_broker_session", clock.now(), "nobody is logged in")
    clock.advance(90)
    answer = client.get("/health/ready")
    assert answer.status_code == 200
    checks = answer.json()["checks"]
    assert (checks["broker"]["state"], checks["broker"]["newest_price_age_s"]) == ("no_broker_session", 90.0)
    assert checks["instruments"]["loads"]["NSE"]["outcome"] == "LOADED"
    assert "2027" in checks["calendar"]["warnings"][0]


def test_a_lost_redis_shows_but_does_not_take_the_room_down(make_app: AppFactory, loaded: Market) -> None:
    url = "redis://127.0.0.1:9/0"
    app = make_app(settings=Settings(redis_url=url), cache=RedisCache(url))
    answer = client_for(app).get("/health/ready")
    assert answer.status_code == 200
    assert answer.json()["checks"]["redis"] == {"ok": True, "reachable": False, "detail": "ConnectionError"}


def test_hot_routes_answer_from_memory_on_the_event_loop(
    client: TestClient, priced: Market, room: dict[str, str], db: Database
) -> None:
    for endpoint in (routes_internal.instruments, routes_internal.prices, routes_internal.session):
        assert inspect.iscoroutinefunction(endpoint)
    with count_statements(db) as statements:
        for path in INTERNAL_GETS[:3]:
            assert client.get(path, headers=room).status_code == 200
    assert statements == []


def test_rooms_may_ask_for_more_than_users(client: TestClient, priced: Market, room: dict[str, str]) -> None:
    keys = [f"NSE:S{number}" for number in range(499)] + ["NSE:INFY"]
    answer = client.get("/internal/v1/prices", params={"i": keys}, headers=room)
    assert [row["tradingsymbol"] for row in answer.json()["prices"]] == ["INFY"]
    assert client.get("/internal/v1/prices", params={"i": [*keys, "NSE:A"]}, headers=room).status_code == 422
    # What is no instrument is never polled.
    assert priced.prices.wanted() == {INFY}


def test_the_common_client_speaks_with_the_real_room(
    make_app: AppFactory,
    priced: Market,
    clock: FixedClock,
    served: Callable[[FastAPI], str],
    service_identity: Callable[[str], ServiceIdentity],
) -> None:
    http = ServiceClient(served(make_app()), audience=NAME, identity=service_identity("portfolio-service"))
    market = MarketDataClient(http)
    infy = instrument_of(market, *INFY)
    assert (infy.instrument_token, infy.tick_paise, infy.lot_size, infy.isin) == (408065, 10, 1, None)
    assert (infy.lower_band_paise, infy.upper_band_paise) == (1_039_20, 1_270_00)
    with pytest.raises(UnknownInstrument):
        instrument_of(market, "NSE", "NIFTY 50")
    price = market.prices([INFY, TCS])
    assert price[INFY].price_paise == 1_154_60
    assert price[INFY].at == clock.now()
    assert TCS not in price
    session = market.session()
    assert (session.is_open, session.phase) == (True, "CONTINUOUS")
    assert session.closes_at == datetime(2026, 11, 23, 9, 45, tzinfo=UTC)
    assert session.next_trading_date is not None
    assert session.next_trading_date - session.trading_date == timedelta(days=2)
    http.close()


def test_always_open_is_open_to_other_rooms_too(
    make_app: AppFactory, loaded: Market, room: dict[str, str], clock: FixedClock
) -> None:
    settings = Settings(market_calendar="always_open")
    client = client_for(make_app(settings=settings, market=Market.create(settings)))
    answer = client.get("/internal/v1/session", headers=room).json()
    assert (answer["is_open"], answer["trading_date"]) == (True, "2026-11-23")
    assert answer["closes_at"] == "2026-11-23T18:29:59+00:00"
