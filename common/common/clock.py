"""Time: aware UTC inside, IST at the edge, one injectable clock."""

from datetime import UTC, date, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

IST = ZoneInfo("Asia/Kolkata")


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


def to_ist(instant: datetime) -> datetime:
    """The same instant on an Indian wall clock."""
    return _aware_utc(instant).astimezone(IST)


def trading_date(instant: datetime) -> date:
    """The IST calendar date of an instant: exchanges name their days in IST."""
    return to_ist(instant).date()
