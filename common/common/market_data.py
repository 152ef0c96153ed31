"""The client of market-data-service: instruments, last prices and the session, with short caches in the process.

Prices and instruments decide over money, so every price carries its time and the caller judges its age; a cache never
makes a price look younger than it is.
"""

import threading
import time
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol

from common.errors import Unprocessable
from common.http import ServiceClient

INSTRUMENT_CACHE_S = 300.0
PRICE_CACHE_S = 0.5
SESSION_CACHE_S = 1.0
KEYS_PER_REQUEST_MAX = 500
HISTORY_CACHE_S = 600.0
HISTORY_RETRY_S = 2.0
"""How long an incomplete history is kept before it is asked for again."""
HISTORIES_CACHED_MAX = 1_000
"""Six years of one share are 36 kilobytes."""
HISTORIES_PER_REQUEST_MAX = 60

Key = tuple[str, str]
"""(exchange, tradingsymbol)"""


class UnknownInstrument(Unprocessable):
    """No such tradingsymbol on that exchange today."""


class PriceMissing(Unprocessable):
    """The instrument has no last price yet."""


@dataclass(frozen=True)
class Instrument:
    """What the broker's instrument file says of one share. Prices in paise, lots in units."""

    exchange: str
    tradingsymbol: str
    name: str
    instrument_token: int
    tick_paise: int
    lot_size: int
    segment: str
    isin: str | None = None
    lower_band_paise: int | None = None
    upper_band_paise: int | None = None


@dataclass(frozen=True)
class Price:
    """A last traded price and the instant it was seen at."""

    price_paise: int
    at: datetime


@dataclass(frozen=True)
class History:
    """Final daily candles of a share, oldest first: closes in paise, volumes in shares. Today's is never among them.

    `is_complete` is false while market-data-service still reads days of the span from the broker.
    """

    days: Sequence[date]
    closes_paise: Sequence[int]
    volumes: Sequence[int]
    is_complete: bool


@dataclass(frozen=True)
class SessionInfo:
    """The state of the market now: whether orders can trade, and the trading day they belong to."""

    is_open: bool
    phase: str
    trading_date: date
    opens_at: datetime | None = None
    closes_at: datetime | None = None
    next_open_at: datetime | None = None
    next_trading_date: date | None = None


class MarketData(Protocol):
    """What rooms ask of the market."""

    def instruments(self, keys: Iterable[Key]) -> Mapping[Key, Instrument]:
        """Known instruments among `keys`; unknown ones are absent."""
        ...

    def prices(self, keys: Iterable[Key]) -> Mapping[Key, Price]:
        """Last prices; instruments without one are absent."""
        ...

    def session(self) -> SessionInfo:
        """The session of the cash market now."""
        ...

    def histories(self, keys: Iterable[Key], first: date, last: date) -> Mapping[Key, History]:
        """Stored daily candles of shares and indices; unknown ones are absent."""
        ...


def instrument_of(market: MarketData, exchange: str, tradingsymbol: str) -> Instrument:
    """One instrument; raises UnknownInstrument."""
    found = market.instruments([(exchange, tradingsymbol)]).get((exchange, tradingsymbol))
    if found is None:
        raise UnknownInstrument(
            f"{exchange}:{tradingsymbol} is not a tradable instrument; search with GET /api/v1/tokens/search.",
            tradingsymbol=tradingsymbol,
        )
    return found


