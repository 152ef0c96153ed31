"""Crash points and lost answers: nothing is sent twice, nothing is forgotten, nobody is told a guess."""

from dataclasses import replace

import pytest

from common.testing import eventually
from trade_executor import control, cutting, resolving, sending, settling
from trade_executor.brokers.base import Acked, Refused, Unknown
from trade_executor.models import Block, BrokerOrder, Fill, ReconBreak
from trade_executor.testing import ACCOUNT, lose_answer, lose_request, make_room, refuse, second_desk


def only(rows):
    [row] = rows
    return row


def claimed_but_not_sent(room):
    """A sender that dies between its claim's commit and the call."""
    with room.db.transaction() as session:
        epoch = control.take_over(session, ACCOUNT)
        candidate, _ = cutting.choose(session, ACCOUNT, room.desk.settings)
        attempt_id = cutting.cut(session, ACCOUNT, candidate.key, room.desk.settings)
    return sending.claim(room.db, attempt_id, epoch=epoch)


def scans(room, count):
    for _ in range(count):
        room.observe()


@pytest.fixture
def quick(db):
    """UNKNOWN is given up after three clean scans and a minimum age that the tests make pass."""
    return make_room(db, unknown_min_scans=3, unknown_min_seconds=180)


def test_a_lost_answer_is_found_by_tag_and_the_order_is_not_sent_again(quick):
    order_id = quick.accept(quantity=10)
    quick.broker.script = [lose_answer]

    quick.pump()
    assert only(quick.rows(BrokerOrder)).state == "UNKNOWN"
    assert quick.pump() == 0
    quick.broker.fill(quick.broker.id_of(), 10)
    quick.step()

    assert quick.child(order_id).state == "FILLED"
    assert list(quick.broker.sends.values()) == [1]
    assert [event["type"] for event in quick.events(order_id)] == ["OrderWorking", "OrderAllocated", "OrderClosed"]


def test_a_sender_that_died_before_its_call_is_given_up_only_after_time_and_scans(quick):
    order_id = quick.accept()
    assert claimed_but_not_sent(quick) is not None
    other = second_desk(quick)

    other.step()
    assert only(quick.rows(BrokerOrder)).state == "SENDING"
    quick.run("UPDATE broker_order SET sent_at = sent_at - interval '16 seconds'")
    other.step()
    assert only(quick.rows(BrokerOrder)).state == "UNKNOWN"

    scans(other, 5)
    other.sweep()
    assert only(quick.rows(BrokerOrder)).state == "UNKNOWN", "enough scans, not enough time"
    quick.age_unknown(200)
    quick.run("UPDATE broker_order SET scans_clean = 2")
    other.sweep()
    assert only(quick.rows(BrokerOrder)).state == "UNKNOWN", "enough time, not enough scans"
    scans(other, 1)
    other.sweep()

    assert only(quick.rows(BrokerOrder)).state == "LOST"
    assert (quick.child(order_id).state, quick.child(order_id).reason_code) == ("FAILED", "not_placed")
    assert only(quick.events(order_id))["outcome"] == "FAILED"
    assert sum(quick.broker.sends.values()) == 0
    assert [row.kind for row in quick.rows(ReconBreak)] == ["attempt_lost"]


def test_a_sender_that_died_after_its_call_is_found_by_tag(quick):
    order_id = quick.accept(quantity=4)
    claimed = claimed_but_not_sent(quick)
    assert isinstance(quick.broker.place(claimed.request), Acked)
    quick.broker.fill(quick.broker.id_of(), 4)

    second_desk(quick).step()

    assert quick.child(order_id).state == "FILLED"
    assert list(quick.broker.sends.values()) == [1]


