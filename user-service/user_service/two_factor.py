"""The second factor: set up, confirmed with a first code, then asked for at every sign-in; a code is usable once."""

from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common.errors import Conflict, Forbidden, Unprocessable
from user_service import audit, totp
from user_service.context import Room
from user_service.models import AuthSession, TotpFactor
from user_service.sessions import Origin, revoke_sessions

FRESH_SIGN_IN = timedelta(minutes=15)
"""A factor may be set up only this soon after the password was given: a stolen token must not lock its owner out."""


class TotpAlreadyEnabled(Conflict):
    """Disable the factor in use before setting up another."""

    def __init__(self) -> None:
        super().__init__("A second factor is enabled already; disable it first.")


class TotpNotSetUp(Conflict):
    """There is nothing to confirm or to disable."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)


class WrongTotpCode(Unprocessable):
    """The code does not fit; the answer to somebody who is signed in already."""

    default_code = "invalid_totp"

    def __init__(self) -> None:
        super().__init__("This code is wrong or was used already; wait for the next one.")


class ReauthenticationRequired(Forbidden):
    """The password was given too long ago for this."""

    def __init__(self) -> None:
        super().__init__("Sign in again, then set up the second factor within 15 minutes.")


class Judgement(Enum):
    """What a sign-in's code is worth."""

    NOT_ENABLED = "not_enabled"
    MISSING = "missing"
    WRONG = "wrong"
    RIGHT = "right"


def judge(session: Session, room: Room, user_id: UUID, code: str | None, now: datetime) -> Judgement:
    """Judge a code and use it up when it is right."""
    factor = _locked_factor(session, user_id)
    if factor is None or factor.confirmed_at is None:
        return Judgement.NOT_ENABLED
    if code is None:
        return Judgement.MISSING
    return Judgement.RIGHT if _use_code(room, factor, code, now) else Judgement.WRONG


def is_enabled(session: Session, user_id: UUID) -> bool:
    """Whether sign-ins of this user need a code."""
    factor = session.get(TotpFactor, user_id)
    return factor is not None and factor.confirmed_at is not None


def set_up(session: Session, room: Room, *, user_id: UUID, email: str, authenticated_at: datetime) -> tuple[str, str]:
    """A new unconfirmed secret and its otpauth URI; raises TotpAlreadyEnabled, ReauthenticationRequired."""
    now = room.now()
    if now - authenticated_at > FRESH_SIGN_IN:
        raise ReauthenticationRequired
    secret = totp.new_secret()
    fresh = {"sealed_secret": room.sealer.seal_totp(user_id, secret), "last_step": 0, "created_at": now}
    statement = (
        insert(TotpFactor)
        .values(user_id=user_id, **fresh)
        .on_conflict_do_update(index_elements=["user_id"], set_=fresh, where=TotpFactor.confirmed_at.is_(None))
        .returning(TotpFactor.user_id)
    )
    if session.scalar(statement) is None:
        raise TotpAlreadyEnabled
    return secret, totp.provisioning_uri(secret, email)


def confirm(session: Session, room: Room, *, user_id: UUID, session_id: UUID, code: str, origin: Origin) -> None:
    """Enable the factor; this session counts as signed in with it from the next refresh on.

    Raises TotpNotSetUp, TotpAlreadyEnabled, WrongTotpCode.
    """
    now = room.now()
    factor = _locked_factor(session, user_id)
    if factor is None:
        raise TotpNotSetUp("Ask for a secret first: POST /api/v1/auth/totp/setup.")
    if factor.confirmed_at is not None:
        raise TotpAlreadyEnabled
    if not _use_code(room, factor, code, now):
        raise WrongTotpCode
    factor.confirmed_at = now
    session.get_one(AuthSession, session_id).mfa = True
    # Sessions opened with the password alone would be a way around the factor.
    revoke_sessions(session, user_id, reason="totp_enabled", now=now, keep=session_id)
    audit.record_security_event(session, kind=audit.TOTP_ENABLED, user_id=user_id, address=origin.address, now=now)


def disable(session: Session, room: Room, *, user_id: UUID, session_id: UUID, code: str, origin: Origin) -> bool:
    """Remove the factor when the code is right; the caller has checked the password. Answers whether it was right.

    Raises TotpNotSetUp.
    """
    now = room.now()
    factor = _locked_factor(session, user_id)
    if factor is None or factor.confirmed_at is None:
        raise TotpNotSetUp("No second factor is enabled.")
    if not _use_code(room, factor, code, now):
        return False
    session.delete(factor)
    session.get_one(AuthSession, session_id).mfa = False
    revoke_sessions(session, user_id, reason="totp_disabled", now=now, keep=session_id)
    audit.record_security_event(session, kind=audit.TOTP_DISABLED, user_id=user_id, address=origin.address, now=now)
    return True


def remove_factor(session: Session, user_id: UUID) -> None:
    """Take a lost factor away (operator's command line)."""
    session.execute(delete(TotpFactor).where(TotpFactor.user_id == user_id))


def _locked_factor(session: Session, user_id: UUID) -> TotpFactor | None:
    return session.scalars(select(TotpFactor).where(TotpFactor.user_id == user_id).with_for_update()).one_or_none()


def _use_code(room: Room, factor: TotpFactor, code: str, now: datetime) -> bool:
    step = totp.matching_step(room.sealer.open_totp(factor.user_id, factor.sealed_secret), code, now)
    if step is None or step <= factor.last_step:
        return False
    factor.last_step = step
    return True
