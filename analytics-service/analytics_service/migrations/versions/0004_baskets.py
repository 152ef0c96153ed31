"""Basket orders of smallcases.

Revision 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """An addition only: the release before does not see it."""
    op.create_table(
        "basket_fact",
        *(
            sa.Column(name, sa.Uuid(), nullable=False)
            for name in ("basket_order_id", "user_id", "investment_id", "smallcase_id")
        ),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("smallcase_name", "kind", "status")),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("orders", "orders_filled")),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("bought_paise", "sold_paise", "charges_paise")),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("basket_order_id", name=op.f("pk_basket_fact")),
    )
    op.create_index("ix_basket_fact_user_id", "basket_fact", ["user_id"])
    op.create_index("ix_basket_fact_smallcase_id", "basket_fact", ["smallcase_id"])


def downgrade() -> None:
    """Take it back."""
    op.drop_table("basket_fact")
