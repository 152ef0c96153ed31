"""The kill switch under real concurrency: once a halt has returned, no claim commits and nothing reaches the broker."""

import threading
import time
from dataclasses import dataclass, field
from statistics import quantiles

import sqlalchemy as sa

from common.logging import get_logger
from trade_executor import control, kill_switch
from trade_executor.models import Control
from trade_executor.testing import ACCOUNT, make_room

log = get_logger(__name__)
SENDERS = 8
ROUNDS = 12
LATENCY_MAX_S = 3.0
"""The lock timeout: a halt that waits longer fails loudly instead."""


@dataclass
class Counting:
    """Senders in a tight loop. Each counts what it sent, and what it claimed although it began after the halt returned."""

    db: object
    stop: threading.Event = field(default_factory=threading.Event)
    halted: threading.Event = field(default_factory=threading.Event)
    sent: list = field(default_factory=list)
    after_halt: list = field(default_factory=list)
    tries_after_halt: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self):
        while not self.stop.is_set():
            began_after = self.halted.is_set()
            with self.db.transaction() as session:
                epoch = control.allowance(session, ACCOUNT).epoch
                claimed_at = control.claim(session, ACCOUNT, epoch=epoch, kind="place")
            # The claim has committed: this is where the call to the broker would be made.
            with self.lock:
                self.tries_after_halt += began_after
                if claimed_at is not None:
                    self.sent.append(claimed_at)
                    if began_after:
                        self.after_halt.append(claimed_at)


def move(db, act):
    started = time.monotonic()
    with db.transaction() as session:
        act(session)
    return time.monotonic() - started


def halt(session):
    kill_switch.stop(session, ACCOUNT, "HALTED", actor="ops-one", reason="drill")


def resume_by(actor):
    return lambda session: kill_switch.request_or_approve_resume(session, ACCOUNT, actor=actor, reason="drill over")


def day_sends(db):
    with db.transaction() as session:
        return session.execute(sa.select(Control.day_sends, Control.changed_at)).one()


def test_no_claim_commits_after_a_halt_has_returned(db):
    make_room(db, sends_per_second=100, sends_per_minute=1_000_000, sends_per_day=10**6, places_per_day=10**6)
    # The window of a second would leave the senders idle; what is tested is the lock, not the budget.
    with db.transaction() as session:
        session.execute(sa.update(Control).values(window_ms=1))
    latencies, total = [], 0
    for _ in range(ROUNDS):
        counting = Counting(db)
        threads = [threading.Thread(target=counting.run) for _ in range(SENDERS)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 20
        while len(counting.sent) < SENDERS and time.monotonic() < deadline:
            time.sleep(0.001)
        latencies.append(move(db, halt))
        counting.halted.set()
        sends_at_return, halted_at = day_sends(db)
        while counting.tries_after_halt < 2 * SENDERS and time.monotonic() < deadline:
            time.sleep(0.001)
        counting.stop.set()
        for thread in threads:
            thread.join(20)
        total += len(counting.sent)
        assert len(counting.sent) >= SENDERS
        assert counting.tries_after_halt >= 2 * SENDERS, "the senders went on trying"
        assert counting.after_halt == []
        assert day_sends(db)[0] == sends_at_return == total, "nothing was claimed after the halt returned"
        assert max(counting.sent) < halted_at, "every claim is ordered before the halt"
        move(db, resume_by("ops-one"))
        move(db, resume_by("ops-two"))
    assert max(latencies) < LATENCY_MAX_S
    cuts = quantiles(latencies, n=100, method="inclusive")
    log.info("halt.latency", p50_ms=round(cuts[49] * 1000, 1), p99_ms=round(cuts[98] * 1000, 1), claims=total)
