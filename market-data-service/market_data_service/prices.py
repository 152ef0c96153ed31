"""Last prices and day figures in memory, each with the instant it was seen; shared through the cache.

The poller writes, requests read. A reader in another process is fed by `mirror` from the cache and, after a restart, from
the table; nothing here waits for either, so hot routes answer from memory alone.
"""

import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime

from market_data_service.instruments import Key, format_key

CACHE_TTL_S = 86_400
PRICE_PREFIX = "price:"
QUOTE_PREFIX = "quote:"
WANTED_MAX = 5_000
"""Instruments polled at most: five requests of 1000, so every price is at most some seconds old."""


@dataclass(frozen=True, slots=True)
class LastPrice:
    """A last traded price in paise and the instant it was asked for: never younger than it is."""

    price_paise: int
    at: datetime


@dataclass(frozen=True, slots=True)
class DayQuote:
    """The day's figures of an instrument, prices in paise, volume in shares; `close_paise` is the day before's close."""

    open_paise: int
    high_paise: int
    low_paise: int
    close_paise: int
    volume: int
    lower_band_paise: int | None
    upper_band_paise: int | None
    at: datetime


class PriceBook:
    """Prices, day figures, and which instruments somebody wants to see priced. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._prices: dict[Key, LastPrice] = {}
        self._quotes: dict[Key, DayQuote] = {}
        self._wanted: dict[Key, None] = {}
        """In the order in which they were last asked for."""
        self._asked: set[Key] = set()
        self._told: tuple[date | None, set[Key]] = (None, set())
        self._changed: set[Key] = set()

    def price(self, key: Key) -> LastPrice | None:
        """The last price, however old."""
        return self._prices.get(key)

    def quote(self, key: Key) -> DayQuote | None:
        """The day's figures, however old."""
        return self._quotes.get(key)

    def newest_at(self) -> datetime | None:
        """When the youngest price was seen."""
        with self._lock:
            return max((price.at for price in self._prices.values()), default=None)

    def put_prices(self, prices: Mapping[Key, LastPrice]) -> None:
        """Take over prices; one older than what is known is ignored."""
        with self._lock:
            for key, price in prices.items():
                known = self._prices.get(key)
                if known is None or known.at < price.at:
                    self._prices[key] = price
                    self._changed.add(key)

    def put_quotes(self, quotes: Mapping[Key, DayQuote]) -> None:
        """Take over day figures; older ones are ignored."""
        with self._lock:
            for key, quote in quotes.items():
                known = self._quotes.get(key)
                if known is None or known.at < quote.at:
                    self._quotes[key] = quote

    def take_changed(self) -> dict[Key, LastPrice]:
        """Prices that came in since the last call (for the table)."""
        with self._lock:
            changed, self._changed = self._changed, set()
            return {key: self._prices[key] for key in changed}

    def want(self, keys: Iterable[Key]) -> None:
        """Somebody asks for these: have them polled from now on. Give known instruments only.

        Beyond WANTED_MAX the instruments nobody asked for the longest make room.
        """
        asked = list(keys)
        with self._lock:
            for key in asked:
                self._wanted.pop(key, None)
                self._wanted[key] = None
            for key in list(self._wanted)[: max(0, len(self._wanted) - WANTED_MAX)]:
                del self._wanted[key]
                self._asked.discard(key)
            self._asked.update(key for key in asked if key in self._wanted)

    def recall(self, keys: Iterable[Key]) -> None:
        """Wishes from the table: polled while there is room, but not taken for asked today."""
        with self._lock:
            for key in keys:
                if len(self._wanted) >= WANTED_MAX:
                    return
                self._wanted.setdefault(key)

    def wanted(self) -> frozenset[Key]:
        """Everything somebody asked for."""
        with self._lock:
            return frozenset(self._wanted)

    def take_asked(self, today: date) -> set[Key]:
        """What was asked for since the last call and has not been told for this day (for the table)."""
        with self._lock:
            if self._told[0] != today:
                self._told = (today, set())
            fresh = self._asked - self._told[1]
            self._told[1].update(fresh)
            self._asked = set()
            return fresh


def price_entries(prices: Mapping[Key, LastPrice]) -> dict[str, str]:
    """Cache entries of prices: `price:NSE:INFY` -> JSON."""
    return {
        PRICE_PREFIX + format_key(key): json.dumps({"price_paise": price.price_paise, "at": price.at.isoformat()})
        for key, price in prices.items()
    }


def quote_entries(quotes: Mapping[Key, DayQuote]) -> dict[str, str]:
    """Cache entries of day figures: `quote:NSE:INFY` -> JSON."""
    return {
        QUOTE_PREFIX + format_key(key): json.dumps({**asdict(quote), "at": quote.at.isoformat()})
        for key, quote in quotes.items()
    }


def price_from_entry(text: str) -> LastPrice:
    """The price of a cache entry; raises ValueError, KeyError or TypeError for foreign content."""
    row = json.loads(text)
    return LastPrice(int(row["price_paise"]), datetime.fromisoformat(row["at"]))


def quote_from_entry(text: str) -> DayQuote:
    """The day figures of a cache entry; raises ValueError, KeyError or TypeError for foreign content."""
    row = json.loads(text)
    return DayQuote(**{**row, "at": datetime.fromisoformat(row["at"])})
