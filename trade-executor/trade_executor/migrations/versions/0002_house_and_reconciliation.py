"""The house's journal, runs of the reconciliation, the broker's last word on a day; breaks that freeze instruments.

Revision 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_now = sa.text("clock_timestamp()")


def upgrade() -> None:
    op.add_column("recon_break", sa.Column("freezes", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False))
    _house_fill()
    _recon()
    _days()


def _house_fill() -> None:
    op.create_table(
        "house_fill",
        sa.Column("house_fill_id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("fill_id", sa.BigInteger(), nullable=True),
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("tradingsymbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("trade_date", sa.Date(), nullable=False),
        sa.Column("broker_order_id", sa.Text(), nullable=False),
        sa.Column("broker_trade_id", sa.Text(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("amount_paise", sa.BigInteger(), nullable=False),
        sa.Column("traded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=_now, nullable=False),
        sa.CheckConstraint("quantity > 0 AND amount_paise >= 0", name=op.f("ck_house_fill_amounts")),
        sa.CheckConstraint("side IN ('BUY', 'SELL')", name=op.f("ck_house_fill_side")),
        sa.ForeignKeyConstraint(["fill_id"], ["fill.fill_id"], name=op.f("fk_house_fill_fill_id")),
        sa.PrimaryKeyConstraint("house_fill_id", name=op.f("pk_house_fill")),
    )
    op.create_index("ix_house_fill_fill_id", "house_fill", ["fill_id"], postgresql_where=sa.text("fill_id IS NOT NULL"))
    op.create_index("ix_house_fill_recorded_at", "house_fill", ["recorded_at"])


def _recon() -> None:
    op.create_table(
        "recon_run",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), server_default=_now, nullable=False),
        sa.Column("good", sa.Boolean(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("counts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("opened", sa.Integer(), nullable=False),
        sa.Column("cured", sa.Integer(), nullable=False),
        sa.CheckConstraint("scope IN ('quick', 'full', 'start_of_day', 'end_of_day')", name=op.f("ck_recon_run_scope")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_recon_run")),
    )
    op.create_index("ix_recon_run_account", "recon_run", ["account", "started_at"])
    op.create_table(
        "recon_suspect",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("difference", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=_now, nullable=False),
        sa.PrimaryKeyConstraint("account", "kind", "key", name=op.f("pk_recon_suspect")),
    )


def _days() -> None:
    op.create_table(
        "day_snapshot",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("trading_date", sa.Date(), nullable=False),
        sa.Column("part", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("rows", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), server_default=_now, nullable=False),
        sa.PrimaryKeyConstraint("account", "trading_date", "part", name=op.f("pk_day_snapshot")),
    )
    op.create_table(
        "job_run",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("slot", sa.Date(), nullable=False),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), server_default=_now, nullable=False),
        sa.PrimaryKeyConstraint("account", "job", "slot", name=op.f("pk_job_run")),
    )


def downgrade() -> None:
    op.drop_table("job_run")
    op.drop_table("day_snapshot")
    op.drop_table("recon_suspect")
    op.drop_table("recon_run")
    op.drop_table("house_fill")
    op.drop_column("recon_break", "freezes")
