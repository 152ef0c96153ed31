"""How much of a share is traded. Pure; traded values in paise."""

from common.market_data import History

DAYS = 20
FLOOR_PAISE = 1_00_00_000_00
"""One crore rupees a day on average: a house rule. Below it a basket of many users may move the price."""


def average_traded_paise(history: History) -> int | None:
    """Average of close * volume over the last 20 candles; None without a candle."""
    closes, volumes = list(history.closes_paise[-DAYS:]), list(history.volumes[-DAYS:])
    if not closes:
        return None
    return sum(close * volume for close, volume in zip(closes, volumes, strict=True)) // len(closes)
