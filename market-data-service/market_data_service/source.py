"""What the read side of a broker answers; the only door through which market data comes in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol

from common.errors import Unavailable
from market_data_service.instruments import Key
from market_data_service.prices import DayQuote, LastPrice

LTP_KEYS_MAX = 1_000
QUOTE_KEYS_MAX = 500
DAY_CANDLE_SPAN_DAYS_MAX = 2_000
INTRADAY_SPAN_DAYS_MAX = {
    "minute": 60,
    "3minute": 100,
    "5minute": 100,
    "10minute": 100,
    "15minute": 200,
    "30minute": 200,
    "60minute": 400,
}
"""Documented limits of one request (kite-connect.md sections 3 and 4.5)."""


class NoBrokerSession(Unavailable):
    """Nobody is logged in at the broker: nothing new can be read."""


class BrokerReadFailed(Unavailable):
    """The broker did not answer a read, or not in the documented form."""


@dataclass(frozen=True, slots=True)
class DayCandle:
    """One day's prices in paise and volume in shares, as the broker gave them (adjusted for splits to this day)."""

    on: date
    open_paise: int
    high_paise: int
    low_paise: int
    close_paise: int
    volume: int


@dataclass(frozen=True, slots=True)
class IntradayCandle:
    """Prices in paise and volume in shares of the interval that begins `at`; adjusted for splits by the broker."""

    at: datetime
    open_paise: int
    high_paise: int
    low_paise: int
    close_paise: int
    volume: int


class QuoteSource(Protocol):
    """Reads of a broker. Every method raises NoBrokerSession or BrokerReadFailed; absent instruments are left out."""

    def instruments(self, exchange: str) -> Sequence[Mapping[str, Any]]:
        """The rows of today's instrument file."""
        ...

    def last_prices(self, keys: Sequence[Key]) -> Mapping[Key, LastPrice]:
        """Last prices of at most LTP_KEYS_MAX instruments."""
        ...

    def quotes(self, keys: Sequence[Key]) -> Mapping[Key, tuple[LastPrice, DayQuote]]:
        """Last prices and day figures of at most QUOTE_KEYS_MAX instruments."""
        ...

    def day_candles(self, instrument_token: int, first: date, last: date) -> Sequence[DayCandle]:
        """Daily candles of [first, last], at most DAY_CANDLE_SPAN_DAYS_MAX days, oldest first."""
        ...

    def intraday_candles(
        self, instrument_token: int, interval: str, first: date, last: date
    ) -> Sequence[IntradayCandle]:
        """Candles of an interval of INTRADAY_SPAN_DAYS_MAX, for at most so many days [first, last], oldest first."""
        ...
