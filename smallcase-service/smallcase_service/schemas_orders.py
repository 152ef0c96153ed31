"""Request and answer bodies of plans and basket orders. Rupees are decimal strings here, instants Indian time."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field, model_validator

from common.market_data import Key
from common.money import Rupees, SignedRupees, format_rupees, round_paise
from smallcase_service import plan, planning
from smallcase_service.composition import CONSTITUENTS_MAX, Constituent
from smallcase_service.desk import Placed
from smallcase_service.models import BasketLeg, BasketOrder
from smallcase_service.orders import Stage
from smallcase_service.planning import Proposal
from smallcase_service.schemas import VERSION_MAX, Body, ConstituentIn, Exchange, IstDateTime, Symbol

BULK_MAX = 20
UNITS_MAX = 1_000_000

Amount = Annotated[Rupees, Field(gt=0)]
Queue = Annotated[bool, Field(description="Let the orders wait for the next session when the market is closed.")]

AutoRebalanceWord = Annotated[
    bool,
    Field(strict=True, description="Rebalance the investment to each new published version without asking."),
]


class InvestIn(Body):
    """A first purchase of at most this amount, charges included."""

    amount: Amount
    portfolio_id: UUID | None = None
    version: int | None = Field(
        default=None, strict=True, ge=1, le=VERSION_MAX, description="The version that was looked at."
    )
    queue_when_closed: Queue = False
    auto_rebalance: AutoRebalanceWord = False


class AutoRebalanceIn(Body):
    """The user's word on automatic rebalances of one investment."""

    auto_rebalance: AutoRebalanceWord


class InvestMoreIn(Body):
    """More of an investment for at most this amount, charges included."""

    amount: Amount
    queue_when_closed: Queue = False


class PlaceIn(Body):
    """An order that needs no more to be said."""

    queue_when_closed: Queue = False


class RebalanceIn(PlaceIn):
    """To the newest composition; with `follow` also where the investment has own weights, which it gives up."""

    version: int | None = Field(
        default=None, strict=True, ge=1, le=VERSION_MAX, description="The version that was looked at."
    )
    follow: bool = False


class ChangeIn(Body):
    """A change of one share by the user: units to buy (positive) or to sell (negative)."""

    exchange: Exchange = "NSE"
    tradingsymbol: Symbol
    units: int = Field(strict=True, ge=-UNITS_MAX, le=UNITS_MAX)


class CustomiseIn(PlaceIn):
    """Own weights, or own changes: one of the two."""

    constituents: list[ConstituentIn] | None = Field(default=None, min_length=1, max_length=CONSTITUENTS_MAX)
    changes: list[ChangeIn] | None = Field(default=None, min_length=1, max_length=CONSTITUENTS_MAX)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.constituents is None) == (self.changes is None):
            raise ValueError("give either constituents or changes")
        keys = [(change.exchange, change.tradingsymbol) for change in self.changes or []]
        if len(set(keys)) != len(keys) or any(change.units == 0 for change in self.changes or []):
            raise ValueError("name each share once, with units other than 0")
        return self

    def weights(self) -> list[Constituent]:
        """The own weights."""
        return [Constituent(one.exchange, one.tradingsymbol, one.weight_bps) for one in self.constituents or []]

    def units(self) -> dict[Key, int]:
        """The own changes."""
        return {(change.exchange, change.tradingsymbol): change.units for change in self.changes or []}


class PartialExitIn(PlaceIn):
    """How much to take out: an amount, or a part of everything in basis points."""

    amount: Amount | None = None
    fraction_bps: int | None = Field(default=None, strict=True, ge=1, le=9_999)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.amount is None) == (self.fraction_bps is None):
            raise ValueError("give either amount or fraction_bps")
        return self


class RepairIn(PlaceIn):
    """Which order to repair; the newest that needs it unless one is named."""

    basket_order_id: UUID | None = None


class BulkIn(PlaceIn):
    """Several investments, each judged for itself."""

    investment_ids: list[UUID] = Field(min_length=1, max_length=BULK_MAX)

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len(set(self.investment_ids)) != len(self.investment_ids):
            raise ValueError("name each investment once")
        return self


