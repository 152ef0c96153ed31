"""Administrators' view of users: /admin/users, and the figures at /security/metrics."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from common.db import SessionDep
from user_service import administration, kyc_review, profile, two_factor
from user_service.access import Admin, OriginDep, RoomDep
from user_service.account_states import AccountStatus, KycStatus, Role
from user_service.emails import EMAIL_LENGTH_MAX
from user_service.schemas import (
    AdminActionAnswer,
    AdminActionPage,
    AdminUserAnswer,
    KycAnswer,
    KycDecisionBody,
    RolesBody,
    SecurityMetricsAnswer,
    StatusBody,
    UserAnswer,
    UserPage,
    user_fields,
)

router = APIRouter(prefix="/api/v1", tags=["admin"])

PAGE_MAX = 10_000
PAGE_SIZE_MAX = 100

Page = Annotated[int, Query(ge=1, le=PAGE_MAX)]
PageSize = Annotated[int, Query(ge=1, le=PAGE_SIZE_MAX)]
# Printable ASCII and everything above it that is a letter, digit or mark: no control characters reach the database.
EmailPart = Annotated[str, Query(min_length=1, max_length=EMAIL_LENGTH_MAX, pattern=r"^[^\x00-\x1f\x7f]+$")]


def _answer(session: SessionDep, user_id: UUID) -> AdminUserAnswer:
    user, record = administration.get_user(session, user_id)
    return AdminUserAnswer(
        **user_fields(user),
        last_login_at=user.last_login_at,
        login_count=user.login_count,
        totp_enabled=two_factor.is_enabled(session, user_id),
        kyc=KycAnswer.of(user.kyc_status, record),
    )


@router.get("/admin/users")
def list_users(
    _: Admin,
    session: SessionDep,
    email: EmailPart | None = None,
    kyc_status: KycStatus | None = None,
    status: AccountStatus | None = None,
    role: Role | None = None,
    page: Page = 1,
    page_size: PageSize = 50,
) -> UserPage:
    """Users, newest first; `email` matches any part of the address."""
    users, total = administration.find_users(
        session, email=email, kyc_status=kyc_status, status=status, role=role, page=page, page_size=page_size
    )
    return UserPage(items=[UserAnswer.of(user) for user in users], page=page, page_size=page_size, total=total)


@router.get("/admin/users/{user_id}")
def get_user(user_id: UUID, _: Admin, session: SessionDep) -> AdminUserAnswer:
    """One user with the KYC handed in (PAN masked)."""
    return _answer(session, user_id)


@router.get("/admin/users/{user_id}/actions")
def list_actions(
    user_id: UUID, _: Admin, session: SessionDep, page: Page = 1, page_size: PageSize = 50
) -> AdminActionPage:
    """What administrators did to a user, newest first."""
    rows, total = administration.actions_on(session, user_id, page=page, page_size=page_size)
    items = [AdminActionAnswer.of(row) for row in rows]
    return AdminActionPage(items=items, page=page, page_size=page_size, total=total)


@router.put("/admin/users/{user_id}/kyc-status")
@router.put("/users/{user_id}/kyc-status", include_in_schema=False)
def decide_kyc(
    user_id: UUID, body: KycDecisionBody, admin: Admin, session: SessionDep, room: RoomDep, origin: OriginDep
) -> AdminUserAnswer:
    """Approve or reject a KYC; a rejection needs a reason. 409 `kyc_transition_refused`."""
    kyc_review.decide(
        session,
        user_id=user_id,
        status=body.status,
        reason=body.reason,
        actor_id=admin.user_id,
        origin=origin,
        now=room.now(),
    )
    return _answer(session, user_id)


@router.put("/admin/users/{user_id}/status")
def set_status(
    user_id: UUID, body: StatusBody, admin: Admin, session: SessionDep, room: RoomDep, origin: OriginDep
) -> AdminUserAnswer:
    """Suspend, reactivate or close an account. 409 `account_transition_refused`, `last_admin`."""
    administration.set_status(
        session,
        user_id=user_id,
        status=body.status,
        reason=body.reason,
        actor_id=admin.user_id,
        origin=origin,
        now=room.now(),
    )
    return _answer(session, user_id)


@router.put("/admin/users/{user_id}/roles")
def set_roles(
    user_id: UUID, body: RolesBody, admin: Admin, session: SessionDep, room: RoomDep, origin: OriginDep
) -> AdminUserAnswer:
    """Give a user exactly these roles. 409 `last_admin`."""
    administration.set_roles(
        session,
        user_id=user_id,
        roles=frozenset(body.roles),
        actor_id=admin.user_id,
        origin=origin,
        now=room.now(),
    )
    return _answer(session, user_id)


@router.get("/security/metrics")
def security_metrics(_: Admin, session: SessionDep, room: RoomDep) -> SecurityMetricsAnswer:
    """Sign-ins, security events and refusals of the last 24 hours."""
    return SecurityMetricsAnswer.model_validate(profile.security_metrics(session, room.now()), from_attributes=True)
