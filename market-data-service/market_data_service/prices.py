"""Last prices and day figures in memory, each with the instant it was seen; shared through the cache.

The poller writes, requests read. A reader in another process is fed by `mirror` from the cache and, after a restart, from
the table; nothing here waits for either, so hot routes answer from memory alone.
"""

import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

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
        self._wanted: set[Key] = set()
        self._newly_wanted: set[Key] = set()
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
        """Have these polled from now on; beyond WANTED_MAX new wishes are dropped. Give known instruments only."""
        fresh = [key for key in keys if key not in self._wanted]
        if not fresh:
            return
        with self._lock:
            room = WANTED_MAX - len(self._wanted)
            self._wanted.update(fresh[:room])
            self._newly_wanted.update(fresh[:room])

    def wanted(self) -> frozenset[Key]:
        """Everything somebody asked for."""
        with self._lock:
            return frozenset(self._wanted)

    def take_newly_wanted(self) -> set[Key]:
        """Wishes since the last call (for the table, where the poller of another process finds them)."""
        with self._lock:
            fresh, self._newly_wanted = self._newly_wanted, set()
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
