"""Answers of the notification routes. Instants are shown in Indian time."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, PlainSerializer

from common.clock import to_ist
from notification_service.texts import Kind

IstDateTime = Annotated[datetime, PlainSerializer(lambda instant: to_ist(instant).isoformat(), return_type=str)]


class NotificationView(BaseModel):
    """One notification as its user sees it."""

    model_config = ConfigDict(from_attributes=True)

    notification_id: UUID
    kind: Kind
    title: str
    text: str
    subject: dict[str, str]
    """Ids of what it is about: order_id, portfolio_id, transfer_id."""
    occurred_at: IstDateTime
    read_at: IstDateTime | None


class NotificationPage(BaseModel):
    """Newest first; ask for the rest with `cursor=<next_cursor>`."""

    model_config = ConfigDict(from_attributes=True)

    items: list[NotificationView]
    next_cursor: UUID | None


class UnreadCount(BaseModel):
    """How many notifications wait to be read."""

    unread: int


class MarkedRead(BaseModel):
    """How many notifications became read."""

    marked: int
