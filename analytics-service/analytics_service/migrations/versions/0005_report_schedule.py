"""Reports that are made by themselves: who wants them, which jobs are theirs, when closes were last answered in full.

Revision 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Additions only: the release before does not see them."""
    op.add_column("close_coverage", sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("job", sa.Column("cadence", sa.Text(), nullable=True))
    op.add_column("job", sa.Column("period_end", sa.Date(), nullable=True))
    op.create_check_constraint(op.f("ck_job_cadence_has_period"), "job", "(cadence IS NULL) = (period_end IS NULL)")
    op.create_index(
        "uq_job_automatic",
        "job",
        ["user_id", "cadence", "period_end"],
        unique=True,
        postgresql_where=sa.text("cadence IS NOT NULL"),
    )
    op.create_table(
        "report_schedule",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("cadence", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("made_for", sa.Date(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("cadence IN ('daily', 'monthly')", name=op.f("ck_report_schedule_cadence_known")),
        sa.PrimaryKeyConstraint("user_id", "cadence", name=op.f("pk_report_schedule")),
    )
    op.create_index(
        "ix_report_schedule_wanted",
        "report_schedule",
        ["cadence", "looked_at"],
        postgresql_where=sa.text("since IS NOT NULL"),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table("report_schedule")
    op.drop_index("uq_job_automatic", "job")
    op.drop_constraint(op.f("ck_job_cadence_has_period"), "job", type_="check")
    op.drop_column("job", "period_end")
    op.drop_column("job", "cadence")
    op.drop_column("close_coverage", "answered_at")
