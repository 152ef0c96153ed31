"""Cancels: in the pool, in a block, racing with fills; expiry; orders that give way."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from common.clock import trading_date
from common.testing import eventually
from trade_executor import cancelling, intake
from trade_executor.models import Block, BrokerOrder, ChildOrder, EarlyCancel
from trade_executor.testing import lose_answer, make_room, order, refuse

TODAY = trading_date(datetime.now(UTC))


def pooled(room, *quantities, **more):
    room.market.is_open = False
    orders = [room.accept(quantity=quantity, **more) for quantity in quantities]
    room.market.is_open = True
    return orders


def outcomes(room, order_id):
    return [(event["outcome"], event["filled_quantity"]) for event in room.events(order_id, "OrderClosed")]


def test_an_order_in_the_pool_is_cancelled_at_once(room):
    [order_id] = pooled(room, 10)
    room.cancel(order_id)
    assert outcomes(room, order_id) == [("CANCELLED", 0)]
    assert room.pump() == 0


def test_a_cancel_that_overtakes_its_order_is_remembered(room):
    event = order()
    room.cancel(event.order_id)
    with room.db.transaction() as session:
        intake.accept(session, [(event, None)])
    assert outcomes(room, event.order_id) == [("CANCELLED", 0)]
    assert room.pump() == 0


def test_a_cancel_that_did_not_see_its_order_yet_is_applied_by_the_sweep(room):
    """Both messages handled at the same moment, neither transaction seeing the other's row."""
    order_id = room.accept()
    room.pump()
    room.run("INSERT INTO early_cancel (order_id, requested_at) VALUES (:id, now())", id=order_id)
    room.step()
    room.step()
    assert outcomes(room, order_id) == [("CANCELLED", 0)]
    assert room.rows(EarlyCancel) == []


def test_one_child_s_cancel_breaks_its_block_up_and_the_others_go_on_in_their_old_order(room):
    first, second, third = pooled(room, 100, 50, 37)
    ages = [room.child(order_id).seq for order_id in (first, second, third)]
    room.pump()
    room.broker.fill(room.broker.id_of(), 100)
    room.observe()

    room.cancel(second)
    room.step()
    assert room.broker.cancels == [room.broker.id_of(0)]
    room.step()

    assert outcomes(room, second) == [("CANCELLED", 27)]
    assert [room.child(order_id).seq for order_id in (first, second, third)] == ages
    assert [request.quantity for request in room.broker.requests] == [187, 47 + 17]
    room.broker.fill(room.broker.id_of(), 64)
    room.observe()
    assert outcomes(room, first) == [("FILLED", 100)]
    assert outcomes(room, third) == [("FILLED", 37)]
    assert len(room.events(first, "OrderWorking")) == 2


def test_a_cancel_that_loses_the_race_against_the_fill_changes_nothing(room):
    [order_id] = pooled(room, 10)
    room.pump()
    room.cancel(order_id)
    room.broker.fill(room.broker.id_of(), 10)
    room.pump()
    room.step()
    room.step()
    assert outcomes(room, order_id) == [("FILLED", 10)]
    assert len(room.broker.cancels) <= 1


def test_a_cancel_acknowledged_and_then_filled_pays_what_was_filled(room):
    [order_id] = pooled(room, 10)
    room.broker.cancel_works = False
    room.pump()
    room.cancel(order_id)
    room.pump()
    room.observe()
    assert outcomes(room, order_id) == [], "an acknowledged cancel is not a cancelled order"
    room.broker.fill(room.broker.id_of(), 6)
    room.broker.end(room.broker.id_of())
    room.step()
    assert outcomes(room, order_id) == [("CANCELLED", 6)]


def test_an_unanswered_cancel_is_repeated(db):
    room = make_room(db, cancel_repeat_seconds=0.05)
    [order_id] = pooled(room, 10)
    room.pump()
    room.broker.cancel_works = False
    room.cancel(order_id)
    eventually(lambda: room.pump() >= 0 and len(room.broker.cancels) >= 2)
    room.broker.cancel_works = True
    eventually(lambda: [room.step(), outcomes(room, order_id)][1] == [("CANCELLED", 0)])


def test_a_cancel_between_two_attempts_ends_the_block(db):
    room = make_room(db, retry_first_seconds=30)
    [order_id] = pooled(room, 10)
    room.broker.script = [refuse("rate_limited", "Too many requests", retryable=True)]
    room.pump()
    room.cancel(order_id)
    assert outcomes(room, order_id) == [("CANCELLED", 0)]
    assert sorted(row.state for row in room.rows(BrokerOrder)) == ["REFUSED", "VOID"]
    assert room.broker.rows == {}


