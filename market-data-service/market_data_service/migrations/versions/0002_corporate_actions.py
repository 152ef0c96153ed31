"""Corporate actions: splits and bonus issues, with who entered them.

Revision ID: 0002
Revises: 0001
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """An addition only: the release before does not see it."""
    op.create_table(
        "corporate_action",
        sa.Column("action_id", sa.Uuid(), nullable=False),
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("tradingsymbol", sa.Text(), nullable=False),
        sa.Column("ex_date", sa.Date(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("new_shares", sa.Integer(), nullable=False),
        sa.Column("old_shares", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("withdrawn_by", sa.Uuid(), nullable=True),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("withdrawn_reason", sa.Text(), nullable=True),
        sa.CheckConstraint("kind IN ('SPLIT', 'BONUS')", name=op.f("ck_corporate_action_kind")),
        sa.CheckConstraint(
            "new_shares > 0 AND old_shares > 0 AND new_shares <> old_shares", name=op.f("ck_corporate_action_ratio")
        ),
        sa.CheckConstraint("kind <> 'BONUS' OR new_shares > old_shares", name=op.f("ck_corporate_action_bonus_adds")),
        sa.PrimaryKeyConstraint("action_id", name=op.f("pk_corporate_action")),
    )
    op.create_index(
        "uq_corporate_action_in_force",
        "corporate_action",
        ["exchange", "tradingsymbol", "ex_date", "kind"],
        unique=True,
        postgresql_where=sa.text("withdrawn_at IS NULL"),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_index(
        "uq_corporate_action_in_force",
        table_name="corporate_action",
        postgresql_where=sa.text("withdrawn_at IS NULL"),
    )
    op.drop_table("corporate_action")
