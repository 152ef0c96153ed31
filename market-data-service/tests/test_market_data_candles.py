"""Daily candles: read once, stored, complete or honestly not, and read anew when the broker restates its history."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from common.clock import FixedClock, SystemClock, trading_date
from common.db import Database
from common.testing import client_for
from kite_simulator.server import SimulatorServer
from market_data_service.candle_spans import Span, joined, missing
from market_data_service.candles import InvalidSpan, day_candles, wanted_span
from market_data_service.instruments import Listing
from market_data_service.kite_source import KiteQuoteSource
from market_data_service.market import Market
from market_data_service.source import DayCandle, NoBrokerSession

TODAY = date(2026, 11, 23)
SHARE = Listing("NSE", "INFY", "INFOSYS", 408065, "1594", 10, 1, "NSE", "EQ", TODAY)
DAY = timedelta(days=1)

days = st.dates(date(2020, 1, 1), date(2026, 12, 31))
spans = st.tuples(days, days).map(lambda pair: Span(min(pair), max(pair)))


def every_day(span: Span) -> set[date]:
    return {span.first + timedelta(days=offset) for offset in range((span.last - span.first).days + 1)}


@given(spans, st.integers(1, 2_000))
def test_pieces_make_up_the_span_and_keep_the_limit(span: Span, days_max: int) -> None:
    pieces = span.pieces(days_max)
    assert [day for piece in pieces for day in sorted(every_day(piece))] == sorted(every_day(span))
    assert all((piece.last - piece.first).days < days_max for piece in pieces)


@given(st.none() | spans, spans)
def test_after_reading_what_is_missing_everything_wanted_is_one_stored_span(stored: Span | None, wanted: Span) -> None:
    after = stored
    for gap in missing(stored, wanted):
        after = joined(after, gap)
    assert after is not None
    assert every_day(wanted) <= every_day(after)
    assert stored is None or every_day(stored) <= every_day(after)


@given(spans, spans)
def test_nothing_is_missing_of_what_is_stored(stored: Span, wanted: Span) -> None:
    gaps = missing(stored, wanted)
    if every_day(wanted) <= every_day(stored):
        assert gaps == []
    # Only the control days are read a second time.
    again = sum(len(every_day(gap) & every_day(stored)) for gap in gaps)
    assert again <= len(gaps)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (TODAY, TODAY - DAY),
        (TODAY + DAY, TODAY + 2 * DAY),
        (TODAY - timedelta(days=4_000), TODAY),
        (date(1, 1, 1), TODAY),
    ],
)
def test_impossible_spans_are_refused(first: date, last: date) -> None:
    with pytest.raises(InvalidSpan):
        wanted_span(first, last, TODAY)


def candle(on: date, close: int = 100_00) -> DayCandle:
    return DayCandle(on, close - 50, close + 100, close - 100, close, 1_000)


@pytest.fixture
def history(scripted: Any) -> Any:
    """A broker with a candle for every weekday of 2026 up to today."""
    first = date(2026, 1, 1)
    every = [first + timedelta(days=offset) for offset in range((TODAY - first).days + 1)]
    scripted.candles = [candle(day) for day in every if day.weekday() < 5]
    return scripted


def test_stored_candles_are_never_asked_for_again(db: Database, history: Any, clock: FixedClock) -> None:
    span = wanted_span(date(2026, 3, 1), date(2026, 3, 31), TODAY)
    first = day_candles(db, history, clock, SHARE, span)
    assert len(history.calls) == 1
    assert [row.on for row in first.candles] == [row.on for row in history.candles if span.first <= row.on <= span.last]
    assert day_candles(db, history, clock, SHARE, span) == first
    inside = wanted_span(date(2026, 3, 10), date(2026, 3, 12), TODAY)
    assert len(day_candles(db, history, clock, SHARE, inside).candles) == 3
    assert len(history.calls) == 1


def test_only_gaps_and_their_control_day_are_read(db: Database, history: Any, clock: FixedClock) -> None:
    day_candles(db, history, clock, SHARE, Span(date(2026, 3, 2), date(2026, 3, 31)))
    history.calls.clear()
    day_candles(db, history, clock, SHARE, Span(date(2026, 2, 2), date(2026, 4, 30)))
    assert history.calls == [
        ("candles", date(2026, 2, 2), date(2026, 3, 2)),
        ("candles", date(2026, 3, 31), date(2026, 4, 30)),
    ]


def test_today_is_read_again_after_a_minute_and_once_more_when_it_is_over(
    db: Database, history: Any, clock: FixedClock
) -> None:
    week = Span(TODAY - timedelta(days=7), TODAY)
    day_candles(db, history, clock, SHARE, week)
    day_candles(db, history, clock, SHARE, week)
    assert len(history.calls) == 1
    clock.advance(61)
    history.candles[-1] = candle(TODAY, 111_00)
    assert day_candles(db, history, clock, SHARE, week).candles[-1].close_paise == 111_00
    assert history.calls[1] == ("candles", TODAY, TODAY)
    clock.advance(86_400)
    history.candles[-1] = candle(TODAY, 112_00)
    answer = day_candles(db, history, clock, SHARE, Span(week.first, TODAY))
    assert answer.candles[-1].close_paise == 112_00
    calls = len(history.calls)
    day_candles(db, history, clock, SHARE, Span(week.first, TODAY))
    assert len(history.calls) == calls


def test_a_restated_history_is_read_anew(db: Database, history: Any, clock: FixedClock) -> None:
    march = Span(date(2026, 3, 2), date(2026, 3, 31))
    day_candles(db, history, clock, SHARE, march)
    history.candles = [candle(row.on, row.close_paise // 5) for row in history.candles]  # a split 1:5
    answer = day_candles(db, history, clock, SHARE, Span(march.first, date(2026, 4, 30)))
    assert {row.close_paise for row in answer.candles} == {20_00}
    assert {row.close_paise for row in day_candles(db, history, clock, SHARE, march).candles} == {20_00}


def test_without_a_broker_stored_candles_are_served_and_marked_incomplete(
    db: Database, history: Any, clock: FixedClock
) -> None:
    march = Span(date(2026, 3, 2), date(2026, 3, 31))
    assert day_candles(db, history, clock, SHARE, march).is_complete
    history.failure = NoBrokerSession("nobody is logged in")
    assert day_candles(db, history, clock, SHARE, march).is_complete
    wider = day_candles(db, history, clock, SHARE, Span(date(2026, 2, 2), march.last))
    assert not wider.is_complete
    assert {row.on.month for row in wider.candles} == {3}
    with pytest.raises(NoBrokerSession):
        day_candles(db, history, clock, SHARE, Span(date(2026, 6, 1), date(2026, 6, 30)))


def test_requests_at_the_same_time_store_one_history(db: Database, history: Any, clock: FixedClock) -> None:
    wanted = [Span(date(2026, month, 1), date(2026, month + 1, 28)) for month in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda span: day_candles(db, history, clock, SHARE, span), wanted))
    for span, answer in zip(wanted, answers, strict=True):
        assert [row.on for row in answer.candles] == [
            row.on for row in history.candles if span.first <= row.on <= span.last
        ]
    whole = day_candles(db, history, clock, SHARE, Span(date(2026, 1, 1), date(2026, 9, 28)))
    assert len(whole.candles) == len([row for row in history.candles if row.on <= date(2026, 9, 28)])


def test_a_long_span_is_read_in_the_pieces_the_broker_allows(
    db: Database, kite: KiteQuoteSource, simulator: SimulatorServer
) -> None:
    clock = SystemClock()
    today = trading_date(clock.now())
    span = wanted_span(today - timedelta(days=2_500), today - timedelta(days=10), today)
    answer = day_candles(db, kite, clock, SHARE, span)
    assert answer.is_complete
    assert len(answer.candles) > 1_600
    ordered = [row.on for row in answer.candles]
    assert ordered == sorted(set(ordered))
    assert all(row.low_paise <= min(row.open_paise, row.close_paise) for row in answer.candles)


def test_a_user_reads_candles_in_rupees(client: TestClient, user: dict[str, str]) -> None:
    answer = client.get(
        "/api/v1/candles/nse/infy", params={"from": "2026-06-01", "to": "2026-06-05"}, headers=user
    ).json()
    assert (answer["exchange"], answer["tradingsymbol"], answer["interval"]) == ("NSE", "INFY", "day")
    assert (answer["from"], answer["to"], answer["is_complete"]) == ("2026-06-01", "2026-06-05", True)
    assert [row["date"] for row in answer["candles"]] == [f"2026-06-0{day}" for day in range(1, 6)]
    assert set(answer["candles"][0]) == {"date", "open", "high", "low", "close", "volume"}
    assert all("." in answer["candles"][0][name] for name in ("open", "high", "low", "close"))


@pytest.mark.parametrize(
    ("path", "params", "status", "code"),
    [
        ("NSE/NOSUCH", {}, 404, "unknown_instrument"),
        ("MCX/GOLD", {}, 404, "unknown_instrument"),
        ("NSE/INFY", {"interval": "2minute"}, 422, "invalid_request"),
        ("NSE/INFY", {"from": "yesterday"}, 422, "invalid_request"),
        ("NSE/INFY", {"from": "2026-11-20", "to": "2026-11-10"}, 422, "invalid_span"),
        ("NSE/INFY", {"from": "2000-01-01"}, 422, "invalid_span"),
        ("NSE/INFY", {"from": "2027-01-01", "to": "2027-02-01"}, 422, "invalid_span"),
    ],
)
def test_impossible_requests_for_candles_say_what_is_wrong(
    client: TestClient, user: dict[str, str], path: str, params: dict[str, str], status: int, code: str
) -> None:
    answer = client.get(f"/api/v1/candles/{path}", params=params, headers=user)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_candles_nobody_can_read_are_a_503(
    make_app: Callable[..., Any], loaded: Market, scripted: Any, user: dict[str, str]
) -> None:
    scripted.failure = NoBrokerSession("nobody is logged in")
    answer = client_for(make_app(source=scripted)).get("/api/v1/candles/NSE/INFY", headers=user)
    assert (answer.status_code, answer.json()["code"]) == (503, "no_broker_session")


def test_rooms_read_candles_in_paise(client: TestClient, room: dict[str, str], user: dict[str, str]) -> None:
    params = {"i": "NSE:INFY", "from": "2026-06-01", "to": "2026-06-02"}
    assert client.get("/internal/v1/candles", params=params, headers=user).status_code == 401
    answer = client.get("/internal/v1/candles", params=params, headers=room).json()
    assert answer["is_complete"]
    assert [row["date"] for row in answer["candles"]] == ["2026-06-01", "2026-06-02"]
    assert isinstance(answer["candles"][0]["close_paise"], int)
