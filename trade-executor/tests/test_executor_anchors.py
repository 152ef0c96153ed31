"""Faults that other systems are known for, as tests of this one (execution.md section 1).

L1 to L5 are the five faults found by reading Lean's Zerodha adapter, S7 the ambiguous outcomes of NautilusTrader's venue
acceptance tests (E74 to E78, E84 to E87), S9 the replay of FIX certification. Only trades and `filled_quantity` are facts.
"""

import random
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from trade_executor import control, cutting, observing, sending
from trade_executor.brokers.base import CancelUnknown
from trade_executor.models import Allocation, Block, BrokerOrder, ChildOrder, Fill, HouseFill, ReconBreak
from trade_executor.observing import Seen
from trade_executor.testing import ACCOUNT, lose_answer, lose_request, make_room, refuse, second_desk


def working(room, quantity=10, **changes):
    order_id = room.accept(quantity=quantity, **changes)
    room.pump()
    return order_id, room.broker.id_of()


def claimed(room):
    """An attempt whose sender is between its claim and the answer."""
    with room.db.transaction() as session:
        epoch = control.take_over(session, ACCOUNT)
        candidate, _ = cutting.choose(session, ACCOUNT, room.desk.settings)
        attempt_id = cutting.cut(session, ACCOUNT, candidate.key, room.desk.settings)
    return sending.claim(room.db, attempt_id, epoch=epoch)


def outcomes(room, order_id):
    return [
        (event["outcome"], event["filled_quantity"], event["amount_paise"])
        for event in room.events(order_id, "OrderClosed")
    ]


def attempt(room):
    [row] = room.rows(BrokerOrder)
    return row


# --- Lean L1 to L5 ------------------------------------------------------------------------------------------------


def test_l1_an_exception_on_place_is_not_a_refusal(room):
    order_id = room.accept()
    room.broker.script = [lose_answer]
    room.pump()
    assert (attempt(room).state, outcomes(room, order_id)) == ("UNKNOWN", [])
    room.broker.fill(room.broker.id_of(), 10)
    room.observe()
    assert outcomes(room, order_id) == [("FILLED", 10, 1_000_00)]


def test_l2_an_update_that_comes_before_the_answer_is_kept(room):
    order_id = room.accept()
    claim = claimed(room)
    outcome = room.broker.place(claim.request)
    room.broker.fill(room.broker.id_of(), 4)
    room.observe()
    assert room.child(order_id).filled_quantity == 4
    sending.record_outcome(room.db, claim.attempt_id, outcome, room.desk.settings)
    room.broker.fill(room.broker.id_of(), 6)
    room.observe()
    assert outcomes(room, order_id) == [("FILLED", 10, 1_000_00)]
    assert len(room.events(order_id, "OrderWorking")) == 1


def test_l3_the_average_of_the_book_is_never_the_price_of_a_fill(room):
    order_id, broker_order_id = working(room)
    room.broker.fill(broker_order_id, 4, Decimal("100.00"))
    room.observe()
    room.broker.fill(broker_order_id, 6, Decimal("110.05"))
    row = room.broker.rows[broker_order_id]
    room.broker.rows[broker_order_id] = replace(row, average_price=Decimal("106.03"))
    room.observe()
    assert sorted((fill.quantity, fill.price) for fill in room.rows(Fill)) == [
        (4, Decimal("100.0000")), (6, Decimal("110.0500")),
    ]  # fmt: skip
    assert outcomes(room, order_id) == [("FILLED", 10, 400_00 + 660_30)]


def test_l4_a_cancel_after_a_partial_fill_does_not_emit_it_again(room):
    order_id, broker_order_id = working(room)
    room.broker.fill(broker_order_id, 4)
    room.observe()
    room.broker.end(broker_order_id)
    for desk in (room, second_desk(room), room, second_desk(room)):
        desk.observe()
    assert outcomes(room, order_id) == [("EXPIRED", 4, 400_00)]
    assert [row.quantity for row in room.rows(Allocation)] == [4]


