"""Random orders, cancels, faults and crashes against the invariants of execution.md 4.4; a failure names its seed."""

import os
import random
import threading
from collections import Counter

import pytest
import sqlalchemy as sa

from trade_executor import control, cutting, sending
from trade_executor.batching import LiveBlock, can_cross
from trade_executor.models import Allocation, Block, BlockChild, BrokerOrder, ChildOrder, Fill, ReconBreak
from trade_executor.testing import ACCOUNT, lose_answer, lose_request, make_room, refuse, second_desk

SYMBOLS = ("INFY", "TCS", "SBIN")
SETTLING_ROUNDS_MAX = 60


def check(room):
    """What must hold at any moment."""
    broker = room.broker
    assert all(count == 1 for count in broker.sends.values()), "a tag was sent twice"
    with room.db.session() as session:
        children = session.scalars(sa.select(ChildOrder)).all()
        blocks = session.scalars(sa.select(Block)).all()
        attempts = session.scalars(sa.select(BrokerOrder)).all()
        fills = session.scalars(sa.select(Fill)).all()
        allocations = session.scalars(sa.select(Allocation)).all()
        shares = session.scalars(sa.select(BlockChild)).all()
    by_block = Counter()
    for row in shares:
        by_block[row.block_id] += row.quantity
        assert 0 <= row.allocated_quantity <= row.quantity
    assert all(by_block[block.block_id] == block.quantity for block in blocks)
    known = {row.broker_trade_id: row for row in broker.executions}
    assert all(known[fill.broker_trade_id].quantity == fill.quantity for fill in fills)
    rounds = Counter()
    for fill in fills:
        if fill.round_no is not None:
            rounds[fill.block_id, fill.round_no, "shares"] += fill.quantity
            rounds[fill.block_id, fill.round_no, "paise"] += fill.amount_paise
    given = Counter()
    per_order = Counter()
    for row in allocations:
        given[row.block_id, row.round_no, "shares"] += row.quantity
        given[row.block_id, row.round_no, "paise"] += row.amount_paise
        per_order[row.order_id, "shares"] += row.quantity
        per_order[row.order_id, "paise"] += row.amount_paise
    assert rounds == given, "a round gave other than it had"
    for child in children:
        assert child.filled_quantity == per_order[child.order_id, "shares"]
        assert child.amount_paise == per_order[child.order_id, "paise"]
    live = [
        LiveBlock(block.block_id, block.exchange, block.tradingsymbol, block.side, block.price_paise)
        for block in blocks
        if block.state != "DONE"
    ]
    assert not any(can_cross(one, other) for one in live for other in live), "we could trade with ourselves"
    undecided = Counter(row.block_id for row in attempts if row.state in ("INTENT", "SENDING", "UNKNOWN", "ACKED"))
    assert all(count == 1 for count in undecided.values())


