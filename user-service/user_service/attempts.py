"""The gate before every password check: counts an attempt as failed until it has proved right.

Counting first is what makes the limit hold under parallel attempts: a hundred guesses sent at once queue on the
counter's row, and all but the free ones are refused before a password is looked at.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common.errors import TooManyRequests
from user_service.models import AuthSession, LoginThrottle
from user_service.throttle import ACCOUNT, ADDRESS, Policy, account_subject, address_group, address_subject, delay_after

KNOWN_ADDRESS_DAYS = 30
_NOBODY = UUID(int=0)
"""Stands for an account that does not exist, so that the same statements run."""


class TooManyAttempts(TooManyRequests):
    """Wait `retry_after` seconds; then the right password works."""


@dataclass(frozen=True)
class Attempt:
    """One counted attempt: which counters it raised."""

    account: str
    address: str


def count_attempt(
    session: Session, *, email_key: str, user_id: UUID | None, address: str, now: datetime
) -> Attempt | TooManyAttempts:
    """Count an attempt against its account and its address, or answer how long to wait.

    The refusal is returned, not raised: the transaction that counted it must commit.
    """
    group = address_group(address)
    known = _signed_in_from(session, user_id, group, now)
    attempt = Attempt(account_subject(email_key, group if known else None), address_subject(address))
    # Always in this order, so that two attempts cannot wait for each other.
    counters = [(_locked(session, attempt.address, now), ADDRESS), (_locked(session, attempt.account, now), ACCOUNT)]
    wait_s = max(_wait_s(counter, now) for counter, _ in counters)
    for counter, policy in counters:
        if wait_s > 0:
            counter.refused_attempts += 1
        else:
            _add_failure(counter, policy, now)
    session.flush()
    if wait_s > 0:
        return TooManyAttempts(f"Too many failed attempts; try again in {wait_s} s.", retry_after=wait_s)
    return attempt


def forgive(session: Session, attempt: Attempt) -> None:
    """The attempt was no guess (right password, or nothing was checked): take it back."""
    for subject in (attempt.address, attempt.account):
        session.execute(
            update(LoginThrottle)
            .where(LoginThrottle.subject == subject)
            .values(
                failed_login_attempts=func.greatest(LoginThrottle.failed_login_attempts - 1, 0),
                locked_until=None,
            )
        )


def succeed(session: Session, attempt: Attempt) -> None:
    """The attempt signed its user in: the account starts anew; the address only gets this attempt back."""
    forgive(session, attempt)
    session.execute(delete(LoginThrottle).where(LoginThrottle.subject == attempt.account))


def clear_account(session: Session, email_key: str) -> None:
    """The owner has proved who they are by other means (a reset link): forget failures against the account."""
    session.execute(delete(LoginThrottle).where(LoginThrottle.subject == account_subject(email_key)))


def _signed_in_from(session: Session, user_id: UUID | None, group: str, now: datetime) -> bool:
    return bool(
        session.scalar(
            select(
                select(AuthSession.id)
                .where(
                    AuthSession.user_id == (user_id or _NOBODY),
                    AuthSession.address == group,
                    AuthSession.authenticated_at > now - timedelta(days=KNOWN_ADDRESS_DAYS),
                )
                .exists()
            )
        )
    )


def _locked(session: Session, subject: str, now: datetime) -> LoginThrottle:
    fresh = insert(LoginThrottle).values(
        subject=subject, failed_login_attempts=0, refused_attempts=0, last_attempt_at=now
    )
    # The update changes nothing; it is what locks a row that is there already.
    locked = fresh.on_conflict_do_update(index_elements=["subject"], set_={"subject": subject})
    return session.scalars(locked.returning(LoginThrottle), execution_options={"populate_existing": True}).one()


def _wait_s(counter: LoginThrottle, now: datetime) -> int:
    if counter.locked_until is None or counter.locked_until <= now:
        return 0
    return ceil((counter.locked_until - now).total_seconds())


def _add_failure(counter: LoginThrottle, policy: Policy, now: datetime) -> None:
    if now - counter.last_attempt_at > timedelta(seconds=policy.forget_after_s):
        counter.failed_login_attempts = 0
    counter.failed_login_attempts += 1
    counter.last_attempt_at = now
    delay_s = delay_after(counter.failed_login_attempts, policy)
    counter.locked_until = now + timedelta(seconds=delay_s) if delay_s else None
