"""Tables of notification-service: what users were told in the app, and every message on its way to somebody."""

from datetime import datetime, time
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    Text,
    UniqueConstraint,
    false,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from common import catching_up, idempotency, outbox
from common.db import NAMING, Paise, UtcDateTime
from notification_service.delivery_states import Status
from notification_service.kinds import OUTSIDE


class Base(DeclarativeBase):
    """All tables of this room."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: UtcDateTime(), dict[str, Any]: JSONB}  # noqa: RUF012


outbox.add_tables(Base.metadata)
catching_up.add_tables(Base.metadata)
idempotency.add_tables(Base.metadata)

NOT_DELETED = text("deleted_at IS NULL")
UNREAD = text("read_at IS NULL AND deleted_at IS NULL")
EMPTY = text("'{}'::jsonb")
NOBODY = UUID(int=0)
"""The receiver of what goes to the operators' common chat; also the contact point of a channel that needs none of ours."""


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"


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
    """The fact it tells (facts.Fact.cause); with the receiver's id where a fact has several."""
    kind: Mapped[str] = mapped_column(Text)
    title: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)
    subject: Mapped[dict[str, str]] = mapped_column(JSONB)
    """Ids of what it is about, so that a client can open it."""
    data: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY)
    """What its mail is written from."""
    in_app: Mapped[bool] = mapped_column(server_default=true())
    """Whether it is in the user's inbox in the app."""
    occurred_at: Mapped[datetime]
    read_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]


class Delivery(Base):
    """One notification on its way through one channel to one place; the row decides, messages only wake."""

    __tablename__ = "delivery"
    __table_args__ = (
        # One notification per fact, channel and place, whatever is redelivered.
        UniqueConstraint("notification_id", "channel", "contact_id"),
        CheckConstraint(_one_of("channel", OUTSIDE), name="channel"),
        CheckConstraint(_one_of("status", tuple(Status)), name="status"),
        CheckConstraint("(status = 'sending') = (lease_until IS NOT NULL)", name="lease"),
        Index("ix_delivery_due", "channel", "due_at", postgresql_where=text("status = 'queued' AND NOT digest")),
        Index("ix_delivery_digest", "user_id", "due_at", postgresql_where=text("status = 'queued' AND digest")),
        Index("ix_delivery_sending", "lease_until", postgresql_where=text("status = 'sending'")),
        Index("ix_delivery_newest", "created_at", "delivery_id"),
        Index("ix_delivery_user_newest", "user_id", "created_at", "delivery_id"),
    )

    delivery_id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    notification_id: Mapped[UUID] = mapped_column(ForeignKey("notification.notification_id"))
    user_id: Mapped[UUID]
    kind: Mapped[str] = mapped_column(Text)
    channel: Mapped[str] = mapped_column(Text)
    contact_id: Mapped[UUID]
    """The contact point; NOBODY where the address is known elsewhere."""
    provider: Mapped[str] = mapped_column(Text)
    """Whose outage would stop it: rows of one provider share a circuit."""
    status: Mapped[str] = mapped_column(Text, default=Status.QUEUED)
    digest: Mapped[bool] = mapped_column(server_default=false())
    """Waits for the daily summary."""
    due_at: Mapped[datetime]
    give_up_at: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(default=0)
    """Attempts made, however they ended; the number of the last one."""
    tries: Mapped[int] = mapped_column(default=0)
    """Attempts that count against the limit: those made while the provider answered others."""
    unknowns: Mapped[int] = mapped_column(default=0)
    """Attempts of which nobody knows whether the provider took them."""
    lease_until: Mapped[datetime | None]
    provider_id: Mapped[str | None] = mapped_column(Text)
    error_code: Mapped[str | None] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)
    merged_into: Mapped[UUID | None] = mapped_column(ForeignKey("notification.notification_id"))
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class DeliveryAttempt(Base):
    """One call to a provider; `outcome` is empty while it is under way."""

    __tablename__ = "delivery_attempt"
    __table_args__ = (UniqueConstraint("delivery_id", "number"),)

    attempt_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    delivery_id: Mapped[UUID] = mapped_column(ForeignKey("delivery.delivery_id"))
    number: Mapped[int]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(Text)
    provider_id: Mapped[str | None] = mapped_column(Text)
    error_code: Mapped[str | None] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)


