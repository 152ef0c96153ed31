"""An index to read this room's outbox again, for rooms that catch up.

Revision 0003
"""

from alembic import op

from common import outbox

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Additions only: the release before does not see them."""
    outbox.create_recorded_index(op)


def downgrade() -> None:
    """Take it back."""
    outbox.drop_recorded_index(op)
