"""Instruments: facts shipped with the package (symbol, ISIN, tokens, tick, last real close)."""

import csv
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources


def to_paise(text: str | Decimal) -> int:
    """Rupees in decimal notation as whole paise; raises ValueError when a fraction of a paisa is left."""
    paise = Decimal(str(text)) * 100
    if paise != paise.to_integral_value():
        raise ValueError(f"{text} is not a whole number of paise")
    return int(paise)


@dataclass(frozen=True, slots=True)
class Instrument:
    """One row of the instrument dump. `ref_close_paise` is the last real close known, of `ref_date`."""

    exchange: str
    symbol: str
    name: str
    isin: str
    exchange_token: int
    token: int
    instrument_type: str
    segment: str
    lot_size: int
    tick_paise: int
    ref_close_paise: int
    ref_date: str

    @property
    def key(self) -> str:
        """The key of the quote calls, for example `NSE:INFY`."""
        return f"{self.exchange}:{self.symbol}"

    @property
    def tradable(self) -> bool:
        """False for indices."""
        return self.segment != "INDICES"

    def on_tick(self, price_paise: int) -> int:
        """The nearest price on the tick grid, at least one tick."""
        return max(self.tick_paise, (price_paise + self.tick_paise // 2) // self.tick_paise * self.tick_paise)


class InstrumentBook:
    """All instruments, by key and by token."""

    def __init__(self, instruments: list[Instrument]) -> None:
        self.all = instruments
        self.by_key = {instrument.key: instrument for instrument in instruments}
        self.by_token = {instrument.token: instrument for instrument in instruments}

    def find(self, key_or_token: str) -> Instrument | None:
        """By `EXCHANGE:SYMBOL` or by instrument token in decimal digits."""
        if key_or_token.isdigit():
            return self.by_token.get(int(key_or_token))
        return self.by_key.get(key_or_token)


def load_instruments() -> InstrumentBook:
    """Read the CSV shipped in `kite_simulator/data`."""
    text = resources.files("kite_simulator").joinpath("data/instruments.csv").read_text(encoding="utf-8")
    return InstrumentBook(
        [
            Instrument(
                exchange=row["exchange"],
                symbol=row["symbol"],
                name=row["name"],
                isin=row["isin"],
                exchange_token=int(row["exchange_token"]),
                token=int(row["instrument_token"]),
                instrument_type=row["instrument_type"],
                segment=row["segment"],
                lot_size=int(row["lot_size"]),
                tick_paise=to_paise(row["tick_size"]),
                ref_close_paise=to_paise(row["ref_close"]),
                ref_date=row["ref_date"],
            )
            for row in csv.DictReader(text.splitlines())
        ]
    )
