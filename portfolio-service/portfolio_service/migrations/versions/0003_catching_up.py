"""Catching up: how far other rooms' outboxes are handled, and an index to read this room's own again.

Revision 0003
"""

from alembic import op

from common import catching_up, outbox

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Additions only: the release before does not see them."""
    outbox.create_recorded_index(op)
    catching_up.create_tables(op)


def downgrade() -> None:
    """Take it back."""
    catching_up.drop_tables(op)
    outbox.drop_recorded_index(op)
