"""Weekday holidays of the exchange from `exchange_calendars`, the library's calendar of Bombay (XBOM).

It has no calendar of the NSE; both exchanges rest on the same days (held against NSE price bars of 2018 to April 2026,
it differs only on Muhurat evenings). It knows a year only once the list is published and packaged, and no session on a
weekend or holiday: those are rows of `data/calendar.toml`.
"""

import threading
from datetime import date
from functools import lru_cache

CALENDAR = "XBOM"
YEARS_CACHED_MAX = 64


class XbomHolidays:
    """HolidayLibrary over XBOM. The first answer imports pandas and takes seconds: call `holidays` before serving."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def holidays(self, year: int) -> frozenset[date] | None:
        """Weekdays without trading in `year`; None when the library does not know the year."""
        with self._lock:
            return _weekday_holidays(year)


@lru_cache(maxsize=YEARS_CACHED_MAX)
def _weekday_holidays(year: int) -> frozenset[date] | None:
    # Imported here only: pandas takes seconds, and a platform that is always open never asks.
    import exchange_calendars
    import pandas
    from exchange_calendars.exchange_calendar_xbom import XBOMExchangeCalendar

    start, end = pandas.Timestamp(year, 1, 1), pandas.Timestamp(year, 12, 31)
    if start < XBOMExchangeCalendar.bound_min() or end > XBOMExchangeCalendar.bound_max():
        return None
    sessions = exchange_calendars.get_calendar(CALENDAR, start=start, end=end).sessions
    return frozenset(day.date() for day in pandas.bdate_range(start, end).difference(sessions))
