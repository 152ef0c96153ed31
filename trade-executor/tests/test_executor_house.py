"""Trades that belong to no user: in the house's journal once, told to the ledger once, never a user's; frozen instruments."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from trade_executor import breaks, control, cutting, house, own_books, settling
from trade_executor.brokers.base import PlaceRequest
from trade_executor.models import Allocation, Block, Fill, HouseFill, ReconBreak
from trade_executor.testing import ACCOUNT, lose_request, make_room, second_desk


def by_hand(symbol="INFY", quantity=10, side="BUY"):
    return PlaceRequest("byhand", "NSE", symbol, side, quantity, "CNC", "LIMIT", price=Decimal(100))


def working(room, quantity=10, **changes):
    order_id = room.accept(quantity=quantity, **changes)
    room.pump()
    return order_id, room.broker.id_of()


def open_kinds(room):
    return Counter(row.kind for row in room.rows(ReconBreak) if row.closed_at is None)


def close_all(room, actor="ops"):
    for row in room.rows(ReconBreak):
        if row.closed_at is None:
            with room.db.transaction() as session:
                breaks.close(session, row.break_id, actor=actor, reason="looked at")


def journal(room):
    return [(row.why, row.side, row.quantity, row.amount_paise) for row in room.rows(HouseFill)]


def told(room):
    return [
        (event["why"], event["side"], event["quantity"], event["amount_paise"])
        for event in room.events(type_name="HouseFilled")
    ]


def test_somebody_else_s_trades_are_the_house_s_once(room):
    order_id, _ = working(room)
    room.broker.give("999", by_hand(quantity=10))
    room.broker.fill("999", 4, Decimal("100.05"))
    for desk in (room, room, second_desk(room)):
        desk.observe()
    room.broker.fill("999", 6, Decimal("100.10"))
    for desk in (second_desk(room), room):
        desk.observe()
    assert sorted(journal(room)) == sorted(told(room)) == [("foreign", "BUY", 4, 400_20), ("foreign", "BUY", 6, 600_60)]
    assert open_kinds(room) == {"foreign_order": 1}
    assert room.rows(Fill) == []
    assert room.child(order_id).filled_quantity == 0


def test_a_trade_whose_order_the_book_does_not_show_yet_is_nobody_s(room):
    """The book is read before the trades: an order placed in between may be ours and unanswered."""
    room.broker.give("999", by_hand())
    room.broker.fill("999", 10)
    hidden = room.broker.rows.pop("999")
    room.observe()
    assert journal(room) == []
    room.broker.rows["999"] = hidden
    room.observe()
    assert [row[:3] for row in journal(room)] == [("foreign", "BUY", 10)]


def test_a_stranger_s_trade_that_changes_is_a_break(room):
    room.broker.give("999", by_hand())
    room.broker.fill("999", 4)
    room.observe()
    room.broker.executions[0] = replace(room.broker.executions[0], quantity=5)
    room.observe()
    assert open_kinds(room) == {"foreign_order": 1, "trade_changed": 1}
    assert journal(room) == told(room) == [("foreign", "BUY", 4, 400_00)]


def test_a_ghost_s_and_a_late_fill_are_told_to_the_ledger(db):
    room = make_room(db, unknown_min_scans=1, unknown_min_seconds=0)
    room.accept(quantity=10)
    room.broker.script = [lose_request]
    room.pump()
    room.observe()
    room.sweep()
    ghost = room.broker.take(room.broker.requests[0])
    room.broker.fill(ghost, 4)
    room.observe()
    order_id, late = working(room, 10, tradingsymbol="TCS")
    room.broker.fill(late, 6)
    room.broker.end(late)
    room.observe()
    room.broker.fill(late, 3, Decimal("101.00"))
    room.observe()
    second_desk(room).observe()
    assert sorted(journal(room)) == sorted(told(room)) == [("ghost", "BUY", 4, 400_00), ("late", "BUY", 3, 303_00)]
    assert room.child(order_id).filled_quantity == 6
    assert {row.booked_to for row in room.rows(Fill, broker_order_id=ghost)} == {"house"}


def test_house_fills_of_an_earlier_release_are_caught_up(room):
    order_id, broker_order_id = working(room)
    room.broker.fill(broker_order_id, 10)
    room.observe()
    room.run("UPDATE fill SET booked_to = 'house'")
    room.broker.executions.clear()
    room.observe()
    room.observe()
    assert journal(room) == told(room) == [("late", "BUY", 10, 1_000_00)]
    assert room.child(order_id).state == "FILLED"


def test_a_second_order_under_one_tag_is_never_a_user_s(room):
    order_id, broker_order_id = working(room)
    twin = room.broker.take(room.broker.requests[0])
    room.broker.fill(twin, 10)
    room.broker.fill(broker_order_id, 2)
    room.observe()
    assert open_kinds(room) == {"duplicate_tag": 1}
    assert journal(room) == told(room) == [("duplicate", "BUY", 10, 1_000_00)]
    assert room.child(order_id).filled_quantity == 2


@pytest.mark.parametrize("before", [0, 7])
def test_what_was_filled_beyond_the_block_goes_to_the_house_when_a_person_settles_it(room, before):
    first, broker_order_id = working(room, 10)
    if before:
        room.broker.fill(broker_order_id, before)
        room.observe()
    room.broker.fill(broker_order_id, 12 - before, Decimal("100.05"))
    room.observe()
    [block] = room.rows(Block)
    assert (block.state, open_kinds(room)) == ("FROZEN", {"overfilled": 1})
    assert journal(room) == []
    with room.db.transaction() as session:
        settling.settle_frozen(session, block.block_id, actor="admin", reason="contract note")
    child = room.child(first)
    assert (child.state, child.filled_quantity) == ("FILLED", 10)
    assert journal(room) == told(room) == [("excess", "BUY", 2, 200_10)]
    paid = sum(row.amount_paise for row in room.rows(Allocation))
    assert paid + 200_10 == sum(row.amount_paise for row in room.rows(Fill))
    assert open_kinds(room) == {}
    with room.db.transaction() as session:
        assert own_books.check(session, ACCOUNT, memory_s=600) == []


def test_a_fill_that_is_all_excess_is_not_allocated(room):
    first, broker_order_id = working(room, 10)
    room.broker.fill(broker_order_id, 9)
    room.observe()
    room.broker.fill(broker_order_id, 5)
    room.broker.fill(broker_order_id, 1)
    room.observe()
    with room.db.transaction() as session:
        settling.settle_frozen(session, room.rows(Block)[0].block_id, actor="admin", reason="contract note")
    assert room.child(first).filled_quantity == 10
    assert sum(row.quantity for row in room.rows(HouseFill)) == 5
    assert sum(row.quantity for row in room.rows(Allocation)) == 10
    assert Counter(row.booked_to for row in room.rows(Fill))["house"] == 1


def frozen(room):
    with room.db.session() as session:
        return breaks.frozen(session, ACCOUNT)


def test_a_frozen_instrument_sends_nothing_new_until_its_break_is_closed(room):
    room.broker.give("999", by_hand("INFY"))
    room.observe()
    assert frozen(room) == {"NSE:INFY"}
    held, other = room.accept(tradingsymbol="INFY"), room.accept(tradingsymbol="TCS")
    twin = room.accept(tradingsymbol="INFY", exchange="BSE")
    room.step()
    assert [(request.exchange, request.tradingsymbol) for request in room.broker.requests] == [
        ("NSE", "TCS"), ("BSE", "INFY"),
    ]  # fmt: skip
    assert [room.child(one).state for one in (held, other, twin)] == ["ACCEPTED", "BATCHED", "BATCHED"]
    with room.db.transaction() as session:
        key = next(one.key for one, _ in cutting.candidates(session, ACCOUNT, room.desk.settings))
        assert cutting.cut(session, ACCOUNT, key, room.desk.settings) is None
    close_all(room)
    room.step()
    assert room.child(held).state == "BATCHED"


def test_an_attempt_that_was_cut_before_the_freeze_waits_and_can_be_cancelled(room):
    order_id = room.accept(tradingsymbol="INFY")
    with room.db.transaction() as session:
        candidate, _ = cutting.choose(session, ACCOUNT, room.desk.settings)
        cutting.cut(session, ACCOUNT, candidate.key, room.desk.settings)
        breaks.open_break(session, ACCOUNT, breaks.DAY_NET, "NSE:INFY", "off by 3", freezes=["NSE:INFY"])
    assert room.pump() == 0
    assert room.broker.requests == []
    room.cancel(order_id)
    assert room.child(order_id).state == "CANCELLED"


def test_a_frozen_instrument_pushes_no_resting_block_off_the_market(db):
    room = make_room(db, opposite_wait_seconds=0.001)
    room.accept(side="BUY", price_paise=90_00)
    room.pump()
    with room.db.transaction() as session:
        breaks.open_break(session, ACCOUNT, breaks.FOREIGN_ORDER, "999", "by hand", freezes=["NSE:INFY"])
    room.accept(side="SELL", order_type="MARKET", price_paise=None)
    for _ in range(3):
        room.step()
    assert room.broker.cancels == []


def test_a_ghost_freezes_its_instrument(db):
    room = make_room(db, unknown_min_scans=1, unknown_min_seconds=0)
    room.accept(quantity=10)
    room.broker.script = [lose_request]
    room.pump()
    room.observe()
    room.sweep()
    room.broker.take(room.broker.requests[0])
    room.observe()
    assert open_kinds(room)["ghost_order"] == 1
    assert frozen(room) == {"NSE:INFY"}


def test_what_a_person_has_dealt_with_is_not_opened_again_by_the_next_process(room):
    working(room)
    room.broker.give("999", by_hand())
    room.broker.fill("999", 10)
    twin = room.broker.take(room.broker.requests[0])
    room.observe()
    room.broker.executions[0] = replace(room.broker.executions[0], quantity=9)
    room.observe()
    assert open_kinds(room) == {"foreign_order": 1, "duplicate_tag": 1, "trade_changed": 1}
    close_all(room)
    second_desk(room).observe()
    assert open_kinds(room) == {}
    room.broker.executions[0] = replace(room.broker.executions[0], quantity=8)
    second_desk(room).observe()
    assert open_kinds(room) == {"trade_changed": 1}, "another change is another fact"
    assert twin in room.broker.rows


def test_blindness_stops_new_orders_and_not_cancels(db):
    room = make_room(db, blind_after_seconds=30)
    order_id, _ = working(room)
    room.observe()
    waiting = room.accept(tradingsymbol="TCS")
    with room.db.transaction() as session:
        breaks.open_break(session, ACCOUNT, breaks.BLIND, ACCOUNT, "cannot see")
        assert control.claim(session, ACCOUNT, epoch=control.allowance(session, ACCOUNT).epoch, kind="place") is None
    room.cancel(order_id)
    room.pump()
    assert (len(room.broker.requests), len(room.broker.cancels)) == (1, 1)
    room.observe()
    room.pump()
    assert room.child(waiting).state == "BATCHED"


def test_the_id_of_a_house_fill_depends_on_the_whole_identity_of_the_trade(room):
    base = {
        "exchange": "NSE", "trade_date": datetime.now(UTC).date(), "broker_order_id": "1", "broker_trade_id": "2",
    }  # fmt: skip
    changes = [{}, {"exchange": "BSE"}, {"broker_order_id": "3"}, {"broker_trade_id": "3"}]
    assert len({house.house_fill_id({**base, **change}) for change in changes}) == len(changes)
