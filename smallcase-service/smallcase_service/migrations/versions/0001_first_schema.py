"""First schema: smallcases, their versions and constituents, idempotency keys.

Revision ID: 0001
Revises:

A migration runs in one transaction under a lock timeout and must leave the release before it working: add, fill, switch
over, and drop only in a later release.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from common import idempotency

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

INSERT_ONLY = ("smallcase_version", "smallcase_constituent")
"""Tables whose rows never change: a change of a smallcase is a new version."""


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "smallcase",
        sa.Column("smallcase_id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("smallcase_id", name=op.f("pk_smallcase")),
    )
    op.create_index("ix_smallcase_newest", "smallcase", ["created_at", "smallcase_id"])
    op.create_index("ix_smallcase_owner_id", "smallcase", ["owner_id"])
    op.create_table(
        "smallcase_version",
        sa.Column("smallcase_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("visibility", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("changed_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "visibility IN ('private', 'published')", name=op.f("ck_smallcase_version_visibility_known")
        ),
        sa.ForeignKeyConstraint(
            ["smallcase_id"], ["smallcase.smallcase_id"], name=op.f("fk_smallcase_version_smallcase_id")
        ),
        sa.PrimaryKeyConstraint("smallcase_id", "version", name=op.f("pk_smallcase_version")),
    )
    op.create_table(
        "smallcase_constituent",
        sa.Column("smallcase_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("tradingsymbol", sa.Text(), nullable=False),
        sa.Column("weight_bps", sa.Integer(), nullable=False),
        sa.CheckConstraint("weight_bps BETWEEN 1 AND 10000", name=op.f("ck_smallcase_constituent_weight_in_range")),
        sa.ForeignKeyConstraint(
            ["smallcase_id", "version"],
            ["smallcase_version.smallcase_id", "smallcase_version.version"],
            name=op.f("fk_smallcase_constituent_smallcase_id_version"),
        ),
        sa.PrimaryKeyConstraint("smallcase_id", "version", "position", name=op.f("pk_smallcase_constituent")),
        sa.UniqueConstraint(
            "smallcase_id",
            "version",
            "exchange",
            "tradingsymbol",
            name=op.f("uq_smallcase_constituent_share"),
        ),
    )
    idempotency.create_tables(op)
    op.execute(
        """
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'rows of % are insert-only; a change is a new version', TG_TABLE_NAME
                USING ERRCODE = 'restrict_violation';
        END $$
        """
    )
    for table in INSERT_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_insert_only BEFORE UPDATE OR DELETE ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    """Take it back."""
    idempotency.drop_tables(op)
    for table in ("smallcase_constituent", "smallcase_version", "smallcase"):
        op.drop_table(table)
    op.execute("DROP FUNCTION refuse_change()")
