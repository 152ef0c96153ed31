"""Tables of notification-service: what users were told in the app."""

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import Index, MetaData, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from common import catching_up, outbox
from common.db import NAMING, UtcDateTime


class Base(DeclarativeBase):
    """All tables of this room."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: UtcDateTime()}  # noqa: RUF012


outbox.add_tables(Base.metadata)
catching_up.add_tables(Base.metadata)

NOT_DELETED = text("deleted_at IS NULL")
UNREAD = text("read_at IS NULL AND deleted_at IS NULL")


class Notification(Base):
    """One message to one user. A deleted one keeps its row: its cause must not be told again."""

    __tablename__ = "notification"
    __table_args__ = (
        Index("ix_notification_user_newest", "user_id", "occurred_at", "notification_id", postgresql_where=NOT_DELETED),
        Index("ix_notification_unread", "user_id", postgresql_where=UNREAD),
    )

    notification_id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    user_id: Mapped[UUID]
    cause: Mapped[str] = mapped_column(Text, unique=True)
    """The fact it tells (texts.Notice.cause)."""
    kind: Mapped[str] = mapped_column(Text)
    title: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)
    subject: Mapped[dict[str, str]] = mapped_column(JSONB)
    """Ids of what it is about, so that a client can open it."""
    occurred_at: Mapped[datetime]
    read_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