def test_a_book_that_cannot_be_read_or_misses_orders_is_no_evidence(quick):
    quick.accept(tradingsymbol="TCS")
    quick.pump()
    quick.accept()
    quick.broker.script = [lose_request]
    quick.pump()
    known = quick.broker.id_of()

    quick.broker.readable = False
    scans(quick, 3)
    quick.broker.readable = True
    hidden = quick.broker.rows.pop(known)
    scans(quick, 3)
    assert [row.scans_clean for row in quick.rows(BrokerOrder, state="UNKNOWN")] == [0]
    quick.broker.rows[known] = hidden
    scans(quick, 2)
    assert [row.scans_clean for row in quick.rows(BrokerOrder, state="UNKNOWN")] == [2]


def test_a_ghost_is_cancelled_and_its_fills_never_reach_a_user(quick):
    order_id = quick.accept(quantity=10)
    quick.broker.script = [lose_request]
    quick.pump()
    quick.age_unknown(200)
    scans(quick, 3)
    quick.sweep()
    assert quick.child(order_id).state == "FAILED"

    request = quick.broker.requests[0]
    broker_order_id = quick.broker.take(request)
    quick.broker.fill(broker_order_id, 4)
    quick.observe()
    assert only(quick.rows(BrokerOrder)).state == "GHOST"
    quick.step()
    quick.step()

    assert quick.broker.cancels == [broker_order_id]
    assert only(quick.rows(BrokerOrder)).state == "CLOSED"
    assert [(fill.booked_to, fill.round_no) for fill in quick.rows(Fill)] == [("house", None)]
    assert quick.child(order_id).filled_quantity == 0
    assert quick.events(order_id, "OrderAllocated") == []
    assert {row.kind for row in quick.rows(ReconBreak)} == {"attempt_lost", "ghost_order"}


def test_a_late_answer_ends_the_uncertainty(quick):
    order_id = quick.accept()
    claimed = claimed_but_not_sent(quick)
    quick.run("UPDATE broker_order SET sent_at = sent_at - interval '16 seconds'")
    quick.sweep()
    assert only(quick.rows(BrokerOrder)).state == "UNKNOWN"

    outcome = quick.broker.place(claimed.request)
    sending.record_outcome(quick.db, claimed.attempt_id, outcome, quick.desk.settings)
    sending.record_outcome(quick.db, claimed.attempt_id, outcome, quick.desk.settings)
    sending.record_outcome(quick.db, claimed.attempt_id, Unknown("a very late timeout"), quick.desk.settings)

    attempt = only(quick.rows(BrokerOrder))
    assert (attempt.state, attempt.broker_order_id) == ("ACKED", quick.broker.id_of())
    assert len(quick.events(order_id, "OrderWorking")) == 1


def test_a_held_up_sender_does_not_send(quick):
    quick.accept()
    claimed = claimed_but_not_sent(quick)
    late = sending.Claimed(claimed.attempt_id, claimed.account, claimed.request, claimed.committed_at - 2.5)
    outcome = sending.transmit(quick.broker, late, deadline_s=2.0)
    assert isinstance(outcome, Refused)
    assert outcome.retryable
    assert sum(quick.broker.sends.values()) == 0

    sending.record_outcome(quick.db, claimed.attempt_id, outcome, quick.desk.settings)
    states = [row.state for row in quick.rows(BrokerOrder)]
    assert sorted(states) == ["INTENT", "REFUSED"]


def test_a_rate_refusal_is_tried_again_with_a_new_tag(quick):
    order_id = quick.accept()
    quick.broker.script = [refuse("rate_limited", "Too many requests", retryable=True)] * 2
    eventually(lambda: quick.pump() or quick.broker.rows)
    eventually(lambda: quick.pump() == 0 and quick.broker.rows)

    assert len(quick.broker.requests) == 3
    assert len({request.tag for request in quick.broker.requests}) == 3
    assert max(quick.broker.sends.values()) == 1
    assert [row.state for row in quick.rows(Block)] == ["WORKING"]
    assert quick.child(order_id).state == "BATCHED"


def test_attempts_are_bounded(db):
    room = make_room(db, attempts_per_block=2)
    order_id = room.accept()
    room.broker.script = [refuse("not_sent", "connection refused", retryable=True)] * 5
    eventually(lambda: (room.pump() and False) or room.child(order_id).state == "FAILED")
    assert len(room.broker.requests) == 2
    assert room.child(order_id).reason_code == "broker_unreachable"


