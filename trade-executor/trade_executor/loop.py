"""The loop that makes everything certain: whatever a wake-up missed is found here within a second.

All steps are safe beside other loops and workers; a step that fails is made again with the next round.
"""

import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from common.errors import AppError
from common.logging import bound, get_logger
from trade_executor import expiry, gauges, intake, polling, reconciler, resolving
from trade_executor.brokers.base import BrokerReadFailed
from trade_executor.config import SERVICE
from trade_executor.desk import Desk
from trade_executor.ledger_books import ledger_from
from trade_executor.pump import pump
from trade_executor.states import IllegalTransition

log = get_logger(__name__)


def sweep(desk: Desk, account: str) -> None:
    """Everything that time decides: allocations not made, unknown attempts, closed sessions, cancels not sent."""
    intake.overtaken(desk.db)
    polling.advance(desk.db, account)
    resolving.sweep(desk.db, account, desk.settings)
    info = desk.session_info()
    if info is not None:
        expiry.expire(desk.db, account, info, is_open=desk.is_open(info))
    gauges.publish(desk.db, account)


def step(desk: Desk, account: str) -> None:
    """One round for one account."""
    for work in (_keep_session, _observe_if_due, sweep, pump, _reconcile_if_due):
        guarded(work, desk, account)


def run(desk: Desk, stop: threading.Event) -> None:
    """Rounds until told to stop."""
    with bound(service=SERVICE):
        guarded(_keep_session, desk, desk.settings.account)
        guarded(_reconcile_at_start, desk, desk.settings.account)
        while not stop.is_set():
            started = time.monotonic()
            guarded(step, desk, desk.settings.account)
            stop.wait(max(0.0, desk.settings.loop_seconds - (time.monotonic() - started)))


def _keep_session(desk: Desk, account: str) -> None:
    desk.access.keep(account)


def _observe_if_due(desk: Desk, account: str) -> None:
    if polling.is_due(desk, account):
        polling.observe(desk, account)


def _reconcile_if_due(desk: Desk, account: str) -> None:
    reconciler.reconcile_if_due(desk, account, ledger_from(desk.settings))


def _reconcile_at_start(desk: Desk, account: str) -> None:
    reconciler.at_start(desk, account, ledger_from(desk.settings))


def guarded(work: Callable[[Desk, str], object], desk: Desk, account: str) -> None:
    """Run a step; one that cannot go on must not keep the others from running, and is made again next time."""
    try:
        work(desk, account)
    except (SQLAlchemyError, AppError, BrokerReadFailed, IllegalTransition, LookupError, ValueError, OSError) as error:
        log.exception("loop.step_failed", step=work.__name__, account=account, error=type(error).__name__)
