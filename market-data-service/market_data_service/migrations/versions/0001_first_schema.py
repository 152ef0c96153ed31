"""First schema: instruments, prices, candles, calendar overrides.

Revision ID: 0001
Revises:

A migration runs in one transaction under a lock timeout and must leave the release before it working: add, fill, switch
over, and drop only in a later release.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "calendar_override",
        sa.Column("override_id", sa.Uuid(), nullable=False),
        sa.Column("on_date", sa.Date(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("opens", sa.Time(), nullable=True),
        sa.Column("closes", sa.Time(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("withdrawn_by", sa.Uuid(), nullable=True),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("withdrawn_reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(kind = 'special_session') = (opens IS NOT NULL)", name=op.f("ck_calendar_override_special_hours")
        ),
        sa.CheckConstraint(
            "kind IN ('holiday', 'trading_day', 'special_session', 'always_open')",
            name=op.f("ck_calendar_override_kind"),
        ),
        sa.CheckConstraint(
            "(opens IS NULL) = (closes IS NULL) AND (opens IS NULL OR opens < closes)",
            name=op.f("ck_calendar_override_hours"),
        ),
        sa.PrimaryKeyConstraint("override_id", name=op.f("pk_calendar_override")),
    )
    op.create_index(
        "uq_calendar_override_in_force",
        "calendar_override",
        ["on_date"],
        unique=True,
        postgresql_where=sa.text("withdrawn_at IS NULL"),
    )
    op.create_table(
        "candle_coverage",
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("tradingsymbol", sa.Text(), nullable=False),
        sa.Column("first_on", sa.Date(), nullable=False),
        sa.Column("last_on", sa.Date(), nullable=False),
        sa.CheckConstraint("first_on <= last_on", name=op.f("ck_candle_coverage_span")),
        sa.PrimaryKeyConstraint("exchange", "tradingsymbol", name=op.f("pk_candle_coverage")),
    )
    op.create_table(
        "candle_day",
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("tradingsymbol", sa.Text(), nullable=False),
        sa.Column("on_date", sa.Date(), nullable=False),
        sa.Column("open_paise", sa.BigInteger(), nullable=False),
        sa.Column("high_paise", sa.BigInteger(), nullable=False),
        sa.Column("low_paise", sa.BigInteger(), nullable=False),
        sa.Column("close_paise", sa.BigInteger(), nullable=False),
        sa.Column("volume", sa.BigInteger(), nullable=False),
        sa.Column("fetched_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("exchange", "tradingsymbol", "on_date", name=op.f("pk_candle_day")),
    )
    op.create_table(
        "instrument",
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("tradingsymbol", sa.Text(), nullable=False),
        sa.Column("instrument_token", sa.BigInteger(), nullable=False),
        sa.Column("exchange_token", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("isin", sa.Text(), nullable=True),
        sa.Column("tick_paise", sa.BigInteger(), nullable=False),
        sa.Column("lot_size", sa.Integer(), nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("instrument_type", sa.Text(), nullable=False),
        sa.Column("last_seen_on", sa.Date(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("lower_band_paise", sa.BigInteger(), nullable=True),
        sa.Column("upper_band_paise", sa.BigInteger(), nullable=True),
        sa.Column("bands_on", sa.Date(), nullable=True),
        sa.CheckConstraint("tick_paise >= 0 AND lot_size >= 0", name=op.f("ck_instrument_tick_and_lot")),
        sa.PrimaryKeyConstraint("exchange", "tradingsymbol", name=op.f("pk_instrument")),
    )
    op.create_table(
        "instrument_load",
        sa.Column("load_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("loaded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("requested_by", sa.Uuid(), nullable=True),
        sa.Column("rows_usable", sa.Integer(), nullable=False),
        sa.Column("rows_skipped", sa.Integer(), nullable=False),
        sa.Column("active_before", sa.Integer(), nullable=False),
        sa.Column("deactivated", sa.Integer(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.CheckConstraint("outcome IN ('LOADED', 'REFUSED', 'FAILED')", name=op.f("ck_instrument_load_outcome")),
        sa.PrimaryKeyConstraint("load_id", name=op.f("pk_instrument_load")),
    )
    op.create_table(
        "last_price",
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("tradingsymbol", sa.Text(), nullable=False),
        sa.Column("price_paise", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("price_paise > 0", name=op.f("ck_last_price_positive")),
        sa.PrimaryKeyConstraint("exchange", "tradingsymbol", name=op.f("pk_last_price")),
    )
    op.create_table(
        "price_interest",
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("tradingsymbol", sa.Text(), nullable=False),
        sa.Column("asked_on", sa.Date(), nullable=False),
        sa.PrimaryKeyConstraint("exchange", "tradingsymbol", name=op.f("pk_price_interest")),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table("price_interest")
    op.drop_table("last_price")
    op.drop_table("instrument_load")
    op.drop_table("instrument")
    op.drop_table("candle_day")
    op.drop_table("candle_coverage")
    op.drop_index(
        "uq_calendar_override_in_force",
        table_name="calendar_override",
        postgresql_where=sa.text("withdrawn_at IS NULL"),
    )
    op.drop_table("calendar_override")
