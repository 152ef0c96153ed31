"""What the ops routes of reconciliation, house and days answer. Sums inside reports are whole paise."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from common.money import SignedRupees


class _Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class RunOut(_Out):
    """One comparison; one that is not `good` could not read everything and proves nothing of what it did not read."""

    run_id: UUID
    scope: str
    started_at: datetime
    finished_at: datetime
    good: bool
    detail: str | None
    counts: dict[str, int]
    opened: int
    cured: int


class OpenBreaksOut(_Out):
    """Open breaks of one kind."""

    kind: str
    severity: int
    count: int
    oldest_at: datetime


class ReconciliationOut(_Out):
    """How the books stand."""

    last_good_quick: RunOut | None
    last_good_full: RunOut | None
    runs: list[RunOut]
    open_breaks: list[OpenBreaksOut]
    frozen: list[str]


class HouseFillOut(_Out):
    """A trade that belongs to no user."""

    house_fill_id: UUID
    account: str
    fill_id: int | None
    exchange: str
    tradingsymbol: str
    side: str
    trade_date: date
    broker_order_id: str
    broker_trade_id: str
    quantity: int
    amount: SignedRupees = Field(validation_alias="amount_paise")
    traded_at: datetime
    why: str
    recorded_at: datetime


class DayOut(_Out):
    """The result of a day's job and its hash."""

    slot: date
    result: dict[str, Any]
    sha256: str
    finished_at: datetime


class KeptBookOut(_Out):
    """A part of the broker's books that was kept."""

    part: str
    count: int
    sha256: str
    taken_at: datetime


class DayDetail(_Out):
    """A day from its check to its report."""

    day: date
    start: DayOut | None
    end: DayOut | None
    books: list[KeptBookOut]


class BookOut(_Out):
    """A kept book with its rows."""

    trading_date: date
    part: str
    sha256: str
    taken_at: datetime
    rows: list[dict[str, Any]]
