"""Reads behind the ops routes of reconciliation, house and days: no rule and no change."""

from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common.errors import NotFound
from trade_executor import breaks, day_jobs
from trade_executor.models import DaySnapshot, HouseFill, JobRun, ReconBreak, ReconRun

RUNS_SHOWN = 20


class RunNotFound(NotFound):
    """No run has this id, or it was a small one and is forgotten."""


class DayNotFound(NotFound):
    """Nothing is on record of this day."""


def state(session: Session, account: str) -> dict[str, Any]:
    """Latest runs, the latest good one of each kind, open breaks by kind."""
    mine = sa.select(ReconRun).where(ReconRun.account == account).order_by(ReconRun.started_at.desc())
    open_breaks = session.execute(
        sa.select(
            ReconBreak.kind,
            ReconBreak.severity,
            sa.func.count().label("count"),
            sa.func.min(ReconBreak.opened_at).label("oldest_at"),
        )
        .where(ReconBreak.account == account, ReconBreak.closed_at.is_(None))
        .group_by(ReconBreak.kind, ReconBreak.severity)
        .order_by(ReconBreak.severity, ReconBreak.kind)
    ).all()
    good = mine.where(ReconRun.good).limit(1)
    return {
        "last_good_quick": session.scalars(good.where(ReconRun.scope == "quick")).one_or_none(),
        "last_good_full": session.scalars(good.where(ReconRun.scope != "quick")).one_or_none(),
        "runs": session.scalars(mine.limit(RUNS_SHOWN)).all(),
        "open_breaks": open_breaks,
        "frozen": sorted(breaks.frozen(session, account)),
    }


def run(session: Session, run_id: UUID) -> ReconRun:
    """One run; raises RunNotFound."""
    found = session.get(ReconRun, run_id)
    if found is None:
        raise RunNotFound(f"There is no reconciliation run {run_id}.")
    return found


def house_fills(session: Session, *, limit: int, offset: int) -> Sequence[HouseFill]:
    """The house's journal, newest first."""
    statement = sa.select(HouseFill).order_by(HouseFill.recorded_at.desc(), HouseFill.house_fill_id)
    return session.scalars(statement.limit(limit).offset(offset)).all()


def days(session: Session, account: str, *, limit: int, offset: int) -> Sequence[JobRun]:
    """Reports of ended days, newest first."""
    return session.scalars(
        sa.select(JobRun)
        .where(JobRun.account == account, JobRun.job == day_jobs.END_OF_DAY)
        .order_by(JobRun.slot.desc())
        .limit(limit)
        .offset(offset)
    ).all()


def day_detail(session: Session, account: str, day: date) -> dict[str, Any]:
    """What is on record of one day; raises DayNotFound."""
    found = {
        row.job: row for row in session.scalars(sa.select(JobRun).where(JobRun.account == account, JobRun.slot == day))
    }
    start, end = found.get(day_jobs.START_OF_DAY), found.get(day_jobs.END_OF_DAY)
    if start is None and end is None:
        raise DayNotFound(f"Nothing is on record of {day}.")
    books = session.execute(
        sa.select(
            DaySnapshot.part,
            DaySnapshot.sha256,
            DaySnapshot.taken_at,
            sa.func.jsonb_array_length(DaySnapshot.rows).label("count"),
        )
        .where(DaySnapshot.account == account, DaySnapshot.trading_date == day)
        .order_by(DaySnapshot.part)
    ).all()
    return {"day": day, "start": start, "end": end, "books": books}


def day_book(session: Session, account: str, day: date, part: str) -> DaySnapshot:
    """One kept book; raises DayNotFound."""
    found = session.get(DaySnapshot, (account, day, part))
    if found is None:
        raise DayNotFound(f"The {part} of {day} were not kept.")
    return found
