"""Deliveries: messages that leave the platform, where they go, when they may, and what providers said.

Revision 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from common import idempotency

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
ONE_OF = "{} IN ({})"
CHANNELS = "'email', 'sms', 'push', 'web_push', 'chat'"
STATUSES = "'queued', 'sending', 'sent', 'delivered', 'failed', 'gave_up', 'merged'"


def upgrade() -> None:
    """Additions only: the release before writes notifications without the new columns and does not see the tables."""
    op.add_column("notification", sa.Column("data", JSONB(), nullable=False, server_default=sa.text("'{}'::jsonb")))
    op.add_column("notification", sa.Column("in_app", sa.Boolean(), nullable=False, server_default=sa.true()))
    _deliveries()
    _people()
    _alarms_and_alerts()
    idempotency.create_tables(op)


def _deliveries() -> None:
    op.create_table(
        "delivery",
        sa.Column("delivery_id", sa.Uuid(), nullable=False),
        sa.Column("notification_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("contact_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("digest", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("give_up_at", INSTANT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("unknowns", sa.Integer(), nullable=False),
        sa.Column("lease_until", INSTANT, nullable=True),
        sa.Column("provider_id", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("merged_into", sa.Uuid(), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("sent_at", INSTANT, nullable=True),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_delivery")),
        sa.ForeignKeyConstraint(
            ["notification_id"], ["notification.notification_id"], name=op.f("fk_delivery_notification_id")
        ),
        sa.ForeignKeyConstraint(
            ["merged_into"], ["notification.notification_id"], name=op.f("fk_delivery_merged_into")
        ),
        sa.UniqueConstraint(
            "notification_id", "channel", "contact_id", name=op.f("uq_delivery_notification_id_channel_contact_id")
        ),
        sa.CheckConstraint(ONE_OF.format("channel", CHANNELS), name=op.f("ck_delivery_channel")),
        sa.CheckConstraint(ONE_OF.format("status", STATUSES), name=op.f("ck_delivery_status")),
        sa.CheckConstraint("(status = 'sending') = (lease_until IS NOT NULL)", name=op.f("ck_delivery_lease")),
    )
    for name, columns, where in (
        ("ix_delivery_due", ["channel", "due_at"], "status = 'queued' AND NOT digest"),
        ("ix_delivery_digest", ["user_id", "due_at"], "status = 'queued' AND digest"),
        ("ix_delivery_sending", ["lease_until"], "status = 'sending'"),
        ("ix_delivery_newest", ["created_at", "delivery_id"], None),
        ("ix_delivery_user_newest", ["user_id", "created_at", "delivery_id"], None),
    ):
        op.create_index(name, "delivery", columns, postgresql_where=sa.text(where) if where else None)
    op.create_table(
        "delivery_attempt",
        sa.Column("attempt_id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("delivery_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("provider_id", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_delivery_attempt")),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["delivery.delivery_id"], name=op.f("fk_delivery_attempt_delivery_id")
        ),
        sa.UniqueConstraint("delivery_id", "number", name=op.f("uq_delivery_attempt_delivery_id_number")),
    )
    op.create_table(
        "circuit",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("open_until", INSTANT, nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("changed_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("provider", name=op.f("pk_circuit")),
    )


def _people() -> None:
    op.create_table(
        "preference",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("channels", JSONB(), nullable=False),
        sa.Column("quiet_start", sa.Time(), nullable=True),
        sa.Column("quiet_end", sa.Time(), nullable=True),
        sa.Column("digest_at", sa.Time(), nullable=True),
        sa.Column("digest_kinds", JSONB(), nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_preference")),
    )
    op.create_table(
        "contact_point",
        sa.Column("contact_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("masked", sa.Text(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("codes", sa.Integer(), nullable=False),
        sa.Column("code_sent_at", INSTANT, nullable=True),
        sa.Column("wrong_codes", sa.Integer(), nullable=False),
        sa.Column("verified_at", INSTANT, nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("removed_at", INSTANT, nullable=True),
        sa.Column("removed_why", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("contact_id", name=op.f("pk_contact_point")),
        sa.CheckConstraint("channel IN ('sms', 'push', 'web_push', 'chat')", name=op.f("ck_contact_point_channel")),
    )
    op.create_index(
        "uq_contact_point_live",
        "contact_point",
        ["user_id", "channel", "fingerprint"],
        unique=True,
        postgresql_where=sa.text("removed_at IS NULL"),
    )


def _alarms_and_alerts() -> None:
    op.create_table(
        "alarm",
        sa.Column("alarm_id", sa.Uuid(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("data", JSONB(), nullable=False),
        sa.Column("subject", JSONB(), nullable=False),
        sa.Column("occurred_at", INSTANT, nullable=False),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("admins_told_at", INSTANT, nullable=True),
        sa.Column("chat_told_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("alarm_id", name=op.f("pk_alarm")),
        sa.UniqueConstraint("cause", name=op.f("uq_alarm_cause")),
    )
    op.create_index(
        "ix_alarm_untold",
        "alarm",
        ["due_at"],
        postgresql_where=sa.text("admins_told_at IS NULL OR chat_told_at IS NULL"),
    )
    op.create_table(
        "price_alert",
        sa.Column("alert_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("tradingsymbol", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("level_paise", sa.BigInteger(), nullable=False),
        sa.Column("repeats", sa.Boolean(), nullable=False),
        sa.Column("cooldown_s", sa.Integer(), nullable=False),
        sa.Column("armed", sa.Boolean(), nullable=False, server_default=sa.true()),
        sa.Column("firings", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("fired_at", INSTANT, nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.Column("removed_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_price_alert")),
        sa.CheckConstraint("direction IN ('above', 'below')", name=op.f("ck_price_alert_direction")),
        sa.CheckConstraint("level_paise > 0", name=op.f("ck_price_alert_level")),
    )
    op.create_index(
        "ix_price_alert_active",
        "price_alert",
        ["exchange", "tradingsymbol"],
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index("ix_price_alert_user", "price_alert", ["user_id", "created_at", "alert_id"])


def downgrade() -> None:
    """Take it back."""
    idempotency.drop_tables(op)
    for table in (
        "price_alert", "alarm", "contact_point", "preference", "circuit", "delivery_attempt", "delivery",
    ):  # fmt: skip
        op.drop_table(table)
    op.drop_column("notification", "in_app")
    op.drop_column("notification", "data")
