"""/api/v1/analytics/report-schedule: which reports are made by themselves for the caller."""

from uuid import UUID

from fastapi import APIRouter
from sqlalchemy.orm import Session

from analytics_service import report_schedule
from analytics_service.models_schedule import ReportSchedule
from analytics_service.schemas_schedule import MadeReport, ReportScheduleBody, ReportScheduleView
from common.auth import User
from common.db import SessionDep
from common.dependencies import ClockDep

router = APIRouter(prefix="/api/v1/analytics/report-schedule", tags=["analytics"])


@router.get("")
def get_report_schedule(session: SessionDep, user: User) -> ReportScheduleView:
    """Which reports are made by themselves for the caller; none until switched on."""
    return _view(session, user.user_id)


@router.put("")
def put_report_schedule(
    body: ReportScheduleBody, session: SessionDep, user: User, clock: ClockDep
) -> ReportScheduleView:
    """Switch the daily and the monthly portfolio report on or off. The first one is of the next day or month to end."""
    report_schedule.choose(session, user.user_id, {"daily": body.daily, "monthly": body.monthly}, clock.now())
    return _view(session, user.user_id)


def _view(session: Session, user_id: UUID) -> ReportScheduleView:
    rows = report_schedule.of_user(session, user_id)
    daily, monthly = rows.get("daily"), rows.get("monthly")
    return ReportScheduleView(
        daily=daily is not None and daily.since is not None,
        monthly=monthly is not None and monthly.since is not None,
        newest_daily=_newest(daily),
        newest_monthly=_newest(monthly),
    )


def _newest(row: ReportSchedule | None) -> MadeReport | None:
    if row is None or row.made_for is None or row.job_id is None:
        return None
    return MadeReport(period_end=row.made_for, report_id=row.job_id)
