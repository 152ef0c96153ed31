"""What a basket may be expected to return, from its past: historical mean and shrunk covariance. Pure.

The mean of daily returns and the covariance shrunk by Ledoit and Wolf (2004, scikit-learn) of the shares at constant
weights. The past is not the future: the range is one standard deviation to each side, so about one year in three ends
outside of it even if nothing changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from math import sqrt

import numpy as np

from common.market_data import Key
from common.money import BPS_ONE
from smallcase_service.index_value import Closes
from smallcase_service.returns import TRADING_DAYS

VALUES_MIN = 60
METHOD = "historical mean of daily returns, covariance shrunk by Ledoit-Wolf, constant weights, 252 days a year"
CAVEAT = (
    "From past prices of today's composition, which was chosen knowing them: not a forecast and no promise."
    " Costs and taxes are left out."
)


@dataclass(frozen=True)
class Expected:
    """Yearly expected return and volatility as fractions, and the range of one standard deviation around the return."""

    mean: float
    low: float
    high: float
    volatility: float
    first: date
    last: date
    values: int


def expected_return(closes: Closes, weights_bps: Mapping[Key, int]) -> Expected | None:
    """Expected return of a basket; None with fewer than 60 days on which all its shares have closes."""
    # Imported here: the library takes a second, and most processes never ask.
    from sklearn.covariance import ledoit_wolf

    keys = list(weights_bps)
    prices = np.vstack([closes.of[key] for key in keys]) if closes.days else np.empty((len(keys), 0))
    whole = np.flatnonzero(np.all(np.isfinite(prices), axis=0))
    if len(whole) <= VALUES_MIN:
        return None
    prices = prices[:, whole]
    returns = (prices[:, 1:] / prices[:, :-1] - 1).T
    weights = np.array([weights_bps[key] for key in keys], dtype=np.float64) / BPS_ONE
    covariance, _ = ledoit_wolf(returns)
    mean = float(returns.mean(axis=0) @ weights) * TRADING_DAYS
    volatility = sqrt(float(weights @ covariance @ weights) * TRADING_DAYS)
    first, last = closes.days[int(whole[0])], closes.days[int(whole[-1])]
    return Expected(mean, mean - volatility, mean + volatility, volatility, first, last, len(returns))
