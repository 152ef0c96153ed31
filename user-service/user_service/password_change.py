"""Changing a password: by its owner, or with a reset link."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from common.errors import Forbidden
from user_service import attempts, audit, mail_tokens
from user_service.attempts import Attempt
from user_service.context import Room
from user_service.hashing import LoginBusy
from user_service.login import verify_password
from user_service.models import User
from user_service.passwords import WeakPassword, check_new_password
from user_service.sessions import Origin, revoke_sessions


class WrongPassword(Forbidden):
    """The present password, asked for as a confirmation, is wrong."""

    def __init__(self) -> None:
        super().__init__("The present password is wrong.")


@dataclass(frozen=True)
class Confirmed:
    """A password that its owner has just given once more."""

    attempt: Attempt
    stored_hash: str


def confirm_password(room: Room, user_id: UUID, password: str, origin: Origin) -> Confirmed:
    """Check the password of somebody who is signed in, behind the same gate as a sign-in.

    The attempt stays counted until the caller forgives it in the transaction that the confirmation is for.
    Raises WrongPassword, TooManyAttempts, LoginBusy.
    """
    with room.db.transaction() as session:
        user = session.get_one(User, user_id)
        key, stored_hash = user.email_key, user.password_hash
    verified = verify_password(
        room, key=key, user_id=user_id, stored_hash=stored_hash, password=password, origin=origin
    )
    if not verified.checked.ok:
        with room.db.transaction() as session:
            audit.record_security_event(
                session, kind=audit.WRONG_PASSWORD, user_id=user_id, address=origin.address, now=room.now()
            )
        raise WrongPassword
    return Confirmed(verified.attempt, stored_hash)


def locked_user(session: Session, user_id: UUID, confirmed: Confirmed) -> User:
    """The user's locked row, if the confirmed password is still theirs; raises WrongPassword."""
    user = session.scalars(select(User).where(User.id == user_id).with_for_update()).one()
    if user.password_hash != confirmed.stored_hash:
        raise WrongPassword
    return user


def change_password(
    room: Room, *, user_id: UUID, session_id: UUID, email: str, current: str, new: str, origin: Origin
) -> None:
    """Set a new password and end all other sessions.

    Raises WeakPassword, WrongPassword, TooManyAttempts, LoginBusy.
    """
    check_new_password(new, email=email)
    if new == current:
        raise WeakPassword("The new password must differ from the present one.")
    confirmed = confirm_password(room, user_id, current, origin)
    try:
        new_hash = room.hashing.hash(new)
    except LoginBusy:
        with room.db.transaction() as session:
            attempts.forgive(session, confirmed.attempt)
        raise
    now = room.now()
    with room.db.transaction() as session:
        user = locked_user(session, user_id, confirmed)
        user.password_hash = new_hash
        user.updated_at = now
        attempts.forgive(session, confirmed.attempt)
        revoke_sessions(session, user_id, reason="password_changed", now=now, keep=session_id)
        audit.record_security_event(
            session, kind=audit.PASSWORD_CHANGED, user_id=user_id, address=origin.address, now=now
        )


def reset_password(room: Room, *, token: str, new: str, origin: Origin) -> None:
    """Set a new password with a reset token and end all sessions; a second factor stays as it is.

    Raises InvalidMailToken, WeakPassword, LoginBusy.
    """
    with room.db.transaction() as session:
        email = mail_tokens.owner_of(session, token, "reset_password", room.now()).email
    check_new_password(new, email=email)
    new_hash = room.hashing.hash(new)
    now = room.now()
    with room.db.transaction() as session:
        user_id = mail_tokens.use(session, token, "reset_password", now)
        user = session.scalars(select(User).where(User.id == user_id).with_for_update()).one()
        if user.status != "active":
            raise mail_tokens.InvalidMailToken
        user.password_hash = new_hash
        user.updated_at = now
        # Whoever read the mail has the address.
        user.email_verified_at = user.email_verified_at or now
        attempts.clear_account(session, user.email_key)
        revoke_sessions(session, user_id, reason="password_reset", now=now)
        audit.record_security_event(
            session, kind=audit.PASSWORD_RESET, user_id=user_id, address=origin.address, now=now
        )
