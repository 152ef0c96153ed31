"""First schema: order facts, trades, cash flows and the inbox.

Revision ID: 0001
Revises:

A migration runs in one transaction under a lock timeout and must leave the release before it working: add, fill, switch
over, and drop only in a later release.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from common import outbox

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "order_fact",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("order_version", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("portfolio_id", sa.Uuid(), nullable=False),
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("tradingsymbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("filled_quantity", sa.Integer(), nullable=False),
        sa.Column("amount_paise", sa.BigInteger(), nullable=False),
        sa.Column("charges_paise", sa.BigInteger(), nullable=False),
        sa.Column("reason_code", sa.Text(), nullable=True),
        sa.Column("trading_date", sa.Date(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_order_fact")),
    )
    op.create_index("ix_order_fact_user_id", "order_fact", ["user_id"])
    op.create_index("ix_order_fact_trading_date", "order_fact", ["trading_date"])
    op.create_table(
        "trade",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("order_version", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("portfolio_id", sa.Uuid(), nullable=False),
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("tradingsymbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("amount_paise", sa.BigInteger(), nullable=False),
        sa.Column("charges_paise", sa.BigInteger(), nullable=False),
        sa.Column("trading_date", sa.Date(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("side IN ('BUY', 'SELL')", name=op.f("ck_trade_side_known")),
        sa.CheckConstraint("quantity >= 0 AND amount_paise >= 0", name=op.f("ck_trade_not_negative")),
        sa.PrimaryKeyConstraint("order_id", "order_version", name=op.f("pk_trade")),
    )
    op.create_index("ix_trade_user_id", "trade", ["user_id"])
    op.create_index("ix_trade_trading_date", "trade", ["trading_date"])
    op.create_table(
        "cash_flow",
        sa.Column("transfer_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("portfolio_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("amount_paise", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('TOPUP', 'DEPOSIT', 'WITHDRAWAL')", name=op.f("ck_cash_flow_kind_known")),
        sa.CheckConstraint("amount_paise > 0", name=op.f("ck_cash_flow_amount_positive")),
        sa.PrimaryKeyConstraint("transfer_id", name=op.f("pk_cash_flow")),
    )
    op.create_index("ix_cash_flow_user_id", "cash_flow", ["user_id"])
    outbox.create_tables(op)


def downgrade() -> None:
    """Take it back."""
    outbox.drop_tables(op)
    for table in ("cash_flow", "trade", "order_fact"):
        op.drop_table(table)
