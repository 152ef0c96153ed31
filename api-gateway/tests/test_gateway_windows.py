"""The sliding window against its own promise and against the library whose algorithm it shares."""

import asyncio
from datetime import UTC, datetime

import time_machine
from hypothesis import given, settings
from hypothesis import strategies as st
from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from api_gateway.windows import Rule, Window

gaps = st.lists(st.floats(min_value=0, max_value=40, allow_nan=False), min_size=1, max_size=60)
START = 1_000_000.0


@given(gaps, st.integers(1, 8), st.integers(1, 30))
def test_no_fixed_window_ever_holds_more_than_the_limit(steps: list[float], requests: int, period: int) -> None:
    rule = Rule("r", requests, period)
    window = Window(0)
    now, accepted = START, []
    for step in steps:
        now += step
        verdict = window.hit(rule, now)
        assert verdict.limit == requests
        assert 0 <= verdict.remaining < requests
        assert 1 <= verdict.reset_s <= 2 * period + 1
        if verdict.allowed:
            accepted.append(int(now // period))
    assert all(accepted.count(number) <= requests for number in accepted)


@given(gaps, st.integers(1, 8), st.integers(1, 30))
def test_who_waits_as_told_is_let_in(steps: list[float], requests: int, period: int) -> None:
    rule = Rule("r", requests, period)
    window = Window(0)
    now = START
    for step in steps:
        now += step
        verdict = window.hit(rule, now)
        if not verdict.allowed:
            now += verdict.reset_s
            assert window.hit(rule, now).allowed


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 6))
def test_it_judges_like_the_library(steps: list[int], requests: int) -> None:
    async def compare() -> None:
        rule = Rule("r", requests, 10)
        window = Window(0)
        library = SlidingWindowCounterRateLimiter(MemoryStorage())
        item = RateLimitItemPerSecond(requests, 10)
        start = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
        with time_machine.travel(start, tick=False) as traveller:
            now = start.timestamp()
            for step in steps:
                now += step
                traveller.move_to(now)
                assert window.hit(rule, now).allowed == await library.hit(item, "key")

    asyncio.run(compare())