class Circuit(Base):
    """How a provider does: after some failures in a row it is left alone until `open_until`, then asked with one message."""

    __tablename__ = "circuit"

    provider: Mapped[str] = mapped_column(Text, primary_key=True)
    failures: Mapped[int] = mapped_column(default=0)
    """Failures in a row."""
    open_until: Mapped[datetime | None]
    error_code: Mapped[str | None] = mapped_column(Text)
    changed_at: Mapped[datetime]


class Preference(Base):
    """What a user has chosen; users without a row have the defaults."""

    __tablename__ = "preference"

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    channels: Mapped[dict[str, Any]]
    """`{kind: {channel: on}}`, only where it differs from the default."""
    quiet_start: Mapped[time | None]
    quiet_end: Mapped[time | None]
    digest_at: Mapped[time | None]
    digest_kinds: Mapped[list[str]] = mapped_column(JSONB)
    updated_at: Mapped[datetime]


class ContactPoint(Base):
    """A phone, a device or a chat of a user; the address itself is sealed."""

    __tablename__ = "contact_point"
    __table_args__ = (
        CheckConstraint("channel IN ('sms', 'push', 'web_push', 'chat')", name="channel"),
        Index(
            "uq_contact_point_live",
            "user_id",
            "channel",
            "fingerprint",
            unique=True,
            postgresql_where=text("removed_at IS NULL"),
        ),
    )

    contact_id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    user_id: Mapped[UUID]
    channel: Mapped[str] = mapped_column(Text)
    label: Mapped[str] = mapped_column(Text)
    masked: Mapped[str] = mapped_column(Text)
    sealed: Mapped[str] = mapped_column(Text)
    fingerprint: Mapped[str] = mapped_column(Text)
    """Keyed hash of the address: the same one is not added twice."""
    codes: Mapped[int] = mapped_column(default=0)
    """Verification codes sent so far; the newest one counts."""
    code_sent_at: Mapped[datetime | None]
    wrong_codes: Mapped[int] = mapped_column(default=0)
    verified_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]
    removed_why: Mapped[str | None] = mapped_column(Text)


class Alarm(Base):
    """A fact for whoever operates the platform at that time; told in two independent steps."""

    __tablename__ = "alarm"
    __table_args__ = (
        Index("ix_alarm_untold", "due_at", postgresql_where=text("admins_told_at IS NULL OR chat_told_at IS NULL")),
    )

    alarm_id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    cause: Mapped[str] = mapped_column(Text, unique=True)
    kind: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]]
    subject: Mapped[dict[str, Any]]
    occurred_at: Mapped[datetime]
    due_at: Mapped[datetime]
    admins_told_at: Mapped[datetime | None]
    chat_told_at: Mapped[datetime | None]


class PriceAlert(Base):
    """A level of a share's price that a user wants to hear of."""

    __tablename__ = "price_alert"
    __table_args__ = (
        CheckConstraint("direction IN ('above', 'below')", name="direction"),
        CheckConstraint("level_paise > 0", name="level"),
        Index("ix_price_alert_active", "exchange", "tradingsymbol", postgresql_where=text("ended_at IS NULL")),
        Index("ix_price_alert_user", "user_id", "created_at", "alert_id"),
    )

    alert_id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    user_id: Mapped[UUID]
    exchange: Mapped[str] = mapped_column(Text)
    tradingsymbol: Mapped[str] = mapped_column(Text)
    direction: Mapped[str] = mapped_column(Text)
    level_paise: Mapped[int] = mapped_column(Paise)
    repeats: Mapped[bool]
    cooldown_s: Mapped[int]
    armed: Mapped[bool] = mapped_column(server_default=true())
    """A repeating alert that has fired waits until the price has been on the other side again."""
    firings: Mapped[int] = mapped_column(server_default=text("0"))
    fired_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    """One-shot: when it fired; otherwise when its user removed it."""
    removed_at: Mapped[datetime | None]
