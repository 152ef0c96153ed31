"""Time: aware UTC inside, IST strings on the wire, sessions from a calendar."""

import csv
from datetime import UTC, date, datetime, time, timedelta, timezone
from importlib import resources
from typing import Protocol

IST = timezone(timedelta(hours=5, minutes=30), "IST")
TOKEN_FLUSH = time(6, 0)
"""Access tokens die at 06:00 IST of the next day (Kite docs, user)."""
SEARCH_DAYS_MAX = 30
TIMESTAMP_LENGTH = 19


class Clock(Protocol):
    """Where the engine takes the present from."""

    def now(self) -> datetime:
        """The present as an aware UTC datetime."""
        ...


class SystemClock:
    """The host's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class VirtualClock:
    """A clock that moves only when told to."""

    def __init__(self, start: datetime) -> None:
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the present forward."""
        self._now += timedelta(seconds=seconds)


def ist_text(moment: datetime | None) -> str | None:
    """`YYYY-MM-DD HH:MM:SS` in IST without a zone, as every Kite timestamp (Kite docs, response structure)."""
    return None if moment is None else moment.astimezone(IST).isoformat(" ", "seconds")[:TIMESTAMP_LENGTH]


def at_ist(day: date, clock_time: time) -> datetime:
    """An IST wall time of one day as UTC."""
    return datetime.combine(day, clock_time, IST).astimezone(UTC)


def token_expiry(login: datetime) -> datetime:
    """06:00 IST of the next day, whatever the hour of the login (Kite docs, user)."""
    return at_ist(login.astimezone(IST).date() + timedelta(days=1), TOKEN_FLUSH)


def load_holidays() -> frozenset[date]:
    """NSE trading holidays shipped with the package."""
    text = resources.files("kite_simulator").joinpath("data/holidays.csv").read_text(encoding="utf-8")
    return frozenset(date.fromisoformat(row["date"]) for row in csv.DictReader(text.splitlines()))


class Calendar:
    """Trading days and the three instants of each: open, close, and the roll to the next day.

    `always_open` makes every calendar day a session from 00:00:00 to 23:59:59 IST. Otherwise weekdays that are no
    NSE holiday trade from 09:15 to 15:30 and the book is purged at 06:00 IST of the next trading day.
    """

    def __init__(self, always_open: bool, holidays: frozenset[date] = frozenset()) -> None:
        self.always_open = always_open
        self._holidays = holidays

    def is_trading_day(self, day: date) -> bool:
        """Whether the exchange trades on that day."""
        return self.always_open or (day.weekday() < 5 and day not in self._holidays)

    def next_trading_day(self, day: date) -> date:
        """The first trading day after `day`."""
        for ahead in range(1, SEARCH_DAYS_MAX):
            candidate = day + timedelta(days=ahead)
            if self.is_trading_day(candidate):
                return candidate
        raise ValueError(f"no trading day within {SEARCH_DAYS_MAX} days after {day}")

    def previous_trading_day(self, day: date) -> date:
        """The last trading day before `day`; weekends never count, even when always open."""
        for back in range(1, SEARCH_DAYS_MAX):
            candidate = day - timedelta(days=back)
            if candidate.weekday() < 5 and candidate not in self._holidays:
                return candidate
        raise ValueError(f"no trading day within {SEARCH_DAYS_MAX} days before {day}")

    def day_of(self, moment: datetime) -> date:
        """The trading day whose book is shown at that instant."""
        local = moment.astimezone(IST)
        if self.always_open:
            return local.date()
        day = local.date() if local.time() >= TOKEN_FLUSH else local.date() - timedelta(days=1)
        for _ in range(SEARCH_DAYS_MAX):
            if self.is_trading_day(day):
                return day
            day -= timedelta(days=1)
        raise ValueError(f"no trading day within {SEARCH_DAYS_MAX} days before {moment}")

    def opens_at(self, day: date) -> datetime:
        """First instant of continuous trading."""
        return at_ist(day, time(0, 0) if self.always_open else time(9, 15))

    def closes_at(self, day: date) -> datetime:
        """First instant after continuous trading."""
        return at_ist(day, time(23, 59, 59) if self.always_open else time(15, 30))

    def rolls_at(self, day: date) -> datetime:
        """When the day's orders and trades vanish and holdings roll."""
        if self.always_open:
            return at_ist(day + timedelta(days=1), time(0, 0))
        return at_ist(self.next_trading_day(day), TOKEN_FLUSH)
