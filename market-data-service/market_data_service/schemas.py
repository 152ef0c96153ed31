"""Shapes of the public API. Prices leave as rupee strings; instants as UTC, wall times and dates as IST."""

import re
from datetime import date, datetime, time
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from common.clock import DayInput
from common.money import SignedRupees
from common.text import Printable
from market_data_service.adjustment import ActionKind
from market_data_service.calendar import CalendarMode, DayKind, Origin, Status
from market_data_service.corporate_actions import RATIO_PART_MAX
from market_data_service.instruments import SYMBOL_LENGTH_MAX
from market_data_service.market import FeedState
from market_data_service.overrides import OverrideKind
from market_data_service.sessions import ShareClass

_WALL_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]\Z")


def _wall_time(value: Any) -> time:
    if not isinstance(value, str) or not _WALL_TIME.match(value):
        raise ValueError('an IST wall time such as "18:15" is expected')
    return time.fromisoformat(value)


WallTime = Annotated[time, BeforeValidator(_wall_time)]
Reason = Annotated[str, Field(min_length=5, max_length=500, pattern=r"\S"), Printable]
RatioPart = Annotated[int, Field(strict=True, ge=1, le=RATIO_PART_MAX)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class InstrumentAnswer(BaseModel):
    """One instrument; the price band is that of today, null while it is not known or there is none."""

    exchange: str
    tradingsymbol: str
    name: str
    isin: str | None
    instrument_token: int
    exchange_token: str
    tick_size: SignedRupees
    lot_size: int
    segment: str
    instrument_type: str
    is_active: bool
    is_tradable: bool
    lower_circuit_limit: SignedRupees | None
    upper_circuit_limit: SignedRupees | None


class InstrumentsAnswer(BaseModel):
    """Instruments in the order asked for; `unknown` lists keys that name none."""

    instruments: list[InstrumentAnswer]
    unknown: list[str] = []


class PriceAnswer(BaseModel):
    """A last price, when it was seen, and whether that is too long ago to act on."""

    exchange: str
    tradingsymbol: str
    last_price: SignedRupees
    at: datetime
    is_stale: bool


class PricesAnswer(BaseModel):
    """Prices in the order asked for; `missing` are known instruments without a price yet: ask again in a moment."""

    prices: list[PriceAnswer]
    missing: list[str] = []
    unknown: list[str] = []


class QuoteAnswer(PriceAnswer):
    """A price with the day's figures, which are read less often: `day_at` is their instant."""

    open: SignedRupees | None
    high: SignedRupees | None
    low: SignedRupees | None
    previous_close: SignedRupees | None
    change: SignedRupees | None
    volume: int | None
    lower_circuit_limit: SignedRupees | None
    upper_circuit_limit: SignedRupees | None
    day_at: datetime | None


class QuotesAnswer(BaseModel):
    """Quotes in the order asked for; see PricesAnswer."""

    quotes: list[QuoteAnswer]
    missing: list[str] = []
    unknown: list[str] = []


class StatusAnswer(BaseModel):
    """The market now. `trading_date` is the day on which an order given now trades."""

    is_open: bool
    phase: str
    share_class: ShareClass
    trading_date: date
    opens_at: datetime
    closes_at: datetime
    next_open_at: datetime
    next_trading_date: date
    calendar: CalendarMode
    feed: FeedState
    now: datetime


class ReloadRequest(_Request):
    """`accept_fewer_rows`: take the file although it lost more than half of the instruments; check it first."""

    accept_fewer_rows: bool = False


class LoadAnswer(BaseModel):
    """What became of one exchange's instrument file."""

    exchange: str
    outcome: str
    loaded_at: datetime
    rows_usable: int
    rows_skipped: int
    active_before: int
    deactivated: int
    detail: str | None


class LoadsAnswer(BaseModel):
    """One load per exchange."""

    loads: list[LoadAnswer]


class UndoneAnswer(BaseModel):
    """A split or bonus issue: from `ex_date` on there are `new_shares` for every `old_shares`."""

    ex_date: date
    kind: ActionKind
    new_shares: int
    old_shares: int


class CandleAnswer(BaseModel):
    """One day: prices in rupees, volume in shares."""

    date: date
    open: SignedRupees
    high: SignedRupees
    low: SignedRupees
    close: SignedRupees
    volume: int


class CandlesAnswer(BaseModel):
    """Daily candles, oldest first; `is_complete` is false when the broker could not be asked for days not stored.

    Not `adjusted`, `undone` names the splits and bonus issues that were taken out of at least one of them.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    exchange: str
    tradingsymbol: str
    interval: str
    first: date = Field(serialization_alias="from")
    last: date = Field(serialization_alias="to")
    is_complete: bool
    adjusted: bool
    undone: list[UndoneAnswer]
    candles: list[CandleAnswer]


class IntradayCandleAnswer(BaseModel):
    """One interval, from `time` (IST) on: prices in rupees, volume in shares."""

    time: str
    open: SignedRupees
    high: SignedRupees
    low: SignedRupees
    close: SignedRupees
    volume: int


class IntradayCandlesAnswer(BaseModel):
    """Candles of an interval within days, oldest first; asked of the broker every time, never stored.

    For `adjusted` and `undone` see CandlesAnswer.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    exchange: str
    tradingsymbol: str
    interval: str
    first: date = Field(serialization_alias="from")
    last: date = Field(serialization_alias="to")
    adjusted: bool
    undone: list[UndoneAnswer]
    candles: list[IntradayCandleAnswer]


class DayAnswer(BaseModel):
    """A day that is not like others; hours are IST and null for a session whose hour is not announced."""

    date: date
    kind: DayKind
    name: str | None
    origin: Origin
    status: Status
    opens: str | None = None
    closes: str | None = None


class NoteAnswer(BaseModel):
    """A named day on which trading is as usual (or none anyway)."""

    date: date
    name: str


class CalendarAnswer(BaseModel):
    """The exchange's calendar of a year. `mode` tells whether this platform follows it (`nse`) or never closes."""

    year: int
    mode: CalendarMode
    is_published: bool
    trading_days: list[date]
    holidays: list[DayAnswer]
    special_sessions: list[DayAnswer]
    settlement_holidays: list[NoteAnswer]
    weekend_holidays: list[NoteAnswer]


class OverrideRequest(_Request):
    """Declare a day: `holiday`, `trading_day` (regular hours), `special_session` (with hours), or `always_open`."""

    date: DayInput
    kind: OverrideKind
    reason: Reason
    opens: WallTime | None = None
    closes: WallTime | None = None

    @model_validator(mode="after")
    def _hours_belong_to_special_sessions(self) -> Self:
        if self.kind == "special_session":
            if self.opens is None or self.closes is None or self.opens >= self.closes:
                raise ValueError("a special session needs `opens` before `closes` (IST)")
        elif self.opens is not None or self.closes is not None:
            raise ValueError("`opens` and `closes` belong to a special session only")
        return self


class OverrideAnswer(BaseModel):
    """One override with who declared it, why, and whether it is still in force."""

    override_id: UUID
    date: date
    kind: OverrideKind
    opens: str | None
    closes: str | None
    reason: str
    created_by: UUID
    created_at: datetime
    is_in_force: bool
    withdrawn_by: UUID | None
    withdrawn_at: datetime | None
    withdrawn_reason: str | None


class OverridesAnswer(BaseModel):
    """Overrides, newest days first."""

    overrides: list[OverrideAnswer]


class CorporateActionRequest(_Request):
    """Enter a split or bonus issue: `new_shares` for every `old_shares`. Bonus 1:1 is 2 for 1, a split of a share of 10
    rupees into shares of 2 is 5 for 1; fewer new than old shares are a consolidation, entered as SPLIT.
    """

    exchange: Annotated[str, Field(max_length=SYMBOL_LENGTH_MAX)]
    tradingsymbol: Annotated[str, Field(max_length=SYMBOL_LENGTH_MAX)]
    ex_date: DayInput
    kind: ActionKind
    new_shares: RatioPart
    old_shares: RatioPart
    reason: Reason


class CorporateActionAnswer(UndoneAnswer):
    """One split or bonus issue in force, its ratio in lowest terms."""

    action_id: UUID


class CorporateActionsAnswer(BaseModel):
    """A share's splits and bonus issues, oldest ex-date first."""

    exchange: str
    tradingsymbol: str
    actions: list[CorporateActionAnswer]


class CorporateActionRecord(CorporateActionAnswer):
    """One split or bonus issue with who entered it, why, and whether it is still in force."""

    exchange: str
    tradingsymbol: str
    reason: str
    created_by: UUID
    created_at: datetime
    is_in_force: bool
    withdrawn_by: UUID | None
    withdrawn_at: datetime | None
    withdrawn_reason: str | None


class CorporateActionRecords(BaseModel):
    """Splits and bonus issues of all shares, newest ex-dates first."""

    actions: list[CorporateActionRecord]
