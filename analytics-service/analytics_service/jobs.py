"""Long work as rows: taken by one worker at a time, done again after a death, given up after a few, kept for a while.

A job does all its writing in one transaction with its end, so work done twice leaves one result; only progress is written
on the way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from analytics_service.desk import Desk
from analytics_service.models_jobs import Job, JobFile
from common.db import Database
from common.errors import AppError, TooManyRequests
from common.logging import get_logger

log = get_logger(__name__)

HELD_FOR = timedelta(seconds=150)
"""A worker that says nothing for so long is taken for dead: Celery ends a task before that."""
ATTEMPTS_MAX = 3
OPEN_MAX = 5
"""Jobs that one user asked for and that may wait or run at a time."""
KEPT_FOR = timedelta(days=30)
KEPT_MAX = 100
"""Jobs of one user that are kept; older ones go first."""
PRUNED_AT_ONCE = 1_000
GIVEN_UP = "given_up"
QUEUED, RUNNING, DONE, FAILED = "QUEUED", "RUNNING", "DONE", "FAILED"
RETRY_AFTER_S = 30


class TooManyJobs(TooManyRequests):
    """The user has as many open jobs as are allowed."""


@dataclass(frozen=True)
class File:
    """A named piece of content."""

    name: str
    media_type: str
    content: bytes


def add(
    session: Session, user_id: UUID, kind: str, asked: dict[str, Any], now: datetime, *, upload: File | None = None
) -> Job:
    """Write a new job (and the file it is given); raises TooManyJobs."""
    # Two requests of one user must not both find the last free place.
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(str(user_id), 0))))
    open_count = session.scalar(
        select(func.count()).where(Job.user_id == user_id, Job.state.in_((QUEUED, RUNNING)), Job.cadence.is_(None))
    )
    if (open_count or 0) >= OPEN_MAX:
        raise TooManyJobs(
            f"{OPEN_MAX} reports or imports of yours are still open; wait for one to end.", retry_after=RETRY_AFTER_S
        )
    job = Job(
        job_id=uuid4(),
        user_id=user_id,
        kind=kind,
        state=QUEUED,
        asked=asked,
        progress_done=0,
        progress_total=1,
        attempts=0,
        created_at=now,
    )
    session.add(job)
    session.flush()
    if upload is not None:
        store_file(session, job.job_id, "upload", upload)
    return job


def add_automatic(
    session: Session, user_id: UUID, asked: dict[str, Any], cadence: str, period_end: date, now: datetime
) -> UUID | None:
    """Write the job of a report that is made by itself; None when the user has one of that period already."""
    new = insert(Job).values(
        job_id=uuid4(),
        user_id=user_id,
        kind="REPORT",
        state=QUEUED,
        asked=asked,
        cadence=cadence,
        period_end=period_end,
        progress_done=0,
        progress_total=1,
        attempts=0,
        created_at=now,
    )
    return session.scalars(new.on_conflict_do_nothing().returning(Job.job_id)).one_or_none()


def open_automatic(session: Session) -> int:
    """How many automatic reports wait or run."""
    counted = select(func.count()).where(Job.state.in_((QUEUED, RUNNING)), Job.cadence.is_not(None))
    return session.scalar(counted) or 0


def take(db: Database, now: datetime) -> Job | None:
    """The oldest job that waits or whose worker is gone, held from now on; None when there is none.

    What a user asked for comes before what is made by itself, however long that has waited.
    A job that killed its worker ATTEMPTS_MAX times is given up on the way.
    """
    with db.transaction() as session:
        session.execute(
            update(Job)
            .where(Job.state == RUNNING, Job.held_until < now, Job.attempts >= ATTEMPTS_MAX)
            .values(
                state=FAILED,
                problem_code=GIVEN_UP,
                problem=f"Tried {ATTEMPTS_MAX} times without coming to an end; ask for it again.",
                finished_at=now,
                held_until=None,
            )
        )
        due = (
            select(Job)
            .where(or_(Job.state == QUEUED, sa.and_(Job.state == RUNNING, Job.held_until < now)))
            .order_by(Job.cadence.is_not(None), Job.created_at, Job.job_id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        job = session.scalars(due).one_or_none()
        if job is None:
            return None
        job.state, job.attempts, job.held_until, job.progress_done = RUNNING, job.attempts + 1, now + HELD_FOR, 0
        session.flush()
        session.expunge(job)
        return job


def run(desk: Desk, job: Job, work: Callable[[Desk, Job], None]) -> None:
    """Do a taken job. What a rule refuses fails the job with its code; a database that is away leaves it for later."""
    log.info("job.started", job_id=str(job.job_id), kind=job.kind, attempt=job.attempts)
    try:
        work(desk, job)
    except AppError as error:
        fail(desk, job, error.code, error.detail)
    except SQLAlchemyError:
        raise
    except (ValueError, ArithmeticError, LookupError, TypeError, OSError, MemoryError) as error:
        # A fault of ours: tried again by others until it is given up, never for ever.
        log.exception("job.broke", job_id=str(job.job_id), kind=job.kind, error=type(error).__name__)
        _release(desk, job)


def progress(desk: Desk, job: Job, done: int, total: int) -> None:
    """Say how far a job is, and that its worker lives."""
    with desk.db.transaction() as session:
        session.execute(
            update(Job)
            .where(Job.job_id == job.job_id, Job.attempts == job.attempts, Job.state == RUNNING)
            .values(
                progress_done=min(done, total),
                progress_total=max(total, 1),
                held_until=desk.clock.now() + HELD_FOR,
            )
        )


def finish(session: Session, job: Job, now: datetime, result: File | None = None) -> bool:
    """End a job with its result, in the transaction of its effects; False when another worker has it by now."""
    ended = session.execute(
        update(Job)
        .where(Job.job_id == job.job_id, Job.attempts == job.attempts, Job.state == RUNNING)
        .values(state=DONE, progress_done=Job.progress_total, held_until=None, finished_at=now)
        .returning(Job.job_id)
    ).one_or_none()
    if ended is None:
        return False
    if result is not None:
        store_file(session, job.job_id, "result", result)
    session.execute(delete(JobFile).where(JobFile.job_id == job.job_id, JobFile.role == "upload"))
    return True


def fail(desk: Desk, job: Job, code: str, problem: str) -> None:
    """End a job without a result."""
    now = desk.clock.now()
    with desk.db.transaction() as session:
        end_failed(session, job, code, problem, now)
    log.info("job.failed", job_id=str(job.job_id), kind=job.kind, code=code)


def end_failed(session: Session, job: Job, code: str, problem: str, now: datetime) -> None:
    """End a job without a result, in a transaction of the caller's."""
    session.execute(
        update(Job)
        .where(Job.job_id == job.job_id, Job.attempts == job.attempts, Job.state == RUNNING)
        .values(state=FAILED, problem_code=code, problem=problem, finished_at=now, held_until=None)
    )
    session.execute(delete(JobFile).where(JobFile.job_id == job.job_id, JobFile.role == "upload"))


