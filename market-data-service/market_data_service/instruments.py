"""The instrument master in memory: what is listed, found by key or by a few letters.

Pure and lock-free: a load swaps one finished snapshot for another, so a reader never sees half of a file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

Key = tuple[str, str]
"""(exchange, tradingsymbol)"""

INDICES = "INDICES"
EQUITY = "EQ"
SYMBOL_LENGTH_MAX = 64
EXCHANGES = frozenset({"NSE", "BSE"})


class MalformedKey(ValueError):
    """The text is not `EXCHANGE:TRADINGSYMBOL`."""


def parse_key(text: str) -> Key:
    """`"NSE:INFY"` -> `("NSE", "INFY")`; raises MalformedKey. Case does not matter on the way in."""
    exchange, colon, symbol = text.strip().upper().partition(":")
    if not colon or exchange not in EXCHANGES or not 0 < len(symbol) <= SYMBOL_LENGTH_MAX or not symbol.isprintable():
        raise MalformedKey(f"{text[:SYMBOL_LENGTH_MAX]!r} is not EXCHANGE:TRADINGSYMBOL such as NSE:INFY")
    return exchange, symbol


def format_key(key: Key) -> str:
    """`("NSE", "INFY")` -> `"NSE:INFY"`, as the broker writes it."""
    return f"{key[0]}:{key[1]}"


@dataclass(frozen=True, slots=True)
class Listing:
    """One row of the broker's instrument file with its price band: prices in paise, lot in shares.

    The band (lower, upper circuit limit) is that of the trading day `bands_on` and of no other.
    """

    exchange: str
    tradingsymbol: str
    name: str
    instrument_token: int
    exchange_token: str
    tick_paise: int
    lot_size: int
    segment: str
    instrument_type: str
    last_seen_on: date
    is_active: bool = True
    isin: str | None = None
    lower_band_paise: int | None = None
    upper_band_paise: int | None = None
    bands_on: date | None = None

    @property
    def key(self) -> Key:
        """(exchange, tradingsymbol)"""
        return self.exchange, self.tradingsymbol

    @property
    def is_tradable(self) -> bool:
        """Whether orders may name it: listed today and no index."""
        return self.is_active and self.segment != INDICES

    @property
    def is_equity(self) -> bool:
        """Whether it is a tradable share (or a fund traded like one)."""
        return self.is_tradable and self.instrument_type == EQUITY


@dataclass(frozen=True, slots=True)
class _Snapshot:
    by_key: Mapping[Key, Listing]
    searchable: tuple[tuple[str, str, Listing], ...]


class InstrumentBook:
    """All known instruments, active or not."""

    def __init__(self) -> None:
        self._snapshot = _Snapshot({}, ())

    def __len__(self) -> int:
        return len(self._snapshot.by_key)

    def replace(self, listings: Iterable[Listing]) -> None:
        """Take over a complete new state."""
        by_key = {listing.key: listing for listing in listings}
        searchable = tuple(
            (listing.tradingsymbol.casefold(), listing.name.casefold(), listing)
            for _, listing in sorted(by_key.items(), key=lambda item: item[0])
            if listing.is_active
        )
        self._snapshot = _Snapshot(by_key, searchable)

    def get(self, key: Key) -> Listing | None:
        """An instrument, active or not."""
        return self._snapshot.by_key.get(key)

    def active_equities(self) -> list[Listing]:
        """Tradable shares in the order of their keys."""
        return [listing for _, _, listing in self._snapshot.searchable if listing.is_equity]

    def search(self, text: str, limit: int) -> list[Listing]:
        """Active instruments by symbol or name, best first, at most `limit`.

        The order: the exact symbol, symbols that start with the text, names with a word that starts with it, names
        that contain it; within one rank the shorter symbol, then the alphabet, NSE before BSE.
        """
        wanted = " ".join(text.casefold().split())
        if not wanted:
            return []
        found = []
        for symbol, name, listing in self._snapshot.searchable:
            rank = _rank(wanted, symbol, name)
            if rank is not None:
                found.append((rank, len(symbol), symbol, listing.exchange != "NSE", listing))
        found.sort(key=lambda item: item[:4])
        return [item[4] for item in found[:limit]]


def _rank(wanted: str, symbol: str, name: str) -> int | None:
    if symbol.startswith(wanted):
        return 0 if symbol == wanted else 1
    if wanted in name:
        return 2 if f" {wanted}" in f" {name}" else 3
    return None
