"""Which sector a share belongs to: the NSE industry of known shares, shipped with the package; others are unknown. Pure."""

import csv
from functools import cache
from importlib import resources

UNKNOWN = "Unknown"


@cache
def _sectors() -> dict[str, str]:
    text = resources.files("analytics_service").joinpath("data/sectors.csv").read_text(encoding="utf-8")
    return {row["tradingsymbol"]: row["sector"] for row in csv.DictReader(text.splitlines())}


def sector_of(tradingsymbol: str) -> str:
    """The sector of a share by its symbol, or UNKNOWN."""
    return _sectors().get(tradingsymbol, UNKNOWN)