def test_l5_an_accepted_cancel_is_not_a_cancelled_order(room):
    order_id, broker_order_id = working(room)
    room.broker.cancel_works = False
    room.cancel(order_id)
    room.pump()
    room.observe()
    assert (room.broker.cancels, outcomes(room, order_id)) == ([broker_order_id], [])
    room.broker.fill(broker_order_id, 10)
    room.observe()
    assert outcomes(room, order_id) == [("FILLED", 10, 1_000_00)]


# --- only filled_quantity and trades are facts ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "filled", "outcome"),
    [
        ("REJECTED", 0, "REJECTED"),
        ("REJECTED", 4, "CANCELLED"),
        ("CANCELLED", 0, "EXPIRED"),
        ("CANCELLED", 4, "EXPIRED"),
        ("CANCELLED AMO", 4, "EXPIRED"),
        ("LAPSED", 4, "EXPIRED"),
    ],
)
def test_an_end_after_a_partial_fill_keeps_the_fill(room, end, filled, outcome):
    """A rejection cannot undo shares: who has some is told that the rest was cancelled."""
    order_id, broker_order_id = working(room)
    if filled:
        room.broker.fill(broker_order_id, filled)
    room.broker.end(broker_order_id, end, "RMS")
    room.observe()
    assert outcomes(room, order_id) == [(outcome, filled, filled * 100_00)]
    assert attempt(room).state == "SETTLED"


@pytest.mark.parametrize("late", [1, 3])
def test_trades_later_than_the_end_are_waited_for(room, late):
    order_id, broker_order_id = working(room)
    for _ in range(5):
        room.broker.fill(broker_order_id, 2)
    held_back = [room.broker.executions.pop() for _ in range(late)]
    room.observe()
    assert (attempt(room).state, outcomes(room, order_id)) == ("COMPLETE", [])
    assert room.child(order_id).filled_quantity == 10 - 2 * late
    room.broker.executions.extend(held_back)
    room.observe()
    assert outcomes(room, order_id) == [("FILLED", 10, 1_000_00)]


def test_trades_ahead_of_the_book_are_given_out_and_settled_once_the_book_follows(room):
    order_id, broker_order_id = working(room)
    room.broker.fill(broker_order_id, 10)
    behind = replace(room.broker.rows[broker_order_id], status="CANCELLED", filled_quantity=6)
    ahead = room.broker.rows[broker_order_id]
    room.broker.rows[broker_order_id] = behind
    room.observe()
    assert attempt(room).state == "CANCELLED"
    assert outcomes(room, order_id) == [("FILLED", 10, 1_000_00)], "trades are facts"
    room.broker.rows[broker_order_id] = ahead
    room.observe()
    assert attempt(room).state == "SETTLED"


def test_a_partial_row_after_complete_takes_nothing_back(room):
    order_id, broker_order_id = working(room)
    room.broker.fill(broker_order_id, 10)
    room.observe()
    row = room.broker.rows[broker_order_id]
    room.broker.rows[broker_order_id] = replace(row, status="OPEN", filled_quantity=7)
    for desk in (room, second_desk(room)):
        desk.observe()
    assert (attempt(room).state, attempt(room).filled_quantity) == ("SETTLED", 10)
    assert outcomes(room, order_id) == [("FILLED", 10, 1_000_00)]
    assert room.rows(ReconBreak) == []


