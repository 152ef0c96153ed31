"""Time: aware UTC inside, IST at the edge, one injectable clock."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Protocol
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, AwareDatetime

IST = ZoneInfo("Asia/Kolkata")
DAY_MIN, DAY_MAX = date(1900, 1, 1), date(2199, 12, 31)
INSTANT_MIN = datetime(1970, 1, 1, tzinfo=UTC)
INSTANT_MAX = datetime(2200, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Where a service gets the time from; a collaborator of every `create_app`."""

    def now(self) -> datetime:
        """The current instant, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class FixedClock:
    """A clock that moves only when told to (tests and virtual time)."""

    def __init__(self, start: datetime) -> None:
        self._now = _aware_utc(start)

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> datetime:
        """Move forward by `seconds` and answer the new instant."""
        self._now += timedelta(seconds=seconds)
        return self._now

    def set(self, instant: datetime) -> None:
        """Jump to an aware instant."""
        self._now = _aware_utc(instant)


def _aware_utc(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise ValueError(f"a naive datetime has no instant: {instant!r}")
    return instant.astimezone(UTC)


def _instant(given: datetime) -> datetime:
    if not INSTANT_MIN <= given <= INSTANT_MAX:
        raise ValueError("must lie between the years 1970 and 2199")
    return given.astimezone(UTC)


InstantInput = Annotated[AwareDatetime, AfterValidator(_instant)]
"""An instant in a request: with an offset, in UTC from here on, in a range that every calendar and database can do."""


def _day(given: date) -> date:
    if not DAY_MIN <= given <= DAY_MAX:
        raise ValueError("must lie between the years 1900 and 2199")
    return given


DayInput = Annotated[date, AfterValidator(_day)]
"""A day in a request, with room on both sides for the days around it."""


def to_ist(instant: datetime) -> datetime:
    """The same instant on an Indian wall clock."""
    return _aware_utc(instant).astimezone(IST)


def trading_date(instant: datetime) -> date:
    """The IST calendar date of an instant: exchanges name their days in IST."""
    return to_ist(instant).date()
