"""Wake-ups over RabbitMQ, in real worker processes: killed children, poison, a broker that hangs, two workers at once."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pika
import psutil
import pytest

from common import celery_app, queues
from common.clock import SystemClock
from common.db import Database
from common.queues import dead_queue
from common.testing import TestKeys, eventually
from common.testing_ports import free_port
from kite_simulator.config import Settings as SimulatorSettings
from kite_simulator.server import SimulatorServer
from tests.chaos.proxies import Proxies
from trade_executor import tasks, wakeup
from trade_executor.desk import Desk
from trade_executor.models import BrokerOrder, Fill
from trade_executor.sessions import KiteAccess, sealer_from
from trade_executor.tags import TAG_LENGTH
from trade_executor.testing import ACCOUNT, TAG_KEY, FakeMarket, Room, make_room, make_settings
from trade_executor.wakeup import PUMP_TASK, CeleryWakeup

API_KEY, API_SECRET = "celery-key", "celery-secret"
SYMBOLS = ("INFY", "TCS", "SBIN")
ORDERS_PER_WAVE = 8
WAVES = 3
LIMIT = 3

POISON = """
import os, sys, time
from pathlib import Path
from celery.concurrency import asynpool
from common import celery_app, queues
from trade_executor import tasks, wakeup
url, queue, log, limit = sys.argv[1:]
queues.DELIVERY_LIMIT = int(limit)
# Celery looks for dead children every five seconds.
asynpool.AsynPool.timers = property(lambda pool: {pool.maintain_pool: 0.2})
celery_app.WORKER_LOST_WAIT_S = 0.1
def desk():
    with Path(log).open("a") as file:
        file.write(f"{os.getpid()}\\n")
    os.kill(os.getpid(), 9) if Path(log + ".poison").exists() else time.sleep(0 if Path(log + ".free").exists() else 60)
    raise RuntimeError("nothing to do here")
app = tasks.make_celery(url, desk=desk, queue=queue)
celery_app.declare_dead_letters(app)
app.worker_main(["worker", "--loglevel=ERROR", "--concurrency=1", "--without-gossip", "--without-mingle", "-n", queue])
"""


@pytest.fixture
def queue(rabbitmq_url: str) -> Iterator[str]:
    """A name for a Celery queue; it and its dead letters are gone afterwards."""
    name = f"test-{uuid4().hex[:10]}"
    yield name
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq_url))
    channel = connection.channel()
    for one in (name, dead_queue(name)):
        channel.queue_delete(one)
        channel.exchange_delete(one)
    connection.close()


def depth(url: str, name: str) -> int:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        return int(connection.channel().queue_declare(name, passive=True).method.message_count)
    finally:
        connection.close()


def end(process: subprocess.Popen[bytes]) -> None:
    """kill -9 of a worker and its children."""
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.kill()
    process.wait(10)
    for child in children:
        if child.is_running():
            child.kill()


def test_a_killed_child_gives_its_wake_up_back_and_poison_is_set_aside(
    rabbitmq_url: str, queue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "DELIVERY_LIMIT", LIMIT)
    log = tmp_path / "starts"
    log.touch()
    worker = subprocess.Popen([sys.executable, "-c", POISON, rabbitmq_url, queue, str(log), str(LIMIT)])
    ring = tasks.make_celery(rabbitmq_url, queue=queue)

    def starts() -> list[int]:
        return [int(line) for line in log.read_text().split()]

    try:
        ring.send_task(PUMP_TASK, args=[ACCOUNT])
        [first] = eventually(starts, timeout=60)
        (tmp_path / "starts.free").touch()
        psutil.Process(first).kill()
        eventually(lambda: len(starts()) == 2, timeout=30)
        assert starts()[1] != first, "another child runs it"
        eventually(lambda: depth(rabbitmq_url, queue) == 0)
        (tmp_path / "starts.poison").touch()
        ring.send_task(PUMP_TASK, args=[ACCOUNT])
        eventually(lambda: depth(rabbitmq_url, dead_queue(queue)) == 1, timeout=90, interval=0.2)
        assert len(starts()) == 2 + LIMIT
        assert depth(rabbitmq_url, queue) == 0
    finally:
        end(worker)


def test_ringing_at_a_broker_that_hangs_or_is_gone_takes_a_bounded_time(
    rabbitmq_url: str, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(celery_app, "RING_TIMEOUT_S", 0.4)
    parts, port = urlsplit(rabbitmq_url), free_port()
    proxies = Proxies({port: parts.port or 5672})
    url = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}").geturl()
    declared = tasks.make_celery(rabbitmq_url, queue=queue)
    declared.send_task(PUMP_TASK, args=[ACCOUNT])
    first, second = (CeleryWakeup(tasks.make_celery(url, queue=queue)) for _ in range(2))

    def reaches(bell: CeleryWakeup, count: int) -> bool:
        bell.pump(ACCOUNT)
        return depth(rabbitmq_url, queue) > count

    def end_within(bell: CeleryWakeup, seconds: float) -> None:
        bell.pump(ACCOUNT)
        bell.close()
        eventually(lambda: not bell._thread.is_alive(), timeout=seconds)

    try:
        eventually(lambda: reaches(first, 1), timeout=20, interval=0.1)
        eventually(lambda: reaches(second, depth(rabbitmq_url, queue)), timeout=20, interval=0.1)
        proxies.order(port, "hold", seconds=120)
        end_within(first, 10)
        proxies.order(port, "heal")
        before = depth(rabbitmq_url, queue)
        eventually(lambda: reaches(second, before), timeout=20, interval=0.1)
    finally:
        proxies.stop()
    end_within(second, 10)


# --- real workers at a real simulator -------------------------------------------------------------------------------


@pytest.fixture
def simulator() -> Iterator[SimulatorServer]:
    settings = SimulatorSettings(
        api_key=API_KEY, api_secret=API_SECRET, rate_limits=False, fill_latency_max_s=0.1, tick_interval_s=0.05,
        partial_fill_probability=0.6,
    )  # fmt: skip
    with SimulatorServer(settings) as server:
        server.call(lambda engine: engine.control.freeze_prices(True))
        yield server


@pytest.fixture
def market_data() -> Iterator[str]:
    """market-data-service's one answer that workers need."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(asdict(FakeMarket().session()), default=_plain).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _plain(value: object) -> str:
    assert isinstance(value, date | datetime)
    return value.isoformat()


