"""The kill switch and the send budget, also under several processes' worth of threads."""

import threading
import time
from itertools import pairwise

import pytest

from common.testing import eventually
from trade_executor import breaks, control, kill_switch
from trade_executor.kill_switch import AlreadyInState, ResumeNeedsSecondPerson, SevereBreaksOpen
from trade_executor.models import BrokerOrder
from trade_executor.testing import ACCOUNT, make_room, second_desk


def halt(room, state="HALTED"):
    with room.db.transaction() as session:
        kill_switch.stop(session, ACCOUNT, state, actor="ops-one", reason="drill")


def resume(room, actor):
    with room.db.transaction() as session:
        return kill_switch.request_or_approve_resume(session, ACCOUNT, actor=actor, reason="drill over").trading_state


def test_after_a_halt_has_returned_nothing_is_sent(db):
    """Senders run on several desks at once; every call must have been claimed before the halt committed."""
    room = make_room(db, senders=2)
    desks = [room, *(second_desk(room) for _ in range(2))]
    for number in range(120):
        room.accept(tradingsymbol=f"SHARE{number}")
    stop = threading.Event()

    def send(desk):
        while not stop.is_set():
            desk.pump()

    threads = [threading.Thread(target=send, args=(desk,)) for desk in desks]
    for thread in threads:
        thread.start()
    eventually(lambda: len(room.broker.requests) >= 10)
    halt(room)
    claimed = len([row for row in room.rows(BrokerOrder) if row.sent_at is not None])
    time.sleep(0.5)
    stop.set()
    for thread in threads:
        thread.join(20)

    assert 10 <= len(room.broker.requests) < 120
    assert len([row for row in room.rows(BrokerOrder) if row.sent_at is not None]) == claimed
    assert len(room.broker.requests) <= claimed
    assert max(room.broker.sends.values()) == 1


def test_a_halt_dissolves_what_was_not_sent_and_still_observes(room):
    working = room.accept(quantity=5)
    room.pump()
    waiting = room.accept(tradingsymbol="TCS")
    halt(room)
    room.broker.fill(room.broker.id_of(), 5)
    room.step()
    assert room.child(working).state == "FILLED"
    assert room.child(waiting).state == "ACCEPTED"
    room.cancel(waiting)
    assert room.child(waiting).state == "CANCELLED"


def test_cancel_only_stops_orders_and_lets_cancels_through(room):
    order_id = room.accept()
    room.pump()
    halt(room, "CANCEL_ONLY")
    room.accept(tradingsymbol="TCS")
    room.cancel(order_id)
    room.step()
    room.step()
    assert room.child(order_id).state == "CANCELLED"
    assert len(room.broker.requests) == 1


def test_halted_sends_no_cancel(room):
    order_id = room.accept()
    room.pump()
    halt(room)
    room.cancel(order_id)
    room.step()
    assert room.broker.cancels == []


def test_resuming_takes_two_different_people(room):
    halt(room)
    order_id = room.accept()
    assert resume(room, "ops-one") == "HALTED"
    with pytest.raises(ResumeNeedsSecondPerson):
        resume(room, "ops-one")
    assert room.pump() == 0
    assert resume(room, "ops-two") == "ACTIVE"
    assert room.pump() == 1
    assert room.child(order_id).state == "BATCHED"
    assert [event["state"] for event in room.events(ACCOUNT)] == ["HALTED", "ACTIVE"]


def test_an_old_request_to_resume_has_lapsed(room):
    halt(room)
    resume(room, "ops-one")
    room.run("UPDATE control SET resume_requested_at = resume_requested_at - interval '16 minutes'")
    assert resume(room, "ops-two") == "HALTED"
    assert resume(room, "ops-one") == "ACTIVE"


def test_severe_breaks_forbid_resuming(room):
    halt(room)
    with room.db.transaction() as session:
        breaks.open_break(session, ACCOUNT, breaks.TRADE_CHANGED, "1/2", "a trade changed")
    with pytest.raises(SevereBreaksOpen):
        resume(room, "ops-one")
    with room.db.transaction() as session:
        breaks.cure(session, ACCOUNT, breaks.TRADE_CHANGED, "1/2", "compared with the contract note")
    assert resume(room, "ops-one") == "HALTED"