class World:
    """One seeded run."""

    def __init__(self, db, seed):
        self.random = random.Random(seed)  # noqa: S311  reproducible, not secret
        self.room = make_room(
            db, unknown_min_scans=2, unknown_min_seconds=0.0, cancel_repeat_seconds=0.05, opposite_wait_seconds=0.3,
            sending_max_seconds=0.2, attempts_per_block=30, retry_max_seconds=0.05,
        )  # fmt: skip
        self.orders = []

    def accept(self):
        dice = self.random
        market = dice.random() < 0.3
        self.orders.append(
            self.room.accept(
                tradingsymbol=dice.choice(SYMBOLS),
                side=dice.choice(("BUY", "SELL")),
                quantity=dice.randint(1, 60),
                order_type="MARKET" if market else "LIMIT",
                price_paise=None if market else dice.choice((99_00, 100_00, 101_00)),
            )
        )

    def fault(self):
        self.room.broker.script.append(
            self.random.choice(
                (
                    lose_answer,
                    lose_request,
                    refuse("rate_limited", "Too many requests", retryable=True),
                    refuse("insufficient_funds", "Insufficient funds."),
                )
            )
        )

    def fill(self):
        broker = self.room.broker
        with broker.lock:
            open_rows = [row for row in broker.rows.values() if row.status == "OPEN"]
            if not open_rows:
                return
            row = self.random.choice(open_rows)
            left = row.quantity - row.filled_quantity
            broker.fill(row.broker_order_id, self.random.randint(1, left))

    def cancel(self):
        if self.orders:
            self.room.cancel(self.random.choice(self.orders))

    def crash_before_the_call(self):
        """A sender claims and dies; its successor starts with an empty memory."""
        with self.room.db.transaction() as session:
            epoch = control.take_over(session, ACCOUNT)
            candidate, _ = cutting.choose(session, ACCOUNT, self.room.desk.settings)
            attempt_id = cutting.cut(session, ACCOUNT, candidate.key, self.room.desk.settings) if candidate else None
        if attempt_id is not None:
            claimed = sending.claim(self.room.db, attempt_id, epoch=epoch)
            if claimed is not None and self.random.random() < 0.5:
                self.room.broker.place(claimed.request)
        self.room = second_desk(self.room)

    def settle(self):
        """Heal: no more faults, everything fills, nothing is left over."""
        self.room.broker.script.clear()
        for _ in range(SETTLING_ROUNDS_MAX):
            for row in list(self.room.broker.rows.values()):
                if row.status == "OPEN":
                    self.room.broker.fill(row.broker_order_id, row.quantity - row.filled_quantity)
            self.room.run("UPDATE child_order SET not_before = NULL WHERE not_before IS NOT NULL")
            self.room.run("UPDATE broker_order SET not_before = NULL WHERE not_before IS NOT NULL")
            self.room.run("UPDATE broker_order SET sent_at = sent_at - interval '1 second' WHERE state = 'SENDING'")
            self.room.step()
            with self.room.db.session() as session:
                left = session.scalar(
                    sa.select(sa.func.count()).where(ChildOrder.state.in_(("ACCEPTED", "BATCHED", "PARTIAL")))
                )
            if not left:
                return
        stuck = [
            (row.state, row.tradingsymbol, row.side, row.price_paise)
            for row in self.room.rows(ChildOrder)
            if row.closed_at is None
        ]
        blocks = [
            (row.state, row.tradingsymbol, row.side, row.cancel_reason)
            for row in self.room.rows(Block)
            if row.state != "DONE"
        ]
        breaks = [(row.kind, row.detail) for row in self.room.rows(ReconBreak)]
        raise AssertionError(f"{left} orders never ended: {stuck}; {blocks}; {breaks}")


STEPS = ("accept",) * 8 + ("fault",) * 2 + ("fill",) * 4 + ("cancel",) * 2 + ("crash_before_the_call",) + ("step",) * 5


SEEDS = int(os.environ.get("SARAS_CHAOS_SEEDS", "4"))
"""More of them for a night's run."""


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_orders_and_faults_lose_and_double_nothing(db, seed):
    world = World(db, seed)
    for number in range(90):
        action = world.random.choice(STEPS)
        if action == "step":
            world.room.step()
        else:
            getattr(world, action)()
        if number % 15 == 0:
            check(world.room)
    world.settle()
    check(world.room)
    room = world.room
    for order_id in world.orders:
        closed = room.events(order_id, "OrderClosed")
        assert len(closed) == 1, "every order ends once"
        child = room.child(order_id)
        allocated = room.events(order_id, "OrderAllocated")
        assert sum(event["quantity"] for event in allocated) == closed[0]["filled_quantity"] == child.filled_quantity
        assert sum(event["amount_paise"] for event in allocated) == closed[0]["amount_paise"]
    ours = {row.broker_trade_id for row in room.rows(Fill)}
    assert {trade.broker_trade_id for trade in room.broker.executions} == ours, "a trade was missed"


def test_several_processes_at_once_send_and_allocate_once(db):
    room = make_room(db, senders=3)
    room.broker.auto_fill = True
    desks = [room, second_desk(room), second_desk(room)]
    stop = threading.Event()
    errors = []

    def work(desk):
        try:
            while not stop.is_set():
                desk.step()
        except Exception as error:  # noqa: BLE001  the thread's failure is the test's
            errors.append(error)

    threads = [threading.Thread(target=work, args=(desk,)) for desk in desks]
    for thread in threads:
        thread.start()
    dice = random.Random(5)  # noqa: S311  reproducible, not secret
    orders = [room.accept(tradingsymbol=dice.choice(SYMBOLS), quantity=dice.randint(1, 50)) for _ in range(60)]
    for _ in range(200):
        if all(room.child(order_id).state == "FILLED" for order_id in orders):
            break
        stop.wait(0.1)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert errors == []
    check(room)
    assert {room.child(order_id).state for order_id in orders} == {"FILLED"}
    assert len(room.events(type_name="OrderClosed")) == 60
    assert sum(trade.quantity for trade in room.broker.executions) == sum(
        room.child(order_id).quantity for order_id in orders
    )
