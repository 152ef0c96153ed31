"""Due dates of instalments: monthly on a day of the month, or weekly on a day of the week. Pure; days are Indian dates.

A due date may be a holiday: the instalment is then due on the next trading day, and the date after it is counted from the
plan, so that a holiday never moves the plan.
"""

import calendar
from datetime import date, timedelta
from enum import StrEnum


class Frequency(StrEnum):
    """How often an instalment is due."""

    MONTHLY = "MONTHLY"
    WEEKLY = "WEEKLY"


class Mode(StrEnum):
    """Who places an instalment: the user who is asked, or the platform."""

    CONFIRM = "CONFIRM"
    AUTO = "AUTO"


class SipState(StrEnum):
    """Whether a SIP makes instalments."""

    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    STOPPED = "STOPPED"


FREQUENCIES = tuple(Frequency)
MODES = tuple(Mode)
SIP_STATES = tuple(SipState)
DAY_MAX = {Frequency.MONTHLY: 31, Frequency.WEEKLY: 5}
"""Largest day of a plan: of the month, or of the week (1 Monday to 5 Friday)."""


def first_due(frequency: Frequency, day: int, start: date) -> date:
    """The first due date on or after `start`. A month without that day is due on its last one.

    Raises ValueError for a day the frequency does not have.
    """
    if not 1 <= day <= DAY_MAX[frequency]:
        raise ValueError(f"a {frequency} plan has no day {day}")
    if frequency is Frequency.WEEKLY:
        return start + timedelta(days=(day - start.isoweekday()) % 7)
    this_month = _day_of(start.year, start.month, day)
    if this_month >= start:
        return this_month
    following = _first_of_next_month(start)
    return _day_of(following.year, following.month, day)


def next_due(frequency: Frequency, day: int, after: date) -> date:
    """The first due date later than `after`."""
    return first_due(frequency, day, after + timedelta(days=1))


def _day_of(year: int, month: int, day: int) -> date:
    return date(year, month, min(day, calendar.monthrange(year, month)[1]))


def _first_of_next_month(on: date) -> date:
    return date(on.year + on.month // 12, on.month % 12 + 1, 1)
