"""Blocks by the time they ended: what the quick comparison of our own books reads every few seconds.

Revision 0005
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_block_done_at", "block", ["done_at"])


def downgrade() -> None:
    op.drop_index("ix_block_done_at", table_name="block")
