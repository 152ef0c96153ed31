"""How a smallcase has done: the index over its versions, the same for today's composition before it existed, a benchmark.

Computed from stored candles whenever asked, nothing is kept: candles are cached in the process (they change once a day, or
when the broker restates them after a split), and fifty shares over five years take milliseconds to add up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np

from common.market_data import History, Key, MarketData
from smallcase_service.attributes import BENCHMARK_DEFAULT
from smallcase_service.composition import Constituent
from smallcase_service.drafting import histories_of
from smallcase_service.index_value import (
    Closes,
    Composition,
    IndexSeries,
    NoCloses,
    Values,
    common_closes,
    in_force_from,
    index_series,
)
from smallcase_service.service import Snapshot

VERSIONS_MAX = 500
BENCHMARK_EXCHANGE = "NSE"

Basis = Literal["live", "backtest"]
State = Literal["ok", "collecting", "too_young", "no_closes"]


@dataclass(frozen=True)
class Benchmark:
    """The index a smallcase is compared with: the one it names, or the one that is known here, and why."""

    wanted: str
    used: str | None
    note: str | None
    values: Values | None


@dataclass(frozen=True)
class Tracked:
    """An index with its benchmark on the same days. `state` says why there is none, or that candles still arrive."""

    basis: Basis
    state: State
    series: IndexSeries
    benchmark: Benchmark
    weights_bps: Mapping[Key, int]


def weights_of(constituents: Sequence[Constituent]) -> dict[Key, int]:
    """Weights by share."""
    return {one.key: one.weight_bps for one in constituents}


def compositions(versions: Sequence[Snapshot]) -> list[Composition]:
    """The compositions of versions (given newest first), oldest first; one that only published or withdrew is none."""
    found: list[Composition] = []
    before: Snapshot | None = None
    for snapshot in reversed(versions):
        weights = weights_of(snapshot.constituents)
        only_shown = (
            before is not None
            and weights == weights_of(before.constituents)
            and snapshot.content.visibility != before.content.visibility
        )
        if not only_shown:
            found.append(Composition(in_force_from(snapshot.content.created_at), weights))
        before = snapshot
    return found


def keys_of(made: Sequence[Composition]) -> list[Key]:
    """Every share of any composition."""
    return list(dict.fromkeys(key for composition in made for key in composition.weights_bps))


def track(market: MarketData, today: date, versions: Sequence[Snapshot], basis: Basis) -> Tracked:
    """The index of a smallcase from its versions, newest first.

    `live` starts on the day of the oldest version; `backtest` holds the newest composition from the first day on which all
    its shares have closes, as if somebody had known it then.
    """
    newest = versions[0]
    made = compositions(versions)
    if basis == "backtest":
        made = made[-1:]
    keys = keys_of(made)
    wanted = newest.content.benchmark
    indices = dict.fromkeys([(BENCHMARK_EXCHANGE, wanted), (BENCHMARK_EXCHANGE, BENCHMARK_DEFAULT)])
    found = histories_of(market, [*keys, *indices], today)
    shares = {key: found[key] for key in keys}
    closes = common_closes(shares, {key: found[key] for key in indices})
    if basis == "backtest":
        closes = _from_first_whole_day(closes, keys)
        made = [Composition(closes.days[0], made[0].weights_bps)] if closes.days else []
    waiting = any(not history.is_complete for history in shares.values())
    state: State = "collecting" if waiting else "ok"
    try:
        series = index_series(closes, made)
    except NoCloses:
        series = IndexSeries((), np.array([]), {}, {}, ())
        state = "collecting" if waiting else "no_closes"
    if not series.days and state == "ok":
        state = "too_young" if basis == "live" else "no_closes"
    benchmark = _benchmark(wanted, closes, found, len(series.days))
    return Tracked(basis, state, series, benchmark, weights_of(newest.constituents))


def _from_first_whole_day(closes: Closes, keys: Sequence[Key]) -> Closes:
    if not closes.days:
        return closes
    whole = np.all(np.vstack([np.isfinite(closes.of[key]) for key in keys]), axis=0)
    return closes.since(closes.days[int(np.argmax(whole))]) if whole.any() else closes.since(date.max)


def _benchmark(wanted: str, closes: Closes, found: Mapping[Key, History], length: int) -> Benchmark:
    """The wanted index where it covers the series, else the NIFTY 50, else none."""
    for name in dict.fromkeys((wanted, BENCHMARK_DEFAULT)):
        values = closes.of[BENCHMARK_EXCHANGE, name]
        values = values[len(values) - length :]
        if length and np.all(np.isfinite(values)):
            note = None if name == wanted else f"{wanted} has no candles here; {name} stands in for it"
            return Benchmark(wanted, name, note, values)
    history = found[BENCHMARK_EXCHANGE, wanted]
    if not history.is_complete:
        note = "its candles are still being read; ask again in a moment"
    else:
        note = "its candles do not reach back to the first day" if history.days else f"{wanted} has no candles here"
    return Benchmark(wanted, None, note, None)
