"""Sessions and their refresh tokens: opened by a sign-in, rotated at each refresh, revoked as a family.

Rotation with reuse detection: RFC 9700 (OAuth 2.0 Security BCP) 4.14.2. A refresh token that comes a second time means
that two parties hold it; nobody can tell which one is the thief, so the whole family ends.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from common.errors import Unauthorized
from user_service import audit
from user_service.models import AuthSession, RefreshToken, User
from user_service.throttle import address_group
from user_service.tokens import Identity, new_refresh_token, token_hash

SESSIONS_PER_USER_MAX = 100
USER_AGENT_LENGTH_MAX = 200
SESSION_LIFETIME_MAX = timedelta(days=30)
"""However often it is refreshed, a session ends this long after its sign-in (ASVS 5.0 7.3.2)."""


class SessionRevoked(Unauthorized):
    """The session has ended; sign in again."""

    def __init__(self) -> None:
        super().__init__("This session has ended; sign in again.")


class InvalidRefreshToken(Unauthorized):
    """Not a refresh token of ours, or its time is over."""

    def __init__(self) -> None:
        super().__init__("The refresh token is not valid; sign in again.")


class RefreshTokenReused(Unauthorized):
    """The token was exchanged before: its whole family is revoked."""

    def __init__(self) -> None:
        super().__init__("The refresh token was used before; for your safety this session has ended. Sign in again.")


@dataclass(frozen=True)
class Origin:
    """Where a request came from."""

    address: str
    user_agent: str = ""


@dataclass(frozen=True)
class Opened:
    """A session with a fresh refresh token, for which an access token may be signed."""

    identity: Identity
    refresh_token: str


@dataclass(frozen=True)
class SessionState:
    """A session and its account at this moment."""

    active: bool
    user_id: UUID | None = None
    roles: tuple[str, ...] = ()
    kyc: str | None = None
    status: str | None = None


def open_session(
    session: Session, user: User, *, mfa: bool, origin: Origin, now: datetime, lifetime: timedelta
) -> Opened:
    """Start a session for a user whose row the caller has locked; the oldest one beyond the limit ends."""
    _end_oldest(session, user.id, now)
    opened = AuthSession(
        user_id=user.id,
        mfa=mfa,
        address=address_group(origin.address),
        user_agent=origin.user_agent[:USER_AGENT_LENGTH_MAX],
        authenticated_at=now,
        refreshed_at=now,
        expires_at=now + lifetime,
    )
    session.add(opened)
    session.flush()
    return _with_new_token(session, opened, user, now)


def rotate(
    session: Session, presented: str, *, origin: Origin, now: datetime, lifetime: timedelta
) -> Opened | Unauthorized:
    """Exchange a refresh token for a new one, once.

    A refusal is returned, not raised: the revocation that comes with it must commit.
    """
    digest = token_hash(presented)
    session_id = session.scalar(select(RefreshToken.session_id).where(RefreshToken.token_hash == digest))
    if session_id is None:
        return InvalidRefreshToken()
    # The session's row is the lock of the family; only behind it can the token be judged.
    family = session.scalars(select(AuthSession).where(AuthSession.id == session_id).with_for_update()).one()
    token = session.get_one(RefreshToken, digest)
    if token.used_at is not None:
        if family.revoked_at is None:
            _revoke(family, "refresh_token_reused", now)
            audit.record_security_event(
                session,
                kind=audit.REFRESH_TOKEN_REUSED,
                user_id=family.user_id,
                address=origin.address,
                now=now,
                session_id=str(family.id),
            )
        return RefreshTokenReused()
    if family.revoked_at is not None:
        return SessionRevoked()
    if token.expires_at <= now:
        return InvalidRefreshToken()
    user = session.get_one(User, family.user_id)
    if user.status != "active":
        return SessionRevoked()
    token.used_at = now
    family.refreshed_at = now
    family.expires_at = min(now + lifetime, family.authenticated_at + SESSION_LIFETIME_MAX)
    return _with_new_token(session, family, user, now)


def revoke_session(session: Session, session_id: UUID, *, reason: str, now: datetime) -> None:
    """End a session; ending it again changes nothing."""
    session.execute(
        update(AuthSession)
        .where(AuthSession.id == session_id, AuthSession.revoked_at.is_(None))
        .values(revoked_at=now, revoked_reason=reason)
    )


def revoke_sessions(session: Session, user_id: UUID, *, reason: str, now: datetime, keep: UUID | None = None) -> int:
    """End all sessions of a user but `keep`; answers how many were live.

    The caller holds the lock on the user's row when a sign-in must not slip in between.
    """
    statement = update(AuthSession).where(AuthSession.user_id == user_id, AuthSession.revoked_at.is_(None))
    if keep is not None:
        statement = statement.where(AuthSession.id != keep)
    result = session.execute(statement.values(revoked_at=now, revoked_reason=reason).returning(AuthSession.id))
    return len(result.all())


def revoke_all(session: Session, *, reason: str, now: datetime) -> int:
    """End the sessions of everybody; answers how many were live. After a restore: what was ended since would live again."""
    statement = (
        update(AuthSession).where(AuthSession.revoked_at.is_(None)).values(revoked_at=now, revoked_reason=reason)
    )
    return len(session.execute(statement.returning(AuthSession.id)).all())


def state_of(session: Session, session_id: UUID, now: datetime) -> SessionState:
    """What is known now about a session; inactive when it ended, or its account is not active, or there is none."""
    row = session.execute(
        select(User.id, User.roles, User.kyc_status, User.status, AuthSession.revoked_at, AuthSession.expires_at)
        .join(AuthSession, AuthSession.user_id == User.id)
        .where(AuthSession.id == session_id)
    ).one_or_none()
    if row is None:
        return SessionState(active=False)
    active = row.revoked_at is None and row.expires_at > now and row.status == "active"
    return SessionState(active, row.id, tuple(row.roles), row.kyc_status, row.status)


def _end_oldest(session: Session, user_id: UUID, now: datetime) -> None:
    beyond = (
        select(AuthSession.id)
        .where(AuthSession.user_id == user_id, AuthSession.revoked_at.is_(None), AuthSession.expires_at > now)
        .order_by(AuthSession.refreshed_at.desc())
        .offset(SESSIONS_PER_USER_MAX - 1)
    )
    for session_id in session.scalars(beyond).all():
        revoke_session(session, session_id, reason="too_many_sessions", now=now)


def _with_new_token(session: Session, family: AuthSession, user: User, now: datetime) -> Opened:
    refresh_token = new_refresh_token()
    session.add(
        RefreshToken(
            token_hash=token_hash(refresh_token), session_id=family.id, issued_at=now, expires_at=family.expires_at
        )
    )
    session.flush()
    identity = Identity(user.id, family.id, tuple(user.roles), user.email, family.mfa, user.kyc_status)
    return Opened(identity, refresh_token)


def _revoke(family: AuthSession, reason: str, now: datetime) -> None:
    family.revoked_at = now
    family.revoked_reason = reason
