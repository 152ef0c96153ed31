"""The smallest amount that buys a smallcase in whole shares. Pure; prices and amounts in paise, weights in basis points.

The published algorithm (smallcase blog, May 2023): the anchor is the largest ratio of price to weight, the amount at which
that share is bought exactly once; every share is bought `anchor * weight / price` times, rounded to a whole share; the
minimum is what these shares cost. The basket's real weights differ from the wanted ones by the rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from common.money import BPS_ONE, split_by_largest_remainder


@dataclass(frozen=True)
class Leg:
    """One share of a basket: its wanted weight and its price."""

    weight_bps: int
    price_paise: int


@dataclass(frozen=True)
class Minimum:
    """The smallest basket: its cost, and per leg the shares and the real weight (these sum to 10,000)."""

    amount_paise: int
    quantities: tuple[int, ...]
    weights_bps: tuple[int, ...]


def minimum_investment(legs: Sequence[Leg]) -> Minimum:
    """The smallest whole-share basket of these legs; it changes with every price.

    Raises ValueError without legs, or for a weight or price that is not positive.
    """
    if not legs or any(leg.weight_bps <= 0 or leg.price_paise <= 0 for leg in legs):
        raise ValueError("a basket needs legs, each with a positive weight and price")
    anchor = legs[0]
    for leg in legs[1:]:
        # leg.price / leg.weight > anchor.price / anchor.weight, without a division
        if leg.price_paise * anchor.weight_bps > anchor.price_paise * leg.weight_bps:
            anchor = leg
    # No ratio is larger than the anchor's, so every quotient is at least one share.
    quantities = tuple(
        _divide_half_up(anchor.price_paise * leg.weight_bps, anchor.weight_bps * leg.price_paise) for leg in legs
    )
    values = [quantity * leg.price_paise for quantity, leg in zip(quantities, legs, strict=True)]
    return Minimum(sum(values), quantities, tuple(split_by_largest_remainder(BPS_ONE, values)))


def _divide_half_up(dividend: int, divisor: int) -> int:
    return (2 * dividend + divisor) // (2 * divisor)