class PlannedTrade(BaseModel):
    """One order of a plan. Weights in basis points; the deviation is the weight after less the target."""

    exchange: str
    tradingsymbol: str
    side: Literal["BUY", "SELL"]
    quantity: int
    price: SignedRupees
    value: SignedRupees
    charges: SignedRupees


class PlannedWeight(BaseModel):
    """One share before and after the plan; `target_weight_bps` is null where the plan follows no weights."""

    exchange: str
    tradingsymbol: str
    price: SignedRupees
    held: int
    held_after: int
    weight_bps: int
    weight_after_bps: int
    target_weight_bps: int | None
    deviation_bps: int | None


class PlanOut(BaseModel):
    """What would be ordered at this moment's prices; nothing is placed.

    `hold` is kept aside while the buys work (worst prices and charges) and has to be available; what is not used is
    free again. Buys of a plan with sells are paid by the sells and computed anew when those have ended.
    """

    kind: str
    smallcase_id: UUID
    investment_id: UUID | None
    portfolio_id: UUID
    version: int
    amount: SignedRupees | None
    minimum_amount: SignedRupees | None
    orders: list[PlannedTrade]
    weights: list[PlannedWeight]
    buys: SignedRupees
    sells: SignedRupees
    charges: SignedRupees
    leftover: SignedRupees | None
    hold: SignedRupees
    available: SignedRupees
    worth: SignedRupees
    largest_deviation_bps: int | None

    @classmethod
    def of(
        cls,
        kind: str,
        smallcase_id: UUID,
        investment_id: UUID | None,
        version: int,
        proposal: Proposal,
        *,
        with_weights: bool = True,
    ) -> Self:
        """The public form of a proposal."""
        orders = [
            PlannedTrade.model_validate(
                {
                    "exchange": trade.key[0],
                    "tradingsymbol": trade.key[1],
                    "side": trade.side,
                    "quantity": trade.quantity,
                    "price": trade.price_paise,
                    "value": trade.value_paise,
                    "charges": charges,
                }
            )
            for trade, charges in zip(proposal.trades, proposal.costs.charges_paise, strict=True)
        ]
        weights = _weights(proposal, with_weights=with_weights)
        return cls(
            kind=kind,
            smallcase_id=smallcase_id,
            investment_id=investment_id,
            portfolio_id=proposal.costs.portfolio_id,
            version=version,
            amount=proposal.amount_paise,
            minimum_amount=proposal.minimum_paise,
            orders=orders,
            weights=weights,
            buys=proposal.buys_paise,
            sells=proposal.sells_paise,
            charges=sum(proposal.costs.charges_paise),
            leftover=proposal.leftover_paise if proposal.sells_paise == 0 else None,
            hold=proposal.costs.hold_paise,
            available=proposal.costs.available_paise,
            worth=proposal.basket.worth_paise,
            largest_deviation_bps=max((abs(row.deviation_bps or 0) for row in weights), default=0)
            if with_weights
            else None,
        )


def _weights(proposal: Proposal, *, with_weights: bool) -> list[PlannedWeight]:
    basket = proposal.basket
    before = plan.weights([line.value_paise for line in basket.every])
    after = planning.weights_after(basket, proposal.trades)
    held_after = plan.holdings_of(proposal.trades, basket.held)
    return [
        PlannedWeight(
            exchange=line.key[0],
            tradingsymbol=line.key[1],
            price=line.price_paise,
            held=line.held,
            held_after=held_after.get(line.key, 0),
            weight_bps=weight,
            weight_after_bps=after[line.key],
            target_weight_bps=line.weight_bps if with_weights else None,
            deviation_bps=after[line.key] - line.weight_bps if with_weights else None,
        )
        for line, weight in zip(basket.every, before, strict=True)
    ]


class LegOut(BaseModel):
    """One order of a basket, under its id in /api/v1/orders."""

    order_id: UUID
    exchange: str
    tradingsymbol: str
    side: str
    quantity: int
    filled_quantity: int
    average_price: str | None
    amount: SignedRupees
    charges: SignedRupees
    status: str
    reason_code: str | None
    reason: str | None

    @classmethod
    def of(cls, leg: BasketLeg) -> Self:
        """The public form of a leg."""
        return cls(
            order_id=leg.order_id,
            exchange=leg.exchange,
            tradingsymbol=leg.tradingsymbol,
            side=leg.side,
            quantity=leg.quantity,
            filled_quantity=leg.filled_quantity,
            average_price=average_price(leg.amount_paise, leg.filled_quantity),
            amount=leg.amount_paise,
            charges=leg.charges_paise,
            status=leg.state,
            reason_code=leg.reason_code,
            reason=leg.reason,
        )


