"""Bodies of the internal routes for baskets. Between rooms money is integer paise."""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from portfolio_service.schemas import Body, Exchange, Side, Symbol, Tag

BASKET_ORDERS_MAX = 100
"""A rebalance sells or buys at most all shares of two compositions of 50."""
ORDER_STATES_MAX = 200


class BasketOrderIn(Body):
    """One order of a basket, under the id that the caller has given it."""

    order_id: UUID
    exchange: Exchange
    tradingsymbol: Symbol
    side: Side
    quantity: int = Field(strict=True, ge=1, le=10**9)


class BasketIn(Body):
    """Orders at the market that are accepted together or not at all."""

    submission_id: UUID
    """Key of the acceptance: the same one is judged once and answered alike ever after."""
    user_id: UUID
    kyc: str = Field(max_length=20)
    portfolio_id: UUID | None = None
    tag: Tag | None = None
    queue_when_closed: bool = False
    counted: bool = True
    """False for what the platform does by itself: it takes nothing from the user's rate."""
    orders: list[BasketOrderIn] = Field(min_length=1, max_length=BASKET_ORDERS_MAX)


class RefusalOut(BaseModel):
    """Why the order at this place of the list can not be taken."""

    index: int
    code: str
    detail: str


class BasketOut(BaseModel):
    """What became of a basket: every order accepted, or the reasons why none was."""

    submission_id: UUID
    status: Literal["accepted", "refused"]
    refusals: list[RefusalOut]


class EstimateOrderIn(Body):
    """An order that might be placed, and the price it is estimated at."""

    exchange: Exchange
    side: Side
    quantity: int = Field(strict=True, ge=1, le=10**9)
    price_paise: int = Field(strict=True, ge=1, le=10**11)


class EstimateIn(Body):
    """What would a basket cost this user."""

    user_id: UUID
    portfolio_id: UUID | None = None
    orders: list[EstimateOrderIn] = Field(min_length=1, max_length=BASKET_ORDERS_MAX)


class EstimateOut(BaseModel):
    """Charges of each order at its price, the money that would be held while all buys work, and what is free now."""

    portfolio_id: UUID
    charges_paise: list[int]
    hold_paise: int
    available_paise: int


class OrderStateOut(BaseModel):
    """Where an order stands; figures are cumulative."""

    order_id: UUID
    state: str
    version: int
    filled_quantity: int
    amount_paise: int
    charges_paise: int
    reason_code: str | None
    reason: str | None


class OrderStatesOut(BaseModel):
    """Orders that exist; unknown ids are left out."""

    orders: list[OrderStateOut]
