"""Weighting schemes: whatever goes in, weights are whole, positive and sum to 10,000."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smallcase_service import weighting
from smallcase_service.weighting import WeightCapTooLow

positive = st.lists(st.floats(1e-9, 1e12), min_size=1, max_size=50)


def assert_whole(weights: list[int]) -> None:
    assert sum(weights) == 10_000
    assert all(isinstance(weight, int) and weight >= 1 for weight in weights)


@given(st.integers(1, 50))
def test_equal_weights_differ_by_at_most_one(count: int) -> None:
    weights = weighting.equal(count)
    assert_whole(weights)
    assert max(weights) - min(weights) <= 1


@given(positive)
def test_computed_weights_are_whole(values: list[float]) -> None:
    assert_whole(weighting.proportional(values))
    assert_whole(weighting.inverse_volatility(values))
    assert_whole(weighting.by_rank(values))


@given(st.lists(st.integers(1, 10**15), min_size=4, max_size=50), st.integers(2_500, 10_000))
def test_no_market_weight_is_above_the_cap(values: list[int], cap: int) -> None:
    weights = weighting.market_cap(values, cap)
    assert_whole(weights)
    assert max(weights) <= cap


@given(st.lists(st.integers(1, 10**15), min_size=2, max_size=50))
def test_a_larger_company_never_weighs_less(values: list[int]) -> None:
    weights = weighting.market_cap(values, 10_000 if len(values) < 4 else 3_000)
    order = sorted(range(len(values)), key=lambda index: values[index])
    # One basis point: rounding and the lift of the smallest.
    assert all(weights[small] <= weights[large] + 1 for small, large in itertools.pairwise(order))


def test_market_weights_by_hand() -> None:
    assert weighting.market_cap([60, 30, 10], 10_000) == [6_000, 3_000, 1_000]
    assert weighting.market_cap([60, 30, 10], 5_000) == [5_000, 3_750, 1_250]
    # The second is above the cap only after the first was cut.
    assert weighting.market_cap([80, 10, 6, 4], 3_000) == [3_000, 3_000, 2_400, 1_600]
    with pytest.raises(WeightCapTooLow) as caught:
        weighting.market_cap([1, 1, 1], 3_000)
    assert caught.value.facts == {"least_cap_bps": 3_334}


def test_rank_and_volatility_by_hand() -> None:
    assert weighting.by_rank([0.3, -0.1, 0.1]) == [5_000, 1_667, 3_333]
    assert weighting.inverse_volatility([0.1, 0.2]) == [6_667, 3_333]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=100), st.integers(1, 50), st.integers(0, 500))
def test_trimmed_weights_are_whole_and_few(weights: list[float], most: int, least: int) -> None:
    trimmed = weighting.trimmed(weights, most=most, least_bps=least)
    assert sum(trimmed) == 10_000
    assert sum(1 for weight in trimmed if weight) <= most
    assert len(trimmed) == len(weights)


@pytest.mark.parametrize("values", [[], [0.0, 1.0], [-1.0, 2.0], [float("nan")]])
def test_impossible_values_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        weighting.proportional(values)
