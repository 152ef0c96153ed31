"""Performance: blocks of orders, imported portfolios, closes, daily values, lots, jobs.

Revision 0003
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from common import idempotency

revision = "0003"
down_revision = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def _text(name: str) -> sa.Column:
    return sa.Column(name, sa.Text(), nullable=False)


def _uuid(name: str) -> sa.Column:
    return sa.Column(name, sa.Uuid(), nullable=False)


def _number(name: str, kind: type = sa.Integer) -> sa.Column:
    return sa.Column(name, kind(), nullable=False)


def _day(name: str) -> sa.Column:
    return sa.Column(name, sa.Date(), nullable=False)


def _instant(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _share() -> list[sa.Column]:
    return [_text("exchange"), _text("tradingsymbol")]


def upgrade() -> None:
    """Additions only: the release before does not see them."""
    op.create_index("ix_trade_portfolio_id_trading_date", "trade", ["portfolio_id", "trading_date"])
    op.create_index("ix_cash_flow_portfolio_id", "cash_flow", ["portfolio_id"])
    idempotency.create_tables(op)
    _facts()
    _derived()
    _jobs()


def _facts() -> None:
    op.create_table(
        "order_block",
        _uuid("order_id"),
        _uuid("block_id"),
        _instant("occurred_at"),
        sa.PrimaryKeyConstraint("order_id", "block_id", name=op.f("pk_order_block")),
    )
    op.create_index("ix_order_block_block_id", "order_block", ["block_id"])
    op.create_table(
        "imported_portfolio",
        _uuid("portfolio_id"),
        _uuid("user_id"),
        _text("name"),
        _instant("created_at"),
        sa.PrimaryKeyConstraint("portfolio_id", name=op.f("pk_imported_portfolio")),
        sa.UniqueConstraint("user_id", "name", name=op.f("uq_imported_portfolio_user_id_name")),
    )
    op.create_table(
        "imported_trade",
        _uuid("portfolio_id"),
        _text("row_key"),
        _uuid("order_id"),
        _uuid("user_id"),
        *_share(),
        _text("side"),
        _text("product"),
        _number("quantity"),
        _number("amount_paise", sa.BigInteger),
        _number("charges_paise", sa.BigInteger),
        _day("trading_date"),
        _number("row_number"),
        sa.CheckConstraint("side IN ('BUY', 'SELL')", name=op.f("ck_imported_trade_side_known")),
        sa.CheckConstraint(
            "quantity > 0 AND amount_paise >= 0 AND charges_paise >= 0", name=op.f("ck_imported_trade_not_negative")
        ),
        sa.ForeignKeyConstraint(
            ["portfolio_id"],
            ["imported_portfolio.portfolio_id"],
            name=op.f("fk_imported_trade_portfolio_id_imported_portfolio"),
        ),
        sa.PrimaryKeyConstraint("portfolio_id", "row_key", name=op.f("pk_imported_trade")),
    )
    op.create_index("ix_imported_trade_portfolio_id_trading_date", "imported_trade", ["portfolio_id", "trading_date"])


def _derived() -> None:
    op.create_table(
        "daily_close",
        *_share(),
        _day("on_date"),
        _number("close_paise", sa.BigInteger),
        sa.PrimaryKeyConstraint("exchange", "tradingsymbol", "on_date", name=op.f("pk_daily_close")),
    )
    op.create_table(
        "close_coverage",
        *_share(),
        _day("first_on"),
        _day("last_on"),
        _instant("asked_at"),
        sa.CheckConstraint("first_on <= last_on", name=op.f("ck_close_coverage_span")),
        sa.PrimaryKeyConstraint("exchange", "tradingsymbol", name=op.f("pk_close_coverage")),
    )
    op.create_table(
        "close_change",
        sa.Column("change_no", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        _day("from_date"),
        _instant("changed_at"),
        sa.PrimaryKeyConstraint("change_no", name=op.f("pk_close_change")),
    )
    op.create_table("trading_day", _day("on_date"), sa.PrimaryKeyConstraint("on_date", name=op.f("pk_trading_day")))
    op.create_table(
        "valued_portfolio",
        _uuid("portfolio_id"),
        _uuid("user_id"),
        _number("fact_count"),
        _number("change_no", sa.BigInteger),
        sa.PrimaryKeyConstraint("portfolio_id", name=op.f("pk_valued_portfolio")),
    )
    op.create_index("ix_valued_portfolio_user_id", "valued_portfolio", ["user_id"])
    op.create_table(
        "daily_value",
        _uuid("portfolio_id"),
        _day("on_date"),
        _number("shares_paise", sa.BigInteger),
        _number("cash_paise", sa.BigInteger),
        _number("flow_paise", sa.BigInteger),
        _number("fact_count"),
        sa.PrimaryKeyConstraint("portfolio_id", "on_date", name=op.f("pk_daily_value")),
    )
    of_share = ("portfolio_id", "exchange", "tradingsymbol", "product")
    op.create_table(
        "share_book",
        _uuid("portfolio_id"),
        *_share(),
        _text("product"),
        _number("fact_count"),
        sa.PrimaryKeyConstraint(*of_share, name=op.f("pk_share_book")),
    )
    op.create_table(
        "open_lot",
        _uuid("portfolio_id"),
        *_share(),
        _text("product"),
        _number("lot_no"),
        _day("acquired_on"),
        _number("quantity"),
        _number("cost_paise", sa.BigInteger),
        _number("charges_paise", sa.BigInteger),
        sa.PrimaryKeyConstraint(*of_share, "lot_no", name=op.f("pk_open_lot")),
    )
    op.create_table(
        "lot_disposal",
        _uuid("portfolio_id"),
        *_share(),
        _text("product"),
        _number("disposal_no"),
        _uuid("order_id"),
        _day("acquired_on"),
        _day("disposed_on"),
        _number("quantity"),
        _number("cost_paise", sa.BigInteger),
        _number("proceeds_paise", sa.BigInteger),
        _number("charges_paise", sa.BigInteger),
        sa.PrimaryKeyConstraint(*of_share, "disposal_no", name=op.f("pk_lot_disposal")),
    )
    op.create_index("ix_lot_disposal_portfolio_id_disposed_on", "lot_disposal", ["portfolio_id", "disposed_on"])


def _jobs() -> None:
    op.create_table(
        "job",
        _uuid("job_id"),
        _uuid("user_id"),
        _text("kind"),
        _text("state"),
        sa.Column("asked", JSONB(), nullable=False),
        _number("progress_done"),
        _number("progress_total"),
        _number("attempts"),
        _instant("held_until", nullable=True),
        sa.Column("problem_code", sa.Text(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        _instant("created_at"),
        _instant("finished_at", nullable=True),
        sa.CheckConstraint("state IN ('QUEUED', 'RUNNING', 'DONE', 'FAILED')", name=op.f("ck_job_state_known")),
        sa.CheckConstraint("kind IN ('REPORT', 'IMPORT')", name=op.f("ck_job_kind_known")),
        sa.CheckConstraint("progress_done BETWEEN 0 AND progress_total", name=op.f("ck_job_progress_in_range")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job")),
    )
    op.create_index("ix_job_user_id_created_at", "job", ["user_id", "created_at", "job_id"])
    op.create_index("ix_job_open", "job", ["created_at"], postgresql_where=sa.text("state IN ('QUEUED', 'RUNNING')"))
    op.create_table(
        "job_file",
        _uuid("job_id"),
        _text("role"),
        _text("name"),
        _text("media_type"),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("role IN ('result', 'upload')", name=op.f("ck_job_file_role_known")),
        sa.ForeignKeyConstraint(["job_id"], ["job.job_id"], name=op.f("fk_job_file_job_id_job"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "role", name=op.f("pk_job_file")),
    )
    op.create_table(
        "import_problem",
        _uuid("job_id"),
        _number("problem_no"),
        _number("row_number"),
        _text("column_name"),
        _text("code"),
        _text("message"),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.job_id"], name=op.f("fk_import_problem_job_id_job"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "problem_no", name=op.f("pk_import_problem")),
    )


def downgrade() -> None:
    """Take it back."""
    for table in (
        "import_problem", "job_file", "job", "lot_disposal", "open_lot", "share_book", "daily_value",
        "valued_portfolio", "trading_day", "close_change", "close_coverage", "daily_close", "imported_trade", "imported_portfolio",
        "order_block",
    ):  # fmt: skip
        op.drop_table(table)
    idempotency.drop_tables(op)
    op.drop_index("ix_cash_flow_portfolio_id", "cash_flow")
    op.drop_index("ix_trade_portfolio_id_trading_date", "trade")
