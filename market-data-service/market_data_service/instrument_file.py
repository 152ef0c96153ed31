"""Judging a broker's instrument file: rows to listings, and whether the file may replace yesterday's.

Pure. Columns and their quirks: kite-connect.md section 4.5 (index rows have lot 0, prices are JSON numbers in rupees).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from common.money import InvalidAmount, paise_from_broker
from market_data_service.instruments import INDICES, SYMBOL_LENGTH_MAX, Listing

SHRINK_FACTOR_MAX = 2
"""A file with fewer than 1/SHRINK_FACTOR_MAX of the rows known so far is a broken download, not a smaller market."""


@dataclass(frozen=True, slots=True)
class InstrumentFile:
    """The usable rows of one exchange's file and how many were not usable."""

    exchange: str
    listings: tuple[Listing, ...]
    skipped: int


def parse_rows(exchange: str, rows: Iterable[Mapping[str, Any]], seen_on: date) -> InstrumentFile:
    """Listings of `exchange`; rows without symbol, tick or lot, of another exchange, or repeated are skipped."""
    listings: dict[str, Listing] = {}
    skipped = 0
    for row in rows:
        listing = _listing(exchange, row, seen_on)
        if listing is None or listing.tradingsymbol in listings:
            skipped += 1
        else:
            listings[listing.tradingsymbol] = listing
    return InstrumentFile(exchange, tuple(listings.values()), skipped)


def implausible(file: InstrumentFile, active_before: int) -> str | None:
    """Why the file must not replace what is known, in words for an operator; None: it may."""
    count = len(file.listings)
    if count == 0:
        return f"The {file.exchange} instrument file has no usable row ({file.skipped} unusable)."
    if count * SHRINK_FACTOR_MAX < active_before:
        return (
            f"The {file.exchange} instrument file has {count} usable rows, {active_before} instruments are active: fewer"
            " than half. The old ones stay in force."
        )
    return None


def _listing(exchange: str, row: Mapping[str, Any], seen_on: date) -> Listing | None:
    try:
        symbol = str(row["tradingsymbol"]).strip()
        segment = str(row["segment"])
        tick_paise = paise_from_broker(row["tick_size"])
        lot_size = int(row["lot_size"])
        token = int(row["instrument_token"])
        if row["exchange"] != exchange or not 0 < len(symbol) <= SYMBOL_LENGTH_MAX:
            return None
        if segment != INDICES and (tick_paise <= 0 or lot_size <= 0):
            return None
        return Listing(
            exchange=exchange,
            tradingsymbol=symbol,
            name=str(row["name"]).strip() or symbol,
            instrument_token=token,
            exchange_token=str(row["exchange_token"]),
            tick_paise=tick_paise,
            lot_size=lot_size,
            segment=segment,
            instrument_type=str(row["instrument_type"]),
            last_seen_on=seen_on,
        )
    except (KeyError, ValueError, TypeError, InvalidAmount):
        return None
