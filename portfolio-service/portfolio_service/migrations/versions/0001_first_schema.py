"""First schema: portfolios, the ledger, user orders, tax lots.

Revision ID: 0001
Revises:

A migration runs in one transaction under a lock timeout and must leave the release before it working: add, fill, switch
over, and drop only in a later release.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from common import idempotency, outbox

revision: str = "0001"
down_revision: str | None = None
INSERT_ONLY = ("transfer",)
"""Tables whose rows never change: corrections are new rows."""

branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "account",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("posted", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("held", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("allow_negative", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "allow_negative OR (posted - held >= 0 AND posted >= 0)", name=op.f("ck_account_not_negative")
        ),
        sa.CheckConstraint("held >= 0", name=op.f("ck_account_held_not_negative")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("owner", "kind", "asset", name=op.f("uq_account_owner_kind_asset")),
    )
    op.create_table(
        "ledger_break",
        sa.Column("break_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("severity", sa.Integer(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("break_id", name=op.f("pk_ledger_break")),
        sa.UniqueConstraint("kind", "key", name=op.f("uq_ledger_break_kind_key")),
    )
    op.create_table(
        "order_allocation",
        sa.Column("allocation_id", sa.Uuid(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("portfolio_id", sa.Uuid(), nullable=True),
        sa.Column("block_id", sa.Uuid(), nullable=False),
        sa.Column("round_no", sa.Integer(), nullable=False),
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("tradingsymbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("amount_paise", sa.BigInteger(), nullable=False),
        sa.Column("charges_paise", sa.BigInteger(), nullable=False),
        sa.Column("house_quantity", sa.Integer(), server_default="0", nullable=False),
        sa.Column("house_amount_paise", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("executed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("trading_date", sa.Date(), nullable=False),
        sa.PrimaryKeyConstraint("allocation_id", name=op.f("pk_order_allocation")),
    )
    op.create_index("ix_order_allocation_order_id", "order_allocation", ["order_id"], unique=False)
    op.create_index(
        "ix_order_allocation_user", "order_allocation", ["user_id", "executed_at", "allocation_id"], unique=False
    )
    op.create_table(
        "portfolio",
        sa.Column("portfolio_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("cash_opened", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("portfolio_id", name=op.f("pk_portfolio")),
    )
    op.create_index("ix_portfolio_user_id", "portfolio", ["user_id"], unique=False)
    op.create_index(
        "uq_portfolio_default", "portfolio", ["user_id"], unique=True, postgresql_where=sa.text("is_default")
    )
    op.create_index(
        "uq_portfolio_open_name",
        "portfolio",
        ["user_id", "name"],
        unique=True,
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "trader",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("gross_on", sa.Date(), nullable=True),
        sa.Column("gross_paise", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("rate_level", sa.BigInteger(), nullable=True),
        sa.Column("rate_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_trader")),
    )
    op.create_table(
        "transfer",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("debit_account", sa.Uuid(), nullable=False),
        sa.Column("credit_account", sa.Uuid(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("pending_id", sa.Uuid(), nullable=True),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(kind IN ('post', 'void')) = (pending_id IS NOT NULL)", name=op.f("ck_transfer_resolves_a_hold")
        ),
        sa.CheckConstraint("kind IN ('posted', 'pending', 'post', 'void')", name=op.f("ck_transfer_kind_known")),
        sa.CheckConstraint("amount > 0", name=op.f("ck_transfer_amount_positive")),
        sa.CheckConstraint("debit_account <> credit_account", name=op.f("ck_transfer_two_accounts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transfer")),
    )
    op.create_index("ix_transfer_credit_account", "transfer", ["credit_account", "seq"], unique=False)
    op.create_index("ix_transfer_debit_account", "transfer", ["debit_account", "seq"], unique=False)
    op.create_index(
        "ix_transfer_order_id", "transfer", ["order_id"], unique=False, postgresql_where=sa.text("order_id IS NOT NULL")
    )
    op.create_index(
        "uq_transfer_resolved_once",
        "transfer",
        ["pending_id"],
        unique=True,
        postgresql_where=sa.text("kind IN ('post', 'void')"),
    )
    op.create_table(
        "tax_lot",
        sa.Column("lot_id", sa.Uuid(), nullable=False),
        sa.Column("portfolio_id", sa.Uuid(), nullable=False),
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("tradingsymbol", sa.Text(), nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("acquired_on", sa.Date(), nullable=False),
        sa.Column("acquired_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("cost_paise", sa.BigInteger(), nullable=False),
        sa.Column("remaining_quantity", sa.Integer(), nullable=False),
        sa.Column("remaining_cost_paise", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "remaining_quantity >= 0 AND remaining_quantity <= quantity", name=op.f("ck_tax_lot_remaining_in_range")
        ),
        sa.ForeignKeyConstraint(["portfolio_id"], ["portfolio.portfolio_id"], name=op.f("fk_tax_lot_portfolio_id")),
        sa.PrimaryKeyConstraint("lot_id", name=op.f("pk_tax_lot")),
    )
    op.create_index(
        "ix_tax_lot_open",
        "tax_lot",
        ["portfolio_id", "exchange", "tradingsymbol", "product"],
        unique=False,
        postgresql_where=sa.text("remaining_quantity > 0"),
    )
    op.create_table(
        "user_order",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("portfolio_id", sa.Uuid(), nullable=False),
        sa.Column("submission_id", sa.Uuid(), nullable=False),
        sa.Column("idempotency_ref", sa.Text(), nullable=False),
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("tradingsymbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("order_type", sa.Text(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("price_paise", sa.BigInteger(), nullable=True),
        sa.Column("trigger_price_paise", sa.BigInteger(), nullable=True),
        sa.Column("validity", sa.Text(), nullable=False),
        sa.Column("ttl_minutes", sa.Integer(), nullable=True),
        sa.Column("tag", sa.Text(), nullable=True),
        sa.Column("trading_date", sa.Date(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("filled_quantity", sa.Integer(), server_default="0", nullable=False),
        sa.Column("amount_paise", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("charges_paise", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("hold_price_paise", sa.BigInteger(), nullable=False),
        sa.Column("hold_charges_paise", sa.BigInteger(), nullable=False),
        sa.Column("hold_transfer_id", sa.Uuid(), nullable=True),
        sa.Column("hold_amount", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closing_outcome", sa.Text(), nullable=True),
        sa.Column("closing_quantity", sa.Integer(), nullable=True),
        sa.Column("closing_amount_paise", sa.BigInteger(), nullable=True),
        sa.Column("closing_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closing_reason_code", sa.Text(), nullable=True),
        sa.Column("closing_reason", sa.Text(), nullable=True),
        sa.Column("reason_code", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("replaces", sa.Uuid(), nullable=True),
        sa.Column("replaced_by", sa.Uuid(), nullable=True),
        sa.Column("replacement", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("replacement_state", sa.Text(), nullable=True),
        sa.Column("replacement_detail", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_sweep_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sweep_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("correlation_id", sa.Text(), nullable=True),
        sa.CheckConstraint("side IN ('BUY', 'SELL')", name=op.f("ck_user_order_side_known")),
        sa.CheckConstraint(
            "state IN ('ACCEPTED', 'WORKING', 'PARTIAL', 'FILLED', 'CANCELLED', 'REJECTED', 'EXPIRED', 'FAILED')",
            name=op.f("ck_user_order_state_known"),
        ),
        sa.CheckConstraint(
            "quantity > 0 AND filled_quantity >= 0 AND filled_quantity <= quantity",
            name=op.f("ck_user_order_filled_in_range"),
        ),
        sa.ForeignKeyConstraint(["portfolio_id"], ["portfolio.portfolio_id"], name=op.f("fk_user_order_portfolio_id")),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_user_order")),
    )
    op.create_index("ix_user_order_accepted", "user_order", ["accepted_at", "order_id"], unique=False)
    op.create_index("ix_user_order_portfolio_id", "user_order", ["portfolio_id"], unique=False)
    op.create_index(
        "ix_user_order_replacing",
        "user_order",
        ["closed_at"],
        unique=False,
        postgresql_where=sa.text("replacement IS NOT NULL AND replacement_state = 'WAITING'"),
    )
    op.create_index(
        "ix_user_order_sweep",
        "user_order",
        ["next_sweep_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('ACCEPTED', 'PARTIAL', 'WORKING')"),
    )
    op.create_index("ix_user_order_user_accepted", "user_order", ["user_id", "accepted_at", "order_id"], unique=False)
    op.create_table(
        "lot_disposal",
        sa.Column("allocation_id", sa.Uuid(), nullable=False),
        sa.Column("lot_id", sa.Uuid(), nullable=False),
        sa.Column("portfolio_id", sa.Uuid(), nullable=False),
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("tradingsymbol", sa.Text(), nullable=False),
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("acquired_on", sa.Date(), nullable=False),
        sa.Column("disposed_on", sa.Date(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("cost_paise", sa.BigInteger(), nullable=False),
        sa.Column("proceeds_paise", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["lot_id"], ["tax_lot.lot_id"], name=op.f("fk_lot_disposal_lot_id")),
        sa.PrimaryKeyConstraint("allocation_id", "lot_id", name=op.f("pk_lot_disposal")),
    )
    op.create_index("ix_lot_disposal_portfolio", "lot_disposal", ["portfolio_id", "disposed_on"], unique=False)
    op.create_table(
        "order_history",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("fact", sa.Text(), nullable=False),
        sa.Column("from_state", sa.Text(), nullable=False),
        sa.Column("to_state", sa.Text(), nullable=False),
        sa.Column("filled_quantity", sa.Integer(), nullable=False),
        sa.Column("reason_code", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["user_order.order_id"], name=op.f("fk_order_history_order_id")),
        sa.PrimaryKeyConstraint("order_id", "version", name=op.f("pk_order_history")),
    )
    outbox.create_tables(op)
    idempotency.create_tables(op)
    op.execute(
        """
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'rows of % are insert-only; correct with a new row', TG_TABLE_NAME
                USING ERRCODE = 'restrict_violation';
        END $$
        """
    )
    for table in INSERT_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_insert_only BEFORE UPDATE OR DELETE ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        # The second wall: the service's own role loses the privilege too (a superuser keeps it, the trigger holds him).
        op.execute(f"REVOKE UPDATE, DELETE ON {table} FROM PUBLIC, CURRENT_USER")


def downgrade() -> None:
    """Take it back."""
    idempotency.drop_tables(op)
    outbox.drop_tables(op)
    for table in (
        "order_history",
        "lot_disposal",
        "user_order",
        "tax_lot",
        "transfer",
        "trader",
        "portfolio",
        "order_allocation",
        "ledger_break",
        "account",
    ):
        op.drop_table(table)
    op.execute("DROP FUNCTION refuse_change()")
