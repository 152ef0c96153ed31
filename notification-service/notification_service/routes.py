"""/api/v1/notifications: what the caller was told in the app."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, status

from common.auth import User
from common.db import SessionDep
from common.dependencies import ClockDep
from notification_service import service
from notification_service.schemas import (
    DeliveryState,
    MarkedRead,
    NotificationDetail,
    NotificationPage,
    NotificationView,
    UnreadCount,
)

router = APIRouter(prefix="/api/v1/notifications", tags=["notifications"])


@router.get("")
def list_notifications(
    session: SessionDep,
    user: User,
    unread: Annotated[bool, Query(description="Only those not read yet.")] = False,
    cursor: Annotated[UUID | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=service.PAGE_MAX)] = service.PAGE_DEFAULT,
) -> NotificationPage:
    """The caller's notifications, newest first."""
    page = service.newest(session, user.user_id, unread_only=unread, cursor=cursor, limit=limit)
    return NotificationPage.model_validate(page)


@router.get("/unread-count")
def count_unread(session: SessionDep, user: User) -> UnreadCount:
    """How many of the caller's notifications are unread."""
    return UnreadCount(unread=service.unread_count(session, user.user_id))


@router.put("/read-all")
def read_all(session: SessionDep, user: User, clock: ClockDep) -> MarkedRead:
    """Mark all of the caller's notifications as read."""
    return MarkedRead(marked=service.mark_all_read(session, user.user_id, clock.now()))


@router.get("/{notification_id}")
def get_one(notification_id: UUID, session: SessionDep, user: User) -> NotificationDetail:
    """One notification, and how far it has come through the other channels."""
    found, ways = service.one(session, user.user_id, notification_id)
    shown = NotificationView.model_validate(found)
    return NotificationDetail(
        **shown.model_dump(exclude={"occurred_at", "read_at"}),
        occurred_at=found.occurred_at,
        read_at=found.read_at,
        deliveries=[DeliveryState.model_validate(way) for way in ways],
    )


@router.put("/{notification_id}/read")
def read_one(notification_id: UUID, session: SessionDep, user: User, clock: ClockDep) -> NotificationView:
    """Mark one notification as read; repeating it changes nothing."""
    return NotificationView.model_validate(service.mark_read(session, user.user_id, notification_id, clock.now()))


@router.delete("/{notification_id}", status_code=status.HTTP_204_NO_CONTENT)
def delete_one(notification_id: UUID, session: SessionDep, user: User, clock: ClockDep) -> None:
    """Remove one notification from the caller's list."""
    service.remove(session, user.user_id, notification_id, clock.now())
