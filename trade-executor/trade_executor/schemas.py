"""What the ops and broker routes take and answer. Rupees as decimal strings here, paise everywhere inside."""

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from common.money import SignedRupees
from common.text import Printable

T = TypeVar("T")
Price = Annotated[Decimal, PlainSerializer(str, return_type=str)]
"""Rupees a share as the broker says them: a decimal string, up to four places."""
AttemptId = Annotated[int, PlainSerializer(str, return_type=str)]
"""63 bits: text, because JavaScript's numbers end at 53."""


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class SwitchRequest(_In):
    """Why somebody moves the kill switch."""

    reason: Annotated[str, Field(min_length=3, max_length=500), Printable]


class CloseBreakRequest(_In):
    """How a break was dealt with."""

    reason: Annotated[str, Field(min_length=3, max_length=1_000), Printable]


class SessionRequest(_In):
    """The request token that the broker's login page handed over."""

    request_token: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_-]+$")


class AttestationRequest(_In):
    """The owner's confirmation that live trading is done with his own money (market.md section 8)."""

    statement: Literal["The money in this account is my own; I do not trade with money of third parties."]


class Page(_Out, Generic[T]):
    """One page of a list, newest first."""

    items: list[T]
    limit: int
    offset: int


class SessionOut(_Out):
    """A login at the broker, without its token."""

    session_id: UUID
    trading_date: date
    broker_user_id: str
    started_by: str
    started_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    ended_reason: str | None


class AccountOut(_Out):
    """A broker account and whether it can be used now."""

    account: str
    broker: str
    root_url: str | None
    paper: bool
    live_attested_at: datetime | None
    live_attested_by: str | None
    session: SessionOut | None


class ControlOut(_Out):
    """The kill switch and the budget of an account."""

    account: str
    trading_state: str
    changed_by: str
    changed_at: datetime
    reason: str
    resume_requested_by: str | None
    resume_requested_at: datetime | None
    resume_reason: str | None
    sends_per_second: int
    sends_per_minute: int
    sends_per_day: int
    places_per_day: int
    day: date
    day_sends: int
    day_value: SignedRupees = Field(validation_alias="day_value_paise")
    value_per_day: SignedRupees = Field(validation_alias="value_per_day_paise")
    observed_at: datetime | None


class BlockOut(_Out):
    """A block order."""

    block_id: UUID
    account: str
    exchange: str
    tradingsymbol: str
    side: str
    product: str
    order_type: str
    price: SignedRupees | None = Field(validation_alias="price_paise")
    trigger_price: SignedRupees | None = Field(validation_alias="trigger_price_paise")
    validity: str
    ttl_minutes: int | None
    quantity: int
    state: str
    round_no: int
    children_hash: str
    cancel_reason: str | None
    end_reason: str | None
    created_at: datetime
    done_at: datetime | None


class AttemptOut(_Out):
    """One attempt to have a block at the broker."""

    attempt_id: AttemptId
    block_id: UUID
    attempt_no: int
    tag: str
    quantity: int
    state: str
    cancel_state: str
    broker_order_id: str | None
    broker_status: str | None
    status_message: str | None
    filled_quantity: int
    created_at: datetime
    sent_at: datetime | None
    decided_at: datetime | None
    unknown_since: datetime | None
    scans_clean: int
    ended_at: datetime | None
    outcome_code: str | None
    outcome_detail: str | None


class FillOut(_Out):
    """One trade of the broker."""

    fill_id: int
    block_id: UUID
    attempt_id: AttemptId
    exchange: str
    tradingsymbol: str
    side: str
    broker_order_id: str
    broker_trade_id: str
    quantity: int
    price: Price
    amount: SignedRupees = Field(validation_alias="amount_paise")
    traded_at: datetime
    booked_to: str
    round_no: int | None


class AllocationOut(_Out):
    """What one order got in one round."""

    allocation_id: UUID
    block_id: UUID
    round_no: int
    order_id: UUID
    quantity: int
    amount: SignedRupees = Field(validation_alias="amount_paise")
    executed_at: datetime


class BlockChildOut(_Out):
    """An order's part in a block."""

    order_id: UUID
    quantity: int
    allocated_quantity: int


class BlockDetail(_Out):
    """A block with everything that belongs to it."""

    block: BlockOut
    children: list[BlockChildOut]
    attempts: list[AttemptOut]
    fills: list[FillOut]
    allocations: list[AllocationOut]


class ChildOut(_Out):
    """A user's order as the executor sees it."""

    order_id: UUID
    seq: int
    user_id: UUID
    portfolio_id: UUID
    account: str
    exchange: str
    tradingsymbol: str
    side: str
    product: str
    order_type: str
    quantity: int
    price: SignedRupees | None = Field(validation_alias="price_paise")
    trigger_price: SignedRupees | None = Field(validation_alias="trigger_price_paise")
    validity: str
    ttl_minutes: int | None
    accepted_at: datetime
    trading_date: date
    state: str
    filled_quantity: int
    amount: SignedRupees = Field(validation_alias="amount_paise")
    block_id: UUID | None
    cancel_requested_at: datetime | None
    reason_code: str | None
    reason: str | None
    correlation_id: str | None
    received_at: datetime
    closed_at: datetime | None


class OrderDetail(_Out):
    """An order, its blocks with their attempts and fills, and what it got."""

    order: ChildOut
    blocks: list[BlockOut]
    attempts: list[AttemptOut]
    fills: list[FillOut]
    allocations: list[AllocationOut]


class QueueRow(_Out):
    """Pooled orders that would go out as one block."""

    exchange: str
    tradingsymbol: str
    side: str
    product: str
    order_type: str
    price: SignedRupees | None
    trigger_price: SignedRupees | None
    validity: str
    ttl_minutes: int | None
    orders: int
    quantity: int
    waited_s: float
    oldest: int
    frozen: bool
    """An open break holds the instrument back."""


class QueueOut(_Out):
    """The aggregation preview: what waits, by block key, oldest first."""

    market_open: bool
    trading_state: str
    send_wait_s: float
    items: list[QueueRow]


class BreakOut(_Out):
    """A disagreement between our books and the broker's."""

    break_id: UUID
    account: str
    kind: str
    key: str
    severity: int
    detail: str
    freezes: list[str]
    opened_at: datetime
    closed_at: datetime | None
    closed_by: str | None
    closed_reason: str | None


class SummaryOut(_Out):
    """Counts of what the executor has done since an instant."""

    since: datetime | None
    user_orders: int
    blocks: int
    broker_orders: int
    fills: int
    allocations: int
    orders_per_broker_order: float | None
    shares_ordered: int
    shares_filled: int
    shares_allocated: int
    shares_to_house: int
    amount_filled: SignedRupees
    amount_allocated: SignedRupees
    orders_by_state: dict[str, int]
    blocks_by_state: dict[str, int]
    attempts_by_state: dict[str, int]
    unknowns: int
    open_breaks: int


class LoginUrlOut(_Out):
    """Where the account's owner logs in."""

    login_url: str


class LoggedInOut(_Out):
    """The session that a login started."""

    account: str
    session: SessionOut


class PostbackAnswer(_Out):
    """What the broker is told."""

    status: Literal["ok"] = "ok"


class MarketDataSession(_Out):
    """What market-data-service needs to read the market."""

    api_key: str
    access_token: str
    root_url: str