@pytest.fixture
def start_worker(
    db: Database,
    simulator: SimulatorServer,
    market_data: str,
    rabbitmq_url: str,
    queue: str,
    keys: TestKeys,
    tmp_path: Path,
) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    key_file = tmp_path / "executor.pem"
    key_file.write_text(keys.service_pem)
    environ = {
        **os.environ,
        "LOG_LEVEL": "ERROR",
        "MARKET_DATA_SERVICE_URL": market_data,
        "EXECUTOR_SERVICE_KEY_FILE": str(key_file),
        "EXECUTOR_DATABASE_URL": db.url.replace("+psycopg2", ""),
        "EXECUTOR_CELERY_BROKER_URL": rabbitmq_url,
        "EXECUTOR_CELERY_QUEUE": queue,
        "EXECUTOR_KITE_ROOT": simulator.url,
        "EXECUTOR_KITE_API_KEY": API_KEY,
        "EXECUTOR_KITE_API_SECRET": API_SECRET,
        "EXECUTOR_AUTO_LOGIN": "true",
        "EXECUTOR_TAG_KEY": TAG_KEY,
        "EXECUTOR_SEAL_KEYS": json.dumps({"1": "A" * 43 + "="}),
        "EXECUTOR_SENDING_MAX_SECONDS": "1",
        "EXECUTOR_UNKNOWN_MIN_SECONDS": "3",
        "EXECUTOR_UNKNOWN_MIN_SCANS": "3",
        "EXECUTOR_READ_PAUSE_SECONDS": "0",
        "EXECUTOR_SENDS_PER_SECOND": "100",
        "EXECUTOR_SENDS_PER_MINUTE": "10000",
        "EXECUTOR_CHILDREN_PER_BLOCK": "2",
    }
    with ExitStack() as running:

        def start() -> subprocess.Popen[bytes]:
            process = subprocess.Popen([sys.executable, "-m", "trade_executor", "worker"], env=environ, cwd=tmp_path)
            running.callback(end, process)
            return process

        yield start


def test_two_workers_whose_children_are_killed_send_every_order_once(
    db: Database, simulator: SimulatorServer, rabbitmq_url: str, queue: str, start_worker: Any
) -> None:
    make_room(db)
    settings = make_settings(
        db.url, kite_root=simulator.url, kite_api_key=API_KEY, kite_api_secret=API_SECRET, auto_login=True
    )
    access = KiteAccess(db, settings, sealer_from(settings), SystemClock())
    access.ensure_account()
    access.keep(ACCOUNT)
    room = Room(Desk(db, settings, FakeMarket(), access, SystemClock()), None, access, None)  # type: ignore[arg-type]
    workers = [start_worker(), start_worker()]
    bell = tasks.make_celery(rabbitmq_url, queue=queue)

    def ring() -> None:
        # What the loop does every second, made of messages alone.
        for task in (PUMP_TASK, wakeup.OBSERVE_TASK, wakeup.SWEEP_TASK):
            bell.send_task(task, args=[ACCOUNT])

    def children(worker: subprocess.Popen[bytes]) -> list[psutil.Process]:
        return psutil.Process(worker.pid).children()

    orders = []
    eventually(lambda: all(len(children(worker)) >= 2 for worker in workers), timeout=60)
    for wave in range(WAVES):
        orders += [
            room.accept(
                tradingsymbol=SYMBOLS[number % 3], quantity=1 + number, order_type="MARKET", price_paise=None,
                accepted_at=datetime.now(UTC) + timedelta(microseconds=number),
            )
            for number in range(ORDERS_PER_WAVE)
        ]  # fmt: skip
        sent = len(room.rows(BrokerOrder))

        def is_working(sent: int = sent) -> bool:
            ring()
            return len(room.rows(BrokerOrder)) > sent

        eventually(is_working, timeout=40, interval=0.3)
        for child in children(workers[wave % 2]):
            child.kill()

    def done() -> bool:
        ring()
        return all(room.child(order_id).closed_at for order_id in orders)

    eventually(done, timeout=90, interval=0.3)
    book = access.current(ACCOUNT).broker.orders()
    trades = access.current(ACCOUNT).broker.trades()
    tags = Counter(tag for row in book for tag in row.tags if len(tag) == TAG_LENGTH)
    assert set(tags.values()) == {1}, "a tag is at the exchange twice"
    assert set(tags) <= {row.tag for row in room.rows(BrokerOrder)}
    fills = room.rows(Fill)
    assert {trade.broker_trade_id for trade in trades} == {fill.broker_trade_id for fill in fills}
    outcomes = Counter(room.child(order_id).state for order_id in orders)
    assert set(outcomes) <= {"FILLED", "FAILED"}, outcomes
    assert outcomes["FILLED"] >= len(orders) // 2
    to_house = sum(fill.quantity for fill in fills if fill.booked_to == "house")
    to_users = sum(room.child(order_id).filled_quantity for order_id in orders)
    assert sum(trade.quantity for trade in trades) == to_users + to_house
    for order_id in orders:
        assert len(room.events(order_id, "OrderClosed")) == 1
