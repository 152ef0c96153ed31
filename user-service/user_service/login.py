"""Signing in: gate, password, second factor, session.

Three short transactions with the hash between them, because a password check must not hold a connection. What follows
from a refusal (a counted failure) has to commit, so refusals are returned to the outermost function and raised there.
An unknown account takes the same path with a decoy hash: same answer, same statements, same work.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from common.errors import AppError, Forbidden, Unauthorized
from user_service import attempts, audit, two_factor
from user_service.attempts import Attempt, TooManyAttempts
from user_service.context import Room
from user_service.emails import email_key
from user_service.hashing import Checked, LoginBusy
from user_service.models import User
from user_service.sessions import Opened, Origin, open_session
from user_service.tokens import TokenPair


class InvalidCredentials(Unauthorized):
    """Unknown address or wrong password: one answer for both."""

    def __init__(self) -> None:
        super().__init__("The e-mail address or the password is wrong.")


class TotpRequired(Unauthorized):
    """The password is right; the account also needs a code."""

    def __init__(self) -> None:
        super().__init__("Send the code of your authenticator app as totp_code.")


class InvalidTotp(Unauthorized):
    """The code is wrong, or was used before."""

    def __init__(self) -> None:
        super().__init__("This code is wrong or was used already; wait for the next one.")


class AccountSuspended(Forbidden):
    """The right credentials of an account that operations have suspended."""

    def __init__(self) -> None:
        super().__init__("This account is suspended; contact support.")


class AccountClosed(Forbidden):
    """The right credentials of an account that is closed for good."""

    def __init__(self) -> None:
        super().__init__("This account is closed.")


@dataclass(frozen=True)
class Credentials:
    """What somebody presents to sign in."""

    email: str
    password: str
    totp_code: str | None = None


@dataclass(frozen=True)
class Verified:
    """A counted attempt and what its password check said about the hash stored at that time."""

    attempt: Attempt
    stored_hash: str
    checked: Checked


def login(room: Room, credentials: Credentials, origin: Origin) -> TokenPair:
    """Open a session.

    Raises InvalidCredentials, TotpRequired, InvalidTotp (401), AccountSuspended, AccountClosed (403), TooManyAttempts
    (429) and LoginBusy (503).
    """
    key = email_key(credentials.email)
    with room.db.transaction() as session:
        found = session.execute(select(User.id, User.password_hash).where(User.email_key == key)).one_or_none()
    verified = verify_password(
        room,
        key=key,
        user_id=found.id if found else None,
        stored_hash=found.password_hash if found else room.hashing.decoy_hash,
        password=credentials.password,
        origin=origin,
    )
    with room.db.transaction() as session:
        outcome = _conclude(session, room, key, verified, credentials, origin)
    if isinstance(outcome, AppError):
        raise outcome
    return room.token_pair(outcome)


def verify_password(
    room: Room, *, key: str, user_id: UUID | None, stored_hash: str, password: str, origin: Origin
) -> Verified:
    """Count an attempt, then check the password; raises TooManyAttempts or LoginBusy.

    The caller says what became of the attempt: `attempts.succeed`, `attempts.forgive`, or nothing for a failure.
    """
    # The place comes before the count: attempts under way are then fewer than an address has free failures, so right
    # passwords that arrive together are never taken for guesses.
    with room.hashing.place():
        with room.db.transaction() as session:
            gate = attempts.count_attempt(
                session, email_key=key, user_id=user_id, address=origin.address, now=room.now()
            )
        if isinstance(gate, TooManyAttempts):
            raise gate
        try:
            return Verified(gate, stored_hash, room.hashing.check_in_place(password, stored_hash))
        except LoginBusy:
            with room.db.transaction() as session:
                attempts.forgive(session, gate)
            raise


def _conclude(
    session: Session, room: Room, key: str, verified: Verified, credentials: Credentials, origin: Origin
) -> Opened | AppError:
    now = room.now()
    user = session.scalars(select(User).where(User.email_key == key).with_for_update()).one_or_none()

    def remember(outcome: str) -> None:
        audit.record_login(
            session,
            outcome=outcome,
            account=verified.attempt.account,
            user_id=user.id if user else None,
            address=origin.address,
            now=now,
        )

    # A password changed while the old one was being checked makes the check void.
    if user is None or not verified.checked.ok or user.password_hash != verified.stored_hash:
        remember(audit.LOGIN_FAILED)
        return InvalidCredentials()
    second = two_factor.judge(session, room, user.id, credentials.totp_code, now)
    if second is two_factor.Judgement.MISSING:
        attempts.forgive(session, verified.attempt)
        remember(audit.LOGIN_TOTP_REQUIRED)
        return TotpRequired()
    if second is two_factor.Judgement.WRONG:
        remember(audit.LOGIN_TOTP_INVALID)
        return InvalidTotp()
    attempts.succeed(session, verified.attempt)
    if user.status != "active":
        remember(audit.LOGIN_ACCOUNT_NOT_ACTIVE)
        return AccountSuspended() if user.status == "suspended" else AccountClosed()
    remember(audit.LOGIN_SUCCEEDED)
    return _welcome(session, room, user, verified.checked, second, origin, now)


def _welcome(
    session: Session,
    room: Room,
    user: User,
    checked: Checked,
    second: two_factor.Judgement,
    origin: Origin,
    now: datetime,
) -> Opened:
    if checked.new_hash is not None:
        user.password_hash = checked.new_hash
    user.last_login_at = now
    user.login_count += 1
    mfa = second is two_factor.Judgement.RIGHT
    return open_session(session, user, mfa=mfa, origin=origin, now=now, lifetime=room.refresh_lifetime)
