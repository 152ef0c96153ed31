"""Reports that are made by themselves: who wants them, and the jobs of a day or month when its closes are in.

A report's job and the mark that its period is dealt with are one transaction under the lock of its user's row, and the
job is unique by user and period: however many loops look, however often one is killed, there is one report. Only the
newest period is ever made, so a platform that was away for a week owes one report and not five.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from analytics_service import closes, facts, jobs
from analytics_service.desk import Desk
from analytics_service.models_derived import CloseCoverage, TradingDay
from analytics_service.models_schedule import ReportSchedule
from analytics_service.report_kinds import ReportIn
from analytics_service.report_periods import (
    ONE_DAY,
    Cadence,
    Period,
    day_period,
    newest_day_over,
    newest_month_over,
)
from analytics_service.valuation import Key
from common.logging import get_logger

log = get_logger(__name__)

OPEN_MAX = 20
"""Automatic reports that wait or run at a time; what users ask for is taken before them."""


@dataclass(frozen=True)
class Due:
    """A report that may have to be made."""

    user_id: UUID
    period: Period


# --- the setting ----------------------------------------------------------------------------------------------------


def of_user(session: Session, user_id: UUID) -> Mapping[str, ReportSchedule]:
    """A user's rows by kind; a kind that was never switched on has none."""
    rows = session.scalars(
        select(ReportSchedule).where(ReportSchedule.user_id == user_id).execution_options(populate_existing=True)
    )
    return {row.cadence: row for row in rows}


def choose(session: Session, user_id: UUID, wanted: Mapping[Cadence, bool], now: datetime) -> None:
    """Switch kinds on or off; what is on already stays on since it was."""
    for cadence, is_wanted in sorted(wanted.items()):
        new = insert(ReportSchedule).values(user_id=user_id, cadence=cadence, since=now if is_wanted else None)
        since = func.coalesce(ReportSchedule.since, new.excluded.since) if is_wanted else sa.null()
        keys = [ReportSchedule.user_id, ReportSchedule.cadence]
        session.execute(new.on_conflict_do_update(index_elements=keys, set_={"since": since}))


# --- what is due ----------------------------------------------------------------------------------------------------


def queue_due(desk: Desk) -> int:
    """Add the jobs of reports that are due, as far as there is room for them; answers how many."""
    now = desk.clock.now()
    with desk.db.session() as session:
        room = OPEN_MAX - jobs.open_automatic(session)
        due = [
            one for period in periods_over(session, desk.settings.benchmark_key, now) for one in _due(session, period)
        ]
    queued = waiting = 0
    for one in due:
        if queued >= room:
            break
        with desk.db.transaction() as session:
            outcome = _queue(session, one, desk.settings.benchmark_key, now)
        queued += outcome == "queued"
        waiting += outcome == "waiting"
    if queued or waiting:
        log.info("report_schedule.looked", queued=queued, waiting_for_closes=waiting)
    return queued


def periods_over(session: Session, benchmark: Key, now: datetime) -> list[Period]:
    """The newest trading day and the newest month with one that are over and have their benchmark's closes."""
    # Read before the trading days: whatever day this answer brought is among them then.
    answered = session.execute(
        select(CloseCoverage.last_on, CloseCoverage.answered_at).where(
            CloseCoverage.exchange == benchmark[0], CloseCoverage.tradingsymbol == benchmark[1]
        )
    ).one_or_none()
    if answered is None:
        return []
    last_on, answered_at = answered
    if answered_at is None:
        return []
    day = session.scalar(select(func.max(TradingDay.on_date)).where(TradingDay.on_date <= newest_day_over(now)))
    month = newest_month_over(now)
    in_month = select(func.count()).where(TradingDay.on_date.between(month.first, month.last))
    periods = [day_period(day)] if day is not None else []
    if session.scalar(in_month):
        periods.append(month)
    return [period for period in periods if last_on >= period.last and answered_at >= period.final_from]


def _due(session: Session, period: Period) -> list[Due]:
    rows = session.scalars(
        select(ReportSchedule.user_id)
        .where(*_wants(period))
        .order_by(ReportSchedule.looked_at.asc().nulls_first(), ReportSchedule.user_id)
        .limit(OPEN_MAX)
    )
    return [Due(user_id, period) for user_id in rows]


def _wants(period: Period) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        ReportSchedule.cadence == period.cadence,
        ReportSchedule.since < period.over_at,
        or_(ReportSchedule.made_for.is_(None), ReportSchedule.made_for < period.last),
    )


def _queue(session: Session, due: Due, benchmark: Key, now: datetime) -> str:
    """Add one job, unless it is not due any more: another loop was here, or its user has changed their mind."""
    period = due.period
    row = session.scalars(
        select(ReportSchedule)
        .where(ReportSchedule.user_id == due.user_id, *_wants(period))
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if row is None:
        return "taken"
    row.looked_at = now
    if not facts.has_any_until(session, due.user_id, period.last):
        row.made_for, row.job_id = period.last, None
        return "nothing"
    if not closes.are_in(session, _held(session, due) | {benchmark}, period.last, period.final_from):
        return "waiting"
    asked = ReportIn(kind="portfolio", format="html", first=period.shown_from, last=period.last)
    row.made_for = period.last
    job_id = jobs.add_automatic(
        session, due.user_id, asked.model_dump(mode="json", by_alias=True), period.cadence, period.last, now
    )
    if job_id is None:
        return "taken"
    row.job_id = job_id
    return "queued"


def _held(session: Session, due: Due) -> set[Key]:
    """The shares whose closes the report needs."""
    portfolios = facts.portfolios_of(session, due.user_id)
    following = due.period.last + ONE_DAY
    return {key for portfolio in portfolios for key in facts.held_before(session, portfolio, following)}
