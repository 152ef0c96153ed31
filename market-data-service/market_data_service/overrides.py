"""Calendar overrides: an admin's word on a day, kept with its reason and never erased."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal
from uuid import UUID, uuid4

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from common.clock import trading_date
from common.errors import NotFound, Unprocessable
from market_data_service.calendar import Entry, Hours
from market_data_service.models import CalendarOverride

OverrideKind = Literal["holiday", "trading_day", "special_session", "always_open"]
LOCK_NAMESPACE = 0xCA1
"""First key of the advisory lock on a day."""
HISTORY_MAX = 500
"""Rows of the list of overrides, newest days first."""


class OverrideInPast(Unprocessable):
    """Trading days that are over stay what they were."""


class UnknownOverride(NotFound):
    """No override is in force on that day."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What an admin declares of a day; hours (IST) belong to a special session only."""

    on: date
    kind: OverrideKind
    reason: str
    hours: Hours | None = None


def declare(session: Session, declared: Declared, admin: UUID, now: datetime) -> CalendarOverride:
    """Put an override in force, in place of an earlier one of the day; saying the same again changes nothing.

    Raises OverrideInPast.
    """
    _refuse_past(declared.on, now)
    current = _in_force(session, declared.on)
    opens, closes = (declared.hours.opens, declared.hours.closes) if declared.hours else (None, None)
    if current is not None:
        same = (current.kind, current.opens, current.closes, current.reason)
        if same == (declared.kind, opens, closes, declared.reason):
            return current
        _withdraw(current, admin, now, f"replaced: {declared.reason}")
        session.flush()
    row = CalendarOverride(
        override_id=uuid4(),
        on_date=declared.on,
        kind=declared.kind,
        opens=opens,
        closes=closes,
        reason=declared.reason,
        created_by=admin,
        created_at=now,
    )
    session.add(row)
    session.flush()
    return row


def withdraw(session: Session, on: date, reason: str, admin: UUID, now: datetime) -> CalendarOverride:
    """Take an override out of force; raises UnknownOverride or OverrideInPast."""
    _refuse_past(on, now)
    current = _in_force(session, on)
    if current is None:
        raise UnknownOverride(f"No override is in force on {on}.")
    _withdraw(current, admin, now, reason)
    return current


def history(session: Session) -> Sequence[CalendarOverride]:
    """Overrides in force and withdrawn, newest days first, at most HISTORY_MAX."""
    newest = CalendarOverride.on_date.desc(), CalendarOverride.created_at.desc()
    return session.scalars(select(CalendarOverride).order_by(*newest).limit(HISTORY_MAX)).all()


def entries_in_force(session: Session) -> list[Entry]:
    """The overrides in force as the calendar takes them."""
    rows = session.scalars(select(CalendarOverride).where(CalendarOverride.withdrawn_at.is_(None)))
    return [_entry(row) for row in rows]


def _entry(row: CalendarOverride) -> Entry:
    hours = Hours(row.opens, row.closes) if row.opens is not None and row.closes is not None else None
    kind: OverrideKind = row.kind  # type: ignore[assignment]  # the table's CHECK names the same kinds
    return Entry(row.on_date, kind, row.reason, source=f"override {row.override_id}", hours=hours)


def _in_force(session: Session, on: date) -> CalendarOverride | None:
    # A day without override has no row to lock, so the day itself is locked until the transaction ends.
    session.execute(
        text("SELECT pg_advisory_xact_lock(:space, :day)"), {"space": LOCK_NAMESPACE, "day": on.toordinal()}
    )
    return session.scalar(
        select(CalendarOverride).where(CalendarOverride.on_date == on, CalendarOverride.withdrawn_at.is_(None))
    )


def _withdraw(row: CalendarOverride, admin: UUID, now: datetime, reason: str) -> None:
    row.withdrawn_by, row.withdrawn_at, row.withdrawn_reason = admin, now, reason


def _refuse_past(on: date, now: datetime) -> None:
    if on < trading_date(now):
        raise OverrideInPast(f"{on} is over; overrides are for today and later.", on=on.isoformat())
