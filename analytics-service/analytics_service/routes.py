"""/api/v1/analytics: a user's own summary, and the platform's for operators."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from analytics_service.schemas import PlatformAnalytics, UserAnalytics
from analytics_service.summaries import TOP_DEFAULT, TOP_MAX, platform_summary, user_summary
from common.auth import OpsUser, User, require_role
from common.clock import DayInput
from common.db import SessionDep
from common.dependencies import ClockDep
from common.errors import NotFound

router = APIRouter(prefix="/api/v1/analytics", tags=["analytics"])

OPERATOR_ROLES = frozenset({"ops", "admin"})
_operator = require_role(*OPERATOR_ROLES)


class UserNotFound(NotFound):
    """Absent, or somebody else."""


def _subject(
    request: Request,
    user: User,
    user_id: Annotated[UUID | None, Query(description="Whose summary; default: the caller's own.")] = None,
) -> UUID:
    """Whose summary is asked for: one's own, or anybody's for operators; raises UserNotFound."""
    if user_id is None or user_id == user.user_id:
        return user.user_id
    if not user.roles & OPERATOR_ROLES:
        raise UserNotFound("There is no such user.")
    _operator(request, user)  # refuses an operator without the second factor where one is mandatory
    return user_id


@router.get("")
def summary(session: SessionDep, clock: ClockDep, subject: Annotated[UUID, Depends(_subject)]) -> UserAnalytics:
    """Deposits, trades, charges, orders by status and shares of one user."""
    return UserAnalytics.of(user_summary(session, subject), clock.now())


@router.get("/platform")
def platform(
    session: SessionDep,
    clock: ClockDep,
    _: OpsUser,
    since: Annotated[DayInput | None, Query(description="First trading day; default: all days.")] = None,
    top: Annotated[int, Query(ge=1, le=TOP_MAX, description="How many shares and reasons at most.")] = TOP_DEFAULT,
) -> PlatformAnalytics:
    """What all users did together; for operators."""
    return PlatformAnalytics.of(platform_summary(session, since=since, top=top), clock.now())
