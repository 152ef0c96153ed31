"""The daily login, against the simulator; its token stays out of sight."""

import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from common.clock import FixedClock, to_ist
from kite_simulator.config import Settings
from kite_simulator.server import SimulatorServer
from trade_executor.brokers.base import BrokerReplyInvalid, BrokerSessionExpired, BrokerUnavailable
from trade_executor.brokers.kite import KiteBroker
from trade_executor.brokers.session import (
    exchange_request_token,
    login_url,
    session_end,
    simulator_request_token,
)

API_KEY, API_SECRET = "session-key", "session-secret"


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorServer]:
    with SimulatorServer(Settings(api_key=API_KEY, api_secret=API_SECRET)) as server:
        yield server


def test_a_request_token_becomes_a_working_session(simulator: SimulatorServer) -> None:
    before = datetime.now(UTC)
    request_token = simulator_request_token(simulator.url)
    session = exchange_request_token(API_KEY, API_SECRET, request_token, root=simulator.url)
    assert session.user_id
    assert abs((session.login_at - before).total_seconds()) < 60
    assert session.expires_at == session_end(session.login_at)
    broker = KiteBroker(api_key=API_KEY, access_token=session.access_token, root=simulator.url)
    assert broker.orders() == []


def test_a_request_token_works_once(simulator: SimulatorServer) -> None:
    request_token = simulator_request_token(simulator.url)
    exchange_request_token(API_KEY, API_SECRET, request_token, root=simulator.url)
    with pytest.raises(BrokerSessionExpired):
        exchange_request_token(API_KEY, API_SECRET, request_token, root=simulator.url)


def test_a_wrong_secret_gets_no_session(simulator: SimulatorServer) -> None:
    request_token = simulator_request_token(simulator.url)
    with pytest.raises(BrokerSessionExpired):
        exchange_request_token(API_KEY, "wrong", request_token, root=simulator.url)


def test_an_access_token_of_nobody_reads_nothing(simulator: SimulatorServer) -> None:
    with pytest.raises(BrokerSessionExpired):
        KiteBroker(api_key=API_KEY, access_token="nobodys", root=simulator.url).orders()


def test_the_token_is_not_shown(simulator: SimulatorServer) -> None:
    request_token = simulator_request_token(simulator.url)
    session = exchange_request_token(API_KEY, API_SECRET, request_token, root=simulator.url)
    assert session.access_token not in repr(session)


def test_the_login_page_of_the_simulator_leads_back_with_a_token(simulator: SimulatorServer) -> None:
    url = login_url(API_KEY, {"state": "a b&c", "account": "pool"}, root=simulator.url)
    with requests.Session() as browser:
        browser.trust_env = False
        answer = browser.get(url, allow_redirects=False, timeout=5)
    assert answer.status_code == 302
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    assert query["state"] == ["a b&c"]
    assert query["account"] == ["pool"]
    session = exchange_request_token(API_KEY, API_SECRET, query["request_token"][0], root=simulator.url)
    assert session.access_token


def test_the_production_page_is_zerodhas() -> None:
    assert login_url("akey") == "https://kite.zerodha.com/connect/login?api_key=akey&v=3"
    assert login_url("akey", {"state": "x=1&y"}) == (
        "https://kite.zerodha.com/connect/login?api_key=akey&v=3&redirect_params=state%3Dx%253D1%2526y"
    )


@pytest.mark.parametrize("root", ["https://api.kite.trade", "https://sandbox.kite.trade", "https://example.com"])
def test_automatic_login_exists_at_simulators_only(root: str) -> None:
    with pytest.raises(ValueError, match="local simulator only"):
        simulator_request_token(root)


def test_plain_http_to_a_stranger_gets_no_secret() -> None:
    with pytest.raises(ValueError, match="plain HTTP"):
        exchange_request_token(API_KEY, API_SECRET, "rt", root="http://kite-simulator:9010")


def test_nobody_listening_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        root = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(BrokerUnavailable):
        simulator_request_token(root)
    with pytest.raises(BrokerUnavailable):
        exchange_request_token(API_KEY, API_SECRET, "rt", root=root)


def answering(data: object) -> str:
    """The root of a server that answers one request with a success envelope."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        body = json.dumps({"status": "success", "data": data}).encode()
        with listener, listener.accept()[0] as connection:
            connection.recv(65536)
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"login_time": None},
        {"access_token": "", "user_id": "AB1234", "login_time": None},
        {"access_token": "t", "user_id": None, "login_time": None},
        None,
        [],
    ],
)
def test_an_answer_without_a_session_is_refused(data: object) -> None:
    with pytest.raises(BrokerReplyInvalid):
        exchange_request_token(API_KEY, API_SECRET, "rt", root=answering(data))


def test_without_a_login_time_the_clock_decides() -> None:
    now = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)
    root = answering({"access_token": "t", "user_id": "AB1234", "login_time": None})
    session = exchange_request_token(API_KEY, API_SECRET, "rt", root=root, clock=FixedClock(now))
    assert (session.login_at, session.expires_at) == (now, datetime(2026, 11, 21, 0, 30, tzinfo=UTC))


@pytest.mark.parametrize(
    ("login", "end"),
    [
        (datetime(2026, 11, 20, 0, 29, 59, tzinfo=UTC), datetime(2026, 11, 20, 0, 30, tzinfo=UTC)),
        (datetime(2026, 11, 20, 0, 30, tzinfo=UTC), datetime(2026, 11, 21, 0, 30, tzinfo=UTC)),
        (datetime(2026, 11, 20, 3, 0, tzinfo=UTC), datetime(2026, 11, 21, 0, 30, tzinfo=UTC)),
        (datetime(2026, 11, 20, 19, 0, tzinfo=UTC), datetime(2026, 11, 21, 0, 30, tzinfo=UTC)),
        (datetime(2026, 12, 31, 12, 0, tzinfo=UTC), datetime(2027, 1, 1, 0, 30, tzinfo=UTC)),
    ],
)
def test_a_session_ends_at_six_indian_time(login: datetime, end: datetime) -> None:
    assert session_end(login) == end


@given(st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2090, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_session_lasts_at_most_a_day(login: datetime) -> None:
    end = session_end(login)
    assert 0 < (end - login).total_seconds() <= 86_400
    assert (to_ist(end).hour, to_ist(end).minute) == (6, 0)
