"""The days and months that reports are made for by themselves, and from when on each of them is over. Pure.

Days are Indian ones. Which days the exchange traded on is not known here: a day without closes is no trading day.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal

from common.clock import IST, trading_date

Cadence = Literal["daily", "monthly"]
CADENCES: tuple[Cadence, ...] = ("daily", "monthly")
DAY_OVER_AT = time(20, 0)
"""Every session of the exchange has ended and its closes are settled by then, those of an evening session too.

A calendar that is always open trades on until midnight: there a day's report has the prices of this hour.
"""
MONTH_OVER_AT = time(8, 0)
"""On the first of the next month: before anything of that month is traded, and at an hour to be told something."""
ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Period:
    """What one report is about: days from `first` to `last`; its report may be made from `over_at` on."""

    cadence: Cadence
    first: date
    last: date
    over_at: datetime
    final_from: datetime
    """Closes that were asked for from this instant on are the last word on the period."""

    @property
    def title(self) -> str:
        """The report's name, in words for its user."""
        return f"Portfolio on {self.last:%d %b %Y}" if self.cadence == "daily" else f"Portfolio in {self.last:%B %Y}"

    @property
    def shown_from(self) -> date | None:
        """The first day its charts show: a day is shown with all that came before it, a month by itself."""
        return self.first if self.cadence == "monthly" else None


def day_period(on: date) -> Period:
    """The period of a daily report."""
    over_at = _instant(on, DAY_OVER_AT)
    return Period("daily", on, on, over_at, final_from=over_at)


def month_period(on: date) -> Period:
    """The period of a monthly report: the month that a day is in."""
    first = on.replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    over_at = _instant(following, MONTH_OVER_AT)
    return Period("monthly", first, following - ONE_DAY, over_at, final_from=_instant(following, time(0, 0)))


def period_of(cadence: Cadence, on: date) -> Period:
    """The period of a kind that a day is in."""
    return day_period(on) if cadence == "daily" else month_period(on)


def newest_day_over(now: datetime) -> date:
    """The newest day that is over, whether or not anything was traded on it."""
    today = trading_date(now)
    return today if now >= day_period(today).over_at else today - ONE_DAY


def newest_month_over(now: datetime) -> Period:
    """The newest month that is over."""
    before = month_period(trading_date(now).replace(day=1) - ONE_DAY)
    return before if now >= before.over_at else month_period(before.first - ONE_DAY)


def _instant(on: date, at: time) -> datetime:
    return datetime.combine(on, at, IST).astimezone(UTC)
