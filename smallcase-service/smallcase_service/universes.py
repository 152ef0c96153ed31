"""Named lists of shares that suggestions choose from; shipped with the package, symbols only. Pure."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from common.market_data import Key
from common.money import BPS_ONE

EXCHANGE = "NSE"
LARGE_CAPS = "nifty_50"


@dataclass(frozen=True)
class Universe:
    """A named list of shares."""

    name: str
    title: str
    description: str
    keys: tuple[Key, ...]


@cache
def universes() -> Mapping[str, Universe]:
    """All lists by name."""
    text = resources.files("smallcase_service").joinpath("data/universes.toml").read_text(encoding="utf-8")
    return {
        name: Universe(name, row["title"], row["description"], tuple((EXCHANGE, one) for one in row["symbols"]))
        for name, row in tomllib.loads(text).items()
    }


def large_cap_bps(weights_bps: Mapping[Key, int]) -> int:
    """The weight in companies of the NIFTY 50 list, on whichever exchange: a lower bound of the large companies' weight."""
    large = {symbol for _, symbol in universes()[LARGE_CAPS].keys}
    return min(BPS_ONE, sum(weight for (_, symbol), weight in weights_bps.items() if symbol in large))


def without(keys: Iterable[Key], excluded: Iterable[Key]) -> list[Key]:
    """Keys in their order, each once, less the excluded ones."""
    gone = set(excluded)
    return [key for key in dict.fromkeys(keys) if key not in gone]
