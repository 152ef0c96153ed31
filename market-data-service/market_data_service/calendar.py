"""On which days the exchange trades: a library's holidays, our dated table, and overrides of an admin, the last winning.

Pure: the library is a collaborator, overrides are handed in. Dates are IST calendar dates.
Sources: market.md section 1 (sessions and holidays); the rows of `data/calendar.toml` name their circulars.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, time, timedelta
from typing import Literal, Protocol

CalendarMode = Literal["nse", "always_open"]
DayKind = Literal["trading", "weekend", "holiday", "special_session", "always_open"]
EntryKind = Literal["holiday", "trading_day", "special_session", "always_open", "weekend_holiday", "settlement_holiday"]
Status = Literal["announced", "provisional"]
Origin = Literal["override", "table", "library", "week", "mode"]

SEARCH_DAYS_MAX = 30
"""Longest look-ahead for a trading day; the exchange never rests that long."""
SATURDAY = 5
FIRST_YEAR = 2011
"""The first whole year for which session hours are known."""


class CalendarExhausted(LookupError):
    """No trading day within SEARCH_DAYS_MAX days: the calendar's data are wrong."""


@dataclass(frozen=True, slots=True)
class Hours:
    """Start and end of trading of a special session, IST."""

    opens: time
    closes: time

    def __post_init__(self) -> None:
        if self.opens >= self.closes:
            raise ValueError(f"a session that opens at {self.opens} cannot close at {self.closes}")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a table row or an override says of one day.

    A special session has `hours`, or `regular_hours`, or neither while the exchange has not named the hour.
    """

    on: date
    kind: EntryKind
    name: str
    source: str
    status: Status = "announced"
    hours: Hours | None = None
    regular_hours: bool = False


@dataclass(frozen=True, slots=True)
class Day:
    """One day as the platform observes it."""

    on: date
    kind: DayKind
    origin: Origin
    name: str | None = None
    status: Status = "announced"
    hours: Hours | None = None
    regular_hours: bool = True

    @property
    def trades(self) -> bool:
        """Whether the exchange has a trading session on this day, be its hour known or not."""
        return self.kind in ("trading", "special_session", "always_open")


@dataclass(frozen=True, slots=True)
class YearOfDays:
    """The exchange's calendar of one year; `is_published` tells whether its holiday list is out."""

    year: int
    is_published: bool
    trading_days: tuple[date, ...]
    holidays: tuple[Day, ...]
    special_sessions: tuple[Day, ...]
    settlement_holidays: tuple[Entry, ...]
    weekend_holidays: tuple[Entry, ...]


class HolidayLibrary(Protocol):
    """A maintained calendar of the exchange's weekday holidays."""

    def holidays(self, year: int) -> frozenset[date] | None:
        """Weekdays without trading in that year; None: the library does not know the year."""
        ...


@dataclass(frozen=True, slots=True)
class CalendarTable:
    """The packaged table: days by date, notes that change no trading, and years it knows completely."""

    days: Mapping[date, Entry]
    notes: tuple[Entry, ...]
    complete_years: frozenset[int]


class TradingCalendar:
    """Trading days in the mode the platform runs in. Thread-safe: overrides are swapped as a whole."""

    def __init__(self, mode: CalendarMode, table: CalendarTable, library: HolidayLibrary) -> None:
        self.mode: CalendarMode = mode
        self._table = table
        self._library = library
        self._overrides: dict[date, Entry] = {}

    def replace_overrides(self, overrides: Iterable[Entry]) -> None:
        """Take over the overrides in force; they win over every other source in every mode."""
        self._overrides = {entry.on: entry for entry in overrides}

    def day(self, on: date) -> Day:
        """One day as the platform observes it."""
        override = self._overrides.get(on)
        if override is not None:
            return _day_of(override, "override")
        if self.mode == "always_open":
            return Day(on, "always_open", "mode")
        return self._exchange_day(on)

    def is_trading_day(self, on: date) -> bool:
        """Whether there is a trading session on that day."""
        return self.day(on).trades

    def next_trading_day(self, after: date) -> Day:
        """The first trading day after `after` whose hours are known; raises CalendarExhausted."""
        for ahead in range(1, SEARCH_DAYS_MAX + 1):
            day = self.day(after + timedelta(days=ahead))
            if day.trades and (day.regular_hours or day.hours is not None):
                return day
        raise CalendarExhausted(f"no trading day within {SEARCH_DAYS_MAX} days after {after}")

    def is_published(self, year: int) -> bool:
        """Whether the exchange's holiday list of the year is known, from the table or the library."""
        return year in self._table.complete_years or self._library.holidays(year) is not None

    def exchange_year(self, year: int) -> YearOfDays:
        """The exchange's calendar of a year with overrides, whatever the platform's mode."""
        first, last = date(year, 1, 1), date(year, 12, 31)
        days = []
        for offset in range((last - first).days + 1):
            on = first + timedelta(days=offset)
            override = self._overrides.get(on)
            days.append(_day_of(override, "override") if override else self._exchange_day(on))
        notes = [entry for entry in self._table.notes if entry.on.year == year]
        return YearOfDays(
            year=year,
            is_published=self.is_published(year),
            trading_days=tuple(day.on for day in days if day.trades),
            holidays=tuple(day for day in days if day.kind == "holiday"),
            special_sessions=tuple(day for day in days if day.kind in ("special_session", "always_open")),
            settlement_holidays=tuple(entry for entry in notes if entry.kind == "settlement_holiday"),
            weekend_holidays=tuple(entry for entry in notes if entry.kind == "weekend_holiday"),
        )

    def _exchange_day(self, on: date) -> Day:
        entry = self._table.days.get(on)
        if entry is not None:
            return _day_of(entry, "table")
        if on.weekday() >= SATURDAY:
            return Day(on, "weekend", "week")
        # A complete table is the exchange's own list; the library then has nothing to add and is not even imported.
        if on.year not in self._table.complete_years and on in (self._library.holidays(on.year) or ()):
            return Day(on, "holiday", "library")
        return Day(on, "trading", "week")


def _day_of(entry: Entry, origin: Origin) -> Day:
    kinds: dict[EntryKind, DayKind] = {
        "holiday": "holiday",
        "trading_day": "trading",
        "special_session": "special_session",
        "always_open": "always_open",
    }
    regular = entry.regular_hours or entry.kind in ("trading_day", "always_open")
    return Day(entry.on, kinds[entry.kind], origin, entry.name, entry.status, entry.hours, regular)
