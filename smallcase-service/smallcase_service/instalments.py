"""Instalments of SIPs: due dates become due on trading days, users confirm or skip them, the platform places others.

One row per SIP and due date, so a date is due once and placed once: the basket order and the instalment that says so are
one transaction.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common import outbox
from common.errors import AppError, Conflict, NotFound
from common.events import SipDue
from common.logging import get_logger
from common.standing import Standings
from smallcase_service import outcomes, proposals, unattended
from smallcase_service.config import NAME
from smallcase_service.desk import Desk, Proposed
from smallcase_service.dues import ATTEMPT_PAUSE, AUTO_ATTEMPTS_FOR, DueState
from smallcase_service.models import BasketOrder, Investment, Sip, SipInstalment
from smallcase_service.orders import OPEN_INVESTMENTS, Kind
from smallcase_service.proposals import Asker
from smallcase_service.sip_schedule import Frequency, Mode, SipState, next_due

log = get_logger(__name__)

BATCH = 50


class SipNotFound(NotFound):
    """No such SIP of this user."""


class NothingDue(Conflict):
    """No instalment of the SIP waits."""


def sip_of(session: Session, user_id: UUID, sip_id: UUID, *, lock: bool = False) -> Sip:
    """One SIP of the user; raises SipNotFound, also for somebody else's."""
    sip = session.get(Sip, sip_id, with_for_update={"key_share": True} if lock else None, populate_existing=True)
    if sip is None or sip.user_id != user_id:
        raise SipNotFound("There is no such SIP among yours.")
    return sip


def waiting(session: Session, sip_id: UUID, *, lock: bool = False) -> SipInstalment | None:
    """The instalment of a SIP that is due; there is at most one."""
    statement = sa.select(SipInstalment).where(SipInstalment.sip_id == sip_id, SipInstalment.state == DueState.DUE)
    if lock:
        statement = statement.with_for_update(key_share=True).execution_options(populate_existing=True)
    return session.scalar(statement)


