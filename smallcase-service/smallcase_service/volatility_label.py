"""The volatility label of a smallcase by the published ratio rule (smallcase.com/meta/volatility-calculation). Pure.

The ratio is the average of rolling one-year population standard deviations of daily returns of the basket, divided by the
same of the benchmark: 1.3 and more is High, 0.8 and more Medium, below Low. The published rule takes the NIFTY 100 and live
data only; a basket that is younger than one year is judged by what it is made of.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from smallcase_service.index_value import Values
from smallcase_service.returns import daily_returns

YEAR_VALUES = 250
HIGH_FROM = 1.3
MEDIUM_FROM = 0.8
EQUITY_LOW_BPS = 4_000
EQUITY_HIGH_BPS = 7_000
LARGE_CAP_BPS = 7_000

Label = Literal["low", "medium", "high"]


@dataclass(frozen=True)
class VolatilityLabel:
    """The label, the ratio it comes from (None: judged by composition), and the rule in words."""

    label: Label
    ratio: float | None
    basis: str


def rolling_deviation(values: Values) -> float | None:
    """Average of the population standard deviations of all windows of one year; None with less than one year."""
    returns = daily_returns(values)
    if len(returns) < YEAR_VALUES:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(returns, YEAR_VALUES)
    return float(np.mean(np.std(windows, axis=1)))


def label_of_ratio(ratio: float) -> Label:
    """The label of a ratio to the benchmark."""
    if ratio >= HIGH_FROM:
        return "high"
    return "medium" if ratio >= MEDIUM_FROM else "low"


def label_of_composition(equity_bps: int, large_cap_bps: int) -> Label:
    """The label of a basket younger than one year, by its weight in shares and in large companies."""
    if equity_bps < EQUITY_LOW_BPS:
        return "low"
    if equity_bps <= EQUITY_HIGH_BPS:
        return "medium"
    return "medium" if large_cap_bps > LARGE_CAP_BPS else "high"


def volatility_label(
    values: Values, benchmark: Values | None, *, equity_bps: int, large_cap_bps: int
) -> VolatilityLabel:
    """The label of a basket from its own live values, or from its composition while they are too few."""
    mine = rolling_deviation(values)
    market = rolling_deviation(benchmark) if benchmark is not None else None
    if mine is not None and market is not None and market > 0 and np.isfinite(market):
        ratio = mine / market
        return VolatilityLabel(label_of_ratio(ratio), ratio, "ratio of one-year volatilities to the benchmark's")
    return VolatilityLabel(
        label_of_composition(equity_bps, large_cap_bps),
        None,
        "composition: less than one year of values; large companies are the members of the NIFTY 50 list known here",
    )
