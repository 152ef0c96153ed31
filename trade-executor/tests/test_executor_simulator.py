"""The whole room at the real simulator: official client over HTTP, auto-login, postbacks, lost answers."""

import threading
import time
from collections import Counter
from datetime import UTC, datetime

import httpx
import pytest
import uvicorn

from common.clock import SystemClock
from common.testing import client_for, eventually
from kite_simulator.config import Settings as SimulatorSettings
from kite_simulator.server import SimulatorServer
from trade_executor import loop, polling
from trade_executor.app import create_app
from trade_executor.brokers.base import Unknown
from trade_executor.desk import Desk
from trade_executor.models import BrokerEvent, BrokerOrder, BrokerSession, Fill
from trade_executor.pump import pump
from trade_executor.sessions import KiteAccess, LiveSession, sealer_from
from trade_executor.testing import ACCOUNT, FakeMarket, Room, make_room, make_settings

API_KEY, API_SECRET = "executor-key", "executor-secret"


@pytest.fixture
def simulator():
    settings = SimulatorSettings(
        api_key=API_KEY, api_secret=API_SECRET, rate_limits=False, fill_latency_max_s=0.05, tick_interval_s=0.05,
        partial_fill_probability=0.5,
    )  # fmt: skip
    with SimulatorServer(settings) as server:
        server.call(lambda engine: engine.control.freeze_prices(True))
        yield server


class LossyBroker:
    """The real adapter behind a wire that swallows answers."""

    def __init__(self, broker, losses):
        self._broker, self._losses = broker, losses
        self.sends = Counter()

    def place(self, request):
        self.sends[request.tag] += 1
        outcome = self._broker.place(request)
        if self._losses.get(len(self.sends)):
            return Unknown("the answer was lost")
        return outcome

    def __getattr__(self, name):
        return getattr(self._broker, name)


class LossyAccess:
    """Real sessions, lossy calls."""

    def __init__(self, access, losses):
        self._access, self._losses = access, losses
        self.brokers = {}

    def current(self, account):
        live = self._access.current(account)
        broker = self.brokers.setdefault(live.session_id, LossyBroker(live.broker, self._losses))
        return LiveSession(live.session_id, broker)

    def __getattr__(self, name):
        return getattr(self._access, name)


@pytest.fixture
def exchange(db, simulator):
    """A room whose broker is the simulator, logged in by itself."""
    make_room(db)
    settings = make_settings(
        db.url, kite_root=simulator.url, kite_api_key=API_KEY, kite_api_secret=API_SECRET, auto_login=True
    )
    access = KiteAccess(db, settings, sealer_from(settings), SystemClock())
    access.ensure_account()
    access.keep(ACCOUNT)
    room = Room(Desk(db, settings, FakeMarket(), access, SystemClock()), None, access, None)
    room.simulator = simulator
    room.last_paise = simulator.engine.kernel.board.lines["NSE:INFY"].last_paise
    return room


def until_closed(room, orders, timeout=30):
    def closed():
        room.step()
        return all(room.child(order_id).closed_at for order_id in orders)

    eventually(closed, timeout=timeout)


def test_orders_of_many_users_are_filled_through_the_official_client(exchange):
    market = {"order_type": "MARKET", "price_paise": None}
    orders = [exchange.accept(quantity=quantity, **market) for quantity in (7, 11, 13)]
    limit = exchange.accept(quantity=5, price_paise=exchange.last_paise)
    until_closed(exchange, [*orders, limit])

    assert {exchange.child(order_id).state for order_id in (*orders, limit)} == {"FILLED"}
    trades = exchange.access.current(ACCOUNT).broker.trades()
    assert sum(trade.quantity for trade in trades) == 36
    fills = exchange.rows(Fill)
    assert {fill.broker_trade_id for fill in fills} == {trade.broker_trade_id for trade in trades}
    assert sum(fill.amount_paise for fill in fills) == sum(exchange.child(one).amount_paise for one in (*orders, limit))
    assert len(exchange.access.current(ACCOUNT).broker.orders()) == len(exchange.rows(BrokerOrder)) == 2


def test_answers_lost_on_the_way_are_found_by_tag(exchange):
    exchange.desk.access = LossyAccess(exchange.access, {1: True, 3: True})
    market = {"order_type": "MARKET", "price_paise": None}
    orders = [exchange.accept(quantity=3, tradingsymbol=symbol, **market) for symbol in ("INFY", "TCS", "SBIN")]
    until_closed(exchange, orders)
    assert {exchange.child(order_id).state for order_id in orders} == {"FILLED"}
    book = exchange.access.current(ACCOUNT).broker.orders()
    tags = Counter(tag for row in book for tag in row.tags if len(tag) == 19)
    assert len(tags) == 3
    assert set(tags.values()) == {1}