def make_due(session: Session, sip: Sip, trading_day: date, now: datetime) -> SipInstalment | None:
    """Make the due date of a locked, active SIP an instalment on a trading day at or after it; tell the user.

    An older instalment that still waits is skipped: a user who was away is asked for one amount, not for many.
    """
    if sip.state != SipState.ACTIVE or sip.next_due_on > trading_day:
        return None
    older = waiting(session, sip.sip_id, lock=True)
    if older is not None:
        older.state, older.decided_at = DueState.SKIPPED, now
        older.reason_code, older.reason = "superseded", "The next instalment has become due."
    due_on = sip.next_due_on
    frequency = Frequency(sip.frequency)
    # Dates that were missed altogether are not made up for.
    while (following := next_due(frequency, sip.day, due_on)) <= trading_day:
        due_on = following
    row = session.execute(
        insert(SipInstalment)
        .values(
            sip_id=sip.sip_id,
            due_on=due_on,
            state=DueState.DUE,
            next_try_at=now if sip.mode == Mode.AUTO else None,
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(SipInstalment)
    ).scalar_one_or_none()
    sip.next_due_on = following
    if row is not None:
        tell_due(session, sip, due_on, Mode(sip.mode))
        log.info("sip.due", sip_id=str(sip.sip_id), due_on=due_on.isoformat(), mode=sip.mode)
    return row


def tell_due(session: Session, sip: Sip, due_on: date, mode: Mode) -> None:
    """Say that an instalment is due, and who places it."""
    event = SipDue(
        sip_id=sip.sip_id,
        user_id=sip.user_id,
        smallcase_id=sip.smallcase_id,
        smallcase_name=outcomes.smallcase_name(session, sip.smallcase_id),
        due_on=due_on,
        amount_paise=sip.amount_paise,
        mode=mode.value,
    )
    outbox.record(session, event, source=NAME, aggregate_id=sip.sip_id)


def proposal(desk: Desk, sip: Sip, due_on: date, kyc: str, *, queue_when_closed: bool = False) -> Proposed:
    """The basket order of an instalment: a first purchase, or more of what the user has in the smallcase."""
    with desk.db.transaction() as session:
        wanted = sa.select(Investment.investment_id).where(
            Investment.user_id == sip.user_id,
            Investment.smallcase_id == sip.smallcase_id,
            Investment.status.in_(OPEN_INVESTMENTS),
        )
        if sip.portfolio_id is not None:
            wanted = wanted.where(Investment.portfolio_id == sip.portfolio_id)
        investment_id = session.scalar(wanted.order_by(Investment.created_at).limit(1))
    asker, dated = Asker(sip.user_id, kyc, queue_when_closed), (sip.sip_id, due_on)
    if investment_id is not None:
        return proposals.later_purchase(desk, asker, investment_id, sip.amount_paise, kind=Kind.SIP, sip=dated)
    return proposals.first_purchase(
        desk, asker, sip.smallcase_id, sip.amount_paise, portfolio_id=sip.portfolio_id, kind=Kind.SIP, sip=dated
    )


def mark_placed(sip_id: UUID, due_on: date, now: datetime) -> Callable[[Session, BasketOrder], None]:
    """What becomes true with the basket order of an instalment; raises NothingDue when it was decided meanwhile."""

    def mark(session: Session, order: BasketOrder) -> None:
        instalment = waiting(session, sip_id, lock=True)
        if instalment is None or instalment.due_on != due_on:
            raise NothingDue("This instalment was placed or skipped meanwhile.")
        instalment.state, instalment.decided_at = DueState.PLACED, now
        instalment.basket_order_id = order.basket_order_id
        instalment.reason_code = instalment.reason = instalment.next_try_at = None

    return mark


# --- the driver's part ------------------------------------------------------------------------------------------------


def drive_due(desk: Desk, standings: Standings) -> int:
    """Make due what is due today and place what the platform places; answers how many rows a batch had at most."""
    with desk.db.transaction() as session:
        today = _possible_day(desk.clock.now())
        candidates = session.scalars(
            sa.select(Sip.sip_id)
            .where(Sip.state == SipState.ACTIVE, Sip.next_due_on <= today)
            .order_by(Sip.next_due_on)
            .limit(BATCH)
        ).all()
        placing = session.execute(
            sa.select(SipInstalment.sip_id, SipInstalment.due_on)
            .where(SipInstalment.state == DueState.DUE, SipInstalment.next_try_at <= desk.clock.now())
            .order_by(SipInstalment.next_try_at)
            .limit(BATCH)
        ).all()
    if not candidates and not placing:
        return 0
    market_session = desk.market.session()
    # Instalments become due while the market is open: a holiday passes by itself.
    if not market_session.is_open:
        return 0
    for sip_id in candidates:
        with desk.db.transaction() as session:
            sip = session.get_one(Sip, sip_id, with_for_update={"key_share": True}, populate_existing=True)
            make_due(session, sip, market_session.trading_date, desk.clock.now())
    for sip_id, due_on in placing:
        _place(desk, standings, sip_id, due_on)
    return max(len(candidates), len(placing))


def _possible_day(now: datetime) -> date:
    # Kolkata is ahead of UTC: no trading day is later than tomorrow's date in UTC.
    return (now + timedelta(days=1)).date()


def _place(desk: Desk, standings: Standings, sip_id: UUID, due_on: date) -> None:
    with desk.db.transaction() as session:
        sip = session.get_one(Sip, sip_id)

    def propose(kyc: str) -> Proposed:
        return replace(proposal(desk, sip, due_on, kyc), also=mark_placed(sip_id, due_on, desk.clock.now()))

    try:
        order_id = unattended.write(desk, standings, sip.user_id, propose)
    except AppError as error:
        _put_off(desk, sip_id, due_on, error)
    else:
        unattended.submit(desk, order_id)


def _put_off(desk: Desk, sip_id: UUID, due_on: date, error: AppError) -> None:
    now = desk.clock.now()
    with desk.db.transaction() as session:
        sip = session.get_one(Sip, sip_id, with_for_update={"key_share": True}, populate_existing=True)
        instalment = waiting(session, sip_id, lock=True)
        if instalment is None or instalment.due_on != due_on:
            return
        instalment.reason_code, instalment.reason = error.code, error.detail
        if now - instalment.created_at < AUTO_ATTEMPTS_FOR:
            instalment.next_try_at = now + ATTEMPT_PAUSE
        else:
            # Not by itself: the user is asked, once.
            instalment.next_try_at = None
            tell_due(session, sip, due_on, Mode.CONFIRM)
        log.warning("sip.put_off", sip_id=str(sip_id), due_on=due_on.isoformat(), code=error.code)
