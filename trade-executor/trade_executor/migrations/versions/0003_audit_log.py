"""The audit log: who stopped and started trading, logged in at the broker, closed breaks, settled blocks.

Revision 0003
"""

from alembic import op

from common import audit

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """New tables only: the release before does not see them."""
    audit.create_tables(op.get_bind())


def downgrade() -> None:
    audit.drop_tables(op.get_bind())
