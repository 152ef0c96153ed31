"""Tables of the executor. Amounts in paise, quantities in shares, instants timestamptz.

The unique keys are what makes each step safe to run again: one tag per attempt, one unresolved attempt per block, one
row per broker trade, one allocation per order and round.
"""

from datetime import date, datetime
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Date,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from common import audit, catching_up, outbox
from common.db import NAMING, UtcDateTime
from trade_executor import states


class Base(DeclarativeBase):
    """Base of the executor's tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: UtcDateTime()}


outbox.add_tables(Base.metadata)
catching_up.add_tables(Base.metadata)
audit.add_tables(Base.metadata)


def _in(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


class BrokerAccount(Base):
    """An account at a broker; `pool` is the operator's, through which everybody trades."""

    __tablename__ = "broker_account"

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    broker: Mapped[str] = mapped_column(Text)
    api_key: Mapped[str] = mapped_column(Text)
    api_secret_sealed: Mapped[str] = mapped_column(Text)
    root_url: Mapped[str | None] = mapped_column(Text)
    live_attested_at: Mapped[datetime | None]
    """When the owner confirmed in writing that the money is his own; live trading needs it."""
    live_attested_by: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class BrokerSession(Base):
    """One login. The newest without `ended_at` and of the present trading day is in use."""

    __tablename__ = "broker_session"
    __table_args__ = (Index("ix_broker_session_live", "account", postgresql_where=text("ended_at IS NULL")),)

    session_id: Mapped[UUID] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("broker_account.account"))
    trading_date: Mapped[date] = mapped_column(Date)
    access_token_sealed: Mapped[str] = mapped_column(Text)
    broker_user_id: Mapped[str] = mapped_column(Text)
    started_by: Mapped[str] = mapped_column(Text)
    started_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    ended_reason: Mapped[str | None] = mapped_column(Text)


