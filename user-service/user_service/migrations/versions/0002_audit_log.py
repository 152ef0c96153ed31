"""One audit log for security events and administrators' actions; what was written before moves into it.

The release before goes on working: its two tables are views of the log now, and what it inserts there is logged.

Revision 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from common import audit

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
OLD_TABLES = ("security_events", "admin_actions")

EVENT_VALUES = """
    {row}.at, coalesce({row}.user_id::text, ''), CASE WHEN {row}.user_id IS NULL THEN 'unknown' ELSE 'user' END,
    {row}.kind, coalesce('user:' || {row}.user_id, 'nobody'), {row}.address, {row}.details
"""
ACTION_VALUES = """
    {row}.at, coalesce({row}.actor_id::text, 'command line'),
    CASE WHEN {row}.actor_id IS NULL THEN 'command_line' ELSE 'operator' END,
    {row}.action, 'user:' || {row}.target_user_id, {row}.address, {row}.details
"""
COLUMNS = "(at, actor, actor_kind, action, target, address, details)"

VIEWS = """
CREATE VIEW security_events AS
    SELECT id, at, action AS kind, CASE WHEN target LIKE 'user:%' THEN substr(target, 6)::uuid END AS user_id,
           address, details
    FROM audit_log WHERE actor_kind IN ('user', 'unknown');
CREATE VIEW admin_actions AS
    SELECT id, at, CASE WHEN actor_kind = 'operator' THEN actor::uuid END AS actor_id, action,
           substr(target, 6)::uuid AS target_user_id, address, details
    FROM audit_log WHERE actor_kind IN ('operator', 'command_line') AND target LIKE 'user:%';
"""
LOG_INSTEAD = """
CREATE FUNCTION log_{view}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit_log {columns} SELECT {values} RETURNING id INTO NEW.id;
    RETURN NEW;
END $$;
CREATE TRIGGER {view}_are_logged INSTEAD OF INSERT ON {view} FOR EACH ROW EXECUTE FUNCTION log_{view}();
"""
FORBID_CHANGE = """
CREATE FUNCTION forbid_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$
"""


def upgrade() -> None:
    audit.create_tables(op.get_bind())
    op.execute(
        f"INSERT INTO audit_log {COLUMNS}"  # noqa: S608  constants of this file
        f" SELECT {EVENT_VALUES.format(row='old')} FROM security_events old"
        f" UNION ALL SELECT {ACTION_VALUES.format(row='old')} FROM admin_actions old ORDER BY 1"
    )
    for table in OLD_TABLES:
        op.drop_table(table)
    op.execute("DROP FUNCTION forbid_change()")
    op.execute(VIEWS)
    for view, values in zip(OLD_TABLES, (EVENT_VALUES, ACTION_VALUES), strict=True):
        op.execute(LOG_INSTEAD.format(view=view, columns=COLUMNS, values=values.format(row="NEW")))


def downgrade() -> None:
    """Take it back; what was logged since stays in the old tables."""
    for view in OLD_TABLES:
        op.execute(f"ALTER VIEW {view} RENAME TO {view}_logged")
    op.create_table(
        "security_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("details", JSONB(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_security_events_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_security_events")),
    )
    op.create_index(op.f("ix_security_events_at"), "security_events", ["at"])
    op.create_index("ix_security_events_user_id_at", "security_events", ["user_id", "at"])
    op.create_table(
        "admin_actions",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target_user_id", sa.Uuid(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("details", JSONB(), nullable=False),
        sa.ForeignKeyConstraint(["actor_id"], ["users.id"], name=op.f("fk_admin_actions_actor_id")),
        sa.ForeignKeyConstraint(["target_user_id"], ["users.id"], name=op.f("fk_admin_actions_target_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_admin_actions")),
    )
    op.create_index("ix_admin_actions_target_user_id_at", "admin_actions", ["target_user_id", "at"])
    op.execute(FORBID_CHANGE)
    for table, columns in (
        ("security_events", "at, kind, user_id, address, details"),
        ("admin_actions", "at, actor_id, action, target_user_id, address, details"),
    ):
        op.execute(
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {table}_logged ORDER BY id"  # noqa: S608  constants of this file
        )
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION forbid_change()"
        )
        op.execute(f"DROP VIEW {table}_logged")
        op.execute(f"DROP FUNCTION log_{table}()")
    audit.drop_tables(op.get_bind())
