"""The trading calendar and an admin's overrides of it."""

from datetime import time
from typing import Annotated

from fastapi import APIRouter, Query

from common.auth import AdminUser, User
from common.clock import DayInput, trading_date
from common.dependencies import ClockDep, DatabaseDep
from common.errors import Unprocessable
from common.logging import get_logger
from market_data_service.asking import MarketDep
from market_data_service.calendar import FIRST_YEAR, Day, Hours
from market_data_service.mirror import refresh_overrides
from market_data_service.models import CalendarOverride
from market_data_service.overrides import Declared, declare, history, withdraw
from market_data_service.schemas import (
    CalendarAnswer,
    DayAnswer,
    NoteAnswer,
    OverrideAnswer,
    OverrideRequest,
    OverridesAnswer,
    Reason,
)

router = APIRouter(prefix="/api/v1/calendar", tags=["calendar"])
log = get_logger(__name__)


class YearOutOfRange(Unprocessable):
    """The calendar does not reach that year."""


@router.get("")
def calendar(user: User, market: MarketDep, clock: ClockDep, year: int | None = None) -> CalendarAnswer:
    """Trading days, holidays and special sessions of a year (default: this one, at most the next)."""
    this_year = trading_date(clock.now()).year
    wanted = this_year if year is None else year
    if not FIRST_YEAR <= wanted <= this_year + 1:
        raise YearOutOfRange(f"The calendar covers {FIRST_YEAR} to {this_year + 1}, not {wanted}.")
    days = market.calendar.exchange_year(wanted)
    return CalendarAnswer(
        year=wanted,
        mode=market.calendar.mode,
        is_published=days.is_published,
        trading_days=list(days.trading_days),
        holidays=[_day(day) for day in days.holidays],
        special_sessions=[_day(day) for day in days.special_sessions],
        settlement_holidays=[NoteAnswer(date=note.on, name=note.name) for note in days.settlement_holidays],
        weekend_holidays=[NoteAnswer(date=note.on, name=note.name) for note in days.weekend_holidays],
    )


@router.get("/overrides")
def overrides(admin: AdminUser, db: DatabaseDep) -> OverridesAnswer:
    """Overrides in force and withdrawn, with who declared them and why."""
    with db.session() as session:
        return OverridesAnswer(overrides=[_override(row) for row in history(session)])


@router.put("/overrides")
def put_override(
    body: OverrideRequest, admin: AdminUser, db: DatabaseDep, market: MarketDep, clock: ClockDep
) -> OverrideAnswer:
    """Declare a day, in place of an earlier override of it. Wins over every other source; takes effect at once."""
    hours = Hours(body.opens, body.closes) if body.opens is not None and body.closes is not None else None
    declared = Declared(on=body.date, kind=body.kind, reason=body.reason.strip(), hours=hours)
    with db.transaction() as session:
        row = declare(session, declared, admin.user_id, clock.now())
        answer = _override(row)
    refresh_overrides(db, market)
    log.info("calendar.overridden", on=body.date.isoformat(), kind=body.kind, user_id=str(admin.user_id))
    return answer


@router.delete("/overrides/{on}")
def delete_override(
    on: DayInput,
    reason: Annotated[Reason, Query()],
    admin: AdminUser,
    db: DatabaseDep,
    market: MarketDep,
    clock: ClockDep,
) -> OverrideAnswer:
    """Take an override out of force; the day is again what the calendar says. The row stays for the record."""
    with db.transaction() as session:
        row = withdraw(session, on, reason.strip(), admin.user_id, clock.now())
        session.flush()
        answer = _override(row)
    refresh_overrides(db, market)
    log.info("calendar.override_withdrawn", on=on.isoformat(), user_id=str(admin.user_id))
    return answer


def _day(day: Day) -> DayAnswer:
    hours = day.hours
    return DayAnswer(
        date=day.on,
        kind=day.kind,
        name=day.name,
        origin=day.origin,
        status=day.status,
        opens=_wall(hours.opens) if hours else None,
        closes=_wall(hours.closes) if hours else None,
    )


def _override(row: CalendarOverride) -> OverrideAnswer:
    return OverrideAnswer(
        override_id=row.override_id,
        date=row.on_date,
        kind=row.kind,
        opens=_wall(row.opens),
        closes=_wall(row.closes),
        reason=row.reason,
        created_by=row.created_by,
        created_at=row.created_at,
        is_in_force=row.withdrawn_at is None,
        withdrawn_by=row.withdrawn_by,
        withdrawn_at=row.withdrawn_at,
        withdrawn_reason=row.withdrawn_reason,
    )


def _wall(at: time | None) -> str | None:
    return at.strftime("%H:%M") if at is not None else None
