"""Suggested weights with everything one needs to judge them: method, window, risk, and how the method would have done.

Asks market data and the optimiser; writes nothing and places nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from common.errors import Unprocessable
from common.market_data import Key, MarketData
from common.money import BPS_ONE
from smallcase_service.attributes import BENCHMARK_DEFAULT
from smallcase_service.composition import CONSTITUENTS_MAX
from smallcase_service.drafting import TooLittleHistory, complete_histories
from smallcase_service.expected import Expected, expected_return
from smallcase_service.index_value import BASE, Closes, Values, common_closes
from smallcase_service.methods import METHODS, TEST_VALUES, TRAIN_VALUES, VALUES_MAX, VALUES_MIN, MethodName
from smallcase_service.optimising import Optimiser
from smallcase_service.returns import Risk, risk
from smallcase_service.tracking import BENCHMARK_EXCHANGE
from smallcase_service.weighting import trimmed

UNIVERSE_MAX = 100
UNIVERSE_MIN = 2
DUST_BPS = 50
"""Weights below half a percent are left out: they are noise, and a share of them needs a large basket."""
BENCHMARK = (BENCHMARK_EXCHANGE, BENCHMARK_DEFAULT)


class UniverseSize(Unprocessable):
    """Too few or too many shares to choose from."""


@dataclass(frozen=True)
class Line:
    """Index values of one line of the test, from 100, with its risk figures."""

    values: Values
    risk: Risk | None


@dataclass(frozen=True)
class WalkForward:
    """How a method would have done when weights for each quarter come from the year before it only."""

    days: tuple[date, ...]
    suggestion: Line
    equal: Line
    benchmark: Line | None
    refits: int


@dataclass(frozen=True)
class Suggestion:
    """Weights in basis points (all of them, zeros left out) and what they come from."""

    method: MethodName
    weights_bps: dict[Key, int]
    expected: Expected | None
    frontier: list[tuple[float, float]]
    walk_forward: WalkForward
    first: date
    last: date
    values: int
    fell_back: bool


def suggest(
    market: MarketData,
    optimiser: Optimiser,
    today: date,
    keys: Sequence[Key],
    method: MethodName,
    *,
    max_weight_bps: int,
    risk_free: float,
    keep_all: bool = False,
) -> Suggestion:
    """Suggest weights for these shares; `keep_all`: of a given basket, no share is left out.

    No weight is above `max_weight_bps`, or one and a half times the equal weight where that is more: with few shares a
    low cap would leave nothing to choose.

    Raises UniverseSize, HistoryIncomplete, TooLittleHistory, and what the optimiser raises.
    """
    if not UNIVERSE_MIN <= len(keys) <= UNIVERSE_MAX:
        raise UniverseSize(
            f"Name {UNIVERSE_MIN} to {UNIVERSE_MAX} shares to choose from; these are {len(keys)}.", shares=len(keys)
        )
    histories = complete_histories(market, [*keys, BENCHMARK], today)
    closes = _window(common_closes({key: histories[key] for key in keys}, {BENCHMARK: histories[BENCHMARK]}), keys)
    cap = max(max_weight_bps, -(-BPS_ONE * 3 // (2 * len(keys))))
    result = optimiser.solve(
        {
            "closes": [closes.of[key].tolist() for key in keys],
            "method": method,
            "max_weight": min(1.0, cap / BPS_ONE),
            "risk_free": risk_free,
            "train": TRAIN_VALUES,
            "test": TEST_VALUES,
            "with_frontier": not keep_all,
        }
    )
    most, least = (len(keys), 0) if keep_all else (CONSTITUENTS_MAX, DUST_BPS)
    weights = trimmed(result["weights"], most=most, least_bps=least)
    chosen = {key: weight for key, weight in zip(keys, weights, strict=True) if weight}
    return Suggestion(
        method=method,
        weights_bps=chosen,
        expected=expected_return(closes, chosen),
        frontier=result["frontier"],
        walk_forward=_walked(closes, result["walked"], result["walked_equal"], result["refits"], risk_free),
        first=closes.days[0],
        last=closes.days[-1],
        values=len(closes.days) - 1,
        fell_back=result["fell_back"],
    )


def in_words(suggestion: Suggestion) -> list[str]:
    """What the suggestion is and is not, for people."""
    method, walked = METHODS[suggestion.method], suggestion.walk_forward
    tested = (
        f"The test is out of sample: for each of {walked.refits} quarters the weights come from the {TRAIN_VALUES} days"
        " before it and are kept constant in it. Costs and taxes are left out, and the shares offered were chosen knowing"
        " how they have done."
    )
    words = [
        f"{method.title}: {method.description}",
        f"Data: {suggestion.values} daily returns of closes, {suggestion.first} to {suggestion.last}, without dividends.",
        f"Risk: {method.danger}",
        "The expected figures and the frontier are in-sample: the weights were chosen with the prices they are measured on.",
        tested,
        "This is arithmetic on past prices, not advice; nothing is bought or changed unless you order it.",
    ]
    if suggestion.fell_back:
        words.insert(1, "No weights had a past return above the risk-free rate: those of minimum variance stand here.")
    return words


def _window(closes: Closes, keys: Sequence[Key]) -> Closes:
    """The last three years on which all shares have closes; raises TooLittleHistory naming the shares that are too young."""
    counts = {key: int(np.isfinite(closes.of[key]).sum()) for key in keys}
    short = [key for key, count in counts.items() if count <= VALUES_MIN]
    if short:
        raise TooLittleHistory(
            f"{', '.join(':'.join(key) for key in short[:5])}: a suggestion takes {VALUES_MIN + 1} daily closes of every"
            " share; exclude these.",
            instruments=[":".join(key) for key in short],
        )
    length = min(VALUES_MAX + 1, *counts.values())
    return Closes(closes.days[-length:], {key: values[-length:] for key, values in closes.of.items()})


def _walked(
    closes: Closes, walked: Sequence[float], equal: Sequence[float], refits: int, risk_free: float
) -> WalkForward:
    days = closes.days[len(closes.days) - len(walked) - 1 :]
    market = closes.of[BENCHMARK][len(closes.days) - len(walked) - 1 :]
    benchmark = None
    if np.all(np.isfinite(market)):
        values = market / market[0] * BASE
        benchmark = Line(values, risk(days, values, risk_free))

    def line(returns: Sequence[float]) -> Line:
        values = BASE * np.concatenate([[1.0], np.cumprod(1 + np.asarray(returns, dtype=np.float64))])
        return Line(values, risk(days, values, risk_free, market if benchmark else None))

    return WalkForward(days, line(walked), line(equal), benchmark, refits)
