"""What happens by itself: open jobs are found, closes are read, due reports are queued, what is old goes."""

import threading
from collections.abc import Callable, Sequence
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from analytics_service import closes, importing, jobs, report_schedule, reporting
from analytics_service.desk import Desk
from analytics_service.models_jobs import Job
from common.logging import get_logger

log = get_logger(__name__)

SWEEP_PAUSE_S = 5.0
PRUNE_EVERY = 120
"""Sweeps between two removals of old jobs."""
SCHEDULE_PAUSE_S = 10.0
JOBS_A_RING = 20
_WORK: dict[str, Callable[[Desk, Job], None]] = {"REPORT": reporting.make, "IMPORT": importing.take}


def loops(desk: Desk) -> Sequence[Callable[[threading.Event], None]]:
    """The loops of this room, one thread each."""
    return [
        partial(sweep, desk),
        partial(schedule, desk),
        partial(closes.run, desk.db, desk.closes, desk.settings.benchmark_key, desk.clock),
    ]


def sweep(desk: Desk, stop: threading.Event) -> None:
    """Look for open jobs every few seconds until told to stop."""
    rounds = 0
    while not stop.is_set():
        work_guarded(desk)
        if rounds % PRUNE_EVERY == 0:
            _guarded(lambda: jobs.prune(desk.db, desk.clock.now()))
        rounds += 1
        stop.wait(SWEEP_PAUSE_S)


def schedule(desk: Desk, stop: threading.Event) -> None:
    """Look for reports that are to be made by themselves until told to stop."""
    while not stop.is_set():
        _guarded(lambda: report_schedule.queue_due(desk))
        stop.wait(SCHEDULE_PAUSE_S)


def work_guarded(desk: Desk) -> None:
    """Work on open jobs; a database that is away means later."""
    _guarded(lambda: work(desk))


def work(desk: Desk) -> int:
    """Do open jobs one after the other, at most JOBS_A_RING; answers how many were taken."""
    taken = 0
    while taken < JOBS_A_RING:
        job = jobs.take(desk.db, desk.clock.now())
        if job is None:
            break
        taken += 1
        jobs.run(desk, job, _WORK[job.kind])
    return taken


def _guarded(step: Callable[[], object]) -> None:
    try:
        step()
    except SQLAlchemyError as error:
        log.warning("loop.delayed", error=type(error).__name__)