def test_an_order_with_a_wrong_shape_is_not_adopted(quick):
    order_id = quick.accept(quantity=10)
    quick.broker.script = [lose_answer]
    quick.pump()
    found = quick.broker.id_of()
    quick.broker.rows[found] = replace(quick.broker.rows[found], quantity=1_000)
    quick.observe()
    assert only(quick.rows(BrokerOrder)).state == "UNKNOWN"
    assert [row.kind for row in quick.rows(ReconBreak)] == ["tag_mismatch"]
    assert quick.child(order_id).state == "BATCHED"


def test_yesterday_s_attempts_are_left_to_a_person(quick):
    quick.accept()
    quick.broker.script = [lose_request]
    quick.pump()
    quick.run("UPDATE broker_order SET sent_at = sent_at - interval '2 days', scans_clean = 99")
    quick.age_unknown(200)

    resolving.sweep(quick.db, ACCOUNT, quick.desk.settings)

    assert only(quick.rows(Block)).state == "FROZEN"
    assert only(quick.rows(BrokerOrder)).state == "UNKNOWN"
    assert [row.kind for row in quick.rows(ReconBreak)] == ["past_day_unsettled"]


@pytest.mark.parametrize("answer", [lose_request, None])
def test_a_person_settles_what_the_day_left_open(quick, answer):
    order_id = quick.accept(quantity=10)
    quick.broker.script = [answer] if answer else []
    quick.pump()
    if answer is None:
        quick.broker.fill(quick.broker.id_of(), 4)
        quick.observe()
    with quick.db.transaction() as session, pytest.raises(settling.BlockNotFrozen):
        settling.settle_frozen(session, only(quick.rows(Block)).block_id, actor="admin", reason="too early")
    quick.run("UPDATE broker_order SET sent_at = sent_at - interval '2 days'")
    quick.sweep()

    with quick.db.transaction() as session:
        settling.settle_frozen(session, only(quick.rows(Block)).block_id, actor="admin", reason="contract note")

    filled = 0 if answer else 4
    assert only(quick.rows(BrokerOrder)).state == ("LOST" if answer else "SETTLED")
    closed = only(quick.events(order_id, "OrderClosed"))
    assert (closed["outcome"], closed["filled_quantity"]) == ("EXPIRED", filled)
    assert only(quick.rows(ReconBreak)).closed_at is not None


def test_our_tag_on_an_unknown_order_halts_the_account(quick):
    quick.accept()
    quick.pump()
    stolen = quick.broker.requests[0]
    quick.broker.take(stolen)
    quick.observe()
    assert [row.kind for row in quick.rows(ReconBreak)] == ["duplicate_tag"]
    with quick.db.session() as session:
        assert control.allowance(session, ACCOUNT).trading_state == "HALTED"


def test_a_dead_session_loses_no_order_and_a_login_goes_on(quick):
    order_id = quick.accept()
    quick.broker.session_dead = True
    quick.pump()
    assert quick.access.ended
    assert (quick.child(order_id).state, quick.events(order_id)) == ("ACCEPTED", [])
    quick.step()
    assert quick.pump() == 0

    quick.access.login()
    assert quick.pump() == 1
    assert quick.child(order_id).state == "BATCHED"
    assert max(quick.broker.sends.values()) == 1


def test_an_address_refusal_halts_and_keeps_the_orders(quick):
    order_id = quick.accept()
    quick.broker.script = [refuse("ip_not_allowed", "IP (1.2.3.4) is not allowed", halts=True)]
    quick.pump()
    assert quick.child(order_id).state == "ACCEPTED"
    [halted] = quick.events(ACCOUNT)
    assert (halted["type"], halted["state"], halted["actor"]) == ("TradingHalted", "HALTED", "system")
    assert quick.pump() == 0
