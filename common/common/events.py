"""Every event contract of the platform: frozen, past-tense, versioned, in one place.

An event is a fact that a room has committed. Its wire name is the class name; the routing key is `source.Name`.
Amounts are integer paise, quantities are units of shares, instants are aware UTC.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any, ClassVar, Literal
from uuid import UUID, uuid4

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Side = Literal["BUY", "SELL"]
Product = Literal["CNC", "MIS"]
OrderType = Literal["MARKET", "LIMIT", "SL", "SL-M"]
Validity = Literal["DAY", "IOC", "TTL"]
Outcome = Literal["FILLED", "CANCELLED", "REJECTED", "EXPIRED", "FAILED"]

REGISTRY: dict[str, type["Event"]] = {}


class Event(BaseModel):
    """Base of all events; subclasses register themselves under their name."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    version: ClassVar[int] = 1
    producers: ClassVar[tuple[str, ...]] = ()
    """The rooms that state this fact."""
    consumers: ClassVar[tuple[str, ...]] = ()
    """The rooms that act on it; nobody else may read it again from a producer's outbox."""

    occurred_at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        REGISTRY[cls.__name__] = cls

    @classmethod
    def type_name(cls) -> str:
        """The name on the wire."""
        return cls.__name__


class Envelope(BaseModel):
    """What travels on the bus: the event's payload with its identity and its trace."""

    model_config = ConfigDict(frozen=True)

    id: UUID = Field(default_factory=uuid4)
    type: str
    version: int = 1
    source: str
    aggregate_id: str = ""
    occurred_at: AwareDatetime
    recorded_at: AwareDatetime
    correlation_id: str | None = None
    payload: dict[str, Any]

    @property
    def routing_key(self) -> str:
        """`portfolio-service.OrderAccepted`."""
        return f"{self.source}.{self.type}"

    def event(self) -> Event:
        """The typed event; raises KeyError for a type this release does not know."""
        return REGISTRY[self.type].model_validate(self.payload)


class UserRegistered(Event):
    """A user account exists."""

    producers = ("user-service",)
    consumers = ("portfolio-service",)

    user_id: UUID
    email: str
    full_name: str


class KycChanged(Event):
    """A user's KYC was submitted or decided."""

    producers = ("user-service",)
    consumers = ("notification-service",)

    user_id: UUID
    status: Literal["none", "pending", "approved", "rejected"]
    reason: str | None = None


class OrderAccepted(Event):
    """portfolio-service holds the money or shares of an order and wants it traded."""

    producers = ("portfolio-service",)
    consumers = ("trade-executor",)

    order_id: UUID
    user_id: UUID
    portfolio_id: UUID
    account: str = "pool"
    exchange: str
    tradingsymbol: str
    side: Side
    product: Product
    order_type: OrderType
    quantity: int = Field(gt=0)
    price_paise: int | None = None
    trigger_price_paise: int | None = None
    validity: Validity = "DAY"
    ttl_minutes: int | None = None
    accepted_at: AwareDatetime
    trading_date: date
    """The last trading day on which the order may live."""


class OrderCancelRequested(Event):
    """The user no longer wants what is left of an order."""

    producers = ("portfolio-service",)
    consumers = ("trade-executor",)

    order_id: UUID
    requested_at: AwareDatetime


class OrderWorking(Event):
    """trade-executor has put the order into a block that goes to the broker."""

    producers = ("trade-executor",)
    consumers = ("portfolio-service", "analytics-service")

    order_id: UUID
    block_id: UUID


class OrderAllocated(Event):
    """A share of a block's fills belongs to this order; cumulative values make redelivery and reordering harmless."""

    producers = ("trade-executor",)
    consumers = ("portfolio-service",)

    allocation_id: UUID
    order_id: UUID
    user_id: UUID
    block_id: UUID
    round_no: int
    quantity: int = Field(gt=0)
    amount_paise: int = Field(ge=0)
    cumulative_quantity: int
    cumulative_amount_paise: int
    executed_at: AwareDatetime
    trading_date: date
    exchange: str
    tradingsymbol: str
    side: Side
    product: Product


class HouseFilled(Event):
    """A trade of the account that belongs to no user: the house has its shares and its money."""

    producers = ("trade-executor",)
    consumers = ("portfolio-service",)

    house_fill_id: UUID
    """Derived from the broker's trade: the same trade has the same id however often it is told."""
    account: str
    exchange: str
    tradingsymbol: str
    side: Side
    quantity: int = Field(gt=0)
    amount_paise: int = Field(ge=0)
    why: str
    broker_order_id: str
    broker_trade_id: str
    executed_at: AwareDatetime
    trading_date: date


class OrderClosed(Event):
    """Nothing more will be traded for this order; the totals are those of all its allocations."""

    producers = ("trade-executor",)
    consumers = ("portfolio-service",)

    order_id: UUID
    user_id: UUID
    outcome: Outcome
    filled_quantity: int = Field(ge=0)
    amount_paise: int = Field(ge=0)
    reason_code: str | None = None
    reason: str | None = None