def test_a_cancel_said_twice_answers_again_and_does_nothing_twice(room):
    [order_id] = pooled(room, 10)
    room.cancel(order_id)
    room.run("UPDATE outbox SET sent_at = now()")
    room.cancel(order_id)
    assert outcomes(room, order_id) == [("CANCELLED", 0)]
    assert room.run("UPDATE outbox SET sent_at = now() WHERE sent_at IS NULL") == 1


def test_partial_fills_then_the_broker_s_cancel_closes_as_expired(room):
    first, second = pooled(room, 60, 40)
    room.pump()
    room.broker.fill(room.broker.id_of(), 10, Decimal("99.95"))
    room.broker.end(room.broker.id_of(), "CANCELLED", "validity over")
    room.observe()
    assert outcomes(room, first) == [("EXPIRED", 6)]
    assert outcomes(room, second) == [("EXPIRED", 4)]


def test_an_immediate_order_s_rest_is_cancelled_not_sent_again(room):
    [order_id] = pooled(room, 10, validity="IOC")
    room.pump()
    room.broker.fill(room.broker.id_of(), 4)
    room.broker.end(room.broker.id_of())
    room.observe()
    assert outcomes(room, order_id) == [("CANCELLED", 4)]
    assert room.pump() == 0


def test_a_rejection_in_the_book_reaches_the_orders_with_its_text(room):
    [order_id] = pooled(room, 10)
    room.pump()
    room.broker.end(room.broker.id_of(), "REJECTED", "RMS:Margin Exceeds")
    room.observe()
    assert outcomes(room, order_id) == [("REJECTED", 0)]
    assert room.child(order_id).reason == "RMS:Margin Exceeds"


def test_nothing_is_settled_before_the_trades_add_up(room):
    [order_id] = pooled(room, 10)
    room.pump()
    room.broker.fill(room.broker.id_of(), 10)
    held_back = room.broker.executions.pop()
    room.observe()
    assert [row.state for row in room.rows(BrokerOrder)] == ["COMPLETE"]
    assert room.child(order_id).state == "BATCHED"
    room.broker.executions.append(held_back)
    room.observe()
    assert outcomes(room, order_id) == [("FILLED", 10)]


def test_a_late_open_after_the_end_is_ignored(room):
    [order_id] = pooled(room, 10)
    room.pump()
    broker_order_id = room.broker.id_of()
    room.broker.fill(broker_order_id, 3)
    room.broker.end(broker_order_id)
    room.observe()
    room.broker.rows[broker_order_id] = replace(room.broker.rows[broker_order_id], status="OPEN", filled_quantity=1)
    room.step()
    [attempt] = room.rows(BrokerOrder)
    assert (attempt.state, attempt.filled_quantity, attempt.broker_status) == ("SETTLED", 3, "CANCELLED")
    assert room.child(order_id).filled_quantity == 3


def test_a_market_order_s_rest_is_priced_anew_after_its_time(db):
    room = make_room(db, close_by_seconds=30)
    [order_id] = pooled(room, 10, order_type="MARKET", price_paise=None)
    room.pump()
    assert room.broker.requests[0].market_protection == Decimal(2)
    assert room.broker.requests[0].price is None
    room.broker.fill(room.broker.id_of(), 7)
    room.observe()
    room.step()
    assert room.broker.cancels == []
    room.run("UPDATE broker_order SET sent_at = sent_at - interval '31 seconds'")
    room.step()
    room.step()
    assert [request.quantity for request in room.broker.requests] == [10, 3]
    room.broker.fill(room.broker.id_of(), 3, Decimal("101.00"))
    room.observe()
    assert outcomes(room, order_id) == [("FILLED", 10)]
    assert room.child(order_id).amount_paise == 7 * 100_00 + 3 * 101_00


def test_an_order_for_the_next_session_waits_and_one_of_the_past_expires(room):
    room.market.is_open = False
    room.market.next_day = TODAY + timedelta(days=1)
    waiting = room.accept(trading_date=TODAY + timedelta(days=1))
    stale = room.accept(trading_date=TODAY)
    room.step()
    assert outcomes(room, stale) == [("EXPIRED", 0)]
    assert room.child(waiting).state == "ACCEPTED"
    assert room.broker.requests == []


def test_blocks_are_taken_off_the_market_after_the_close_and_their_orders_expire(room):
    [order_id] = pooled(room, 10)
    room.pump()
    room.broker.fill(room.broker.id_of(), 4)
    room.market.is_open = False
    room.market.next_day = TODAY + timedelta(days=3)
    room.step()
    room.step()
    assert outcomes(room, order_id) == [("EXPIRED", 4)]
    assert room.child(order_id).reason_code == "session_ended"


