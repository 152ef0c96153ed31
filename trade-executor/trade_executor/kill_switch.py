"""ACTIVE, CANCEL_ONLY, HALTED: the state that every claim of a send is conditional on.

A halt is linearizable: it takes the lock of the row that a claim updates, so once it has committed no further send can.
Starting again after a halt takes two different people and no open severe break (execution.md 3.9).
"""

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common import audit, outbox
from common.audit import Actor
from common.errors import Conflict, NotFound
from common.events import TradingHalted
from common.logging import get_logger
from trade_executor import breaks, states
from trade_executor.config import SERVICE
from trade_executor.models import Control

log = get_logger(__name__)

RESUME_REQUEST_LIFETIME = timedelta(minutes=15)


class ResumeNeedsSecondPerson(Conflict):
    """The person who asked for the resume cannot also approve it."""


class SevereBreaksOpen(Conflict):
    """Books disagree: trading starts again only after each severe break was dealt with."""


class AlreadyInState(Conflict):
    """The switch already stands there."""


def row_of(session: Session, account: str, *, lock: bool = False) -> Control:
    """The control row; raises NotFound."""
    statement = sa.select(Control).where(Control.account == account)
    # populate_existing: a locked read must show what the lock waited for, not what this session saw before.
    row = session.scalars(
        statement.with_for_update().execution_options(populate_existing=True) if lock else statement
    ).one_or_none()
    if row is None:
        raise NotFound(f"There is no broker account {account!r}.", code="account_not_found")
    return row


def stop(session: Session, account: str, state: str, *, actor: str, reason: str) -> Control:
    """Move to CANCEL_ONLY or HALTED. When this transaction has committed, no claim of a forbidden kind can commit."""
    row = row_of(session, account, lock=True)
    if state not in _targets(row.trading_state):
        # HALTED stops cancels too, so there is nothing to move to.
        raise AlreadyInState(f"The account {account!r} is already {row.trading_state}.")
    _move(session, row, state, actor=actor, reason=reason)
    return row


def stop_if_running(session: Session, account: str, state: str, *, actor: str, reason: str) -> bool:
    """As `stop`, for the system's own stops: harmless when the account is stopped that far or further."""
    row = row_of(session, account, lock=True)
    if state not in _targets(row.trading_state):
        return False
    _move(session, row, state, actor=actor, reason=reason)
    audit.record(
        session, Actor("system", actor), f"control.{state.lower()}", target=f"account:{account}", reason=reason
    )
    return True


def request_or_approve_resume(session: Session, account: str, *, actor: str, reason: str) -> Control:
    """The first person's call leaves a request, a second person's call within its lifetime makes the account ACTIVE.

    Raises AlreadyInState, SevereBreaksOpen, or ResumeNeedsSecondPerson when the requester calls again.
    """
    row = row_of(session, account, lock=True)
    if row.trading_state == "ACTIVE":
        raise AlreadyInState(f"The account {account!r} is already ACTIVE.")
    if severe := breaks.severe_open(session, account):
        raise SevereBreaksOpen("Severe breaks are open; deal with them and close them first.", breaks=severe)
    now = session.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    requested_at = row.resume_requested_at
    if row.resume_requested_by is None or requested_at is None or now - requested_at > RESUME_REQUEST_LIFETIME:
        row.resume_requested_by, row.resume_requested_at, row.resume_reason = actor, now, reason
        log.warning("control.resume_requested", account=account, actor=actor, reason=reason)
        session.flush()
        return row
    if row.resume_requested_by == actor:
        raise ResumeNeedsSecondPerson(
            "You asked for this resume yourself; another person with the ops role must approve it.",
            requested_at=requested_at.isoformat(),
        )
    _move(session, row, "ACTIVE", actor=actor, reason=f"{row.resume_reason} (asked by {row.resume_requested_by})")
    return row


def _targets(state: str) -> tuple[str, ...]:
    return tuple(target for target in states.TRADING.states if state in states.TRADING.sources(target))


def _move(session: Session, row: Control, state: str, *, actor: str, reason: str) -> None:
    row.trading_state = states.TRADING.require(row.trading_state, state)
    row.changed_by, row.reason = actor, reason
    row.changed_at = session.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    row.resume_requested_by = row.resume_requested_at = row.resume_reason = None
    # A sender that read the old state must fail its claim even if it is resumed at once.
    row.epoch += 1
    session.flush()
    event = TradingHalted(account=row.account, state=state, actor=actor, reason=reason)
    outbox.record(session, event, source=SERVICE, aggregate_id=row.account)
    log.warning("control.changed", account=row.account, state=state, actor=actor, reason=reason)
