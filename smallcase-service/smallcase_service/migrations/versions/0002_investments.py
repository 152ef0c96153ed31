"""Investments, basket orders, their legs and SIPs; outbox, inbox and the cursor of catching up.

Revision ID: 0002
Revises: 0001
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from common import catching_up, outbox

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Additions only: the release before does not see them."""
    outbox.create_tables(op)
    outbox.create_recorded_index(op)
    catching_up.create_tables(op)
    _investment()
    _basket_order()
    _basket_leg()
    _sip()


def _investment() -> None:
    op.create_table(
        "investment",
        sa.Column("investment_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("smallcase_id", sa.Uuid(), nullable=False),
        sa.Column("portfolio_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("target", JSONB(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('active', 'archived', 'closed', 'failed', 'pending')", name=op.f("ck_investment_status_known")
        ),
        sa.ForeignKeyConstraint(["smallcase_id"], ["smallcase.smallcase_id"], name=op.f("fk_investment_smallcase_id")),
        sa.PrimaryKeyConstraint("investment_id", name=op.f("pk_investment")),
    )
    op.create_index(
        "uq_investment_open",
        "investment",
        ["user_id", "smallcase_id", "portfolio_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('active', 'pending')"),
    )
    op.create_index("ix_investment_user", "investment", ["user_id", "created_at", "investment_id"])
    op.create_index("ix_investment_smallcase_id", "investment", ["smallcase_id"])


def _basket_order() -> None:
    op.create_table(
        "basket_order",
        sa.Column("basket_order_id", sa.Uuid(), nullable=False),
        sa.Column("investment_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("idempotency_ref", sa.Text(), nullable=True),
        sa.Column("kyc", sa.Text(), nullable=False),
        sa.Column("queue_when_closed", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("amount_paise", sa.BigInteger(), nullable=True),
        sa.Column("wanted", JSONB(), nullable=False),
        sa.Column("submission_id", sa.Uuid(), nullable=False),
        sa.Column("submissions", sa.Integer(), nullable=False),
        sa.Column("refusals", JSONB(), nullable=True),
        sa.Column("repairs", sa.Uuid(), nullable=True),
        sa.Column("repaired_by", sa.Uuid(), nullable=True),
        sa.Column("sip_id", sa.Uuid(), nullable=True),
        sa.Column("sip_due_on", sa.Date(), nullable=True),
        sa.Column("planned_cost_paise", sa.BigInteger(), nullable=False),
        sa.Column("planned_charges_paise", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("drives", sa.Integer(), nullable=False),
        sa.Column("correlation_id", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('CUSTOMISE', 'EXIT', 'INVEST', 'INVEST_MORE', 'PARTIAL_EXIT', 'REBALANCE', 'REPAIR', 'SIP')",
            name=op.f("ck_basket_order_kind_known"),
        ),
        sa.CheckConstraint(
            "stage IN ('DONE', 'INTENT', 'REFUSED', 'SOLD', 'WORKING')", name=op.f("ck_basket_order_stage_known")
        ),
        sa.CheckConstraint(
            "status IN ('filled', 'needs_repair', 'partially_filled', 'placed', 'placing', 'refused', 'repaired',"
            " 'unfilled')",
            name=op.f("ck_basket_order_status_known"),
        ),
        sa.ForeignKeyConstraint(
            ["investment_id"], ["investment.investment_id"], name=op.f("fk_basket_order_investment_id")
        ),
        sa.ForeignKeyConstraint(["repairs"], ["basket_order.basket_order_id"], name=op.f("fk_basket_order_repairs")),
        sa.PrimaryKeyConstraint("basket_order_id", name=op.f("pk_basket_order")),
    )
    live = sa.text("NOT (stage IN ('DONE', 'REFUSED'))")
    op.create_index("uq_basket_order_live", "basket_order", ["investment_id"], unique=True, postgresql_where=live)
    op.create_index("ix_basket_order_due", "basket_order", ["due_at"], postgresql_where=live)
    op.create_index("ix_basket_order_investment", "basket_order", ["investment_id", "created_at", "basket_order_id"])
    op.create_index("ix_basket_order_user", "basket_order", ["user_id", "created_at", "basket_order_id"])


def _basket_leg() -> None:
    op.create_table(
        "basket_leg",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("basket_order_id", sa.Uuid(), nullable=False),
        sa.Column("investment_id", sa.Uuid(), nullable=False),
        sa.Column("submission_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("tradingsymbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("price_paise", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("order_version", sa.Integer(), nullable=False),
        sa.Column("filled_quantity", sa.Integer(), nullable=False),
        sa.Column("amount_paise", sa.BigInteger(), nullable=False),
        sa.Column("charges_paise", sa.BigInteger(), nullable=False),
        sa.Column("reason_code", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "quantity > 0 AND filled_quantity BETWEEN 0 AND quantity", name=op.f("ck_basket_leg_filled_in_range")
        ),
        sa.CheckConstraint("amount_paise >= 0 AND charges_paise >= 0", name=op.f("ck_basket_leg_not_negative")),
        sa.CheckConstraint("side IN ('BUY', 'SELL')", name=op.f("ck_basket_leg_side_known")),
        sa.CheckConstraint(
            "state IN ('ACCEPTED', 'CANCELLED', 'EXPIRED', 'FAILED', 'FILLED', 'INTENT', 'PARTIAL', 'REFUSED',"
            " 'REJECTED', 'WORKING')",
            name=op.f("ck_basket_leg_state_known"),
        ),
        sa.ForeignKeyConstraint(
            ["basket_order_id"], ["basket_order.basket_order_id"], name=op.f("fk_basket_leg_basket_order_id")
        ),
        sa.ForeignKeyConstraint(
            ["investment_id"], ["investment.investment_id"], name=op.f("fk_basket_leg_investment_id")
        ),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_basket_leg")),
    )
    op.create_index("ix_basket_leg_basket_order_id", "basket_leg", ["basket_order_id", "position"])
    op.create_index("ix_basket_leg_investment_id", "basket_leg", ["investment_id"])


def _sip() -> None:
    op.create_table(
        "sip",
        sa.Column("sip_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("smallcase_id", sa.Uuid(), nullable=False),
        sa.Column("portfolio_id", sa.Uuid(), nullable=True),
        sa.Column("amount_paise", sa.BigInteger(), nullable=False),
        sa.Column("frequency", sa.Text(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("next_due_on", sa.Date(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('ACTIVE', 'PAUSED', 'STOPPED')", name=op.f("ck_sip_state_known")),
        sa.CheckConstraint("frequency IN ('MONTHLY', 'WEEKLY')", name=op.f("ck_sip_frequency_known")),
        sa.CheckConstraint("mode IN ('AUTO', 'CONFIRM')", name=op.f("ck_sip_mode_known")),
        sa.CheckConstraint("amount_paise > 0", name=op.f("ck_sip_amount_positive")),
        sa.ForeignKeyConstraint(["smallcase_id"], ["smallcase.smallcase_id"], name=op.f("fk_sip_smallcase_id")),
        sa.PrimaryKeyConstraint("sip_id", name=op.f("pk_sip")),
    )
    op.create_index("ix_sip_user", "sip", ["user_id", "created_at", "sip_id"])
    op.create_index("ix_sip_due", "sip", ["next_due_on"], postgresql_where=sa.text("state = 'ACTIVE'"))
    op.create_table(
        "sip_instalment",
        sa.Column("sip_id", sa.Uuid(), nullable=False),
        sa.Column("due_on", sa.Date(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("basket_order_id", sa.Uuid(), nullable=True),
        sa.Column("reason_code", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("next_try_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('DUE', 'FAILED', 'PLACED', 'SKIPPED')", name=op.f("ck_sip_instalment_state_known")
        ),
        sa.ForeignKeyConstraint(["sip_id"], ["sip.sip_id"], name=op.f("fk_sip_instalment_sip_id")),
        sa.PrimaryKeyConstraint("sip_id", "due_on", name=op.f("pk_sip_instalment")),
        sa.UniqueConstraint("basket_order_id", name=op.f("uq_sip_instalment_basket_order_id")),
    )
    op.create_index(
        "ix_sip_instalment_due", "sip_instalment", ["next_try_at"], postgresql_where=sa.text("state = 'DUE'")
    )


def downgrade() -> None:
    """Take it back."""
    for table in ("sip_instalment", "sip", "basket_leg", "basket_order", "investment"):
        op.drop_table(table)
    catching_up.drop_tables(op)
    outbox.drop_recorded_index(op)
    outbox.drop_tables(op)