class Control(Base):
    """One row an account: whether it may send, and how much it has sent. Every send updates it under its row lock."""

    __tablename__ = "control"
    __table_args__ = (
        CheckConstraint(_in("trading_state", states.TRADING.states), name="trading_state"),
        CheckConstraint("sends_per_second > 0 AND sends_per_minute > 1 AND sends_per_day > 0", name="limits_positive"),
    )

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    trading_state: Mapped[str] = mapped_column(Text, server_default="ACTIVE")
    epoch: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Raised by each pump that takes over; a deposed one fails its next claim."""

    sends_per_second: Mapped[int] = mapped_column(Integer)
    window_ms: Mapped[int] = mapped_column(Integer)
    sends_per_minute: Mapped[int] = mapped_column(Integer)
    sends_per_day: Mapped[int] = mapped_column(Integer)
    places_per_day: Mapped[int] = mapped_column(Integer)
    value_per_day_paise: Mapped[int] = mapped_column(BigInteger)

    send_times: Mapped[list[datetime]] = mapped_column(ARRAY(UtcDateTime()), server_default="{}")
    """Database times of the latest sends, oldest first, at most `sends_per_second` of them: an exact sliding window."""
    minute_tokens: Mapped[float] = mapped_column(Double)
    refilled_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    day: Mapped[date] = mapped_column(Date, server_default=text("CURRENT_DATE"))
    day_sends: Mapped[int] = mapped_column(Integer, server_default="0")
    day_value_paise: Mapped[int] = mapped_column(BigInteger, server_default="0")

    observed_at: Mapped[datetime | None]
    """Start of the newest complete read of book and trades."""
    observe_failed_at: Mapped[datetime | None]

    changed_by: Mapped[str] = mapped_column(Text, server_default="system")
    changed_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    reason: Mapped[str] = mapped_column(Text, server_default="")
    resume_requested_by: Mapped[str | None] = mapped_column(Text)
    resume_requested_at: Mapped[datetime | None]
    resume_reason: Mapped[str | None] = mapped_column(Text)


class Block(Base):
    """Orders of one key that go out as one; the children and their shares are fixed (and hashed) before sending."""

    __tablename__ = "block"
    __table_args__ = (
        CheckConstraint(_in("state", states.BLOCK.states), name="state"),
        CheckConstraint("quantity > 0", name="quantity_positive"),
        Index("ix_block_live", "account", "exchange", "tradingsymbol", postgresql_where=text("state <> 'DONE'")),
        Index("ix_block_created_at", "created_at"),
        Index("ix_block_done_at", "done_at"),
    )

    block_id: Mapped[UUID] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(Text)
    exchange: Mapped[str] = mapped_column(Text)
    tradingsymbol: Mapped[str] = mapped_column(Text)
    side: Mapped[str] = mapped_column(Text)
    product: Mapped[str] = mapped_column(Text)
    order_type: Mapped[str] = mapped_column(Text)
    price_paise: Mapped[int | None] = mapped_column(BigInteger)
    trigger_price_paise: Mapped[int | None] = mapped_column(BigInteger)
    validity: Mapped[str] = mapped_column(Text)
    ttl_minutes: Mapped[int | None] = mapped_column(Integer)
    quantity: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text)
    round_no: Mapped[int] = mapped_column(Integer, server_default="0")
    children_hash: Mapped[str] = mapped_column(Text)
    cancel_reason: Mapped[str | None] = mapped_column(Text)
    """Why we asked the broker to cancel: decides whether the rest goes back to the pool or expires."""
    end_reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    done_at: Mapped[datetime | None]


class ChildOrder(Base):
    """A user's order as the executor sees it; `seq` is its age and survives every return to the pool."""

    __tablename__ = "child_order"
    __table_args__ = (
        CheckConstraint(_in("state", states.CHILD.states), name="state"),
        CheckConstraint("quantity > 0 AND filled_quantity BETWEEN 0 AND quantity", name="filled_within"),
        CheckConstraint("(state IN ('BATCHED', 'PARTIAL')) = (block_id IS NOT NULL)", name="block_while_batched"),
        CheckConstraint("(state = 'FILLED') = (filled_quantity = quantity)", name="filled_is_full"),
        Index(
            "ix_child_order_pool",
            "account",
            "seq",
            postgresql_where=text("state = 'ACCEPTED'"),
        ),
        Index("ix_child_order_block_id", "block_id", postgresql_where=text("block_id IS NOT NULL")),
        Index("ix_child_order_received_at", "received_at"),
    )

    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, Identity(), unique=True)
    user_id: Mapped[UUID]
    portfolio_id: Mapped[UUID]
    account: Mapped[str] = mapped_column(Text)
    exchange: Mapped[str] = mapped_column(Text)
    tradingsymbol: Mapped[str] = mapped_column(Text)
    side: Mapped[str] = mapped_column(Text)
    product: Mapped[str] = mapped_column(Text)
    order_type: Mapped[str] = mapped_column(Text)
    quantity: Mapped[int] = mapped_column(BigInteger)
    price_paise: Mapped[int | None] = mapped_column(BigInteger)
    trigger_price_paise: Mapped[int | None] = mapped_column(BigInteger)
    validity: Mapped[str] = mapped_column(Text)
    ttl_minutes: Mapped[int | None] = mapped_column(Integer)
    accepted_at: Mapped[datetime]
    trading_date: Mapped[date] = mapped_column(Date)
    state: Mapped[str] = mapped_column(Text, server_default="ACCEPTED")
    filled_quantity: Mapped[int] = mapped_column(BigInteger, server_default="0")
    amount_paise: Mapped[int] = mapped_column(BigInteger, server_default="0")
    block_id: Mapped[UUID | None] = mapped_column(ForeignKey("block.block_id"))
    cancel_requested_at: Mapped[datetime | None]
    pooled_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    not_before: Mapped[datetime | None]
    """The order yields its turn until then (an opposite order was kept waiting by its block)."""
    reason_code: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    correlation_id: Mapped[str | None] = mapped_column(Text)
    version: Mapped[int] = mapped_column(Integer, server_default="1")
    received_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    closed_at: Mapped[datetime | None]


class EarlyCancel(Base):
    """A cancel that overtook its order on the bus."""

    __tablename__ = "early_cancel"

    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    requested_at: Mapped[datetime]


class BlockChild(Base):
    """Which order brought how many shares into which block."""

    __tablename__ = "block_child"
    __table_args__ = (CheckConstraint("quantity > 0", name="quantity_positive"), Index(None, "order_id"))

    block_id: Mapped[UUID] = mapped_column(ForeignKey("block.block_id"), primary_key=True)
    order_id: Mapped[UUID] = mapped_column(ForeignKey("child_order.order_id"), primary_key=True)
    quantity: Mapped[int] = mapped_column(BigInteger)
    allocated_quantity: Mapped[int] = mapped_column(BigInteger, server_default="0")


