"""The inbox in the app: list what a user was told, mark it read, remove it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, tuple_, update
from sqlalchemy.orm import Session

from common.errors import NotFound, Unprocessable
from notification_service.models import Delivery, Notification

PAGE_DEFAULT = 50
PAGE_MAX = 200


class NotificationNotFound(NotFound):
    """Absent, deleted, or somebody else's."""


class CursorInvalid(Unprocessable):
    """The cursor is not one that a page of this user ended with."""


@dataclass(frozen=True)
class Page:
    """Notifications, newest first, and where the next page starts (None: there is none)."""

    items: Sequence[Notification]
    next_cursor: UUID | None


def _own(user_id: UUID) -> tuple[ColumnElement[bool], ...]:
    return Notification.user_id == user_id, Notification.deleted_at.is_(None), Notification.in_app.is_(True)


def newest(
    session: Session, user_id: UUID, *, unread_only: bool = False, cursor: UUID | None = None, limit: int = PAGE_DEFAULT
) -> Page:
    """A page of the user's notifications, newest first, after the one that `cursor` names.

    Raises CursorInvalid when the user never had that notification; one deleted meanwhile still marks its place.
    """
    # Ties of the instant are ordered by id, so that no page loses or repeats a row.
    position = tuple_(Notification.occurred_at, Notification.notification_id)
    statement = select(Notification).where(*_own(user_id))
    if unread_only:
        statement = statement.where(Notification.read_at.is_(None))
    if cursor is not None:
        last = session.execute(
            select(Notification.occurred_at, Notification.notification_id).where(
                Notification.notification_id == cursor, Notification.user_id == user_id
            )
        ).first()
        if last is None:
            raise CursorInvalid("The cursor is unknown; start again without one.")
        statement = statement.where(position < tuple_(last.occurred_at, last.notification_id))
    statement = statement.order_by(Notification.occurred_at.desc(), Notification.notification_id.desc())
    rows = session.scalars(statement.limit(limit + 1)).all()
    items = rows[:limit]
    return Page(items, items[-1].notification_id if len(rows) > limit else None)


def one(session: Session, user_id: UUID, notification_id: UUID) -> tuple[Notification, Sequence[Delivery]]:
    """One of the user's notifications and its way through the other channels. Raises NotificationNotFound."""
    statement = select(Notification).where(Notification.notification_id == notification_id, *_own(user_id))
    found = session.scalars(statement).one_or_none()
    if found is None:
        raise NotificationNotFound("You have no such notification.")
    ways = select(Delivery).where(Delivery.notification_id == notification_id)
    return found, session.scalars(ways.order_by(Delivery.channel, Delivery.delivery_id)).all()


def unread_count(session: Session, user_id: UUID) -> int:
    """How many notifications the user has not read."""
    statement = select(func.count()).select_from(Notification).where(*_own(user_id), Notification.read_at.is_(None))
    return session.execute(statement).scalar_one()


def _change(session: Session, user_id: UUID, notification_id: UUID, **values: Any) -> Notification:
    statement = (
        update(Notification)
        .where(Notification.notification_id == notification_id, *_own(user_id))
        .values(**values)
        .returning(Notification)
    )
    changed = session.scalars(statement).one_or_none()
    if changed is None:
        raise NotificationNotFound("You have no such notification.")
    return changed


def mark_read(session: Session, user_id: UUID, notification_id: UUID, now: datetime) -> Notification:
    """Mark one as read; the first reading keeps its instant. Raises NotificationNotFound."""
    return _change(session, user_id, notification_id, read_at=func.coalesce(Notification.read_at, now))


def mark_all_read(session: Session, user_id: UUID, now: datetime) -> int:
    """Mark all unread ones as read; answers how many there were."""
    statement = update(Notification).where(*_own(user_id), Notification.read_at.is_(None)).values(read_at=now)
    return session.execute(statement).rowcount  # type: ignore[attr-defined]


def remove(session: Session, user_id: UUID, notification_id: UUID, now: datetime) -> None:
    """Take one out of the user's list for good. Raises NotificationNotFound."""
    _change(session, user_id, notification_id, deleted_at=now)
