"""Price bands in the instrument table: which prices the exchange takes on one date."""

from collections.abc import Mapping
from datetime import date

from sqlalchemy import text
from sqlalchemy.orm import Session

from market_data_service.instruments import Key
from market_data_service.prices import DayQuote

_STORE_BANDS = text("""
    UPDATE instrument SET lower_band_paise = q.lower, upper_band_paise = q.upper, bands_on = :on_date
      FROM unnest(CAST(:exchanges AS text[]), CAST(:symbols AS text[]), CAST(:lowers AS bigint[]),
                  CAST(:uppers AS bigint[])) AS q(exchange, symbol, lower, upper)
     WHERE instrument.exchange = q.exchange AND instrument.tradingsymbol = q.symbol
       AND (lower_band_paise, upper_band_paise, bands_on) IS DISTINCT FROM (q.lower, q.upper, :on_date)
""")


def store_bands(session: Session, quotes: Mapping[Key, DayQuote], on: date) -> None:
    """Keep the price bands of the date `on`; rows that already say so are left alone."""
    # Sorted: rows are locked in one order by every writer.
    banded = [(key, quotes[key]) for key in sorted(quotes) if quotes[key].lower_band_paise is not None]
    session.execute(
        _STORE_BANDS,
        {
            "on_date": on,
            "exchanges": [key[0] for key, _ in banded],
            "symbols": [key[1] for key, _ in banded],
            "lowers": [quote.lower_band_paise for _, quote in banded],
            "uppers": [quote.upper_band_paise for _, quote in banded],
        },
    )
