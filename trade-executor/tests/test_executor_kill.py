"""SIGKILL at any instruction: executors die in the middle of their work, the exchange ends up with each order once."""

import json
import random
import subprocess
import sys
import time
from collections import Counter

import pytest

from common.clock import SystemClock
from common.testing import eventually
from kite_simulator.config import Settings as SimulatorSettings
from kite_simulator.server import SimulatorServer
from trade_executor.desk import Desk
from trade_executor.models import BrokerOrder, Fill
from trade_executor.sessions import KiteAccess, sealer_from
from trade_executor.tags import TAG_LENGTH
from trade_executor.testing import ACCOUNT, FakeMarket, Room, make_room, make_settings

API_KEY, API_SECRET = "kill-key", "kill-secret"
KILLS = 6
ORDERS = 60
SYMBOLS = ("INFY", "TCS", "SBIN", "ITC", "RELIANCE", "LT")

EXECUTOR = """
import json, sys, threading
from common.clock import SystemClock
from common.db import Database
from trade_executor import loop
from trade_executor.desk import Desk
from trade_executor.sessions import KiteAccess, sealer_from
from trade_executor.testing import FakeMarket, make_settings
given = json.loads(sys.argv[1])
settings = make_settings(**given)
db = Database(settings.database_url)
access = KiteAccess(db, settings, sealer_from(settings), SystemClock())
access.ensure_account()
print("running", flush=True)
loop.run(Desk(db, settings, FakeMarket(), access, SystemClock()), threading.Event())
"""


@pytest.fixture
def simulator():
    settings = SimulatorSettings(
        api_key=API_KEY, api_secret=API_SECRET, rate_limits=False, fill_latency_max_s=0.1, tick_interval_s=0.05,
        partial_fill_probability=0.6,
    )  # fmt: skip
    with SimulatorServer(settings) as server:
        server.call(lambda engine: engine.control.freeze_prices(True))
        yield server


def start(settings):

    process = subprocess.Popen([sys.executable, "-c", EXECUTOR, json.dumps(settings)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert b"running" in process.stdout.readline() or b"running" in process.stdout.readline()
    return process


def test_killed_executors_lose_and_double_nothing(db, simulator):
    make_room(db)
    given = {
        "database_url": db.url,
        "kite_root": simulator.url,
        "kite_api_key": API_KEY,
        "kite_api_secret": API_SECRET,
        "auto_login": True,
        "sending_max_seconds": 1.0,
        "unknown_min_seconds": 3.0,
        "unknown_min_scans": 3,
        "loop_seconds": 0.1,
        "children_per_block": 2,
        "senders": 3,
    }
    settings = make_settings(**given)
    access = KiteAccess(db, settings, sealer_from(settings), SystemClock())
    room = Room(Desk(db, settings, FakeMarket(), access, SystemClock()), None, access, None)
    dice = random.Random(3)  # noqa: S311  reproducible, not secret
    orders = []
    running = [start(given), start(given)]
    try:
        for _ in range(KILLS):
            orders.extend(
                room.accept(
                    tradingsymbol=dice.choice(SYMBOLS), quantity=dice.randint(1, 40), order_type="MARKET",
                    price_paise=None,
                )
                for _ in range(ORDERS // KILLS)
            )  # fmt: skip
            time.sleep(dice.uniform(0.05, 0.6))
            victim = running.pop(0)
            victim.kill()
            victim.wait(10)
            running.append(start(given))
        eventually(lambda: all(room.child(order_id).closed_at for order_id in orders), timeout=90, interval=0.3)
    finally:
        for process in running:
            process.kill()
            process.wait(10)

    book = access.current(ACCOUNT).broker.orders()
    trades = access.current(ACCOUNT).broker.trades()
    tags = Counter(tag for row in book for tag in row.tags if len(tag) == TAG_LENGTH)
    assert set(tags.values()) == {1}, "a tag is at the exchange twice"
    attempts = {row.tag: row for row in room.rows(BrokerOrder)}
    assert set(tags) <= set(attempts)
    fills = {(row.broker_order_id, row.broker_trade_id): row for row in room.rows(Fill)}
    assert {(trade.broker_order_id, trade.broker_trade_id) for trade in trades} == set(fills)
    outcomes = Counter(room.child(order_id).state for order_id in orders)
    assert set(outcomes) <= {"FILLED", "FAILED"}, outcomes
    assert outcomes["FILLED"] >= ORDERS // 2
    for order_id in orders:
        child = room.child(order_id)
        allocated = room.events(order_id, "OrderAllocated")
        assert len(room.events(order_id, "OrderClosed")) == 1
        assert sum(event["quantity"] for event in allocated) == child.filled_quantity
        assert child.filled_quantity in (0, child.quantity)
    to_users = sum(room.child(order_id).filled_quantity for order_id in orders)
    to_house = sum(row.quantity for row in fills.values() if row.booked_to == "house")
    assert sum(trade.quantity for trade in trades) == to_users + to_house
    assert to_house == 0
