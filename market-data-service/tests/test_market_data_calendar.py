"""Trading days: our table against the collected calendar and the library, overrides, the market that never closes."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data_service.calendar import CalendarExhausted, CalendarTable, Entry, TradingCalendar
from market_data_service.calendar_files import load_calendar_table
from market_data_service.config import Settings
from market_data_service.exchange_holidays import XbomHolidays
from market_data_service.market import Market

LIBRARY = XbomHolidays()
TABLE = load_calendar_table()


def calendar(mode: str = "nse") -> TradingCalendar:
    return TradingCalendar(mode, TABLE, LIBRARY)  # type: ignore[arg-type]


def weekdays(year: int) -> set[date]:
    first = date(year, 1, 1)
    days = {first + timedelta(days=offset) for offset in range(366)}
    return {day for day in days if day.year == year and day.weekday() < 5}


def test_every_day_of_2026_is_as_the_exchange_announced(official_days: dict[str, set[date]]) -> None:
    year = calendar().exchange_year(2026)
    holidays = {day for day in official_days["TRADING_HOLIDAY"] if day.year == 2026}
    specials = {day for day in official_days["SPECIAL_SESSION"] if day.year == 2026}
    assert {day.on for day in year.holidays} == holidays
    assert {day.on for day in year.special_sessions} == specials
    assert set(year.trading_days) == (weekdays(2026) - holidays) | specials
    assert {note.on for note in year.settlement_holidays} == official_days["SETTLEMENT_HOLIDAY"]
    assert {note.on for note in year.weekend_holidays} == {
        day for day in official_days["WEEKEND_HOLIDAY"] if day.year == 2026
    }
    assert len(holidays) == 16
    assert len(year.trading_days) == 247


def test_provisional_holidays_of_2027_are_in_force(official_days: dict[str, set[date]]) -> None:
    year = calendar().exchange_year(2027)
    assert {day.on for day in year.holidays} == {day for day in official_days["TRADING_HOLIDAY"] if day.year == 2027}
    assert {day.status for day in year.holidays} == {"provisional"}
    assert not year.is_published


def test_the_library_and_our_table_name_the_same_holidays() -> None:
    assert LIBRARY.holidays(2026) == {day.on for day in calendar().exchange_year(2026).holidays}


def test_years_before_the_table_lean_on_the_library() -> None:
    days = calendar()
    assert not days.is_trading_day(date(2025, 8, 15))
    assert days.day(date(2025, 8, 15)).origin == "library"
    assert days.is_trading_day(date(2025, 8, 14))
    assert days.is_published(2025)


def test_a_year_the_library_does_not_know_is_not_taken_for_published() -> None:
    assert LIBRARY.holidays(2031) is None
    assert not calendar().is_published(2031)


def test_operators_are_warned_while_next_years_list_is_empty() -> None:
    market = Market.create(Settings(market_calendar="nse"))
    [warning] = market.calendar_warnings(datetime(2026, 11, 23, tzinfo=UTC))
    assert "2027" in warning
    assert market.calendar_warnings(datetime(2025, 11, 23, tzinfo=UTC)) == []
    always = Market.create(Settings(market_calendar="always_open"))
    assert always.calendar_warnings(datetime(2026, 11, 23, tzinfo=UTC)) == []


@pytest.mark.parametrize(
    ("on", "kind", "trades"),
    [
        (date(2026, 1, 15), "holiday", False),  # declared six days before
        (date(2026, 2, 1), "special_session", True),  # Union Budget on a Sunday
        (date(2026, 11, 8), "special_session", True),  # Muhurat on a Sunday
        (date(2026, 8, 15), "weekend", False),
        (date(2026, 8, 26), "trading", True),  # only the clearing house rests
        (date(2026, 11, 23), "trading", True),
        (date(2026, 11, 24), "holiday", False),
    ],
)
def test_remarkable_days(on: date, kind: str, trades: bool) -> None:
    day = calendar().day(on)
    assert (day.kind, day.trades) == (kind, trades)


def test_an_override_wins_over_table_week_and_mode() -> None:
    saturday, holiday, monday = date(2026, 11, 28), date(2026, 12, 25), date(2026, 11, 30)
    entries = [
        Entry(saturday, "trading_day", "mock trading made live", "test"),
        Entry(holiday, "trading_day", "holiday moved", "test"),
        Entry(monday, "holiday", "elections", "test"),
    ]
    for mode in ("nse", "always_open"):
        days = calendar(mode)
        days.replace_overrides(entries)
        assert days.is_trading_day(saturday)
        assert days.day(holiday).origin == "override"
        assert days.is_trading_day(holiday)
        assert not days.is_trading_day(monday)
    days.replace_overrides([])
    assert days.is_trading_day(monday)


def test_always_open_means_every_day_but_the_exchange_keeps_its_year() -> None:
    days = calendar("always_open")
    assert all(days.is_trading_day(date(2026, 11, 20) + timedelta(days=offset)) for offset in range(8))
    assert len(days.exchange_year(2026).trading_days) == 247


def test_a_special_session_without_hours_is_never_the_next_day_to_trade_on() -> None:
    assert calendar().next_trading_day(date(2026, 11, 6)).on == date(2026, 11, 9)
    assert calendar().next_trading_day(date(2026, 1, 30)).on == date(2026, 2, 1)


def test_a_calendar_without_trading_days_is_an_error() -> None:
    closed = {date(2026, 6, 1) + timedelta(days=offset) for offset in range(60)}
    table = CalendarTable({on: Entry(on, "holiday", "closed", "test") for on in closed}, (), frozenset({2026}))
    with pytest.raises(CalendarExhausted):
        TradingCalendar("nse", table, LIBRARY).next_trading_day(date(2026, 6, 1))


@given(st.dates(date(2024, 1, 1), date(2027, 11, 30)))
@settings(max_examples=200, deadline=None)
def test_the_next_trading_day_is_the_first_after(on: date) -> None:
    days = calendar()
    following = days.next_trading_day(on)
    assert following.on > on
    assert following.trades
    between = [on + timedelta(days=ahead) for ahead in range(1, (following.on - on).days)]
    assert not any(days.is_trading_day(day) for day in between if day != date(2026, 11, 8))
