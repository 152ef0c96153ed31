"""Automatic rebalances: the setting of an investment, who switched it, and what fell due.

Revision ID: 0004
Revises: 0003
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Additions, off by default: the release before goes on making investments without them."""
    op.add_column("investment", sa.Column("auto_rebalance", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index(
        "ix_investment_auto_rebalance",
        "investment",
        ["smallcase_id", "version"],
        postgresql_where=sa.text("auto_rebalance"),
    )
    _consent()
    _auto_rebalance()


def _consent() -> None:
    op.create_table(
        "auto_rebalance_consent",
        sa.Column("consent_id", sa.Uuid(), nullable=False),
        sa.Column("investment_id", sa.Uuid(), nullable=False),
        sa.Column("auto_rebalance", sa.Boolean(), nullable=False),
        sa.Column("changed_by", sa.Uuid(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["investment_id"], ["investment.investment_id"], name=op.f("fk_auto_rebalance_consent_investment_id")
        ),
        sa.PrimaryKeyConstraint("consent_id", name=op.f("pk_auto_rebalance_consent")),
    )
    op.create_index("ix_auto_rebalance_consent_investment", "auto_rebalance_consent", ["investment_id", "changed_at"])
    op.execute(
        "CREATE TRIGGER auto_rebalance_consent_insert_only BEFORE UPDATE OR DELETE ON auto_rebalance_consent"
        " FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )


def _auto_rebalance() -> None:
    op.create_table(
        "auto_rebalance",
        sa.Column("investment_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("basket_order_id", sa.Uuid(), nullable=True),
        sa.Column("reason_code", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("next_try_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('DUE', 'FAILED', 'PLACED', 'SKIPPED')", name=op.f("ck_auto_rebalance_state_known")
        ),
        sa.ForeignKeyConstraint(
            ["investment_id"], ["investment.investment_id"], name=op.f("fk_auto_rebalance_investment_id")
        ),
        sa.PrimaryKeyConstraint("investment_id", "version", name=op.f("pk_auto_rebalance")),
        sa.UniqueConstraint("basket_order_id", name=op.f("uq_auto_rebalance_basket_order_id")),
    )
    op.create_index(
        "ix_auto_rebalance_due", "auto_rebalance", ["next_try_at"], postgresql_where=sa.text("state = 'DUE'")
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table("auto_rebalance")
    op.drop_table("auto_rebalance_consent")
    op.drop_index("ix_investment_auto_rebalance", "investment")
    op.drop_column("investment", "auto_rebalance")
