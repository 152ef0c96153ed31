"""SIPs of users: make one, list, skip, pause, resume, stop. Placing instalments is in `smallcase_service.instalments`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common.clock import trading_date
from common.errors import Conflict
from smallcase_service import instalments, investments
from smallcase_service.dues import DueState
from smallcase_service.investments import PAGE_DEFAULT, CursorUnknown, Page
from smallcase_service.models import Sip, SipInstalment
from smallcase_service.sip_schedule import Frequency, Mode, SipState, first_due, next_due

SIPS_MAX = 50
"""SIPs of one user that are not stopped."""


class SipLimit(Conflict):
    """The user has as many SIPs as allowed."""


class SipStopped(Conflict):
    """A stopped SIP stays stopped."""


@dataclass(frozen=True)
class Wanted:
    """A SIP as its user wants it."""

    smallcase_id: UUID
    portfolio_id: UUID | None
    amount_paise: int
    frequency: Frequency
    day: int
    start_on: date | None
    mode: Mode


def create(session: Session, user_id: UUID, wanted: Wanted, now: datetime) -> Sip:
    """A new SIP; its first date is today or later. Raises SipLimit."""
    open_ones = session.scalar(sa.select(sa.func.count()).where(Sip.user_id == user_id, Sip.state != SipState.STOPPED))
    if (open_ones or 0) >= SIPS_MAX:
        raise SipLimit(f"You have {SIPS_MAX} SIPs, which is the most there can be.", limit=SIPS_MAX)
    start = max(wanted.start_on or trading_date(now), trading_date(now))
    sip = Sip(
        sip_id=uuid4(),
        user_id=user_id,
        smallcase_id=wanted.smallcase_id,
        portfolio_id=wanted.portfolio_id,
        amount_paise=wanted.amount_paise,
        frequency=wanted.frequency,
        day=wanted.day,
        mode=wanted.mode,
        state=SipState.ACTIVE,
        next_due_on=first_due(wanted.frequency, wanted.day, start),
        created_at=now,
    )
    session.add(sip)
    session.flush()
    return sip


def skip(session: Session, user_id: UUID, sip_id: UUID, now: datetime) -> Sip:
    """Leave out the instalment that waits, or the next one; raises SipNotFound, SipStopped."""
    sip = _changeable(session, user_id, sip_id)
    due = instalments.waiting(session, sip_id, lock=True)
    if due is None:
        due = SipInstalment(sip_id=sip_id, due_on=sip.next_due_on, state=DueState.SKIPPED, created_at=now)
        session.add(due)
        sip.next_due_on = next_due(Frequency(sip.frequency), sip.day, sip.next_due_on)
    due.state, due.decided_at, due.next_try_at = DueState.SKIPPED, now, None
    session.flush()
    return sip


def change_state(session: Session, user_id: UUID, sip_id: UUID, state: SipState, now: datetime) -> Sip:
    """Pause, resume or stop; dates that pass during a pause are left out. Raises SipNotFound, SipStopped.

    An instalment that waits is given up by a stop and by a pause.
    """
    sip = instalments.sip_of(session, user_id, sip_id, lock=True)
    if sip.state == state:
        return sip
    if sip.state == SipState.STOPPED:
        raise SipStopped("The SIP is stopped; make a new one.")
    due = instalments.waiting(session, sip_id, lock=True)
    if due is not None and state != SipState.ACTIVE:
        due.state, due.decided_at, due.next_try_at = DueState.SKIPPED, now, None
        due.reason_code, due.reason = "sip_" + state.lower(), f"The SIP was {state.lower()}."
    if state == SipState.ACTIVE:
        sip.next_due_on = first_due(Frequency(sip.frequency), sip.day, max(sip.next_due_on, trading_date(now)))
    sip.state = state
    session.flush()
    return sip


def _changeable(session: Session, user_id: UUID, sip_id: UUID) -> Sip:
    sip = instalments.sip_of(session, user_id, sip_id, lock=True)
    if sip.state == SipState.STOPPED:
        raise SipStopped("The SIP is stopped; make a new one.")
    return sip


def page(
    session: Session, user_id: UUID, *, cursor: UUID | None = None, limit: int = PAGE_DEFAULT, due_only: bool = False
) -> Page[Sip]:
    """The user's SIPs, newest first; with `due_only` those with an instalment that waits. Raises CursorUnknown."""
    statement = sa.select(Sip).where(Sip.user_id == user_id)
    if due_only:
        waits = sa.exists().where(SipInstalment.sip_id == Sip.sip_id, SipInstalment.state == DueState.DUE)
        statement = statement.where(waits)
    if cursor is not None:
        last = session.get(Sip, cursor)
        if last is None or last.user_id != user_id:
            raise CursorUnknown("The cursor is unknown; start again without one.")
        statement = statement.where(sa.tuple_(Sip.created_at, Sip.sip_id) < sa.tuple_(last.created_at, cursor))
    rows = session.scalars(statement.order_by(Sip.created_at.desc(), Sip.sip_id.desc()).limit(limit + 1)).all()
    return Page(rows[:limit], rows[limit - 1].sip_id if len(rows) > limit else None)


def waiting(session: Session, sip_ids: Sequence[UUID]) -> Mapping[UUID, SipInstalment]:
    """The instalments that wait, by SIP."""
    rows = session.scalars(
        sa.select(SipInstalment).where(SipInstalment.sip_id.in_(sip_ids), SipInstalment.state == DueState.DUE)
    )
    return {row.sip_id: row for row in rows}


def latest(session: Session, sip_id: UUID, limit: int = investments.PAGE_MAX) -> Sequence[SipInstalment]:
    """The latest due dates of a SIP, newest first."""
    return session.scalars(
        sa.select(SipInstalment)
        .where(SipInstalment.sip_id == sip_id)
        .order_by(SipInstalment.due_on.desc())
        .limit(limit)
    ).all()
