"""What administrators do to accounts: find them, suspend or close them, give and take roles. Each change is recorded."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from common.audit import audit_log
from common.errors import Conflict, NotFound
from user_service import audit
from user_service.account_states import check_account_transition
from user_service.emails import email_key
from user_service.models import KycRecord, User
from user_service.sessions import Origin, revoke_sessions


class LastAdmin(Conflict):
    """The platform must not lose its last active administrator."""

    def __init__(self) -> None:
        super().__init__("This is the last active administrator; make another one first.")


def find_users(
    session: Session,
    *,
    email: str | None,
    kyc_status: str | None,
    status: str | None,
    role: str | None,
    page: int,
    page_size: int,
) -> tuple[Sequence[User], int]:
    """One page of users, newest first, and how many match; `email` matches any part of the address."""
    statement = select(User)
    if email:
        statement = statement.where(User.email_key.contains(email_key(email), autoescape=True))
    if kyc_status:
        statement = statement.where(User.kyc_status == kyc_status)
    if status:
        statement = statement.where(User.status == status)
    if role:
        statement = statement.where(User.roles.contains([role]))
    total = session.scalar(select(func.count()).select_from(statement.subquery())) or 0
    ordered = statement.order_by(User.created_at.desc(), User.id).limit(page_size).offset((page - 1) * page_size)
    return session.scalars(ordered).all(), total


def get_user(session: Session, user_id: UUID) -> tuple[User, KycRecord | None]:
    """A user and the KYC handed in last; raises NotFound."""
    user = session.get(User, user_id)
    if user is None:
        raise NotFound("There is no user with this id.")
    return user, session.get(KycRecord, user_id)


def actions_on(session: Session, user_id: UUID, *, page: int, page_size: int) -> tuple[Sequence[Any], int]:
    """One page of what the audit log says administrators did to a user, newest first, and how much there is.

    Raises NotFound.
    """
    get_user(session, user_id)
    statement = select(audit_log).where(
        audit_log.c.target == audit.target_of(user_id), audit_log.c.actor_kind.in_(audit.ACTIONS)
    )
    total = session.scalar(select(func.count()).select_from(statement.subquery())) or 0
    ordered = statement.order_by(audit_log.c.at.desc(), audit_log.c.id.desc())
    return session.execute(ordered.limit(page_size).offset((page - 1) * page_size)).all(), total


def set_status(
    session: Session, *, user_id: UUID, status: str, reason: str | None, actor_id: UUID, origin: Origin, now: datetime
) -> User:
    """Suspend, reactivate or close an account; every session of one that is not active ends.

    Raises NotFound, AccountTransitionRefused, LastAdmin.
    """
    user = _locked(session, user_id)
    before = user.status
    check_account_transition(before, status)
    if status != "active":
        _check_not_last_admin(session, user)
    change_status(session, user, status, now)
    audit.record_admin_action(
        session,
        actor_id=actor_id,
        action="status_set",
        target=user_id,
        address=origin.address,
        now=now,
        before=before,
        after=status,
        reason=reason,
    )
    return user


def close_own_account(session: Session, user: User, *, origin: Origin, now: datetime) -> None:
    """Close the account of a locked user at their own wish; raises AccountTransitionRefused, LastAdmin."""
    check_account_transition(user.status, "closed")
    _check_not_last_admin(session, user)
    change_status(session, user, "closed", now)
    audit.record_security_event(session, kind=audit.ACCOUNT_CLOSED, user_id=user.id, address=origin.address, now=now)


def change_status(session: Session, user: User, status: str, now: datetime) -> None:
    """Move a locked user to a status that the transition table allows."""
    user.status = status
    user.updated_at = now
    if status != "active":
        revoke_sessions(session, user.id, reason=f"account_{status}", now=now)
    if status == "closed":
        session.execute(update(KycRecord).where(KycRecord.user_id == user.id).values(holds_pan=False))


def set_roles(
    session: Session, *, user_id: UUID, roles: frozenset[str], actor_id: UUID, origin: Origin, now: datetime
) -> User:
    """Give a user exactly these roles; taking one away ends the user's sessions, whose tokens still carry it.

    Raises NotFound, LastAdmin.
    """
    user = _locked(session, user_id)
    before = frozenset(user.roles)
    if "admin" in before - roles:
        _check_not_last_admin(session, user)
    user.roles = sorted(roles)
    user.updated_at = now
    if before - roles:
        revoke_sessions(session, user_id, reason="roles_reduced", now=now)
    audit.record_admin_action(
        session,
        actor_id=actor_id,
        action="roles_set",
        target=user_id,
        address=origin.address,
        now=now,
        before=sorted(before),
        after=sorted(roles),
    )
    return user


def _locked(session: Session, user_id: UUID) -> User:
    # All administrators first and in one order: two of them taking each other's role away must not both succeed.
    lock_active_admins(session)
    user = session.scalars(
        select(User).where(User.id == user_id).with_for_update().execution_options(populate_existing=True)
    ).one_or_none()
    if user is None:
        raise NotFound("There is no user with this id.")
    return user


def lock_active_admins(session: Session) -> set[UUID]:
    """Lock the rows of all active administrators (before any other user's row) and answer their ids."""
    statement = (
        select(User.id)
        .where(User.roles.contains(["admin"]), User.status == "active")
        .order_by(User.id)
        .with_for_update()
    )
    return set(session.scalars(statement).all())


def _check_not_last_admin(session: Session, user: User) -> None:
    if "admin" in user.roles and user.status == "active" and not lock_active_admins(session) - {user.id}:
        raise LastAdmin
