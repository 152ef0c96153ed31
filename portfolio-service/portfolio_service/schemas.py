"""Request and answer bodies of orders and trades. Rupees are decimal strings here and paise everywhere else."""

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from common.money import Rupees, SignedRupees, format_rupees, round_paise
from portfolio_service.models import OrderAllocation, OrderHistory, TaxLot, UserOrder
from portfolio_service.orders import PRODUCT_WORDS, OrderRequest

Side = Literal["BUY", "SELL"]
OrderType = Literal["MARKET", "LIMIT", "SL", "SL-M"]
Validity = Literal["DAY", "IOC", "TTL"]
Symbol = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[A-Z0-9&_\-]+$")]
Exchange = Annotated[str, Field(pattern=r"^[A-Z]{2,6}$")]
Quantity = Annotated[int, Field(strict=True, ge=-(10**9), le=10**9, description="Units; at least 1.", examples=[10])]
Tag = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[\x20-\x7e]+$")]


class Body(BaseModel):
    """A request body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class TradeIn(Body):
    """An order without its side (POST /orders/buy, /orders/sell)."""

    portfolio_id: UUID | None = None
    exchange: Exchange = "NSE"
    tradingsymbol: Symbol = Field(validation_alias=AliasChoices("tradingsymbol", "symbol"))
    product: str = Field(default="CNC", max_length=20, description="CNC (DELIVERY) or MIS (INTRADAY).")
    order_type: OrderType = "MARKET"
    quantity: Quantity
    price: Rupees | None = None
    trigger_price: Rupees | None = None
    validity: Validity = "DAY"
    ttl_minutes: int | None = Field(default=None, strict=True, ge=0, le=10_000)
    tag: Tag | None = None
    queue_when_closed: bool = Field(default=False, description="Let the order wait for the next session.")
    confirm_duplicate: bool = Field(default=False, description="Take it although the same order came just before.")

    def request(self, side: str) -> OrderRequest:
        """What acceptance judges."""
        product = self.product.strip().upper()
        return OrderRequest(
            exchange=self.exchange,
            tradingsymbol=self.tradingsymbol,
            side=side,
            product=PRODUCT_WORDS.get(product, product),
            order_type=self.order_type,
            quantity=self.quantity,
            price_paise=self.price,
            trigger_price_paise=self.trigger_price,
            validity=self.validity,
            ttl_minutes=self.ttl_minutes,
            portfolio_id=self.portfolio_id,
            tag=self.tag,
            queue_when_closed=self.queue_when_closed,
            confirm_duplicate=self.confirm_duplicate,
        )


class OrderIn(TradeIn):
    """An order (POST /orders)."""

    side: Side


class ExitIn(Body):
    """How to sell what is left of a fill (POST /trades/{id}/exit)."""

    order_type: OrderType = "MARKET"
    price: Rupees | None = None
    trigger_price: Rupees | None = None
    queue_when_closed: bool = False

    def trade(self, lot: TaxLot) -> TradeIn:
        """The sale of a lot's remaining units."""
        return TradeIn.model_construct(
            portfolio_id=lot.portfolio_id,
            exchange=lot.exchange,
            tradingsymbol=lot.tradingsymbol,
            product=lot.product,
            quantity=lot.remaining_quantity,
            order_type=self.order_type,
            price=self.price,
            trigger_price=self.trigger_price,
            queue_when_closed=self.queue_when_closed,
        )


class BatchIn(Body):
    """Many orders in one transaction; `atomic`: all or none."""

    orders: list[OrderIn] = Field(min_length=1, max_length=1_000)
    atomic: bool = True


class OrderChange(Body):
    """New terms of an order (PUT /orders/{id}); what is left out stays. `quantity` is the total wanted."""

    order_type: OrderType | None = None
    quantity: Quantity | None = None
    price: Rupees | None = None
    trigger_price: Rupees | None = None
    validity: Validity | None = None
    ttl_minutes: int | None = Field(default=None, strict=True, ge=0, le=10_000)
    queue_when_closed: bool | None = None

    def changes(self) -> dict[str, Any]:
        """The given terms under the names of OrderRequest."""
        names = {"price": "price_paise", "trigger_price": "trigger_price_paise"}
        given = self.model_dump(exclude_none=True)
        for name in names:
            if name in given:
                given[name] = getattr(self, name)
        return {names.get(name, name): value for name, value in given.items()}


class ReplacementOut(BaseModel):
    """What became of a wished replacement: WAITING for the old order to close, DONE, REFUSED or DROPPED."""

    state: str
    quantity: int
    order_type: str
    price: SignedRupees | None
    trigger_price: SignedRupees | None
    code: str | None
    detail: str | None


