"""What this room may delete when it is old: notifications whose deliveries have all ended."""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common.retention import ANSWERED_KEYS, Rule
from notification_service.delivery_states import Status
from notification_service.models import Delivery, DeliveryAttempt, Notification

_OPEN = (Status.QUEUED, Status.SENDING)


def _outdated(before: datetime) -> sa.Select[UUID]:
    # A daily summary stays as long as what it has told points at it.
    merged = sa.exists().where(Delivery.merged_into == Notification.notification_id)
    waiting = sa.exists().where(Delivery.notification_id == Notification.notification_id, Delivery.status.in_(_OPEN))
    return sa.select(Notification.notification_id).where(Notification.occurred_at < before, ~waiting, ~merged)


def _count(session: Session, before: datetime) -> int:
    return session.scalar(sa.select(sa.func.count()).select_from(_outdated(before).subquery())) or 0


def _delete(session: Session, before: datetime, limit: int) -> int:
    ids = session.scalars(_outdated(before).limit(limit).with_for_update(skip_locked=True)).all()
    if not ids:
        return 0
    deliveries = sa.select(Delivery.delivery_id).where(Delivery.notification_id.in_(ids))
    session.execute(sa.delete(DeliveryAttempt).where(DeliveryAttempt.delivery_id.in_(deliveries)))
    session.execute(sa.delete(Delivery).where(Delivery.notification_id.in_(ids)))
    session.execute(sa.delete(Notification).where(Notification.notification_id.in_(ids)))
    return len(ids)


RULES = (
    # Longer than a message can come again (common.retention): a deleted row would let its cause be told a second time.
    Rule("notifications", "notifications with ended deliveries", 365, 90, _count, _delete),
    ANSWERED_KEYS,
)