def test_a_refused_and_a_void_tag_stay_on_watch(db):
    room = make_room(db, retry_first_seconds=30)
    refused = room.accept(tradingsymbol="INFY")
    room.broker.script = [refuse()]
    room.pump()
    held_up = room.broker.requests[0]
    room.accept(tradingsymbol="TCS")
    with room.db.transaction() as session:
        candidate, _ = cutting.choose(session, ACCOUNT, room.desk.settings)
        cutting.cut(session, ACCOUNT, candidate.key, room.desk.settings)
    [void] = room.rows(BrokerOrder, state="INTENT")
    room.cancel(room.rows(ChildOrder, tradingsymbol="TCS")[0].order_id)
    room.broker.fill(room.broker.take(held_up), 10)
    room.broker.fill(room.broker.take(cutting.thaw(void.request, void.tag)), 10)
    room.observe()
    room.observe()
    assert {row.state for row in room.rows(BrokerOrder)} == {"CLOSED"}
    assert sorted((row.tradingsymbol, row.why, row.quantity) for row in room.rows(HouseFill)) == [
        ("INFY", "ghost", 10), ("TCS", "ghost", 10),
    ]  # fmt: skip
    assert outcomes(room, refused) == [("REJECTED", 0, 0)]
    assert room.rows(Allocation) == []


# --- S7: ambiguous outcomes and restarts --------------------------------------------------------------------------


@pytest.mark.parametrize("filled", [0, 4, 10])
@pytest.mark.parametrize("restart", [False, True])
def test_s7_an_ambiguous_submit_ends_as_the_broker_s_truth(room, filled, restart):
    order_id = room.accept()
    room.broker.script = [lose_answer]
    room.pump()
    if filled:
        room.broker.fill(room.broker.id_of(), filled)
    (second_desk(room) if restart else room).step()
    child = room.child(order_id)
    assert child.filled_quantity == filled
    assert child.state == {0: "BATCHED", 4: "PARTIAL", 10: "FILLED"}[filled]
    assert max(room.broker.sends.values()) == 1


def test_s7_an_ambiguous_submit_that_never_arrived_is_told_as_failed(db):
    room = make_room(db, unknown_min_scans=3, unknown_min_seconds=0)
    order_id = room.accept()
    room.broker.script = [lose_request]
    room.pump()
    for _ in range(3):
        assert outcomes(room, order_id) == []
        room.observe()
    room.sweep()
    assert outcomes(room, order_id) == [("FAILED", 0, 0)]


@pytest.mark.parametrize(("filled", "outcome"), [(0, "CANCELLED"), (4, "CANCELLED"), (10, "FILLED")])
def test_s7_an_ambiguous_cancel_ends_as_the_broker_s_truth(room, filled, outcome):
    order_id, broker_order_id = working(room)

    def unanswered(_):
        room.broker.cancels.append(broker_order_id)
        if filled:
            room.broker.fill(broker_order_id, filled)
        if filled < 10:
            room.broker.end(broker_order_id)
        return CancelUnknown("read timeout")

    room.broker.cancel = unanswered
    room.cancel(order_id)
    room.pump()
    assert outcomes(room, order_id) == []
    room.step()
    assert outcomes(room, order_id) == [(outcome, filled, filled * 100_00)]


def test_s7_a_restart_with_open_and_filled_orders_ends_as_the_broker_s_truth(room):
    orders = {}
    for symbol, filled in (("INFY", 0), ("TCS", 3), ("SBIN", 10), ("ITC", 6)):
        orders[symbol], broker_order_id = working(room, tradingsymbol=symbol)
        if filled:
            room.broker.fill(broker_order_id, filled)
        if symbol == "ITC":
            room.broker.end(broker_order_id)
    reborn = second_desk(room)
    reborn.step()
    reborn.step()
    found = {symbol: (room.child(one).state, room.child(one).filled_quantity) for symbol, one in orders.items()}
    assert found == {"INFY": ("BATCHED", 0), "TCS": ("PARTIAL", 3), "SBIN": ("FILLED", 10), "ITC": ("EXPIRED", 6)}
    assert len(room.broker.requests) == 4


# --- S9: every event one to five times, shuffled ------------------------------------------------------------------


