"""What the market does at an instant: the phase, whether orders trade, and the trading day they belong to.

Pure. Phases come as dated schedules by share class (since 3 Aug 2026 shares with a closing auction stop continuous
trading at 15:15, the others at 15:30; market.md section 1). Instants are aware UTC, wall times IST.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Literal

from common.clock import IST, to_ist
from market_data_service.calendar import Day, TradingCalendar

ShareClass = Literal["regular", "closing_auction"]
CONTINUOUS = "CONTINUOUS"
CLOSED = "CLOSED"
HOURS_UNKNOWN = "SPECIAL_SESSION_HOURS_UNKNOWN"
DAY_STARTS = time(0, 0)
DAY_ENDS = time(23, 59, 59)
"""Close of a day that is always open: the last whole second of the IST date."""


class ScheduleMissing(LookupError):
    """No schedule is in force on that day; a missing row is never read as a closed market."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the trading day, IST, the end not included."""

    name: str
    starts: time
    ends: time


@dataclass(frozen=True, slots=True)
class Schedule:
    """The phases of a regular day of one share class, from day to day inclusive."""

    share_class: ShareClass
    valid_from: date
    valid_to: date
    phases: tuple[Phase, ...]

    def __post_init__(self) -> None:
        ends = DAY_STARTS
        for phase in self.phases:
            if phase.starts < ends or phase.ends <= phase.starts:
                raise ValueError(f"{self.share_class} from {self.valid_from}: phase {phase.name} overlaps or is empty")
            ends = phase.ends
        if sum(phase.name == CONTINUOUS for phase in self.phases) != 1:
            raise ValueError(f"{self.share_class} from {self.valid_from}: exactly one phase is {CONTINUOUS}")


@dataclass(frozen=True, slots=True)
class ClosingAuctionList:
    """Shares that end their day with a closing auction, from day to day inclusive."""

    exchanges: frozenset[str]
    symbols: frozenset[str]
    valid_from: date
    valid_to: date

    def holds_on(self, on: date) -> bool:
        """Whether the list is in force on that day."""
        return self.valid_from <= on <= self.valid_to


@dataclass(frozen=True, slots=True)
class MarketSession:
    """The market at one instant for one share class.

    `trading_date` is the day on which an order given now trades; `opens_at` and `closes_at` are the bounds of its
    continuous trading. `next_open_at` is the next start of continuous trading after now, `next_trading_date` its day.
    """

    is_open: bool
    phase: str
    share_class: ShareClass
    trading_date: date
    opens_at: datetime
    closes_at: datetime
    next_open_at: datetime
    next_trading_date: date


class SessionRules:
    """Dated schedules and closing-auction lists; raises ValueError when schedules of one class overlap."""

    def __init__(self, schedules: Iterable[Schedule], auction_lists: Iterable[ClosingAuctionList]) -> None:
        self._schedules = sorted(schedules, key=lambda item: (item.share_class, item.valid_from))
        self._auction_lists = tuple(auction_lists)
        for before, after in zip(self._schedules, self._schedules[1:], strict=False):
            if before.share_class == after.share_class and before.valid_to >= after.valid_from:
                raise ValueError(f"{after.share_class}: two schedules hold on {after.valid_from}")

    def share_class(self, on: date, exchange: str | None = None, tradingsymbol: str | None = None) -> ShareClass:
        """The class of a share on a day.

        Without a share: the class that stops trading first, so that an order taken for it can trade whatever the share.
        """
        for shares in self._auction_lists:
            if shares.holds_on(on) and (
                tradingsymbol is None or (tradingsymbol in shares.symbols and exchange in shares.exchanges)
            ):
                return "closing_auction"
        return "regular"

    def phases(self, share_class: ShareClass, on: date) -> tuple[Phase, ...]:
        """The phases of a regular day; raises ScheduleMissing."""
        for schedule in self._schedules:
            if schedule.share_class == share_class and schedule.valid_from <= on <= schedule.valid_to:
                return schedule.phases
        raise ScheduleMissing(f"no session schedule of {share_class} shares holds on {on}")


def day_phases(day: Day, rules: SessionRules, share_class: ShareClass) -> tuple[Phase, ...]:
    """The phases of one day: none when nothing trades or the hour of a special session is not known."""
    if not day.trades:
        return ()
    if day.kind == "always_open":
        return (Phase(CONTINUOUS, DAY_STARTS, DAY_ENDS),)
    if day.hours is not None:
        return (Phase(CONTINUOUS, day.hours.opens, day.hours.closes),)
    return rules.phases(share_class, day.on) if day.regular_hours else ()


def session_at(
    calendar: TradingCalendar,
    rules: SessionRules,
    at: datetime,
    *,
    exchange: str | None = None,
    tradingsymbol: str | None = None,
) -> MarketSession:
    """The market at `at` for a share, or for the whole market (see SessionRules.share_class)."""
    local = to_ist(at)
    today = calendar.day(local.date())
    share_class = rules.share_class(today.on, exchange, tradingsymbol)
    phases = day_phases(today, rules, share_class)
    phase = _phase_at(today, phases, local.time())
    is_open = phase == CONTINUOUS
    window = _continuous(today.on, phases)
    next_day = calendar.next_trading_day(today.on)
    # The class may change overnight with the lists in force on the next day.
    next_class = rules.share_class(next_day.on, exchange, tradingsymbol)
    next_window = _continuous(next_day.on, day_phases(next_day, rules, next_class))
    assert next_window is not None  # noqa: S101  next_trading_day answers only days with known hours
    current = window if window is not None and (is_open or at < window[1]) else None
    starts_today = window is not None and at < window[0]
    trading_date, (opens_at, closes_at) = (today.on, current) if current is not None else (next_day.on, next_window)
    return MarketSession(
        is_open=is_open,
        phase=phase,
        share_class=share_class,
        trading_date=trading_date,
        opens_at=opens_at,
        closes_at=closes_at,
        next_open_at=window[0] if window is not None and starts_today else next_window[0],
        next_trading_date=today.on if starts_today else next_day.on,
    )


def _phase_at(day: Day, phases: tuple[Phase, ...], now: time) -> str:
    if day.kind == "always_open":
        return CONTINUOUS
    if day.trades and not phases:
        return HOURS_UNKNOWN
    return next((phase.name for phase in phases if phase.starts <= now < phase.ends), CLOSED)


def _continuous(on: date, phases: tuple[Phase, ...]) -> tuple[datetime, datetime] | None:
    for phase in phases:
        if phase.name == CONTINUOUS:
            return _instant(on, phase.starts), _instant(on, phase.ends)
    return None


def _instant(on: date, at: time) -> datetime:
    return datetime.combine(on, at, IST).astimezone(UTC)