def test_the_switch_refuses_to_stay_where_it_is(room):
    with pytest.raises(AlreadyInState):
        resume(room, "ops-one")
    halt(room)
    with pytest.raises(AlreadyInState):
        halt(room)


def test_a_break_is_told_once_while_it_is_open(room):
    with room.db.transaction() as session:
        assert breaks.open_break(session, ACCOUNT, breaks.FOREIGN_ORDER, "1", "by hand")
        assert not breaks.open_break(session, ACCOUNT, breaks.FOREIGN_ORDER, "1", "by hand")
    assert len(room.events(type_name="BreakOpened")) == 1


def claim_many(db, seconds, epoch):
    """Claim as fast as possible; answers the database times of the claims."""
    times = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with db.transaction() as session:
            if at := control.claim(session, ACCOUNT, epoch=epoch, kind="place"):
                times.append(at)
    return times


def test_no_second_holds_more_sends_than_the_limit_however_many_ask(db):
    make_room(db, sends_per_second=10, send_window_ms=1_000)
    times = []
    lock = threading.Lock()

    def run():
        mine = claim_many(db, 2.6, 0)
        with lock:
            times.extend(mine)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    times.sort()
    assert len(times) >= 25
    for index in range(len(times) - 10):
        assert (times[index + 10] - times[index]).total_seconds() >= 1.0
    assert all(before <= after for before, after in pairwise(times))


def test_the_pump_keeps_the_budget_and_uses_it(db):
    room = make_room(db, sends_per_second=10, send_window_ms=1_000)
    other = second_desk(room)
    for number in range(25):
        room.accept(tradingsymbol=f"SHARE{number}")
    threads = [threading.Thread(target=desk.pump) for desk in (room, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    sent = sorted(row.sent_at for row in room.rows(BrokerOrder))
    assert len(sent) == 25
    for index in range(15):
        assert (sent[index + 10] - sent[index]).total_seconds() >= 1.0
    assert (sent[-1] - sent[0]).total_seconds() < 6


def claimed(session):
    return control.claim(session, ACCOUNT, epoch=0, kind="place") is not None


def test_minute_and_day_limits_hold(db):
    room = make_room(db, sends_per_minute=6, places_per_day=5, sends_per_day=6)
    with db.transaction() as session:
        assert [claimed(session) for _ in range(4)] == [True, True, True, False]
    room.run("UPDATE control SET minute_tokens = 100, refilled_at = clock_timestamp(), sends_per_minute = 1000")
    with db.transaction() as session:
        assert [claimed(session) for _ in range(3)] == [True, True, False]
        assert control.claim(session, ACCOUNT, epoch=0, kind="cancel"), "the day's rest belongs to cancels"
        assert not control.claim(session, ACCOUNT, epoch=0, kind="cancel")
    room.run("UPDATE control SET day = day - 1")
    with db.transaction() as session:
        assert control.claim(session, ACCOUNT, epoch=0, kind="place")


def test_a_deposed_sender_cannot_claim(room):
    with room.db.transaction() as session:
        old = control.take_over(session, ACCOUNT)
        new = control.take_over(session, ACCOUNT)
        assert not control.claim(session, ACCOUNT, epoch=old, kind="place")
        assert control.claim(session, ACCOUNT, epoch=new, kind="place")


def test_passing_the_day_s_value_stops_new_orders(db):
    room = make_room(db, value_per_day_paise=15_000_00, block_value_max_paise=10_000_00)
    room.accept(quantity=100, price_paise=100_00)
    room.accept(quantity=100, price_paise=100_00, tradingsymbol="TCS")
    room.pump()
    assert len(room.broker.requests) == 1
    with db.session() as session:
        assert control.allowance(session, ACCOUNT).trading_state == "CANCEL_ONLY"