def test_a_cancel_reaches_the_exchange_and_comes_back(exchange):
    resting = exchange.accept(quantity=9, price_paise=exchange.last_paise - exchange.last_paise // 50 // 10 * 10)
    exchange.step()
    assert exchange.rows(BrokerOrder)[0].state == "ACKED"
    exchange.cancel(resting)
    until_closed(exchange, [resting])
    assert exchange.child(resting).state == "CANCELLED"


def test_a_refusal_of_the_broker_reaches_the_user(exchange):
    order_id = exchange.accept(quantity=10, price_paise=exchange.last_paise * 2 // 10 * 10)
    until_closed(exchange, [order_id])
    child = exchange.child(order_id)
    assert child.state == "REJECTED"
    assert child.reason


def test_a_session_killed_at_the_broker_stops_the_calls_and_a_new_login_resumes(exchange):
    _, access_token = exchange.access.access_token(ACCOUNT)
    exchange.simulator.call(lambda engine: engine.sessions.close(access_token))
    order_id = exchange.accept(quantity=2, order_type="MARKET", price_paise=None)
    pump(exchange.desk, ACCOUNT)
    assert exchange.child(order_id).state == "ACCEPTED"
    assert [row.state for row in exchange.rows(BrokerOrder)] == ["REFUSED"]
    assert [row.ended_at is not None for row in exchange.rows(BrokerSession)] == [True]
    assert pump(exchange.desk, ACCOUNT) == 0
    until_closed(exchange, [order_id])
    assert exchange.child(order_id).state == "FILLED"
    assert len(exchange.rows(BrokerSession)) == 2


def test_the_loop_alone_carries_orders_from_door_to_end(exchange):
    stop = threading.Event()
    looping = threading.Thread(target=loop.run, args=(exchange.desk, stop))
    looping.start()
    orders = [
        exchange.accept(quantity=4, tradingsymbol=symbol, order_type="MARKET", price_paise=None)
        for symbol in ("INFY", "TCS", "SBIN", "ITC", "RELIANCE")
    ]
    eventually(lambda: all(exchange.child(order_id).closed_at for order_id in orders), timeout=30)
    stop.set()
    looping.join(15)
    assert {exchange.child(order_id).state for order_id in orders} == {"FILLED"}


class DirectWakeup:
    """Looks at once, on a thread of its own."""

    def __init__(self, desk):
        self._desk = desk
        self.observed = threading.Event()

    def pump(self, account):
        pump(self._desk, account)

    def observe(self, account):
        threading.Thread(target=lambda: (polling.observe(self._desk, account), self.observed.set())).start()


def test_postbacks_of_the_simulator_bring_the_fills_without_polling(exchange, authenticator, clock):
    wakeup = DirectWakeup(exchange.desk)
    app = create_app(
        exchange.desk.settings, db=exchange.db, authenticator=authenticator("trade-executor"), access=exchange.access,
        market=exchange.desk.market, wakeup=wakeup, clock=SystemClock(),
    )  # fmt: skip
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    serving = threading.Thread(target=server.run, daemon=True)
    serving.start()
    eventually(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}/api/v1/broker/postback"
    httpx.post(f"{exchange.simulator.url}/simulator/postback", json={"url": url}, trust_env=False).raise_for_status()
    order_id = exchange.accept(quantity=6, order_type="MARKET", price_paise=None)
    started = time.monotonic()
    pump(exchange.desk, ACCOUNT)
    eventually(lambda: exchange.child(order_id).state == "FILLED", timeout=20)
    assert wakeup.observed.is_set()
    assert time.monotonic() - started < 20
    assert all(event.authentic for event in exchange.rows(BrokerEvent))
    server.should_exit = True
    serving.join(10)


def test_login_by_the_callback_and_the_token_for_the_market_room(
    exchange, authenticator, auth_headers, service_identity, clock
):
    app = create_app(
        exchange.desk.settings, db=exchange.db, authenticator=authenticator("trade-executor"), access=exchange.access,
        market=exchange.desk.market, clock=clock,
    )  # fmt: skip
    clock.set(datetime.now(UTC))
    client = client_for(app)
    ops = auth_headers(roles=("ops",))
    login_url = client.get("/api/v1/broker/login-url", headers=ops).json()["login_url"]
    redirect = httpx.get(login_url, trust_env=False, follow_redirects=False)
    assert redirect.status_code in (302, 303, 307)
    query = httpx.URL(redirect.headers["location"]).params
    answer = client.get(
        "/api/v1/broker/callback", params={"request_token": query["request_token"], "state": query["state"]}
    )
    assert answer.status_code == 200, answer.text
    again = client.get(
        "/api/v1/broker/callback", params={"request_token": query["request_token"], "state": query["state"]}
    )
    assert (again.status_code, again.json()["code"]) == (409, "login_refused")

    identity = service_identity("market-data-service").token("trade-executor")
    session = client.get("/internal/v1/market-data-session", headers={"Authorization": f"Bearer {identity}"}).json()
    assert session["api_key"] == API_KEY
    assert session["root_url"] == exchange.simulator.url
    stored = exchange.rows(BrokerSession)
    assert session["access_token"] not in "".join(row.access_token_sealed for row in stored)
    assert len([row for row in stored if row.ended_at is None]) == 1