def _release(desk: Desk, job: Job) -> None:
    """Let a job go at once: it counts as a worker that is gone."""
    with desk.db.transaction() as session:
        session.execute(
            update(Job)
            .where(Job.job_id == job.job_id, Job.attempts == job.attempts, Job.state == RUNNING)
            .values(held_until=desk.clock.now() - HELD_FOR)
        )


def store_file(session: Session, job_id: UUID, role: str, file: File) -> None:
    """Keep a file of a job."""
    session.add(JobFile(job_id=job_id, role=role, name=file.name, media_type=file.media_type, content=file.content))
    session.flush()


def file_of(session: Session, job_id: UUID, role: str) -> File | None:
    """A file of a job; None when there is none (any more)."""
    row = session.get(JobFile, (job_id, role))
    return File(row.name, row.media_type, row.content) if row is not None else None


def prune(db: Database, now: datetime) -> int:
    """Remove ended jobs that are old or too many of one user; answers how many went."""
    place = func.row_number().over(partition_by=Job.user_id, order_by=(Job.created_at.desc(), Job.job_id))
    with db.transaction() as session:
        ended = select(Job.job_id, Job.created_at, place.label("place")).where(Job.state.in_((DONE, FAILED))).subquery()
        old = (
            select(ended.c.job_id)
            .where(or_(ended.c.created_at < now - KEPT_FOR, ended.c.place > KEPT_MAX))
            .limit(PRUNED_AT_ONCE)
        )
        return len(session.scalars(delete(Job).where(Job.job_id.in_(old)).returning(Job.job_id)).all())