def life(room, symbols):
    """A day of four orders as the broker tells it: one snapshot of book and trades after each event."""
    orders = {symbol: working(room, 30, tradingsymbol=symbol) for symbol in symbols}
    first, second, third, fourth = (orders[symbol][1] for symbol in symbols)
    broker, told = room.broker, []

    def tell():
        told.append((deepcopy(broker.orders()), deepcopy(broker.trades())))

    steps = [
        lambda: broker.fill(first, 10, Decimal("100.05")),
        lambda: broker.fill(second, 5, Decimal("99.95")),
        lambda: broker.fill(first, 20, Decimal("100.10")),
        lambda: broker.end(third, "REJECTED", "RMS"),
        lambda: broker.fill(second, 7, Decimal("100.00")),
        lambda: broker.end(second, "CANCELLED"),
        lambda: broker.fill(fourth, 1, Decimal("101.35")),
    ]
    for step in steps:
        step()
        tell()
    return {symbol: order_id for symbol, (order_id, _) in orders.items()}, told


def replay(room, told):
    """Each snapshot read by a process that has seen nothing before, then allocated."""
    for number, (orders, trades) in enumerate(told):
        observing.record_read(
            room.db, ACCOUNT, orders, trades, started_at=datetime.now(UTC) + timedelta(milliseconds=number),
            settings=room.desk.settings, seen=Seen(),
        )  # fmt: skip
        room.sweep()


def end_state(room, orders):
    """Everything that must not depend on how the news came, by role instead of id."""
    by_order = {order_id: role for role, order_id in enumerate(orders.values())}
    return {
        "orders": [
            (row.state, row.filled_quantity, row.amount_paise) for row in (room.child(one) for one in orders.values())
        ],
        "attempts": sorted((row.state, row.filled_quantity, row.broker_status) for row in room.rows(BrokerOrder)),
        "blocks": sorted((row.state, row.end_reason) for row in room.rows(Block)),
        "fills": sorted((row.quantity, row.price, row.booked_to) for row in room.rows(Fill)),
        "given": sorted(
            (role, sum(row.quantity for row in room.rows(Allocation, order_id=order_id)))
            for order_id, role in by_order.items()
        ),
        "closed": [
            [(event["outcome"], event["filled_quantity"]) for event in room.events(one, "OrderClosed")]
            for one in orders.values()
        ],
        "breaks": [row.kind for row in room.rows(ReconBreak)],
    }


@pytest.mark.parametrize("seed", range(4))
def test_s9_every_event_repeated_and_shuffled_leads_to_the_same_end(room, seed):
    symbols = ("INFY", "TCS", "SBIN", "ITC")
    orders, told = life(room, symbols)
    dice = random.Random(seed)  # noqa: S311  reproducible, not secret
    again = [one for one in told for _ in range(dice.randint(1, 5))]
    dice.shuffle(again)
    replay(room, again)
    expected = {
        "orders": [("FILLED", 30, 1_000_50 + 2_002_00), ("EXPIRED", 12, 499_75 + 700_00), ("REJECTED", 0, 0),
                   ("PARTIAL", 1, 101_35)],
        "attempts": [("ACKED", 1, "OPEN"), ("SETTLED", 0, "REJECTED"), ("SETTLED", 12, "CANCELLED"),
                     ("SETTLED", 30, "COMPLETE")],
        "blocks": [("DONE", "complete"), ("DONE", "ended by broker"), ("DONE", "rejected"), ("WORKING", None)],
        "fills": [(1, Decimal("101.3500"), "block"), (5, Decimal("99.9500"), "block"),
                  (7, Decimal("100.0000"), "block"), (10, Decimal("100.0500"), "block"),
                  (20, Decimal("100.1000"), "block")],
        "given": [(0, 30), (1, 12), (2, 0), (3, 1)],
        "closed": [[("FILLED", 30)], [("EXPIRED", 12)], [("REJECTED", 0)], []],
        "breaks": [],
    }  # fmt: skip
    assert end_state(room, orders) == expected