class OrderOut(BaseModel):
    """An order as its owner sees it."""

    order_id: UUID
    portfolio_id: UUID
    submission_id: UUID
    exchange: str
    tradingsymbol: str
    side: str
    product: str
    order_type: str
    validity: str
    ttl_minutes: int | None
    quantity: int
    filled_quantity: int
    pending_quantity: int
    price: SignedRupees | None
    trigger_price: SignedRupees | None
    average_price: str | None
    amount: SignedRupees
    charges: SignedRupees
    status: str
    cancel_requested: bool
    reason_code: str | None
    reason: str | None
    tag: str | None
    trading_date: date
    replaces: UUID | None
    replaced_by: UUID | None
    replacement: ReplacementOut | None
    version: int
    accepted_at: datetime
    closed_at: datetime | None

    @classmethod
    def of(cls, order: UserOrder, **more: Any) -> Self:
        """The public form of an order's row."""
        filled = order.filled_quantity or 0
        amount = order.amount_paise or 0
        return cls(
            order_id=order.order_id,
            portfolio_id=order.portfolio_id,
            submission_id=order.submission_id,
            exchange=order.exchange,
            tradingsymbol=order.tradingsymbol,
            side=order.side,
            product=order.product,
            order_type=order.order_type,
            validity=order.validity,
            ttl_minutes=order.ttl_minutes,
            quantity=order.quantity,
            filled_quantity=filled,
            pending_quantity=order.quantity - filled if order.closed_at is None else 0,
            price=order.price_paise,
            trigger_price=order.trigger_price_paise,
            average_price=average_price(amount, filled),
            amount=amount,
            charges=order.charges_paise or 0,
            status=order.state,
            cancel_requested=order.cancel_requested_at is not None,
            reason_code=order.reason_code,
            reason=order.reason,
            tag=order.tag,
            trading_date=order.trading_date,
            replaces=order.replaces,
            replaced_by=order.replaced_by,
            replacement=_replacement(order),
            version=order.version,
            accepted_at=order.accepted_at,
            closed_at=order.closed_at,
            **more,
        )


class AllocationOut(BaseModel):
    """A fill of an order."""

    trade_id: UUID
    order_id: UUID
    exchange: str
    tradingsymbol: str
    side: str
    product: str
    quantity: int
    average_price: str | None
    amount: SignedRupees
    charges: SignedRupees
    executed_at: datetime
    trading_date: date

    @classmethod
    def of(cls, row: OrderAllocation) -> "AllocationOut":
        """The public form of an allocation: the user's part of it."""
        quantity, amount = row.quantity - row.house_quantity, row.amount_paise - row.house_amount_paise
        return cls(
            trade_id=row.allocation_id,
            order_id=row.order_id,
            exchange=row.exchange,
            tradingsymbol=row.tradingsymbol,
            side=row.side,
            product=row.product,
            quantity=quantity,
            average_price=average_price(amount, quantity),
            amount=amount,
            charges=row.charges_paise,
            executed_at=row.executed_at,
            trading_date=row.trading_date,
        )


class HistoryOut(BaseModel):
    """One step in an order's life."""

    version: int
    fact: str
    from_status: str | None
    status: str
    filled_quantity: int
    reason_code: str | None
    reason: str | None
    at: datetime

    @classmethod
    def of(cls, row: OrderHistory) -> "HistoryOut":
        """The public form of a history row."""
        return cls(
            version=row.version,
            fact=row.fact,
            from_status=row.from_state,
            status=row.to_state,
            filled_quantity=row.filled_quantity,
            reason_code=row.reason_code,
            reason=row.reason,
            at=row.at,
        )


class OrderDetail(OrderOut):
    """An order with its fills and its history."""

    allocations: list[AllocationOut]
    history: list[HistoryOut]


class OrderPage(BaseModel):
    """A page of orders, newest first."""

    items: list[OrderOut]
    next_cursor: str | None


class TradePage(BaseModel):
    """A page of fills, newest first."""

    items: list[AllocationOut]
    next_cursor: str | None


class BatchItem(BaseModel):
    """What became of one order of a list."""

    index: int
    status: Literal["accepted", "refused"]
    order: OrderOut | None
    code: str | None
    detail: str | None


class BatchOut(BaseModel):
    """What became of a list of orders."""

    submission_id: UUID
    accepted: int
    refused: int
    results: list[BatchItem]


class AdminOrderOut(OrderOut):
    """An order as operators see it."""

    user_id: UUID
    sweep_count: int
    next_sweep_at: datetime
    correlation_id: str | None


class AdminOrderPage(BaseModel):
    """A page of orders of all users, and how many there are in each state."""

    items: list[AdminOrderOut]
    next_cursor: str | None
    counts: dict[str, int]


def average_price(amount_paise: int, quantity: int) -> str | None:
    """Rupees per unit, rounded to the paisa for display only."""
    return format_rupees(round_paise(Decimal(amount_paise) / quantity)) if quantity else None


def _replacement(order: UserOrder) -> ReplacementOut | None:
    if not order.replacement or order.replacement_state is None:
        return None
    wanted, end = order.replacement, order.replacement_detail or {}
    return ReplacementOut(
        state=order.replacement_state,
        quantity=wanted["quantity"],
        order_type=wanted["order_type"],
        price=wanted["price_paise"],
        trigger_price=wanted["trigger_price_paise"],
        code=end.get("code"),
        detail=end.get("detail"),
    )
