"""The jobs of a day: the check before trading, the broker's last word after the close, once however many loops run."""

import threading
from datetime import UTC, datetime, timedelta

from common.clock import trading_date
from trade_executor import breaks, control, day_jobs, reconciler
from trade_executor.models import DaySnapshot, JobRun, ReconRun
from trade_executor.testing import ACCOUNT, lose_request, make_room, second_desk

TODAY = trading_date(datetime.now(UTC))


def job(room, name, slot=TODAY):
    [row] = [row for row in room.rows(JobRun, job=name) if row.slot == slot]
    return row


def jobs(room):
    return sorted(row.job for row in room.rows(JobRun) if row.job in ("start_of_day", "end_of_day"))


def state(room):
    with room.db.session() as session:
        return control.allowance(session, ACCOUNT).trading_state


def close_market(room):
    room.market.is_open = False
    room.market.next_day = TODAY + timedelta(days=1)
    room.market.day = TODAY + timedelta(days=1)


def test_the_day_starts_with_a_comparison_once(room):
    for desk in (room, second_desk(room), room):
        desk.step()
    assert jobs(room) == ["start_of_day"]
    assert [row.scope for row in room.rows(ReconRun)] == ["start_of_day"]
    assert job(room, "start_of_day").result["severe_breaks"] == []
    assert state(room) == "ACTIVE"


def test_severe_breaks_at_the_start_of_the_day_let_only_cancels_out(room):
    with room.db.transaction() as session:
        breaks.open_break(session, ACCOUNT, breaks.LATE_FILL, "1", "from yesterday")
    room.market.is_open = False
    waiting = room.accept()
    room.market.is_open = True
    reconciler.reconcile_if_due(room.desk, ACCOUNT, None)
    assert state(room) == "CANCEL_ONLY"
    room.step()
    assert room.child(waiting).state == "ACCEPTED"
    assert job(room, "start_of_day").result["severe_breaks"] == ["late_fill:1"]


def test_a_loop_that_starts_in_the_middle_of_the_day_stops_nobody(room):
    room.accept()
    room.pump()
    with room.db.transaction() as session:
        breaks.open_break(session, ACCOUNT, breaks.LATE_FILL, "1", "an hour ago")
    reconciler.reconcile_if_due(room.desk, ACCOUNT, None)
    assert (jobs(room), state(room)) == (["start_of_day"], "ACTIVE")


def test_a_start_that_could_not_read_the_books_is_made_again(db):
    room = make_room(db, recon_retry_seconds=30)
    room.broker.readable = False
    room.step()
    room.step()
    assert (jobs(room), len(room.rows(ReconRun, scope="start_of_day"))) == ([], 1)
    room.broker.readable = True
    room.run("UPDATE recon_run SET started_at = started_at - interval '31 seconds'")
    room.step()
    assert jobs(room) == ["start_of_day"]


def test_the_close_waits_for_every_order_then_keeps_the_books_and_reports(room):
    room.step()
    filled, cut = room.accept(quantity=10), room.accept(quantity=10, tradingsymbol="TCS")
    room.pump()
    room.broker.fill(room.broker.id_of(0), 10)
    room.broker.fill(room.broker.id_of(1), 4)
    room.observe()
    close_market(room)
    room.step()
    assert jobs(room) == ["start_of_day"], "a cancel is under way"
    for _ in range(3):
        room.step()
    assert (room.child(filled).state, room.child(cut).state) == ("FILLED", "EXPIRED")
    report = job(room, "end_of_day")
    assert report.sha256 == day_jobs.digest(report.result)
    result = report.result
    assert (result["complete"], result["undecided"]) == (True, 0)
    assert result["orders"] == {"EXPIRED": 1, "FILLED": 1}
    assert result["fills"] == result["allocations"] == {"count": 2, "units": 14, "paise": 1_400_00}
    assert result["breaks_open"] == {}
    parts = {row.part: row for row in room.rows(DaySnapshot)}
    assert set(parts) == {"orders", "trades", "positions", "holdings", "funds"}
    assert {part: row.sha256 for part, row in parts.items()} == result["snapshots"]
    assert all(day_jobs.digest(row.rows) == row.sha256 for row in parts.values())
    assert sorted(row["quantity"] for row in parts["trades"].rows) == [4, 10]
    assert [row["status"] for row in parts["orders"].rows] == ["COMPLETE", "CANCELLED"]


def test_two_loops_end_the_day_once(room):
    room.step()
    close_market(room)
    start = threading.Barrier(4)

    def work(desk):
        start.wait()
        for _ in range(3):
            desk.step()

    threads = [threading.Thread(target=work, args=(second_desk(room),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert jobs(room) == ["end_of_day", "start_of_day"]
    assert len(room.rows(DaySnapshot)) == 5


def test_an_order_nobody_can_decide_ends_the_wait_and_is_named(db):
    room = make_room(db, day_end_wait_seconds=0)
    room.step()
    room.accept()
    room.broker.script = [lose_request]
    room.pump()
    close_market(room)
    room.step()
    result = job(room, "end_of_day").result
    assert (result["complete"], result["undecided"], result["attempts"]) == (False, 1, {"UNKNOWN": 1})


def test_an_unknown_order_is_decided_before_the_report(db):
    room = make_room(db, unknown_min_scans=2, unknown_min_seconds=0)
    room.step()
    order_id = room.accept()
    room.broker.script = [lose_request]
    room.pump()
    close_market(room)
    for _ in range(4):
        room.step()
    assert room.child(order_id).state == "FAILED"
    result = job(room, "end_of_day").result
    assert (result["complete"], result["attempts"]) == (True, {"LOST": 1})


def test_a_day_whose_end_nobody_saw_is_reported_as_incomplete_and_chained(room):
    room.step()
    yesterday = TODAY - timedelta(days=1)
    room.run("UPDATE job_run SET slot = :day", day=yesterday)
    room.step()
    missed = job(room, "end_of_day", yesterday)
    assert (missed.result["complete"], missed.result["snapshots"]) == (False, {})
    close_market(room)
    room.step()
    room.step()
    assert job(room, "end_of_day").result["previous_sha256"] == missed.sha256


def test_a_frozen_block_does_not_hold_up_the_end_of_the_day(room):
    room.step()
    room.accept(quantity=10)
    room.pump()
    room.broker.fill(room.broker.id_of(), 12)
    room.observe()
    close_market(room)
    room.step()
    result = job(room, "end_of_day").result
    assert result["complete"] is True
    assert result["breaks_open"] == {"overfilled": 1}


def test_no_day_ends_that_has_not_begun(room):
    close_market(room)
    room.step()
    room.step()
    assert jobs(room) == []


def test_the_last_seconds_of_a_session_that_purges_its_book_are_its_close(db):
    room = make_room(db, close_lead_seconds=30)
    room.step()
    room.market.closes_in = timedelta(seconds=20)
    room.step()
    assert jobs(room) == ["end_of_day", "start_of_day"]


def test_a_changed_snapshot_or_report_no_longer_has_its_hash(room):
    room.step()
    close_market(room)
    room.step()
    room.run("UPDATE day_snapshot SET rows = '[{\"quantity\": 1}]' WHERE part = 'trades'")
    room.run("UPDATE job_run SET result = result || '{\"complete\": false}' WHERE job = 'end_of_day'")
    [trades] = room.rows(DaySnapshot, part="trades")
    report = job(room, "end_of_day")
    assert day_jobs.digest(trades.rows) != trades.sha256
    assert day_jobs.digest(report.result) != report.sha256