class MarketDataClient:
    """MarketData over HTTP. Thread-safe."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._instruments: dict[Key, tuple[float, Instrument]] = {}
        self._prices: dict[Key, tuple[float, Price]] = {}
        self._session: tuple[float, SessionInfo] | None = None
        self._histories: dict[tuple[Key, date, date], tuple[float, History]] = {}

    def instruments(self, keys: Iterable[Key]) -> Mapping[Key, Instrument]:
        return self._cached(
            keys, self._instruments, INSTRUMENT_CACHE_S, "/internal/v1/instruments", "instruments", _instrument
        )

    def prices(self, keys: Iterable[Key]) -> Mapping[Key, Price]:
        return self._cached(keys, self._prices, PRICE_CACHE_S, "/internal/v1/prices", "prices", _price)

    def session(self) -> SessionInfo:
        now = time.monotonic()
        cached = self._session
        if cached is not None and now - cached[0] < SESSION_CACHE_S:
            return cached[1]
        info = _session(self._client.get("/internal/v1/session"))
        self._session = (now, info)
        return info

    def histories(self, keys: Iterable[Key], first: date, last: date) -> Mapping[Key, History]:
        wanted = list(dict.fromkeys(keys))
        now = time.monotonic()
        with self._lock:
            found = {
                key: entry[1]
                for key in wanted
                if (entry := self._histories.get((key, first, last))) is not None and now < entry[0]
            }
        missing = [key for key in wanted if key not in found]
        for start in range(0, len(missing), HISTORIES_PER_REQUEST_MAX):
            part = missing[start : start + HISTORIES_PER_REQUEST_MAX]
            query = [("i", f"{exchange}:{symbol}") for exchange, symbol in part]
            span = [("from", first.isoformat()), ("to", last.isoformat())]
            fresh = _histories(self._client.get("/internal/v1/histories", params=[*query, *span]))
            found.update(fresh)
            with self._lock:
                if len(self._histories) + len(fresh) > HISTORIES_CACHED_MAX:
                    self._histories.clear()
                for key, history in fresh.items():
                    until = now + (HISTORY_CACHE_S if history.is_complete else HISTORY_RETRY_S)
                    self._histories[key, first, last] = (until, history)
        return found

    def _cached(
        self, keys: Iterable[Key], cache: dict[Key, tuple[float, Any]], ttl_s: float, path: str, member: str, parse: Any
    ) -> dict[Key, Any]:
        wanted = list(dict.fromkeys(keys))
        now = time.monotonic()
        with self._lock:
            found = {key: cache[key][1] for key in wanted if key in cache and now - cache[key][0] < ttl_s}
        missing = [key for key in wanted if key not in found]
        for start in range(0, len(missing), KEYS_PER_REQUEST_MAX):
            part = missing[start : start + KEYS_PER_REQUEST_MAX]
            answer = self._client.get(path, params=[("i", f"{exchange}:{symbol}") for exchange, symbol in part])
            fresh = {(row["exchange"], row["tradingsymbol"]): parse(row) for row in answer[member]}
            found.update(fresh)
            with self._lock:
                cache.update({key: (now, value) for key, value in fresh.items()})
        return found


def _instrument(row: Mapping[str, Any]) -> Instrument:
    return Instrument(
        exchange=row["exchange"],
        tradingsymbol=row["tradingsymbol"],
        name=row["name"],
        instrument_token=int(row["instrument_token"]),
        tick_paise=int(row["tick_paise"]),
        lot_size=int(row["lot_size"]),
        segment=row["segment"],
        isin=row.get("isin"),
        lower_band_paise=row.get("lower_band_paise"),
        upper_band_paise=row.get("upper_band_paise"),
    )


def _price(row: Mapping[str, Any]) -> Price:
    return Price(price_paise=int(row["price_paise"]), at=datetime.fromisoformat(row["at"]))


def _histories(answer: Mapping[str, Any]) -> dict[Key, History]:
    days = tuple(date.fromisoformat(day) for day in answer["days"])
    found = {}
    for row in answer["histories"]:
        closes = row["closes_paise"]
        traded = [index for index, close in enumerate(closes) if close is not None]
        found[row["exchange"], row["tradingsymbol"]] = History(
            # Most shares trade on every day: they share one list of days.
            days=days if len(traded) == len(days) else tuple(days[index] for index in traded),
            closes_paise=array("q", (closes[index] for index in traded)),
            volumes=array("q", (row["volumes"][index] for index in traded)),
            is_complete=bool(row["is_complete"]),
        )
    return found


def _session(row: Mapping[str, Any]) -> SessionInfo:
    def instant(name: str) -> datetime | None:
        return datetime.fromisoformat(row[name]) if row.get(name) else None

    following = row.get("next_trading_date")
    return SessionInfo(
        is_open=bool(row["is_open"]),
        phase=row["phase"],
        trading_date=date.fromisoformat(row["trading_date"]),
        opens_at=instant("opens_at"),
        closes_at=instant("closes_at"),
        next_open_at=instant("next_open_at"),
        next_trading_date=date.fromisoformat(following) if following else None,
    )
