"""Phases by date and share class, and which trading day an order belongs to."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.clock import IST
from market_data_service.calendar import Entry, Hours, TradingCalendar
from market_data_service.calendar_files import load_calendar_table, load_session_rules
from market_data_service.exchange_holidays import XbomHolidays
from market_data_service.sessions import MarketSession, Phase, Schedule, ScheduleMissing, SessionRules, session_at

RULES = load_session_rules()
LIBRARY = XbomHolidays()
TABLE = load_calendar_table()
INFY = ("NSE", "INFY")
SMALL = ("NSE", "SOMESMALLCAP")


def calendar(mode: str = "nse", *entries: Entry) -> TradingCalendar:
    days = TradingCalendar(mode, TABLE, LIBRARY)  # type: ignore[arg-type]
    days.replace_overrides(entries)
    return days


def ist(day: str, wall: str) -> datetime:
    return datetime.fromisoformat(f"{day}T{wall}").replace(tzinfo=IST).astimezone(UTC)


def at(day: str, wall: str, share: tuple[str, str] | None = INFY, days: TradingCalendar | None = None) -> MarketSession:
    exchange, symbol = share if share else (None, None)
    return session_at(days or calendar(), RULES, ist(day, wall), exchange=exchange, tradingsymbol=symbol)


BEFORE, CAS, NOW = "2026-07-31", "2026-08-03", "2026-09-07"


@pytest.mark.parametrize(
    ("wall", "before", "cas", "now"),
    [
        ("08:59:59", "CLOSED", "CLOSED", "CLOSED"),
        ("09:00:00", "PRE_OPEN_ENTRY", "PRE_OPEN_ENTRY", "PRE_OPEN_ENTRY"),
        ("09:06:00", "PRE_OPEN_ENTRY", "PRE_OPEN_ENTRY", "PRE_OPEN_LIMIT_ONLY"),
        ("09:09:00", "PRE_OPEN_MATCH", "PRE_OPEN_MATCH", "PRE_OPEN_LIMIT_ONLY"),
        ("09:11:00", "PRE_OPEN_MATCH", "PRE_OPEN_MATCH", "PRE_OPEN_MATCH"),
        ("09:13:00", "PRE_OPEN_BUFFER", "PRE_OPEN_BUFFER", "PRE_OPEN_BUFFER"),
        ("09:15:00", "CONTINUOUS", "CONTINUOUS", "CONTINUOUS"),
        ("15:14:59", "CONTINUOUS", "CONTINUOUS", "CONTINUOUS"),
        ("15:15:00", "CONTINUOUS", "CLOSING_AUCTION_REFERENCE", "CLOSING_AUCTION_REFERENCE"),
        ("15:22:00", "CONTINUOUS", "CLOSING_AUCTION_ENTRY", "CLOSING_AUCTION_ENTRY"),
        ("15:27:00", "CONTINUOUS", "CLOSING_AUCTION_LIMIT_ONLY", "CLOSING_AUCTION_LIMIT_ONLY"),
        ("15:30:00", "CLOSED", "CLOSING_AUCTION_MATCH", "CLOSING_AUCTION_MATCH"),
        ("15:36:00", "CLOSED", "CLOSED", "CLOSED"),
        ("15:45:00", "POST_CLOSE", "CLOSED", "CLOSED"),
        ("15:50:00", "POST_CLOSE", "POST_CLOSE", "POST_CLOSE"),
        ("16:00:00", "CLOSED", "CLOSED", "CLOSED"),
    ],
)
def test_phases_of_a_share_with_closing_auction(wall: str, before: str, cas: str, now: str) -> None:
    assert [at(day, wall).phase for day in (BEFORE, CAS, NOW)] == [before, cas, now]


@pytest.mark.parametrize("day", [BEFORE, CAS, NOW])
def test_other_shares_trade_to_half_past_three(day: str) -> None:
    assert at(day, "15:29:59", SMALL).is_open
    assert not at(day, "15:30:00", SMALL).is_open
    assert at(day, "15:50:00", SMALL).phase == "POST_CLOSE"


@pytest.mark.parametrize(("day", "closes"), [(BEFORE, "15:30"), (CAS, "15:15"), (NOW, "15:15")])
def test_the_market_as_a_whole_closes_with_the_shares_that_close_first(day: str, closes: str) -> None:
    assert at(day, "10:00", None).closes_at == ist(day, closes)
    assert at(day, "10:00", INFY).closes_at == ist(day, closes)


@pytest.mark.parametrize(
    ("day", "wall", "is_open", "trading_date", "opens", "next_open"),
    [
        ("2026-11-23", "08:00", False, "2026-11-23", "2026-11-23", "2026-11-23"),
        ("2026-11-23", "09:10", False, "2026-11-23", "2026-11-23", "2026-11-23"),
        ("2026-11-23", "10:00", True, "2026-11-23", "2026-11-23", "2026-11-25"),  # the 24th is a holiday
        ("2026-11-23", "15:20", False, "2026-11-25", "2026-11-25", "2026-11-25"),
        ("2026-11-24", "10:00", False, "2026-11-25", "2026-11-25", "2026-11-25"),
        ("2026-11-21", "11:00", False, "2026-11-23", "2026-11-23", "2026-11-23"),  # Saturday
        ("2026-02-01", "10:00", True, "2026-02-01", "2026-02-01", "2026-02-02"),  # Budget Sunday
    ],
)
def test_the_trading_day_an_order_belongs_to(
    day: str, wall: str, is_open: bool, trading_date: str, opens: str, next_open: str
) -> None:
    session = at(day, wall)
    assert session.is_open is is_open
    assert session.trading_date == date.fromisoformat(trading_date)
    assert session.opens_at == ist(opens, "09:15")
    assert session.next_open_at == ist(next_open, "09:15")
    assert session.next_trading_date == date.fromisoformat(next_open)


def test_a_muhurat_session_trades_once_an_override_names_its_hour() -> None:
    unnamed = at("2026-11-08", "18:30")
    assert (unnamed.is_open, unnamed.phase) == (False, "SPECIAL_SESSION_HOURS_UNKNOWN")
    assert unnamed.trading_date == date(2026, 11, 9)
    hours = Hours(time(18, 0), time(19, 0))
    named = calendar("nse", Entry(date(2026, 11, 8), "special_session", "Muhurat", "test", hours=hours))
    assert at("2026-11-08", "18:30", INFY, named).is_open
    assert at("2026-11-08", "17:59", INFY, named).opens_at == ist("2026-11-08", "18:00")
    assert not at("2026-11-08", "19:00", INFY, named).is_open
    assert at("2026-11-07", "12:00", INFY, named).next_open_at == ist("2026-11-08", "18:00")


def test_an_overridden_holiday_closes_the_market_at_once() -> None:
    closed = calendar("nse", Entry(date(2026, 11, 23), "holiday", "elections", "test"))
    session = at("2026-11-23", "10:00", INFY, closed)
    assert (session.is_open, session.phase, session.trading_date) == (False, "CLOSED", date(2026, 11, 25))


@pytest.mark.parametrize("wall", ["00:00:00", "03:30:00", "15:16:00", "23:59:59", "23:59:59.5"])
@pytest.mark.parametrize("day", ["2026-11-21", "2026-11-24", "2026-11-23"])
def test_always_open_is_open_at_any_time_of_any_day(day: str, wall: str) -> None:
    session = at(day, wall, INFY, calendar("always_open"))
    assert (session.is_open, session.phase) == (True, "CONTINUOUS")
    assert session.trading_date == date.fromisoformat(day)
    assert session.opens_at == ist(day, "00:00")
    assert session.closes_at == ist(day, "23:59:59")
    assert session.next_open_at == session.opens_at + timedelta(days=1)


def test_an_override_closes_a_market_that_is_always_open() -> None:
    closed = calendar("always_open", Entry(date(2026, 11, 23), "holiday", "drill", "test"))
    session = at("2026-11-23", "10:00", INFY, closed)
    assert (session.is_open, session.trading_date) == (False, date(2026, 11, 24))


def test_days_without_schedule_are_an_error_and_never_a_closed_market() -> None:
    with pytest.raises(ScheduleMissing):
        RULES.phases("regular", date(2009, 1, 5))


@pytest.mark.parametrize(
    "phases",
    [
        (Phase("PRE", time(9), time(10)), Phase("CONTINUOUS", time(9, 30), time(15))),
        (Phase("CONTINUOUS", time(15), time(9)),),
        (Phase("PRE", time(9), time(10)),),
    ],
)
def test_a_malformed_schedule_fails_when_it_is_read(phases: tuple[Phase, ...]) -> None:
    with pytest.raises(ValueError, match="regular from 2026-01-01"):
        Schedule("regular", date(2026, 1, 1), date.max, phases)


def test_two_schedules_for_one_day_are_refused() -> None:
    phases = (Phase("CONTINUOUS", time(9), time(15)),)
    twice = [Schedule("regular", date(2026, 1, day), date(2026, 12, 31), phases) for day in (1, 2)]
    with pytest.raises(ValueError, match="two schedules"):
        SessionRules(twice, [])


@given(
    st.datetimes(datetime(2025, 1, 1), datetime(2026, 12, 20), timezones=st.just(UTC)),  # noqa: DTZ001
    st.sampled_from([INFY, SMALL, None]),
    st.sampled_from(["nse", "always_open"]),
)
@settings(max_examples=300, deadline=None)
def test_a_session_is_consistent_in_itself(now: datetime, share: tuple[str, str] | None, mode: str) -> None:
    exchange, symbol = share if share else (None, None)
    session = session_at(calendar(mode), RULES, now, exchange=exchange, tradingsymbol=symbol)
    assert session.opens_at < session.closes_at
    assert session.next_open_at > now
    assert session.opens_at.astimezone(IST).date() == session.trading_date
    assert session.next_open_at.astimezone(IST).date() == session.next_trading_date
    if session.is_open:
        assert session.opens_at <= now < session.closes_at + timedelta(seconds=1)
        assert session.next_trading_date > session.trading_date
    else:
        assert session.opens_at == session.next_open_at
