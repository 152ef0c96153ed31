"""The executor's tables.

Revision 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from common.outbox import create_tables, drop_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_tables(op)
    op.create_table(
        "block",
        sa.Column("block_id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("tradingsymbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("order_type", sa.Text(), nullable=False),
        sa.Column("price_paise", sa.BigInteger(), nullable=True),
        sa.Column("trigger_price_paise", sa.BigInteger(), nullable=True),
        sa.Column("validity", sa.Text(), nullable=False),
        sa.Column("ttl_minutes", sa.Integer(), nullable=True),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("round_no", sa.Integer(), server_default="0", nullable=False),
        sa.Column("children_hash", sa.Text(), nullable=False),
        sa.Column("cancel_reason", sa.Text(), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('SEALED', 'WORKING', 'FROZEN', 'DONE')", name=op.f("ck_block_state")),
        sa.CheckConstraint("quantity > 0", name=op.f("ck_block_quantity_positive")),
        sa.PrimaryKeyConstraint("block_id", name=op.f("pk_block")),
    )
    op.create_index("ix_block_created_at", "block", ["created_at"], unique=False)
    op.create_index(
        "ix_block_live",
        "block",
        ["account", "exchange", "tradingsymbol"],
        unique=False,
        postgresql_where=sa.text("state <> 'DONE'"),
    )
    op.create_table(
        "broker_account",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("broker", sa.Text(), nullable=False),
        sa.Column("api_key", sa.Text(), nullable=False),
        sa.Column("api_secret_sealed", sa.Text(), nullable=False),
        sa.Column("root_url", sa.Text(), nullable=True),
        sa.Column("live_attested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("live_attested_by", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_broker_account")),
    )
    op.create_table(
        "broker_event",
        sa.Column("event_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("received_on", sa.Date(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("authentic", sa.Boolean(), nullable=False),
        sa.Column(
            "received_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("copies", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_broker_event")),
        sa.UniqueConstraint("sha256", "received_on", name=op.f("uq_broker_event_sha256_received_on")),
    )
    op.create_table(
        "control",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("trading_state", sa.Text(), server_default="ACTIVE", nullable=False),
        sa.Column("epoch", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("sends_per_second", sa.Integer(), nullable=False),
        sa.Column("window_ms", sa.Integer(), nullable=False),
        sa.Column("sends_per_minute", sa.Integer(), nullable=False),
        sa.Column("sends_per_day", sa.Integer(), nullable=False),
        sa.Column("places_per_day", sa.Integer(), nullable=False),
        sa.Column("value_per_day_paise", sa.BigInteger(), nullable=False),
        sa.Column("send_times", postgresql.ARRAY(sa.DateTime(timezone=True)), server_default="{}", nullable=False),
        sa.Column("minute_tokens", sa.Double(), nullable=False),
        sa.Column(
            "refilled_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("day", sa.Date(), server_default=sa.text("CURRENT_DATE"), nullable=False),
        sa.Column("day_sends", sa.Integer(), server_default="0", nullable=False),
        sa.Column("day_value_paise", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("observe_failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("changed_by", sa.Text(), server_default="system", nullable=False),
        sa.Column(
            "changed_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("resume_requested_by", sa.Text(), nullable=True),
        sa.Column("resume_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resume_reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "trading_state IN ('ACTIVE', 'CANCEL_ONLY', 'HALTED')", name=op.f("ck_control_trading_state")
        ),
        sa.CheckConstraint(
            "sends_per_second > 0 AND sends_per_minute > 1 AND sends_per_day > 0",
            name=op.f("ck_control_limits_positive"),
        ),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_control")),
    )
    op.create_table(
        "early_cancel",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_early_cancel")),
    )
    op.create_table(
        "recon_break",
        sa.Column("break_id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("severity", sa.Integer(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_by", sa.Text(), nullable=True),
        sa.Column("closed_reason", sa.Text(), nullable=True),
        sa.CheckConstraint("severity BETWEEN 1 AND 3", name=op.f("ck_recon_break_severity")),
        sa.PrimaryKeyConstraint("break_id", name=op.f("pk_recon_break")),
    )
    op.create_index(
        "uq_recon_break_open",
        "recon_break",
        ["account", "kind", "key"],
        unique=True,
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "broker_order",
        sa.Column("attempt_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("block_id", sa.Uuid(), nullable=False),
        sa.Column("attempt_no", sa.Integer(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("request", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default="INTENT", nullable=False),
        sa.Column("cancel_state", sa.Text(), server_default="NONE", nullable=False),
        sa.Column("cancel_sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_sends", sa.Integer(), server_default="0", nullable=False),
        sa.Column("broker_order_id", sa.Text(), nullable=True),
        sa.Column("filled_quantity", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("broker_status", sa.Text(), nullable=True),
        sa.Column("broker_rank", sa.Integer(), server_default="0", nullable=False),
        sa.Column("status_message", sa.Text(), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("unknown_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("scans_clean", sa.Integer(), server_default="0", nullable=False),
        sa.Column("missing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome_code", sa.Text(), nullable=True),
        sa.Column("outcome_detail", sa.Text(), nullable=True),
        sa.CheckConstraint("cancel_state IN ('NONE', 'REQUESTED', 'SENT')", name=op.f("ck_broker_order_cancel_state")),
        sa.CheckConstraint(
            "state IN ('INTENT', 'SENDING', 'UNKNOWN', 'ACKED', 'COMPLETE', 'CANCELLED', 'REJECTED', 'SETTLED', 'REFUSED', 'VOID', 'LOST', 'GHOST', 'CLOSED')",
            name=op.f("ck_broker_order_state"),
        ),
        sa.CheckConstraint("quantity > 0 AND filled_quantity >= 0", name=op.f("ck_broker_order_quantities")),
        sa.ForeignKeyConstraint(["block_id"], ["block.block_id"], name=op.f("fk_broker_order_block_id")),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_broker_order")),
        sa.UniqueConstraint("block_id", "attempt_no", name=op.f("uq_broker_order_block_id_attempt_no")),
        sa.UniqueConstraint("broker_order_id", name=op.f("uq_broker_order_broker_order_id")),
        sa.UniqueConstraint("tag", name=op.f("uq_broker_order_tag")),
    )
    op.create_index("ix_broker_order_sent_at", "broker_order", ["sent_at"], unique=False)
    op.create_index(
        "ix_broker_order_unresolved",
        "broker_order",
        ["account", "state"],
        unique=False,
        postgresql_where=sa.text("state NOT IN ('SETTLED', 'CLOSED')"),
    )
    op.create_index(
        "uq_broker_order_unresolved_of_block",
        "broker_order",
        ["block_id"],
        unique=True,
        postgresql_where=sa.text(
            "state IN ('INTENT', 'SENDING', 'UNKNOWN', 'ACKED', 'COMPLETE', 'CANCELLED', 'REJECTED')"
        ),
    )
    op.create_table(
        "broker_session",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("trading_date", sa.Date(), nullable=False),
        sa.Column("access_token_sealed", sa.Text(), nullable=False),
        sa.Column("broker_user_id", sa.Text(), nullable=False),
        sa.Column("started_by", sa.Text(), nullable=False),
        sa.Column(
            "started_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["account"], ["broker_account.account"], name=op.f("fk_broker_session_account")),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_broker_session")),
    )
    op.create_index(
        "ix_broker_session_live",
        "broker_session",
        ["account"],
        unique=False,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "child_order",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("portfolio_id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("tradingsymbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("order_type", sa.Text(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("price_paise", sa.BigInteger(), nullable=True),
        sa.Column("trigger_price_paise", sa.BigInteger(), nullable=True),
        sa.Column("validity", sa.Text(), nullable=False),
        sa.Column("ttl_minutes", sa.Integer(), nullable=True),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("trading_date", sa.Date(), nullable=False),
        sa.Column("state", sa.Text(), server_default="ACCEPTED", nullable=False),
        sa.Column("filled_quantity", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("amount_paise", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("block_id", sa.Uuid(), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("pooled_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason_code", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("correlation_id", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column(
            "received_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'FILLED') = (filled_quantity = quantity)", name=op.f("ck_child_order_filled_is_full")
        ),
        sa.CheckConstraint(
            "(state IN ('BATCHED', 'PARTIAL')) = (block_id IS NOT NULL)",
            name=op.f("ck_child_order_block_while_batched"),
        ),
        sa.CheckConstraint(
            "state IN ('ACCEPTED', 'BATCHED', 'PARTIAL', 'FILLED', 'CANCELLED', 'EXPIRED', 'REJECTED', 'FAILED')",
            name=op.f("ck_child_order_state"),
        ),
        sa.CheckConstraint(
            "quantity > 0 AND filled_quantity BETWEEN 0 AND quantity", name=op.f("ck_child_order_filled_within")
        ),
        sa.ForeignKeyConstraint(["block_id"], ["block.block_id"], name=op.f("fk_child_order_block_id")),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_child_order")),
        sa.UniqueConstraint("seq", name=op.f("uq_child_order_seq")),
    )
    op.create_index(
        "ix_child_order_block_id",
        "child_order",
        ["block_id"],
        unique=False,
        postgresql_where=sa.text("block_id IS NOT NULL"),
    )
    op.create_index(
        "ix_child_order_pool",
        "child_order",
        ["account", "seq"],
        unique=False,
        postgresql_where=sa.text("state = 'ACCEPTED'"),
    )
    op.create_index("ix_child_order_received_at", "child_order", ["received_at"], unique=False)
    op.create_table(
        "allocation",
        sa.Column("allocation_id", sa.Uuid(), nullable=False),
        sa.Column("block_id", sa.Uuid(), nullable=False),
        sa.Column("round_no", sa.Integer(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("amount_paise", sa.BigInteger(), nullable=False),
        sa.Column("executed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "recorded_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("quantity > 0 AND amount_paise >= 0", name=op.f("ck_allocation_amounts")),
        sa.ForeignKeyConstraint(["block_id"], ["block.block_id"], name=op.f("fk_allocation_block_id")),
        sa.ForeignKeyConstraint(["order_id"], ["child_order.order_id"], name=op.f("fk_allocation_order_id")),
        sa.PrimaryKeyConstraint("allocation_id", name=op.f("pk_allocation")),
        sa.UniqueConstraint("block_id", "round_no", "order_id", name=op.f("uq_allocation_block_id_round_no_order_id")),
    )
    op.create_index("ix_allocation_order_id", "allocation", ["order_id"], unique=False)
    op.create_table(
        "block_child",
        sa.Column("block_id", sa.Uuid(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("allocated_quantity", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("quantity > 0", name=op.f("ck_block_child_quantity_positive")),
        sa.ForeignKeyConstraint(["block_id"], ["block.block_id"], name=op.f("fk_block_child_block_id")),
        sa.ForeignKeyConstraint(["order_id"], ["child_order.order_id"], name=op.f("fk_block_child_order_id")),
        sa.PrimaryKeyConstraint("block_id", "order_id", name=op.f("pk_block_child")),
    )
    op.create_index(op.f("ix_block_child_order_id"), "block_child", ["order_id"], unique=False)
    op.create_table(
        "fill",
        sa.Column("fill_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("attempt_id", sa.BigInteger(), nullable=False),
        sa.Column("block_id", sa.Uuid(), nullable=False),
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("tradingsymbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("trade_date", sa.Date(), nullable=False),
        sa.Column("broker_order_id", sa.Text(), nullable=False),
        sa.Column("broker_trade_id", sa.Text(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("price", sa.Numeric(precision=18, scale=4), nullable=False),
        sa.Column("amount_paise", sa.BigInteger(), nullable=False),
        sa.Column("traded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("booked_to", sa.Text(), server_default="block", nullable=False),
        sa.Column("round_no", sa.Integer(), nullable=True),
        sa.Column(
            "recorded_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("booked_to IN ('block', 'house')", name=op.f("ck_fill_booked_to")),
        sa.CheckConstraint("quantity > 0 AND amount_paise >= 0", name=op.f("ck_fill_amounts")),
        sa.ForeignKeyConstraint(["attempt_id"], ["broker_order.attempt_id"], name=op.f("fk_fill_attempt_id")),
        sa.ForeignKeyConstraint(["block_id"], ["block.block_id"], name=op.f("fk_fill_block_id")),
        sa.PrimaryKeyConstraint("fill_id", name=op.f("pk_fill")),
        sa.UniqueConstraint("exchange", "trade_date", "broker_order_id", "broker_trade_id", name="uq_fill_trade"),
    )
    op.create_index("ix_fill_block_id", "fill", ["block_id"], unique=False)
    op.create_index("ix_fill_recorded_at", "fill", ["recorded_at"], unique=False)
    op.create_index(
        "ix_fill_unallocated",
        "fill",
        ["block_id"],
        unique=False,
        postgresql_where=sa.text("round_no IS NULL AND booked_to = 'block'"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_fill_unallocated", table_name="fill", postgresql_where=sa.text("round_no IS NULL AND booked_to = 'block'")
    )
    op.drop_index("ix_fill_recorded_at", table_name="fill")
    op.drop_index("ix_fill_block_id", table_name="fill")
    op.drop_table("fill")
    op.drop_index(op.f("ix_block_child_order_id"), table_name="block_child")
    op.drop_table("block_child")
    op.drop_index("ix_allocation_order_id", table_name="allocation")
    op.drop_table("allocation")
    op.drop_index("ix_child_order_received_at", table_name="child_order")
    op.drop_index("ix_child_order_pool", table_name="child_order", postgresql_where=sa.text("state = 'ACCEPTED'"))
    op.drop_index("ix_child_order_block_id", table_name="child_order", postgresql_where=sa.text("block_id IS NOT NULL"))
    op.drop_table("child_order")
    op.drop_index("ix_broker_session_live", table_name="broker_session", postgresql_where=sa.text("ended_at IS NULL"))
    op.drop_table("broker_session")
    op.drop_index(
        "uq_broker_order_unresolved_of_block",
        table_name="broker_order",
        postgresql_where=sa.text(
            "state IN ('INTENT', 'SENDING', 'UNKNOWN', 'ACKED', 'COMPLETE', 'CANCELLED', 'REJECTED')"
        ),
    )
    op.drop_index(
        "ix_broker_order_unresolved",
        table_name="broker_order",
        postgresql_where=sa.text("state NOT IN ('SETTLED', 'CLOSED')"),
    )
    op.drop_index("ix_broker_order_sent_at", table_name="broker_order")
    op.drop_table("broker_order")
    op.drop_index("uq_recon_break_open", table_name="recon_break", postgresql_where=sa.text("closed_at IS NULL"))
    op.drop_table("recon_break")
    op.drop_table("early_cancel")
    op.drop_table("control")
    op.drop_table("broker_event")
    op.drop_table("broker_account")
    op.drop_index("ix_block_live", table_name="block", postgresql_where=sa.text("state <> 'DONE'"))
    op.drop_index("ix_block_created_at", table_name="block")
    op.drop_table("block")
    drop_tables(op)
