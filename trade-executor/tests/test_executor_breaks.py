"""What happens when the broker's books contradict ours, vanish, or repeat themselves."""

import random
from dataclasses import replace
from decimal import Decimal

import pytest

from common.errors import Unavailable
from trade_executor import allocating, control, cutting, sending
from trade_executor.models import Block, BrokerOrder, Fill, ReconBreak
from trade_executor.testing import ACCOUNT, make_room, second_desk


def kinds(room):
    return [row.kind for row in room.rows(ReconBreak) if row.closed_at is None]


def trading_state(room):
    with room.db.session() as session:
        return control.allowance(session, ACCOUNT).trading_state


def working(room, quantity=10):
    order_id = room.accept(quantity=quantity)
    room.pump()
    return order_id, room.broker.id_of()


def test_repeated_and_shuffled_reads_book_every_trade_once(room):
    order_id, broker_order_id = working(room, 30)
    dice = random.Random(1)  # noqa: S311  reproducible, not secret
    for _ in range(6):
        room.broker.fill(broker_order_id, 5, Decimal("100.05"))
        for desk in (room, second_desk(room)):
            dice.shuffle(room.broker.executions)
            desk.observe()
            desk.observe()
    assert [fill.quantity for fill in room.rows(Fill)] == [5] * 6
    child = room.child(order_id)
    assert (child.state, child.filled_quantity, child.amount_paise) == ("FILLED", 30, 30 * 100_05)
    assert len(room.events(order_id, "OrderAllocated")) == 6
    assert kinds(room) == []


def test_a_trade_that_changes_is_a_break_and_changes_no_user(room):
    order_id, broker_order_id = working(room)
    room.broker.fill(broker_order_id, 4)
    room.observe()
    room.broker.executions[0] = replace(room.broker.executions[0], quantity=6)
    room.observe()
    second_desk(room).observe()
    assert kinds(room) == ["trade_changed"]
    assert room.child(order_id).filled_quantity == 4


def test_more_filled_than_ordered_freezes_the_block_and_halts(room):
    order_id, broker_order_id = working(room)
    room.broker.fill(broker_order_id, 10)
    room.broker.executions[0] = replace(room.broker.executions[0], quantity=12)
    room.observe()
    assert [row.state for row in room.rows(Block)] == ["FROZEN"]
    assert kinds(room) == ["overfilled"]
    assert trading_state(room) == "HALTED"
    assert room.child(order_id).filled_quantity == 0
    assert [row.quantity for row in room.rows(Fill)] == [12], "the fact is kept"


def test_an_order_placed_by_hand_is_noted_and_touches_nobody(room):
    order_id, broker_order_id = working(room)
    stranger = replace(room.broker.rows[broker_order_id], broker_order_id="999", tags=frozenset({"by hand"}))
    room.broker.rows["999"] = stranger
    room.broker.fill("999", 10)
    room.observe()
    room.observe()
    assert kinds(room) == ["foreign_order"]
    assert trading_state(room) == "ACTIVE"
    assert room.rows(Fill) == []
    assert room.child(order_id).filled_quantity == 0


def test_our_tag_from_a_forgotten_life_halts(room):
    _, broker_order_id = working(room)
    room.observe()
    room.run("DELETE FROM broker_order")
    room.run("UPDATE child_order SET block_id = NULL, state = 'ACCEPTED'")
    reborn = second_desk(room)
    reborn.observe()
    assert kinds(room) == ["ours_unknown"]
    assert trading_state(room) == "HALTED"
    assert broker_order_id in room.rows(ReconBreak)[0].detail


def test_an_order_missing_from_the_book_is_reported_not_cancelled(db):
    room = make_room(db, break_after_seconds=30)
    order_id, broker_order_id = working(room)
    hidden = room.broker.rows.pop(broker_order_id)
    room.observe()
    room.observe()
    assert kinds(room) == []
    room.run("UPDATE broker_order SET missing_since = missing_since - interval '31 seconds'")
    room.observe()
    assert kinds(room) == ["missing_in_book"]
    assert room.child(order_id).state == "BATCHED"
    room.broker.rows[broker_order_id] = hidden
    room.broker.fill(broker_order_id, 10)
    room.observe()
    assert room.child(order_id).state == "FILLED"


