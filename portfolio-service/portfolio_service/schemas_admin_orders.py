"""Request and answer bodies of orders that an administrator places for a user."""

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints

from common.money import SignedRupees
from common.text import Printable
from portfolio_service.schemas import Body, OrderIn
from portfolio_service.submissions import Accepted, Outcome

ORDERS_MAX = 1_000
Reason = Annotated[str, StringConstraints(min_length=3, max_length=300, strip_whitespace=True), Printable]


class PreviewIn(Body):
    """Orders for a user; `atomic`: all or none."""

    user_id: UUID
    orders: list[OrderIn] = Field(min_length=1, max_length=ORDERS_MAX)
    atomic: bool = True


class AdminOrdersIn(PreviewIn):
    """The same to be placed, and why."""

    reason: Reason


class OrderPreview(BaseModel):
    """What would become of one order. Of a buy `hold` is kept aside: the worst price and all charges."""

    index: int
    status: Literal["accepted", "refused"]
    hold: SignedRupees | None = None
    worst_price: SignedRupees | None = None
    code: str | None = None
    detail: str | None = None

    @classmethod
    def of(cls, outcome: Outcome) -> Self:
        """From the judgement."""
        if isinstance(outcome, Accepted):
            row = outcome.row
            hold = row["hold_amount"] if row["side"] == "BUY" else None
            return cls(index=outcome.index, status="accepted", hold=hold, worst_price=row["hold_price_paise"])
        refusal = outcome.refusal
        return cls(index=outcome.index, status="refused", code=refusal.code, detail=refusal.detail)


class PreviewOut(BaseModel):
    """What would become of a list of orders."""

    accepted: int
    refused: int
    results: list[OrderPreview]