class ReceiptLeg(BaseModel):
    """One order as it was asked for."""

    order_id: UUID
    exchange: str
    tradingsymbol: str
    side: str
    quantity: int


class BasketReceipt(BaseModel):
    """A basket order that was taken. `placing`: portfolio-service has not answered yet; it will be asked again."""

    basket_order_id: UUID
    investment_id: UUID
    smallcase_id: UUID
    kind: str
    status: Literal["placed", "placing"]
    amount: SignedRupees | None
    planned_cost: SignedRupees
    planned_charges: SignedRupees
    orders: list[ReceiptLeg]

    @classmethod
    def of(cls, placed: Placed) -> Self:
        """The answer to the request that made the order; the same however often it is asked."""
        order = placed.order
        unknown = order.stage == Stage.INTENT and order.submissions == 1
        return cls(
            basket_order_id=order.basket_order_id,
            investment_id=order.investment_id,
            smallcase_id=placed.investment.smallcase_id,
            kind=order.kind,
            status="placing" if unknown else "placed",
            amount=order.amount_paise,
            planned_cost=order.planned_cost_paise,
            planned_charges=order.planned_charges_paise,
            orders=[ReceiptLeg.model_validate(leg, from_attributes=True) for leg in placed.legs],
        )


class RefusalOut(BaseModel):
    """Why an order of the basket was not taken."""

    exchange: str | None
    tradingsymbol: str | None
    code: str
    detail: str


class BasketOrderOut(BaseModel):
    """A basket order and what has become of its legs."""

    basket_order_id: UUID
    investment_id: UUID
    kind: str
    status: str
    stage: str
    version: int
    amount: SignedRupees | None
    planned_cost: SignedRupees
    planned_charges: SignedRupees
    bought: SignedRupees
    sold: SignedRupees
    charges: SignedRupees
    refusals: list[RefusalOut]
    repairs: UUID | None
    repaired_by: UUID | None
    sip_id: UUID | None
    sip_due_on: date | None
    created_at: IstDateTime
    ended_at: IstDateTime | None
    orders: list[LegOut]

    @classmethod
    def of(cls, order: BasketOrder, legs: Sequence[BasketLeg]) -> Self:
        """The public form of a basket order."""
        return cls(
            basket_order_id=order.basket_order_id,
            investment_id=order.investment_id,
            kind=order.kind,
            status=order.status,
            stage=order.stage,
            version=order.version,
            amount=order.amount_paise,
            planned_cost=order.planned_cost_paise,
            planned_charges=order.planned_charges_paise,
            bought=sum(leg.amount_paise for leg in legs if leg.side == "BUY"),
            sold=sum(leg.amount_paise for leg in legs if leg.side == "SELL"),
            charges=sum(leg.charges_paise for leg in legs),
            refusals=[RefusalOut.model_validate(row) for row in order.refusals or []],
            repairs=order.repairs,
            repaired_by=order.repaired_by,
            sip_id=order.sip_id,
            sip_due_on=order.sip_due_on,
            created_at=order.created_at,
            ended_at=order.ended_at,
            orders=[LegOut.of(leg) for leg in legs],
        )


class BasketOrderPage(BaseModel):
    """Newest first; ask for the rest with `cursor=<next_cursor>`."""

    items: list[BasketOrderOut]
    next_cursor: UUID | None


class BulkItem(BaseModel):
    """What became of one investment of a list."""

    investment_id: UUID
    status: Literal["accepted", "refused"]
    order: BasketReceipt | None
    code: str | None
    detail: str | None


class BulkOut(BaseModel):
    """What became of a list of investments."""

    accepted: int
    refused: int
    results: list[BulkItem]


def average_price(amount_paise: int, quantity: int) -> str | None:
    """Rupees per share, rounded to the paisa for display only."""
    return format_rupees(round_paise(Decimal(amount_paise) / quantity)) if quantity else None