def test_blocks_leave_the_market_shortly_before_a_close_that_purges_the_book(db):
    room = make_room(db, close_lead_seconds=30)
    [order_id] = pooled(room, 10)
    room.pump()
    room.market.closes_in = timedelta(seconds=20)
    later = room.accept(tradingsymbol="TCS")
    room.step()
    room.step()
    assert outcomes(room, order_id) == [("EXPIRED", 0)]
    assert room.child(later).state == "ACCEPTED"
    assert len(room.broker.requests) == 1


def test_an_order_larger_than_a_block_goes_out_in_parts(db):
    room = make_room(db, block_quantity_max=40)
    order_id = room.accept(quantity=100)
    for _ in range(3):
        assert room.pump() == 1
        room.broker.fill(room.broker.id_of(), room.broker.requests[-1].quantity)
        room.observe()
    assert [request.quantity for request in room.broker.requests] == [40, 40, 20]
    assert outcomes(room, order_id) == [("FILLED", 100)]


def test_opposite_orders_of_two_users_never_meet(room):
    buyer = room.accept(side="BUY", price_paise=100_00)
    room.pump()
    seller = room.accept(side="SELL", price_paise=100_00)
    assert room.pump() == 0
    passive = room.accept(side="SELL", price_paise=100_05)
    assert room.pump() == 1, "a seller above the buyer's price cannot meet him"
    room.broker.fill(room.broker.id_of(0), 10)
    room.step()
    assert outcomes(room, buyer) == [("FILLED", 10)]
    assert room.child(seller).state == "BATCHED"
    assert room.child(passive).state == "BATCHED"


def test_a_resting_block_gives_way_to_opposite_demand_that_waits_too_long(db):
    room = make_room(db, opposite_wait_seconds=0.05)
    resting = room.accept(side="BUY", price_paise=90_00)
    room.pump()
    seller = room.accept(side="SELL", order_type="MARKET", price_paise=None)
    eventually(lambda: [room.pump(), room.broker.cancels][1])
    room.step()
    assert [(request.side, request.order_type) for request in room.broker.requests][-1] == ("SELL", "MARKET")
    assert room.child(resting).state == "ACCEPTED"
    room.broker.fill(room.broker.id_of(), 10)
    room.run("UPDATE child_order SET not_before = NULL")
    room.step()
    assert outcomes(room, seller) == [("FILLED", 10)]
    assert [request.side for request in room.broker.requests] == ["BUY", "SELL", "BUY"]
    assert room.child(resting).seq < room.child(seller).seq


def test_a_block_asked_to_leave_while_it_is_sent_is_not_sent_again_after_a_refusal(db):
    room = make_room(db, retry_first_seconds=30)
    [order_id] = pooled(room, 10)

    def asked_meanwhile(broker, request):
        [block] = room.rows(Block)
        cancelling.take_off_market(room.db, block.block_id, cancelling.YIELD)
        return refuse("rate_limited", "Too many requests", retryable=True)(broker, request)

    room.broker.script = [asked_meanwhile]
    room.pump()
    assert [row.state for row in room.rows(BrokerOrder)] == ["REFUSED"]
    assert [row.state for row in room.rows(Block)] == ["DONE"]
    assert room.child(order_id).state == "ACCEPTED", "it waits in the pool for its turn"


def test_a_repeated_order_gets_its_answers_again(room):
    event = order(quantity=5)
    for _ in range(2):
        with room.db.transaction() as session:
            intake.accept(session, [(event, None)])
    room.pump()
    room.broker.fill(room.broker.id_of(), 5)
    room.observe()
    room.run("UPDATE outbox SET sent_at = now()")
    with room.db.transaction() as session:
        assert intake.accept(session, [(event, None)]) == set()
    assert room.run("UPDATE outbox SET sent_at = now() WHERE sent_at IS NULL") == 3
    assert len(room.rows(ChildOrder)) == 1
    assert len(room.broker.requests) == 1


def test_cancelling_an_order_after_its_end_only_repeats_the_answers(room):
    [order_id] = pooled(room, 10)
    room.pump()
    room.broker.fill(room.broker.id_of(), 10)
    room.observe()
    room.cancel(order_id)
    assert outcomes(room, order_id) == [("FILLED", 10)]
    assert [row.cancel_reason for row in room.rows(Block)] == [None]


def test_a_cancel_during_an_unanswered_send_goes_out_once_the_order_is_found(room):
    [order_id] = pooled(room, 10)
    room.broker.script = [lose_answer]
    room.pump()
    room.cancel(order_id)
    assert (room.pump(), room.broker.cancels) == (0, [])
    room.step()
    room.step()
    assert outcomes(room, order_id) == [("CANCELLED", 0)]
    assert room.broker.cancels == [room.broker.id_of()]
