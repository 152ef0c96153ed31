"""Prices: a board with one line per instrument, fed by a seeded walk or by recorded bars."""

import csv
import gzip
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Protocol

from kite_simulator.engine.clock import IST
from kite_simulator.engine.instruments import Instrument, InstrumentBook
from kite_simulator.engine.streams import stream

BAND_BPS = 1000
"""Dynamic band of derivative-listed shares: 10 % around the previous close (market rules, section 2)."""
REVERSION_TICKS = 40
STEP_BPS = 2
DEPTH_LEVELS = 5
LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class Line:
    """Market data of one instrument; prices in paise."""

    instrument: Instrument
    close_paise: int
    last_paise: int
    open_paise: int
    high_paise: int
    low_paise: int
    last_quantity: int = 0
    volume: int = 0
    turnover_paise: int = 0
    traded_at: datetime | None = None
    minutes: dict[datetime, list[int]] = field(default_factory=dict)
    minute: datetime = LONG_AGO
    minute_ends: datetime = LONG_AGO

    @property
    def lower_paise(self) -> int:
        """Lower circuit limit on the tick grid."""
        tick = self.instrument.tick_paise
        return -(-self.close_paise * (10_000 - BAND_BPS) // 10_000 // tick) * tick

    @property
    def upper_paise(self) -> int:
        """Upper circuit limit on the tick grid."""
        return (
            self.close_paise * (10_000 + BAND_BPS) // 10_000 // self.instrument.tick_paise * self.instrument.tick_paise
        )

    @property
    def average_paise(self) -> int:
        """Volume-weighted average price of the day."""
        return self.turnover_paise // self.volume if self.volume else self.last_paise

    def trade_at(self, price_paise: int, quantity: int, now: datetime) -> None:
        """Someone traded: move last price, extremes, volume and the minute bar."""
        self.last_paise = price_paise
        self.high_paise = max(self.high_paise, price_paise)
        self.low_paise = min(self.low_paise, price_paise)
        self.last_quantity = quantity
        self.volume += quantity
        self.turnover_paise += quantity * price_paise
        self.traded_at = now
        if now >= self.minute_ends:
            self.minute = now.astimezone(IST).replace(second=0, microsecond=0)
            self.minute_ends = self.minute + timedelta(minutes=1)
        minute = self.minute
        bar = self.minutes.get(minute)
        if bar is None:
            self.minutes[minute] = [price_paise, price_paise, price_paise, price_paise, quantity]
        else:
            bar[1] = max(bar[1], price_paise)
            bar[2] = min(bar[2], price_paise)
            bar[3] = price_paise
            bar[4] += quantity

    def start_day(self, close_paise: int) -> None:
        """A new trading day begins at the last price."""
        self.close_paise = close_paise
        self.open_paise = self.high_paise = self.low_paise = self.last_paise
        self.volume = self.turnover_paise = self.last_quantity = 0
        self.minutes.clear()


Bar = list[int]
"""Open, high, low, close in paise, and the volume."""


class PriceSource(Protocol):
    """Decides where prices go."""

    def history(self, instrument: Instrument) -> dict[date, Bar]:
        """Recorded daily bars; empty when there are none."""
        ...

    def start(self, instrument: Instrument) -> int:
        """Previous close in paise at the very beginning."""
        ...

    def step(self, line: Line, now: datetime) -> tuple[int, int]:
        """The next (price in paise, volume) of one instrument."""
        ...


class SeededWalk:
    """A small mean-reverting walk on the tick grid around the previous close, in whole ticks (no floating point)."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._streams: dict[str, random.Random] = {}

    def history(self, instrument: Instrument) -> dict[date, Bar]:
        return {}

    def start(self, instrument: Instrument) -> int:
        return instrument.ref_close_paise

    def step(self, line: Line, now: datetime) -> tuple[int, int]:
        instrument = line.instrument
        rng = self._streams.get(instrument.key)
        if rng is None:
            rng = self._streams[instrument.key] = stream(self._seed, f"price/{instrument.key}")
        tick = instrument.tick_paise
        width = max(1, line.last_paise * STEP_BPS // 10_000 // tick)
        pull = (line.close_paise - line.last_paise) // (tick * REVERSION_TICKS * width)
        ticks = rng.randint(-width, width) + max(-width, min(width, pull))
        return instrument.on_tick(line.last_paise + ticks * tick), rng.randint(1, 400)


class BarReplay:
    """Recorded daily bars (`date,symbol,open,high,low,close,volume`, plain or gzip) walked open-high-low-close.

    Each bar takes `seconds_per_bar`; the four prices are reached at equal intervals with straight lines between them.
    After the last bar the price rests at its close.
    """

    def __init__(self, path: Path, seconds_per_bar: float, fallback: PriceSource) -> None:
        self._fallback = fallback
        self._bar_time = timedelta(seconds=seconds_per_bar)
        self._began: datetime | None = None
        self._bars: dict[str, list[Bar]] = {}
        self._days: dict[str, dict[date, Bar]] = {}
        for row in _read_rows(path):
            bar = [_rounded_paise(row[name]) for name in ("open", "high", "low", "close")]
            bar.append(int(float(row["volume"])))
            key = f"NSE:{row['symbol']}"
            self._bars.setdefault(key, []).append(bar)
            self._days.setdefault(key, {})[date.fromisoformat(row["date"])] = bar

    def history(self, instrument: Instrument) -> dict[date, Bar]:
        return dict(self._days.get(instrument.key, {}))

    def start(self, instrument: Instrument) -> int:
        bars = self._bars.get(instrument.key)
        return bars[0][0] if bars else self._fallback.start(instrument)

    def step(self, line: Line, now: datetime) -> tuple[int, int]:
        bars = self._bars.get(line.instrument.key)
        if bars is None:
            return self._fallback.step(line, now)
        if self._began is None:
            self._began = now
        elapsed = now - self._began
        number = elapsed // self._bar_time
        if number >= len(bars):
            return line.instrument.on_tick(bars[-1][3]), 0
        if number:
            line.close_paise = bars[number - 1][3]
        bar = bars[number]
        third = self._bar_time / 3
        leg = min(2, (elapsed - number * self._bar_time) // third)
        into = (elapsed - number * self._bar_time - leg * third) / third
        price = bar[leg] + int((bar[leg + 1] - bar[leg]) * into)
        return line.instrument.on_tick(price), max(1, bar[4] // 375)


def _read_rows(path: Path) -> Iterator[dict[str, str]]:
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8", newline="") as source:
            yield from sorted(csv.DictReader(source), key=lambda row: row["date"])
    else:
        with path.open(encoding="utf-8", newline="") as source:
            yield from sorted(csv.DictReader(source), key=lambda row: row["date"])


def _rounded_paise(text: str) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole) * 100 + int((fraction + "00")[:2])


class Board:
    """All lines; moved tick by tick. Index lines follow the mean move of the NSE shares (no real weights)."""

    def __init__(self, instruments: InstrumentBook, source: PriceSource) -> None:
        self.source = source
        self.lines: dict[str, Line] = {}
        for instrument in instruments.all:
            close = source.start(instrument)
            last = instrument.on_tick(close)
            self.lines[instrument.key] = Line(instrument, close, last, last, last, last)

    def restore(self, closes: dict[str, int], set_prices: dict[str, int]) -> None:
        """Continue after a restart: from the closes of the last rolled day, and from prices set by hand since."""
        for key, close in closes.items():
            line = self.lines[key]
            line.last_paise = line.instrument.on_tick(close)
            line.start_day(close)
        for key, price in set_prices.items():
            line = self.lines[key]
            line.last_paise = price
            line.high_paise = max(line.high_paise, price)
            line.low_paise = min(line.low_paise, price)

    def tick(self, now: datetime) -> list[str]:
        """Move every price by one step; returns the keys that ticked."""
        move_bps = count = 0
        for line in self.lines.values():
            if line.instrument.tradable:
                price, volume = self.source.step(line, now)
                price = max(line.lower_paise, min(line.upper_paise, price))
                line.trade_at(price, volume, now)
                if line.instrument.exchange == "NSE":
                    move_bps += (line.last_paise - line.close_paise) * 1_000_000 // line.close_paise
                    count += 1
        for line in self.lines.values():
            if not line.instrument.tradable:
                level = line.close_paise + line.close_paise * (move_bps // count) // 1_000_000
                line.trade_at(line.instrument.on_tick(level), 0, now)
        return list(self.lines)

    def depth(self, key: str, seed: int) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
        """Five bids and five offers as (price in paise, quantity, orders); a picture, not the matching book."""
        line = self.lines[key]
        tick = line.instrument.tick_paise
        rng = stream(seed, f"depth/{key}/{line.last_paise}/{line.volume}")
        bids: list[tuple[int, int, int]] = []
        offers: list[tuple[int, int, int]] = []
        for level in range(1, DEPTH_LEVELS + 1):
            for side, price in ((bids, line.last_paise - level * tick), (offers, line.last_paise + level * tick)):
                if line.lower_paise <= price <= line.upper_paise:
                    side.append((price, rng.randint(1, 5000), rng.randint(1, 40)))
        padding = (0, 0, 0)
        return bids + [padding] * (DEPTH_LEVELS - len(bids)), offers + [padding] * (DEPTH_LEVELS - len(offers))