class BrokerOrder(Base):
    """One attempt to have a block at the broker: sent at most once, found by its tag."""

    __tablename__ = "broker_order"
    __table_args__ = (
        CheckConstraint(_in("state", states.ATTEMPT.states), name="state"),
        CheckConstraint(_in("cancel_state", states.CANCEL.states), name="cancel_state"),
        CheckConstraint("quantity > 0 AND filled_quantity >= 0", name="quantities"),
        UniqueConstraint("block_id", "attempt_no"),
        Index(
            "uq_broker_order_unresolved_of_block",
            "block_id",
            unique=True,
            postgresql_where=text(_in("state", states.ATTEMPT_UNRESOLVED)),
        ),
        Index(
            "ix_broker_order_unresolved",
            "account",
            "state",
            postgresql_where=text("state NOT IN ('SETTLED', 'CLOSED')"),
        ),
        Index("ix_broker_order_sent_at", "sent_at"),
    )

    attempt_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    account: Mapped[str] = mapped_column(Text)
    block_id: Mapped[UUID] = mapped_column(ForeignKey("block.block_id"))
    attempt_no: Mapped[int] = mapped_column(Integer)
    tag: Mapped[str] = mapped_column(Text, unique=True)
    request: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """What is sent, frozen before sending; rupees as decimal strings."""
    quantity: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text, server_default="INTENT")
    cancel_state: Mapped[str] = mapped_column(Text, server_default="NONE")
    cancel_sent_at: Mapped[datetime | None]
    cancel_sends: Mapped[int] = mapped_column(Integer, server_default="0")
    broker_order_id: Mapped[str | None] = mapped_column(Text, unique=True)
    filled_quantity: Mapped[int] = mapped_column(BigInteger, server_default="0")
    broker_status: Mapped[str | None] = mapped_column(Text)
    broker_rank: Mapped[int] = mapped_column(Integer, server_default="0")
    status_message: Mapped[str | None] = mapped_column(Text)
    not_before: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    sent_at: Mapped[datetime | None]
    decided_at: Mapped[datetime | None]
    unknown_since: Mapped[datetime | None]
    scans_clean: Mapped[int] = mapped_column(Integer, server_default="0")
    missing_since: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    outcome_code: Mapped[str | None] = mapped_column(Text)
    outcome_detail: Mapped[str | None] = mapped_column(Text)


class Fill(Base):
    """One trade of the broker; a fact, kept whatever it means. `round_no` tells which allocation round used it."""

    __tablename__ = "fill"
    __table_args__ = (
        CheckConstraint("quantity > 0 AND amount_paise >= 0", name="amounts"),
        CheckConstraint("booked_to IN ('block', 'house')", name="booked_to"),
        UniqueConstraint("exchange", "trade_date", "broker_order_id", "broker_trade_id", name="uq_fill_trade"),
        Index("ix_fill_block_id", "block_id"),
        Index("ix_fill_unallocated", "block_id", postgresql_where=text("round_no IS NULL AND booked_to = 'block'")),
        Index("ix_fill_recorded_at", "recorded_at"),
    )

    fill_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    account: Mapped[str] = mapped_column(Text)
    attempt_id: Mapped[int] = mapped_column(ForeignKey("broker_order.attempt_id"))
    block_id: Mapped[UUID] = mapped_column(ForeignKey("block.block_id"))
    exchange: Mapped[str] = mapped_column(Text)
    tradingsymbol: Mapped[str] = mapped_column(Text)
    side: Mapped[str] = mapped_column(Text)
    trade_date: Mapped[date] = mapped_column(Date)
    broker_order_id: Mapped[str] = mapped_column(Text)
    broker_trade_id: Mapped[str] = mapped_column(Text)
    quantity: Mapped[int] = mapped_column(BigInteger)
    price: Mapped[Decimal] = mapped_column(Numeric(18, 4))
    """Rupees a share, as the broker says."""
    amount_paise: Mapped[int] = mapped_column(BigInteger)
    traded_at: Mapped[datetime]
    booked_to: Mapped[str] = mapped_column(Text, server_default="block")
    round_no: Mapped[int | None] = mapped_column(Integer)
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Allocation(Base):
    """What one order got in one round of its block."""

    __tablename__ = "allocation"
    __table_args__ = (
        UniqueConstraint("block_id", "round_no", "order_id"),
        CheckConstraint("quantity > 0 AND amount_paise >= 0", name="amounts"),
        Index("ix_allocation_order_id", "order_id"),
    )

    allocation_id: Mapped[UUID] = mapped_column(primary_key=True)
    block_id: Mapped[UUID] = mapped_column(ForeignKey("block.block_id"))
    round_no: Mapped[int] = mapped_column(Integer)
    order_id: Mapped[UUID] = mapped_column(ForeignKey("child_order.order_id"))
    quantity: Mapped[int] = mapped_column(BigInteger)
    amount_paise: Mapped[int] = mapped_column(BigInteger)
    executed_at: Mapped[datetime]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class ReconBreak(Base):
    """Two books that must agree do not; one open row per kind and key."""

    __tablename__ = "recon_break"
    __table_args__ = (
        Index("uq_recon_break_open", "account", "kind", "key", unique=True, postgresql_where=text("closed_at IS NULL")),
        CheckConstraint("severity BETWEEN 1 AND 3", name="severity"),
    )

    break_id: Mapped[UUID] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    key: Mapped[str] = mapped_column(Text)
    severity: Mapped[int] = mapped_column(Integer)
    """1 stops resuming after a halt, 2 needs a person today, 3 is for the record."""
    detail: Mapped[str] = mapped_column(Text)
    freezes: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    """Instruments (`NSE:INFY`) of which nothing new is sent while the break is open."""
    opened_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    closed_at: Mapped[datetime | None]
    closed_by: Mapped[str | None] = mapped_column(Text)
    closed_reason: Mapped[str | None] = mapped_column(Text)


