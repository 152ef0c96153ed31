"""Tables of portfolio-service: portfolios, the ledger, user orders and their allocations, tax lots.

The ledger tables carry no foreign keys on purpose: a reference to a busy account row would take a share lock on it in
every transaction, and the ids are derived, not assigned. `ledger_check` proves what a foreign key would.
"""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, MetaData, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from common import audit, catching_up, idempotency, outbox
from common.db import NAMING, Paise, UtcDateTime
from portfolio_service.orders import LIVE_STATES, OrderState


class Base(DeclarativeBase):
    """All tables of this service."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: UtcDateTime()}  # noqa: RUF012


outbox.add_tables(Base.metadata)
catching_up.add_tables(Base.metadata)
idempotency.add_tables(Base.metadata)
audit.add_tables(Base.metadata)

_LIVE = "state IN ({})".format(", ".join(f"'{state}'" for state in sorted(LIVE_STATES)))
_STATES = "state IN ({})".format(", ".join(f"'{state}'" for state in OrderState))


class Trader(Base):
    """One row per user: locked while the user's orders are judged, and the counters of the limits per user."""

    __tablename__ = "trader"

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    gross_on: Mapped[date | None]
    gross_paise: Mapped[int] = mapped_column(Paise, server_default="0")
    rate_level: Mapped[int | None] = mapped_column(Paise)
    rate_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class Portfolio(Base):
    """A user's portfolio. A deleted one keeps its row: orders and transfers speak of it."""

    __tablename__ = "portfolio"
    __table_args__ = (
        Index("uq_portfolio_open_name", "user_id", "name", unique=True, postgresql_where=text("closed_at IS NULL")),
        Index("uq_portfolio_default", "user_id", unique=True, postgresql_where=text("is_default")),
        Index("ix_portfolio_user_id", "user_id"),
    )

    portfolio_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)
    is_default: Mapped[bool]
    cash_opened: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether the initial paper cash has been given."""
    created_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]


class Account(Base):
    """What one holder has of one asset: the replay of its transfers, kept ready."""

    __tablename__ = "account"
    __table_args__ = (
        UniqueConstraint("owner", "kind", "asset"),
        CheckConstraint("allow_negative OR (posted - held >= 0 AND posted >= 0)", name="not_negative"),
        CheckConstraint("held >= 0", name="held_not_negative"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    asset: Mapped[str] = mapped_column(Text)
    posted: Mapped[int] = mapped_column(Paise, server_default="0")
    held: Mapped[int] = mapped_column(Paise, server_default="0")
    allow_negative: Mapped[bool]


class TransferRow(Base):
    """One insert-only row of the ledger; see `portfolio_service.ledger` for the rules."""

    __tablename__ = "transfer"
    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("debit_account <> credit_account", name="two_accounts"),
        CheckConstraint("kind IN ('posted', 'pending', 'post', 'void')", name="kind_known"),
        CheckConstraint("(kind IN ('post', 'void')) = (pending_id IS NOT NULL)", name="resolves_a_hold"),
        Index(
            "uq_transfer_resolved_once", "pending_id", unique=True, postgresql_where=text("kind IN ('post', 'void')")
        ),
        Index("ix_transfer_debit_account", "debit_account", "seq"),
        Index("ix_transfer_credit_account", "credit_account", "seq"),
        Index("ix_transfer_order_id", "order_id", postgresql_where=text("order_id IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    """Order of writing. Accounts are locked while it is drawn, so within one user account it is also commit order."""
    debit_account: Mapped[UUID]
    credit_account: Mapped[UUID]
    asset: Mapped[str] = mapped_column(Text)
    amount: Mapped[int] = mapped_column(Paise)
    kind: Mapped[str] = mapped_column(Text)
    pending_id: Mapped[UUID | None]
    cause: Mapped[str] = mapped_column(Text)
    order_id: Mapped[UUID | None]
    reason: Mapped[str | None] = mapped_column(Text)
    actor_id: Mapped[UUID | None]
    created_at: Mapped[datetime]


class UserOrder(Base):
    """One order of one user. Money in paise; `hold_*` describe the unresolved hold (paise for buys, units for sales)."""

    __tablename__ = "user_order"
    __table_args__ = (
        CheckConstraint(
            "quantity > 0 AND filled_quantity >= 0 AND filled_quantity <= quantity", name="filled_in_range"
        ),
        CheckConstraint(_STATES, name="state_known"),
        CheckConstraint("side IN ('BUY', 'SELL')", name="side_known"),
        Index("ix_user_order_user_accepted", "user_id", "accepted_at", "order_id"),
        Index("ix_user_order_portfolio_id", "portfolio_id"),
        Index("ix_user_order_accepted", "accepted_at", "order_id"),
        Index("ix_user_order_sweep", "next_sweep_at", postgresql_where=text(_LIVE)),
        Index(
            "ix_user_order_replacing",
            "closed_at",
            postgresql_where=text("replacement IS NOT NULL AND replacement_state = 'WAITING'"),
        ),
    )

    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    portfolio_id: Mapped[UUID] = mapped_column(ForeignKey("portfolio.portfolio_id"))
    submission_id: Mapped[UUID]
    """One per request: the orders of a batch share it."""
    idempotency_ref: Mapped[str] = mapped_column(Text)
    """The Idempotency-Key the order came with."""
    exchange: Mapped[str] = mapped_column(Text)
    tradingsymbol: Mapped[str] = mapped_column(Text)
    side: Mapped[str] = mapped_column(Text)
    product: Mapped[str] = mapped_column(Text)
    order_type: Mapped[str] = mapped_column(Text)
    quantity: Mapped[int]
    price_paise: Mapped[int | None] = mapped_column(Paise)
    trigger_price_paise: Mapped[int | None] = mapped_column(Paise)
    validity: Mapped[str] = mapped_column(Text)
    ttl_minutes: Mapped[int | None]
    tag: Mapped[str | None] = mapped_column(Text)
    trading_date: Mapped[date]
    state: Mapped[str] = mapped_column(Text)
    version: Mapped[int]
    filled_quantity: Mapped[int] = mapped_column(server_default="0")
    amount_paise: Mapped[int] = mapped_column(Paise, server_default="0")
    charges_paise: Mapped[int] = mapped_column(Paise, server_default="0")
    hold_price_paise: Mapped[int] = mapped_column(Paise)
    """Worst price per unit the hold is made for."""
    hold_charges_paise: Mapped[int] = mapped_column(Paise)
    """Charges of the whole order at the worst price."""
    hold_transfer_id: Mapped[UUID | None]
    hold_amount: Mapped[int] = mapped_column(Paise, server_default="0")
    cancel_requested_at: Mapped[datetime | None]
    closing_outcome: Mapped[str | None] = mapped_column(Text)
    """The executor has closed the order, but some of its allocations have not arrived yet."""
    closing_quantity: Mapped[int | None]
    closing_amount_paise: Mapped[int | None] = mapped_column(Paise)
    closing_at: Mapped[datetime | None]
    closing_reason_code: Mapped[str | None] = mapped_column(Text)
    closing_reason: Mapped[str | None] = mapped_column(Text)
    reason_code: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    replaces: Mapped[UUID | None]
    replaced_by: Mapped[UUID | None]
    replacement: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    replacement_state: Mapped[str | None] = mapped_column(Text)
    replacement_detail: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    accepted_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    next_sweep_at: Mapped[datetime]
    sweep_count: Mapped[int] = mapped_column(server_default="0")
    correlation_id: Mapped[str | None] = mapped_column(Text)


class OrderAllocation(Base):
    """A fill given to an order by the executor; `house_*` is the part no user could be given."""

    __tablename__ = "order_allocation"
    __table_args__ = (
        Index("ix_order_allocation_order_id", "order_id"),
        Index("ix_order_allocation_user", "user_id", "executed_at", "allocation_id"),
    )

    allocation_id: Mapped[UUID] = mapped_column(primary_key=True)
    order_id: Mapped[UUID]
    user_id: Mapped[UUID]
    portfolio_id: Mapped[UUID | None]
    block_id: Mapped[UUID]
    round_no: Mapped[int]
    exchange: Mapped[str] = mapped_column(Text)
    tradingsymbol: Mapped[str] = mapped_column(Text)
    side: Mapped[str] = mapped_column(Text)
    product: Mapped[str] = mapped_column(Text)
    quantity: Mapped[int]
    amount_paise: Mapped[int] = mapped_column(Paise)
    charges_paise: Mapped[int] = mapped_column(Paise)
    house_quantity: Mapped[int] = mapped_column(server_default="0")
    house_amount_paise: Mapped[int] = mapped_column(Paise, server_default="0")
    executed_at: Mapped[datetime]
    trading_date: Mapped[date]


class OrderHistory(Base):
    """One row per change of an order after its acceptance."""

    __tablename__ = "order_history"

    order_id: Mapped[UUID] = mapped_column(ForeignKey("user_order.order_id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    fact: Mapped[str] = mapped_column(Text)
    from_state: Mapped[str] = mapped_column(Text)
    to_state: Mapped[str] = mapped_column(Text)
    filled_quantity: Mapped[int]
    reason_code: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    at: Mapped[datetime]


class TaxLot(Base):
    """Shares bought by one allocation. The cost is the traded value without charges."""

    __tablename__ = "tax_lot"
    __table_args__ = (
        CheckConstraint("remaining_quantity >= 0 AND remaining_quantity <= quantity", name="remaining_in_range"),
        Index(
            "ix_tax_lot_open",
            "portfolio_id",
            "exchange",
            "tradingsymbol",
            "product",
            postgresql_where=text("remaining_quantity > 0"),
        ),
    )

    lot_id: Mapped[UUID] = mapped_column(primary_key=True)
    """The allocation that bought it."""
    portfolio_id: Mapped[UUID] = mapped_column(ForeignKey("portfolio.portfolio_id"))
    exchange: Mapped[str] = mapped_column(Text)
    tradingsymbol: Mapped[str] = mapped_column(Text)
    product: Mapped[str] = mapped_column(Text)
    acquired_on: Mapped[date]
    acquired_at: Mapped[datetime]
    quantity: Mapped[int]
    cost_paise: Mapped[int] = mapped_column(Paise)
    remaining_quantity: Mapped[int]
    remaining_cost_paise: Mapped[int] = mapped_column(Paise)


class LotDisposal(Base):
    """The part of a lot that one sale took, with its cost and its share of the proceeds."""

    __tablename__ = "lot_disposal"
    __table_args__ = (Index("ix_lot_disposal_portfolio", "portfolio_id", "disposed_on"),)

    allocation_id: Mapped[UUID] = mapped_column(primary_key=True)
    lot_id: Mapped[UUID] = mapped_column(ForeignKey("tax_lot.lot_id"), primary_key=True)
    portfolio_id: Mapped[UUID]
    exchange: Mapped[str] = mapped_column(Text)
    tradingsymbol: Mapped[str] = mapped_column(Text)
    product: Mapped[str] = mapped_column(Text)
    acquired_on: Mapped[date]
    disposed_on: Mapped[date]
    quantity: Mapped[int]
    cost_paise: Mapped[int] = mapped_column(Paise)
    proceeds_paise: Mapped[int] = mapped_column(Paise)


class LedgerBreak(Base):
    """Something the ledger was told that can not be right; opened once per kind and key, looked at by people."""

    __tablename__ = "ledger_break"
    __table_args__ = (UniqueConstraint("kind", "key"),)

    break_id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    key: Mapped[str] = mapped_column(Text)
    severity: Mapped[int]
    detail: Mapped[str] = mapped_column(Text)
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
