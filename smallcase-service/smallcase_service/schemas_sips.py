"""Request and answer bodies of SIPs. Rupees are decimal strings here, instants Indian time, days Indian days."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field, model_validator

from common.clock import DayInput
from common.money import SignedRupees
from smallcase_service.models import Sip, SipInstalment
from smallcase_service.schemas import Body, IstDateTime
from smallcase_service.schemas_orders import Amount
from smallcase_service.sip_schedule import DAY_MAX, Frequency


class SipIn(Body):
    """A plan to invest the same amount again and again; the first instalment must reach the minimum.

    `day`: of the month (1 to 31; shorter months use their last day) or of the week (1 Monday to 5 Friday). CONFIRM asks
    the user when an instalment is due, AUTO places it.
    """

    smallcase_id: UUID
    portfolio_id: UUID | None = None
    amount: Amount
    frequency: Literal["MONTHLY", "WEEKLY"]
    day: Annotated[int, Field(strict=True, ge=1, le=31)]
    start_on: DayInput | None = Field(default=None, description="First day an instalment may be due; today by default.")
    mode: Literal["CONFIRM", "AUTO"] = "CONFIRM"

    @model_validator(mode="after")
    def _day_exists(self) -> Self:
        if self.day > DAY_MAX[Frequency(self.frequency)]:
            raise ValueError("a weekly plan has days 1 (Monday) to 5 (Friday)")
        return self


class InstalmentOut(BaseModel):
    """One due date and what has become of it."""

    due_on: date
    status: str
    basket_order_id: UUID | None
    reason_code: str | None
    reason: str | None
    decided_at: IstDateTime | None

    @classmethod
    def of(cls, row: SipInstalment) -> Self:
        """The public form of an instalment."""
        return cls(
            due_on=row.due_on,
            status=row.state,
            basket_order_id=row.basket_order_id,
            reason_code=row.reason_code,
            reason=row.reason,
            decided_at=row.decided_at,
        )


class SipOut(BaseModel):
    """A SIP; `due` is the instalment that waits."""

    sip_id: UUID
    smallcase_id: UUID
    smallcase_name: str
    portfolio_id: UUID | None
    amount: SignedRupees
    frequency: str
    day: int
    mode: str
    status: str
    next_due_on: date
    due: InstalmentOut | None
    created_at: IstDateTime

    @classmethod
    def of(cls, sip: Sip, name: str, due: SipInstalment | None) -> Self:
        """The public form of a SIP."""
        return cls(
            sip_id=sip.sip_id,
            smallcase_id=sip.smallcase_id,
            smallcase_name=name,
            portfolio_id=sip.portfolio_id,
            amount=sip.amount_paise,
            frequency=sip.frequency,
            day=sip.day,
            mode=sip.mode,
            status=sip.state,
            next_due_on=sip.next_due_on,
            due=InstalmentOut.of(due) if due else None,
            created_at=sip.created_at,
        )


class SipPage(BaseModel):
    """Newest first; ask for the rest with `cursor=<next_cursor>`."""

    items: list[SipOut]
    next_cursor: UUID | None


class SipDetail(BaseModel):
    """A SIP with its latest due dates, newest first."""

    sip: SipOut
    instalments: list[InstalmentOut]

    @classmethod
    def of(cls, sip: SipOut, rows: Sequence[SipInstalment]) -> Self:
        """The public form."""
        return cls(sip=sip, instalments=[InstalmentOut.of(row) for row in rows])
