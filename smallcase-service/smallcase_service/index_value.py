"""The index of a smallcase: 100 at the close of its first day, then the value of the shares those 100 bought. Pure.

On the first day 100 is split by the weights into fractional shares at the close; their numbers stay the same until the
composition changes, and then the value of that day's close is split again. Fees and taxes are left out
(smallcase.com/meta/return-calculation). Values are indices and returns, never money, so floats are right here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

import numpy as np
import numpy.typing as npt

from common.clock import to_ist
from common.market_data import History, Key
from common.money import BPS_ONE

BASE = 100.0
CLOSE_IST = time(15, 30)
"""A version made after the close can only be split at the next day's."""

Values = npt.NDArray[np.float64]


class NoCloses(ValueError):
    """A share has no close on the day the index would be split over it."""

    def __init__(self, keys: Sequence[Key]) -> None:
        super().__init__(f"no closes of {', '.join(':'.join(key) for key in keys)}")
        self.keys = list(keys)


@dataclass(frozen=True)
class Composition:
    """Weights in basis points, in force from the close of the first trading day that is not before `since`."""

    since: date
    weights_bps: Mapping[Key, int]


@dataclass(frozen=True)
class Closes:
    """Closes of shares on common ascending days, in one unit each; a share that did not trade keeps its last close.

    Before a share's first close there is NaN.
    """

    days: tuple[date, ...]
    of: Mapping[Key, Values]

    def since(self, first: date) -> "Closes":
        """Only the days from `first` on."""
        start = next((index for index, day in enumerate(self.days) if day >= first), len(self.days))
        return Closes(self.days[start:], {key: values[start:] for key, values in self.of.items()})


@dataclass(frozen=True)
class IndexSeries:
    """Index values on days, the points each share has contributed (they sum to the last value less 100), and how the
    last value is spread over the shares now, as fractions.
    """

    days: tuple[date, ...]
    values: Values
    contributions: Mapping[Key, float]
    weights_now: Mapping[Key, float]
    splits: tuple[date, ...]


def in_force_from(made_at: datetime) -> date:
    """The first day at whose close a composition made at this instant can be bought."""
    local = to_ist(made_at)
    return local.date() if local.time() < CLOSE_IST else local.date() + timedelta(days=1)


def common_closes(histories: Mapping[Key, History], extra: Mapping[Key, History] | None = None) -> Closes:
    """Closes of all shares on the days any of `histories` traded, up to the last day that is known of all of them.

    `extra` (a benchmark) is aligned to the same days and adds none.
    """
    ordinals: dict[int, npt.NDArray[np.int64]] = {}

    def numbers(days: Sequence[date]) -> npt.NDArray[np.int64]:
        # Shares that trade on the same days share one list of them.
        if id(days) not in ordinals:
            ordinals[id(days)] = np.array([day.toordinal() for day in days], dtype=np.int64)
        return ordinals[id(days)]

    known = [history for history in histories.values() if len(history.days)]
    if not known:
        return Closes((), {key: np.array([]) for key in {**histories, **(extra or {})}})
    # A share whose days are still being read ends the series; one that stopped trading does not.
    ends = [history.days[-1] for history in known if not history.is_complete]
    last = min(ends) if ends else max(history.days[-1] for history in known)
    every = np.unique(np.concatenate([numbers(days) for days in {id(one.days): one.days for one in known}.values()]))
    every = every[every <= last.toordinal()]
    aligned = {}
    for key, history in {**histories, **(extra or {})}.items():
        closes = np.asarray(history.closes_paise, dtype=np.float64)
        place = np.searchsorted(numbers(history.days), every, side="right") - 1
        aligned[key] = np.where(place >= 0, closes[np.maximum(place, 0)], np.nan) if len(closes) else every * np.nan
    return Closes(tuple(date.fromordinal(int(number)) for number in every), aligned)


def index_series(closes: Closes, compositions: Sequence[Composition]) -> IndexSeries:
    """The index over these compositions, oldest first; days before the first one are left out.

    Empty when the first composition has no close yet. Raises NoCloses, and ValueError for weights that do not sum to
    10,000.
    """
    if any(sum(one.weights_bps.values()) != BPS_ONE for one in compositions):
        raise ValueError("weights must sum to 10,000 basis points")
    starts = _starts(closes.days, compositions)
    if not starts:
        return IndexSeries((), np.array([]), {}, {}, ())
    begin, end = min(starts), len(closes.days)
    values = np.full(end - begin, np.nan)
    contributions: dict[Key, float] = {}
    weights_now: dict[Key, float] = {}
    value, splits = BASE, sorted(starts)
    for place, split in enumerate(splits):
        until = splits[place + 1] if place + 1 < len(splits) else end - 1
        keys = [key for key, weight in starts[split].weights_bps.items() if weight]
        prices = np.vstack([closes.of[key][split : until + 1] for key in keys])
        if not np.all(prices[:, 0] > 0):
            raise NoCloses([key for key, first in zip(keys, prices[:, 0], strict=True) if not first > 0])
        weights = np.array([starts[split].weights_bps[key] for key in keys], dtype=np.float64) / BPS_ONE
        parts = (value * weights / prices[:, 0])[:, None] * prices
        values[split - begin : until - begin + 1] = parts.sum(axis=0)
        for key, gained in zip(keys, parts[:, -1] - parts[:, 0], strict=True):
            contributions[key] = contributions.get(key, 0.0) + float(gained)
        value = float(values[until - begin])
        weights_now = {key: float(part / value) for key, part in zip(keys, parts[:, -1], strict=True)}
    return IndexSeries(
        closes.days[begin:], values, contributions, weights_now, tuple(closes.days[split] for split in splits)
    )


def _starts(days: Sequence[date], compositions: Sequence[Composition]) -> dict[int, Composition]:
    """Where each composition takes over; of those of one day the newest."""
    starts = {}
    for composition in compositions:
        place = next((index for index, day in enumerate(days) if day >= composition.since), None)
        if place is not None:
            starts[place] = composition
    return starts
