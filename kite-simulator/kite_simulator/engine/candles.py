"""Candles (Kite docs, historical data).

Seeded history that ends at the last real close (or the recorded bars of a replay), then the days the engine lived through.
"""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

from kite_simulator.engine.clock import IST
from kite_simulator.engine.errors import Refused
from kite_simulator.engine.instruments import Instrument
from kite_simulator.engine.kernel import Kernel
from kite_simulator.engine.streams import stream

MINUTES = {
    "minute": 1,
    "3minute": 3,
    "5minute": 5,
    "10minute": 10,
    "15minute": 15,
    "30minute": 30,
    "60minute": 60,
    "hour": 60,
}
SPAN_DAYS_STRICT = {
    "minute": 60,
    "3minute": 100,
    "5minute": 100,
    "10minute": 100,
    "15minute": 200,
    "30minute": 200,
    "60minute": 400,
    "hour": 400,
    "day": 2000,
}
SPAN_DAYS_COMPAT = {
    "minute": 30,
    "3minute": 90,
    "5minute": 90,
    "10minute": 90,
    "15minute": 180,
    "30minute": 180,
    "60minute": 365,
    "hour": 365,
    "day": 2000,
}
"""The limits the public integration suite of the official client expects (fact sheet section 10)."""
HISTORY_DAYS = 4000
DAY_MOVE_BPS = 150
SESSION_START = time(9, 15)
SESSION_MINUTES = 375

Bar = list[Any]


class Candles:
    """Daily bars are made once per instrument, minute bars per day on demand; both depend on the seed alone."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._daily: dict[str, dict[date, Bar]] = {}

    def read(self, instrument: Instrument, interval: str, start: datetime, end: datetime, oi: bool) -> list[Bar]:
        """Rows `[timestamp, open, high, low, close, volume(, oi)]` of [start, end]; raises Refused beyond the span."""
        limits = SPAN_DAYS_STRICT if self._kernel.settings.strict else SPAN_DAYS_COMPAT
        if interval not in limits:
            raise Refused("Invalid `interval`.")
        if start > end:
            raise Refused("from date cannot be after to date.")
        if end - start > timedelta(days=limits[interval]):
            raise Refused(f"interval exceeds max limit: {limits[interval]} days")
        bars = (
            self._days(instrument, start, end)
            if interval == "day"
            else self._intraday(instrument, interval, start, end)
        )
        return [_rendered(moment, bar, oi) for moment, bar in bars]

    def _days(self, instrument: Instrument, start: datetime, end: datetime) -> Iterator[tuple[datetime, Bar]]:
        days = self._history(instrument)
        day = start.astimezone(IST).date()
        last = end.astimezone(IST).date()
        while day <= last:
            bar = days.get(day)
            if bar is None and day == self._kernel.state.day:
                line = self._kernel.board.lines[instrument.key]
                bar = [line.open_paise, line.high_paise, line.low_paise, line.last_paise, line.volume]
            if bar is not None:
                yield datetime.combine(day, time(0, 0), IST), bar
            day += timedelta(days=1)

    def _intraday(
        self, instrument: Instrument, interval: str, start: datetime, end: datetime
    ) -> Iterator[tuple[datetime, Bar]]:
        step = MINUTES[interval]
        days = self._history(instrument)
        day = start.astimezone(IST).date()
        last = end.astimezone(IST).date()
        while day <= last:
            bar = days.get(day)
            if day == self._kernel.state.day:
                minutes = sorted(self._kernel.board.lines[instrument.key].minutes.items())
                yield from _in_range(_grouped(minutes, step), start, end)
            elif bar is not None:
                yield from _in_range(_grouped(self._minutes(instrument, day, bar), step), start, end)
            day += timedelta(days=1)

    def _history(self, instrument: Instrument) -> dict[date, Bar]:
        days = self._daily.get(instrument.key)
        anchor = self._kernel.state.anchor
        if anchor is None:
            raise RuntimeError("candles need a begun day")
        if days is None:
            days = self._kernel.board.source.history(instrument) or self._walk_back(instrument, anchor)
            self._daily[instrument.key] = days
        for ended, *bar in self._kernel.state.bars.get(instrument.key, []):
            days[date.fromisoformat(ended)] = bar
        return days

    def _walk_back(self, instrument: Instrument, anchor: date) -> dict[date, Bar]:
        rng = stream(self._kernel.settings.seed, f"days/{instrument.key}")
        calendar = self._kernel.calendar
        close = instrument.on_tick(self._kernel.board.source.start(instrument))
        days: dict[date, Bar] = {}
        day = anchor
        for _ in range(HISTORY_DAYS):
            before = instrument.on_tick(close * 10_000 // (10_000 + rng.randint(-DAY_MOVE_BPS, DAY_MOVE_BPS)))
            opened = instrument.on_tick(before * (10_000 + rng.randint(-30, 30)) // 10_000)
            high = instrument.on_tick(max(opened, close) * (10_000 + rng.randint(0, 80)) // 10_000)
            low = instrument.on_tick(min(opened, close) * (10_000 - rng.randint(0, 80)) // 10_000)
            days[day] = [
                opened,
                max(high, opened, close),
                min(low, opened, close),
                close,
                rng.randint(200_000, 9_000_000),
            ]
            close = before
            day = calendar.previous_trading_day(day)
        return days

    def _minutes(self, instrument: Instrument, day: date, bar: Bar) -> list[tuple[datetime, Bar]]:
        rng = stream(self._kernel.settings.seed, f"minutes/{instrument.key}/{day}")
        opened, high, low, close, volume = bar
        begin = datetime.combine(day, SESSION_START, IST)
        price, tick = opened, instrument.tick_paise
        width = max(1, (high - low) // (tick * 20))
        rows: list[tuple[datetime, Bar]] = []
        for minute in range(SESSION_MINUTES):
            left = SESSION_MINUTES - minute
            drift = (close - price) // (tick * left)
            after = price + (drift + rng.randint(-width, width)) * tick
            after = close if left == 1 else max(low, min(high, instrument.on_tick(after)))
            top, bottom = max(price, after), min(price, after)
            rows.append((begin + timedelta(minutes=minute), [price, top, bottom, after, volume // SESSION_MINUTES]))
            price = after
        return rows


def _grouped(minutes: list[tuple[datetime, Bar]], step: int) -> Iterator[tuple[datetime, Bar]]:
    bucket: tuple[datetime, Bar] | None = None
    for moment, bar in minutes:
        offset = (moment.hour * 60 + moment.minute - SESSION_START.hour * 60 - SESSION_START.minute) % step
        begin = moment - timedelta(minutes=offset)
        if bucket is not None and bucket[0] == begin:
            kept = bucket[1]
            bucket = (begin, [kept[0], max(kept[1], bar[1]), min(kept[2], bar[2]), bar[3], kept[4] + bar[4]])
        else:
            if bucket is not None:
                yield bucket
            bucket = (begin, bar)
    if bucket is not None:
        yield bucket


def _in_range(bars: Iterator[tuple[datetime, Bar]], start: datetime, end: datetime) -> Iterator[tuple[datetime, Bar]]:
    return ((moment, bar) for moment, bar in bars if start <= moment <= end)


def _rendered(moment: datetime, bar: Bar, oi: bool) -> Bar:
    row = [moment.strftime("%Y-%m-%dT%H:%M:%S%z"), *(price / 100 for price in bar[:4]), bar[4]]
    return [*row, 0] if oi else row
