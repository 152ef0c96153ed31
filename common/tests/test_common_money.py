"""Money: what is refused, what is exact."""

from collections import Counter
from decimal import Decimal
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from common.money import (
    InvalidAmount,
    Rupees,
    first_in_line,
    first_of,
    format_rupees,
    indian_number,
    indian_rupees,
    paise_from_broker,
    parse_rupees,
    split_by_largest_remainder,
)


@given(st.integers(-(10**15), 10**15))
def test_formatting_then_parsing_gives_the_same_paise(paise: int) -> None:
    assert parse_rupees(format_rupees(paise), allow_negative=True) == paise


@pytest.mark.parametrize(
    "text", ["", " 1", "1.005", "1e3", "NaN", "inf", "-1", "+1", "1,000", "0x10", "1.", "１", "1\n"]
)
def test_anything_but_plain_rupees_is_refused(text: str) -> None:
    with pytest.raises(InvalidAmount):
        parse_rupees(text)


@pytest.mark.parametrize("value", [1, 1.5, True, None, "1.001", "-5", ["1"]])
def test_a_request_amount_must_be_a_decimal_string(value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Rupees).validate_python(value)


def test_a_request_amount_is_paise_inside_and_rupees_outside() -> None:
    adapter = TypeAdapter(Rupees)
    assert adapter.validate_python("1234.5") == 123450
    assert adapter.dump_python(123450, mode="json") == "1234.50"


@given(st.integers(0, 10**9))
def test_a_broker_price_keeps_its_paise_through_a_float(paise: int) -> None:
    assert paise_from_broker(paise / 100) == paise
    assert paise_from_broker(Decimal(paise) / 100) == paise


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "abc"])
def test_a_broker_price_that_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(InvalidAmount):
        paise_from_broker(value)  # type: ignore[arg-type]


@given(st.integers(0, 10**12), st.lists(st.integers(0, 10**6), min_size=1, max_size=50).filter(any))
def test_a_split_is_exact_and_within_one_unit_of_pro_rata(total: int, weights: list[int]) -> None:
    shares = split_by_largest_remainder(total, weights)
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share * sum(weights) - total * weight) < sum(weights)


def test_the_worked_example_of_a_partial_fill() -> None:
    assert split_by_largest_remainder(100, [100, 50, 37]) == [53, 27, 20]


def test_nothing_to_split_by_is_an_error() -> None:
    with pytest.raises(ValueError, match="all weights are zero"):
        split_by_largest_remainder(1, [0, 0])


@pytest.mark.parametrize(
    ("paise", "text"),
    [
        (0, "₹0.00"),
        (5, "₹0.05"),
        (99_999, "₹999.99"),
        (1_000_00, "₹1,000.00"),
        (99_999_00, "₹99,999.00"),
        (1_23_456_50, "₹1,23,456.50"),
        (12_34_56_789_01, "₹12,34,56,789.01"),
        (-1_00_000_00, "-₹1,00,000.00"),
    ],
)
def test_rupees_are_grouped_the_indian_way(paise: int, text: str) -> None:
    assert indian_rupees(paise) == text


@given(st.integers(min_value=-(10**18), max_value=10**18))
def test_indian_number_keeps_every_digit_and_groups_by_three_then_two(number: int) -> None:
    text = indian_number(number)
    assert int(text.replace(",", "")) == number
    head, *groups = text.lstrip("-").split(",")
    assert 1 <= len(head) <= (2 if groups else 3)
    assert [len(group) for group in groups] == [2] * (len(groups) - 1) + [3] * bool(groups)


@given(st.lists(st.integers(-3, 3), max_size=30), st.integers(0, 40), st.randoms(use_true_random=False))
def test_the_first_in_line_are_those_that_sorting_everybody_would_find(
    classes: list[int], count: int, random: Random
) -> None:
    ties = list(range(len(classes)))
    random.shuffle(ties)
    values = {one: abs(one) for one in classes}
    expected = sorted(range(len(classes)), key=lambda place: (-values[classes[place]], ties[place]))[:count]
    whole, level, free = first_in_line(values, Counter(classes), count)
    found = [place for place, one in enumerate(classes) if one in whole] + first_of(level, classes, free, ties)
    assert sorted(found) == sorted(expected)
