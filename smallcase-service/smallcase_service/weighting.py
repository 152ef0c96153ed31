"""Weighting schemes: from facts about shares to weights in basis points that sum to exactly 10,000. Pure.

Market values come from the maker of a smallcase: neither the broker's instrument file nor its quotes carry the number of
free-float shares.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import Unprocessable
from common.money import BPS_ONE, split_by_largest_remainder

CAP_DEFAULT_BPS = 3_000
"""The largest weight of one share in the market-cap scheme, unless the maker names another."""
SCALE = 10**12


class WeightCapTooLow(Unprocessable):
    """So few shares can not all stay below the cap and still make 100 %."""


@dataclass(frozen=True)
class Scheme:
    """A weighting scheme, and what it says of itself. `needs`: closes or market values, or nothing."""

    name: str
    title: str
    description: str
    needs: str


SCHEMES = (
    Scheme("custom", "Custom", "The weights as the maker names them.", "nothing"),
    Scheme("equal", "Equal weight", "Every share has the same weight.", "nothing"),
    Scheme(
        "market_cap",
        "Market value",
        "In proportion to the free-float market values that the maker names, each share at most the cap (30 % unless"
        " another is named). The platform has no source of market values.",
        "market_values",
    ),
    Scheme(
        "inverse_volatility",
        "Inverse volatility",
        "In proportion to 1 / volatility of daily returns of the last year: calm shares weigh more.",
        "closes",
    ),
    Scheme(
        "momentum",
        "Momentum",
        "By rank of the return of the last twelve months without the last one: the strongest share weighs most.",
        "closes",
    ),
)
SCHEME_NAMES = frozenset(scheme.name for scheme in SCHEMES)


def equal(count: int) -> list[int]:
    """The same weight for each, to the basis point."""
    return split_by_largest_remainder(BPS_ONE, [1] * count)


def proportional(values: Sequence[float]) -> list[int]:
    """In proportion to positive values; raises ValueError for others. Every weight is at least one basis point."""
    if not values or any(not value > 0 for value in values):
        raise ValueError("weights need positive values")
    largest = max(values)
    weights = split_by_largest_remainder(BPS_ONE, [max(1, round(value / largest * SCALE)) for value in values])
    return _at_least_one(weights)


def market_cap(market_values: Sequence[int], cap_bps: int = CAP_DEFAULT_BPS) -> list[int]:
    """In proportion to market values, none above the cap; what is cut off goes to the others in proportion.

    Raises WeightCapTooLow, or ValueError for values that are not positive.
    """
    if not market_values or any(value <= 0 for value in market_values):
        raise ValueError("market values must be positive")
    if cap_bps * len(market_values) < BPS_ONE:
        least = -(-BPS_ONE // len(market_values))
        raise WeightCapTooLow(
            f"{len(market_values)} shares of at most {cap_bps} basis points make less than 100 %;"
            f" name a cap of at least {least}.",
            least_cap_bps=least,
        )
    capped: set[int] = set()
    while True:
        free = [index for index in range(len(market_values)) if index not in capped]
        rest = BPS_ONE - cap_bps * len(capped)
        shares = split_by_largest_remainder(rest, [market_values[index] for index in free])
        above = {index for index, share in zip(free, shares, strict=True) if share > cap_bps}
        if not above:
            weights = [cap_bps] * len(market_values)
            for index, share in zip(free, shares, strict=True):
                weights[index] = share
            return _at_least_one(weights)
        capped |= above


def inverse_volatility(volatilities: Sequence[float]) -> list[int]:
    """In proportion to 1 / volatility; raises ValueError for a volatility of zero."""
    if any(not volatility > 0 for volatility in volatilities):
        raise ValueError("a share that does not move has no inverse volatility")
    return proportional([1 / volatility for volatility in volatilities])


def by_rank(scores: Sequence[float]) -> list[int]:
    """n parts for the highest score, one for the lowest; equal scores rank by position."""
    order = sorted(range(len(scores)), key=lambda index: (scores[index], -index))
    parts = [0] * len(scores)
    for place, index in enumerate(order, start=1):
        parts[index] = place
    return proportional(parts)


def trimmed(weights: Sequence[float], *, most: int, least_bps: int) -> list[int]:
    """Weights of an optimiser in basis points: at most `most` shares, none below `least_bps`; others become 0.

    The largest one always stays.
    """
    order = sorted(range(len(weights)), key=lambda index: (-weights[index], index))
    kept = order[:most]
    kept = [index for place, index in enumerate(kept) if place == 0 or weights[index] * BPS_ONE >= least_bps]
    parts = proportional([max(weights[index], 1 / SCALE) for index in kept])
    result = [0] * len(weights)
    for index, part in zip(kept, parts, strict=True):
        result[index] = part
    return result


def _at_least_one(weights: list[int]) -> list[int]:
    """Lift zeros to one basis point, taken from the largest weight."""
    for index, weight in enumerate(weights):
        if weight == 0:
            weights[weights.index(max(weights))] -= 1
            weights[index] = 1
    return weights
