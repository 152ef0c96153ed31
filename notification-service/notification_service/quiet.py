"""Quiet hours and the time of the daily summary, on an Indian wall clock. Pure.

A message in quiet hours waits for their end; it is not lost. IST has no summer time, so a day has always 24 hours.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from common.clock import IST, to_ist

DIGEST_AT = time(18, 0)
"""When the daily summary goes out unless its user wants another time."""


@dataclass(frozen=True)
class QuietHours:
    """From `start` (inclusive) until `end` (exclusive) in IST; over midnight when `start` is later than `end`.

    Raises ValueError when both are equal: such hours have no meaning.
    """

    start: time
    end: time

    def __post_init__(self) -> None:
        if self.start == self.end:
            raise ValueError("quiet hours need an end that differs from their start")

    def covers(self, instant: datetime) -> bool:
        """Whether an instant lies in them."""
        at = to_ist(instant).time()
        if self.start < self.end:
            return self.start <= at < self.end
        return at >= self.start or at < self.end


def not_before(instant: datetime, quiet: QuietHours | None) -> datetime:
    """The instant itself, or the end of the quiet hours it lies in (UTC)."""
    if quiet is None or not quiet.covers(instant):
        return instant
    return next_at(quiet.end, instant)


def next_at(at: time, instant: datetime) -> datetime:
    """The first time after an instant when an Indian clock shows `at` (UTC)."""
    local = to_ist(instant)
    found = datetime.combine(local.date(), at, tzinfo=IST)
    if found <= local:
        found += timedelta(days=1)
    return found.astimezone(UTC)
