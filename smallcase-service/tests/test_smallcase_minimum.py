"""The published algorithm of the minimum investment."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.money import split_by_largest_remainder
from smallcase_service.minimum import Leg, minimum_investment


@st.composite
def baskets(draw: st.DrawFn) -> list[Leg]:
    prices = draw(st.lists(st.integers(5, 2_00_000_00), min_size=1, max_size=50))
    raw = draw(st.lists(st.integers(0, 1_000), min_size=len(prices), max_size=len(prices)))
    # One basis point each, the rest of the 10,000 by the drawn proportions.
    rest = 10_000 - len(prices)
    spread = split_by_largest_remainder(rest, raw if any(raw) else [1] * len(raw))
    return [Leg(1 + bps, price) for bps, price in zip(spread, prices, strict=True)]


def test_worked_example_costs_eleven_thousand_five_hundred() -> None:
    minimum = minimum_investment([Leg(5_000, 1400_00), Leg(3_000, 250_00), Leg(2_000, 2400_00)])
    assert minimum.quantities == (4, 14, 1)
    assert minimum.amount_paise == 11_500_00
    assert minimum.weights_bps == (4_870, 3_043, 2_087)


def test_single_share_costs_its_price() -> None:
    minimum = minimum_investment([Leg(10_000, 1234_55)])
    assert (minimum.amount_paise, minimum.quantities, minimum.weights_bps) == (1234_55, (1,), (10_000,))


def test_half_a_share_is_rounded_up() -> None:
    # Ratios 100 and 66.7 per 1 %: the second is bought 1.5 times.
    minimum = minimum_investment([Leg(5_000, 300), Leg(5_000, 200)])
    assert minimum.quantities == (1, 2)


@given(baskets())
def test_quantities_follow_the_definition(legs: list[Leg]) -> None:
    minimum = minimum_investment(legs)
    anchor = max(Fraction(leg.price_paise, leg.weight_bps) for leg in legs)
    for leg, quantity in zip(legs, minimum.quantities, strict=True):
        exact = anchor * leg.weight_bps / leg.price_paise
        assert quantity >= 1
        assert abs(quantity - exact) <= Fraction(1, 2)
    assert 1 in minimum.quantities
    assert minimum.amount_paise == sum(q * leg.price_paise for q, leg in zip(minimum.quantities, legs, strict=True))
    assert sum(minimum.weights_bps) == 10_000


@given(baskets(), st.integers(2, 1_000))
def test_amount_scales_with_prices_and_the_shares_do_not(legs: list[Leg], factor: int) -> None:
    scaled = minimum_investment([Leg(leg.weight_bps, leg.price_paise * factor) for leg in legs])
    plain = minimum_investment(legs)
    assert scaled.quantities == plain.quantities
    assert scaled.amount_paise == plain.amount_paise * factor


@given(baskets(), st.randoms(use_true_random=False))
def test_order_of_the_shares_does_not_matter(legs: list[Leg], random: object) -> None:
    order = list(range(len(legs)))
    random.shuffle(order)  # type: ignore[attr-defined]
    plain, mixed = minimum_investment(legs), minimum_investment([legs[position] for position in order])
    assert mixed.quantities == tuple(plain.quantities[position] for position in order)


@pytest.mark.parametrize("legs", [[], [Leg(0, 100)], [Leg(10_000, 0)], [Leg(5_000, 100), Leg(5_000, -1)]])
def test_basket_without_positive_legs_is_refused(legs: list[Leg]) -> None:
    with pytest.raises(ValueError, match="positive weight and price"):
        minimum_investment(legs)