class OrderUpdated(Event):
    """portfolio-service has booked a change of an order: what users are told and analytics counts."""

    producers = ("portfolio-service",)
    consumers = ("notification-service", "analytics-service", "smallcase-service")

    order_id: UUID
    user_id: UUID
    portfolio_id: UUID
    exchange: str
    tradingsymbol: str
    side: Side
    product: Product
    status: str
    order_version: int
    quantity: int
    filled_quantity: int
    amount_paise: int
    charges_paise: int
    last_fill_quantity: int = 0
    last_fill_amount_paise: int = 0
    last_fill_charges_paise: int = 0
    trading_date: date
    reason_code: str | None = None
    reason: str | None = None


class CashMoved(Event):
    """Money entered or left a portfolio other than by a trade."""

    producers = ("portfolio-service",)
    consumers = ("notification-service", "analytics-service")

    user_id: UUID
    portfolio_id: UUID
    kind: Literal["TOPUP", "DEPOSIT", "WITHDRAWAL"]
    amount_paise: int = Field(gt=0)
    transfer_id: UUID


class TradingHalted(Event):
    """The kill switch of a broker account moved."""

    producers = ("trade-executor",)
    consumers = ("notification-service",)

    account: str
    state: Literal["ACTIVE", "CANCEL_ONLY", "HALTED"]
    actor: str
    reason: str


class BreakOpened(Event):
    """Two books that must agree do not."""

    producers = ("trade-executor", "portfolio-service")
    consumers = ("notification-service",)

    break_id: UUID
    kind: str
    key: str
    severity: int
    detail: str


class PasswordResetRequested(Event):
    """Somebody asked for a link that sets a new password; the token itself is fetched from user-service by its id."""

    producers = ("user-service",)
    consumers = ("notification-service",)

    user_id: UUID
    email: str
    full_name: str
    mail_token_id: UUID
    expires_at: AwareDatetime


class EmailVerificationRequested(Event):
    """A user's address waits to be verified; the token itself is fetched from user-service by its id."""

    producers = ("user-service",)
    consumers = ("notification-service",)

    user_id: UUID
    email: str
    full_name: str
    mail_token_id: UUID
    expires_at: AwareDatetime


class ReportReady(Event):
    """A report that a user waits for, or that is made every day or month, can be opened."""

    producers = ("analytics-service",)
    consumers = ("notification-service",)

    report_id: UUID
    user_id: UUID
    kind: str = Field(pattern=r"^[a-z0-9_-]{1,40}$")
    """`daily`, `monthly`, or the name of what was asked for (`capital_gains`)."""
    title: str = Field(min_length=1, max_length=120)
    """What it is, in words for its user: `Capital gains 2025-26`."""
    period_start: date | None = None
    period_end: date | None = None


class BasketUpdated(Event):
    """All legs of a basket order have ended, or the basket was refused after its request had been taken."""

    producers = ("smallcase-service",)
    consumers = ("notification-service", "analytics-service")

    basket_order_id: UUID
    user_id: UUID
    investment_id: UUID
    smallcase_id: UUID
    smallcase_name: str
    kind: Literal["INVEST", "INVEST_MORE", "SIP", "REBALANCE", "CUSTOMISE", "PARTIAL_EXIT", "EXIT", "REPAIR"]
    status: Literal["filled", "needs_repair", "unfilled", "refused"]
    """`filled`: everything was done. `needs_repair`, `unfilled`: some or all orders were not, and can be placed again."""
    orders: int = Field(ge=0)
    orders_filled: int = Field(ge=0)
    bought_paise: int = Field(ge=0)
    sold_paise: int = Field(ge=0)
    charges_paise: int = Field(ge=0)
    reason_code: str | None = None
    reason: str | None = None


class SipDue(Event):
    """An instalment of a SIP is due today: the user confirms it, or the platform places it."""

    producers = ("smallcase-service",)
    consumers = ("notification-service",)

    sip_id: UUID
    user_id: UUID
    smallcase_id: UUID
    smallcase_name: str
    due_on: date
    amount_paise: int = Field(gt=0)
    mode: Literal["CONFIRM", "AUTO"]


def sources_of(types: Iterable[type[Event]]) -> dict[str, list[type[Event]]]:
    """Which rooms state these facts, and which of them each states."""
    found: dict[str, list[type[Event]]] = {}
    for event in types:
        for room in event.producers:
            found.setdefault(room, []).append(event)
    return found


def readers_of(room: str) -> dict[str, frozenset[str]]:
    """Which rooms act on facts of this room, and the names of the types each may read."""
    found: dict[str, set[str]] = {}
    for event in REGISTRY.values():
        if room in event.producers:
            for reader in event.consumers:
                found.setdefault(reader, set()).add(event.type_name())
    return {reader: frozenset(names) for reader, names in found.items()}