def test_trades_that_stay_away_are_reported_and_never_guessed(db):
    room = make_room(db, break_after_seconds=30)
    order_id, broker_order_id = working(room)
    room.broker.fill(broker_order_id, 10)
    held_back = room.broker.executions.pop()
    room.observe()
    room.run("UPDATE broker_order SET ended_at = ended_at - interval '31 seconds'")
    room.sweep()
    assert kinds(room) == ["trades_incomplete"]
    assert room.child(order_id).filled_quantity == 0
    room.broker.executions.append(held_back)
    room.observe()
    assert (room.child(order_id).state, kinds(room)) == ("FILLED", [])


def test_blindness_with_working_orders_is_a_break_that_seeing_cures(db):
    room = make_room(db, blind_after_seconds=30)
    working(room)
    room.observe()
    room.broker.readable = False
    assert room.observe() is False
    assert kinds(room) == []
    room.run("UPDATE broker_order SET sent_at = sent_at - interval '31 seconds'")
    room.run("UPDATE control SET observed_at = observed_at - interval '31 seconds'")
    room.observe()
    assert kinds(room) == ["blind"]
    room.broker.readable = True
    assert room.observe() is True
    assert kinds(room) == []


def test_a_fill_after_the_settlement_is_the_house_s(room):
    order_id, broker_order_id = working(room)
    room.broker.fill(broker_order_id, 6)
    room.broker.end(broker_order_id)
    room.observe()
    assert room.child(order_id).state == "EXPIRED"
    room.broker.fill(broker_order_id, 4)
    room.observe()
    assert kinds(room) == ["late_fill"]
    assert [(fill.quantity, fill.booked_to) for fill in room.rows(Fill)] == [(6, "block"), (4, "house")]
    assert room.child(order_id).filled_quantity == 6


def test_an_unknown_market_sends_nothing_and_expires_nothing(room):
    class Silent:
        def session(self):
            raise Unavailable("no answer")

    room.desk.market = Silent()
    order_id = room.accept()
    room.step()
    assert (room.child(order_id).state, room.broker.requests) == ("ACCEPTED", [])


def test_a_short_silence_of_the_market_room_is_bridged(room):
    room.desk.session_info()

    def silence():
        raise Unavailable("no answer")

    room.market.session = silence
    room.accept()
    assert room.pump() == 1


def test_a_block_that_does_not_add_up_is_never_sent(room):
    room.market.is_open = False
    room.accept(quantity=10)
    room.market.is_open = True
    with room.db.transaction() as session:
        epoch = control.take_over(session, ACCOUNT)
        candidate, _ = cutting.choose(session, ACCOUNT, room.desk.settings)
        attempt_id = cutting.cut(session, ACCOUNT, candidate.key, room.desk.settings)
    room.run("UPDATE broker_order SET quantity = 11")
    assert sending.claim(room.db, attempt_id, epoch=epoch) is None
    assert kinds(room) == ["parent_mismatch"]
    assert trading_state(room) == "HALTED"
    assert room.pump() == 0
    assert room.broker.requests == []


@pytest.mark.parametrize("again", [1, 3])
def test_advancing_a_block_again_changes_nothing(room, again):
    order_id, broker_order_id = working(room)
    room.broker.fill(broker_order_id, 10)
    room.observe()
    block_id = room.rows(Block)[0].block_id
    for _ in range(again):
        allocating.advance_block(room.db, block_id)
    assert room.child(order_id).filled_quantity == 10
    assert len(room.events(order_id, "OrderClosed")) == 1
    assert [row.state for row in room.rows(BrokerOrder)] == ["SETTLED"]