class BrokerEvent(Base):
    """Evidence: what the broker sent by itself. Never read for numbers."""

    __tablename__ = "broker_event"
    __table_args__ = (UniqueConstraint("sha256", "received_on"),)

    event_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    account: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    sha256: Mapped[bytes] = mapped_column(LargeBinary)
    received_on: Mapped[date] = mapped_column(Date)
    body: Mapped[str] = mapped_column(Text)
    authentic: Mapped[bool] = mapped_column(Boolean)
    received_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    copies: Mapped[int] = mapped_column(Integer, server_default=sa.text("1"))


class HouseFill(Base):
    """Shares and money of the account that belong to no user; insert-only, told to the ledger in the same transaction."""

    __tablename__ = "house_fill"
    __table_args__ = (
        CheckConstraint("quantity > 0 AND amount_paise >= 0", name="amounts"),
        CheckConstraint("side IN ('BUY', 'SELL')", name="side"),
        Index("ix_house_fill_fill_id", "fill_id", postgresql_where=text("fill_id IS NOT NULL")),
        Index("ix_house_fill_recorded_at", "recorded_at"),
    )

    house_fill_id: Mapped[UUID] = mapped_column(primary_key=True)
    """Derived from the broker's trade: the same trade is the same row however often it is read."""
    account: Mapped[str] = mapped_column(Text)
    fill_id: Mapped[int | None] = mapped_column(ForeignKey("fill.fill_id"))
    """The fill of an order of ours; None for a trade of somebody else's order."""
    exchange: Mapped[str] = mapped_column(Text)
    tradingsymbol: Mapped[str] = mapped_column(Text)
    side: Mapped[str] = mapped_column(Text)
    trade_date: Mapped[date] = mapped_column(Date)
    broker_order_id: Mapped[str] = mapped_column(Text)
    broker_trade_id: Mapped[str] = mapped_column(Text)
    quantity: Mapped[int] = mapped_column(BigInteger)
    amount_paise: Mapped[int] = mapped_column(BigInteger)
    traded_at: Mapped[datetime]
    why: Mapped[str] = mapped_column(Text)
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class ReconRun(Base):
    """One comparison of our books with each other, and in a full run with the broker's and the ledger's."""

    __tablename__ = "recon_run"
    __table_args__ = (
        CheckConstraint("scope IN ('quick', 'full', 'start_of_day', 'end_of_day')", name="scope"),
        Index("ix_recon_run_account", "account", "started_at"),
    )

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(Text)
    scope: Mapped[str] = mapped_column(Text)
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    good: Mapped[bool] = mapped_column(Boolean)
    """Whether everything that was to be read could be read; a run that is not good proves nothing."""
    detail: Mapped[str | None] = mapped_column(Text)
    counts: Mapped[dict[str, Any]] = mapped_column(JSONB)
    opened: Mapped[int] = mapped_column(Integer)
    cured: Mapped[int] = mapped_column(Integer)


class ReconSuspect(Base):
    """A difference that is not a break yet: trades and messages may still be on their way."""

    __tablename__ = "recon_suspect"

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    difference: Mapped[str] = mapped_column(Text)
    since: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    """Since when the difference has been exactly this."""


class DaySnapshot(Base):
    """The broker's last word on a day, before it forgets: one part of its books as rows."""

    __tablename__ = "day_snapshot"

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    trading_date: Mapped[date] = mapped_column(Date, primary_key=True)
    part: Mapped[str] = mapped_column(Text, primary_key=True)
    sha256: Mapped[str] = mapped_column(Text)
    rows: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    taken_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class JobRun(Base):
    """What is done once a day; the key makes it once however many loops run."""

    __tablename__ = "job_run"

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    job: Mapped[str] = mapped_column(Text, primary_key=True)
    slot: Mapped[date] = mapped_column(Date, primary_key=True)
    result: Mapped[dict[str, Any]] = mapped_column(JSONB)
    sha256: Mapped[str] = mapped_column(Text)
    """Over the result, which names the hash of the day before."""
    finished_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
