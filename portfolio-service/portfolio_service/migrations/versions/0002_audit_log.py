"""The audit log: what operators did with users' money.

Revision 0002
"""

from alembic import op

from common import audit

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """New tables only: the release before does not see them."""
    audit.create_tables(op.get_bind())


def downgrade() -> None:
    """Take it back."""
    audit.drop_tables(op.get_bind())
