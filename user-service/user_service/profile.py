"""What users see and change about themselves."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Result, func, select
from sqlalchemy.orm import Session

from common.audit import audit_log
from user_service import administration, attempts, two_factor
from user_service.audit import EVENTS, LOGIN_FAILED, LOGIN_TOTP_INVALID, SUSPICIOUS
from user_service.context import Room
from user_service.models import AuthSession, LoginAttempt, LoginThrottle, User
from user_service.password_change import confirm_password, locked_user
from user_service.sessions import Origin

STATS_DAYS = 30


@dataclass(frozen=True)
class AccountStats:
    """Figures about an account."""

    member_since: datetime
    last_login_at: datetime | None
    login_count: int
    failed_logins_30d: int
    active_sessions: int
    totp_enabled: bool


@dataclass(frozen=True)
class SecurityMetrics:
    """Figures about attacks and failures over the last 24 hours."""

    logins: dict[str, int]
    events: dict[str, int]
    suspicious: int
    throttled_subjects: int
    refused_attempts: int
    active_sessions: int


def stats(session: Session, user_id: UUID, now: datetime) -> AccountStats:
    """Figures about one account."""
    user = session.get_one(User, user_id)
    failed = select(func.count()).where(
        LoginAttempt.user_id == user_id,
        LoginAttempt.outcome.in_((LOGIN_FAILED, LOGIN_TOTP_INVALID)),
        LoginAttempt.at > now - timedelta(days=STATS_DAYS),
    )
    live = select(func.count()).where(
        AuthSession.user_id == user_id, AuthSession.revoked_at.is_(None), AuthSession.expires_at > now
    )
    return AccountStats(
        member_since=user.created_at,
        last_login_at=user.last_login_at,
        login_count=user.login_count,
        failed_logins_30d=session.scalar(failed) or 0,
        active_sessions=session.scalar(live) or 0,
        totp_enabled=two_factor.is_enabled(session, user_id),
    )


def security_metrics(session: Session, now: datetime) -> SecurityMetrics:
    """Figures for the security page of administrators."""
    since = now - timedelta(days=1)
    logins = session.execute(
        select(LoginAttempt.outcome, func.count()).where(LoginAttempt.at > since).group_by(LoginAttempt.outcome)
    )
    events = session.execute(
        select(audit_log.c.action, func.count())
        .where(audit_log.c.at > since, audit_log.c.actor_kind.in_(EVENTS))
        .group_by(audit_log.c.action)
    )
    by_kind = _counts(events)
    throttled = session.scalar(select(func.count()).where(LoginThrottle.locked_until > now))
    refused = session.scalar(
        select(func.coalesce(func.sum(LoginThrottle.refused_attempts), 0)).where(LoginThrottle.last_attempt_at > since)
    )
    live = session.scalar(select(func.count()).where(AuthSession.revoked_at.is_(None), AuthSession.expires_at > now))
    return SecurityMetrics(
        logins=_counts(logins),
        events=by_kind,
        suspicious=sum(count for kind, count in by_kind.items() if kind in SUSPICIOUS),
        throttled_subjects=throttled or 0,
        refused_attempts=int(refused or 0),
        active_sessions=live or 0,
    )


def _counts(rows: Result[str, int]) -> dict[str, int]:
    return dict(rows.all())


def update_profile(session: Session, user_id: UUID, *, full_name: str, phone: str | None, now: datetime) -> User:
    """Replace what the user may change."""
    user = session.get_one(User, user_id)
    user.full_name = full_name
    user.phone = phone
    user.updated_at = now
    return user


def close_account(room: Room, *, user_id: UUID, password: str, origin: Origin) -> None:
    """Close the caller's account for good; raises WrongPassword, TooManyAttempts, LoginBusy, LastAdmin."""
    confirmed = confirm_password(room, user_id, password, origin)
    with room.db.transaction() as session:
        administration.lock_active_admins(session)
        attempts.forgive(session, confirmed.attempt)
        user = locked_user(session, user_id, confirmed)
        administration.close_own_account(session, user, origin=origin, now=room.now())
