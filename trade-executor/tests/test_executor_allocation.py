"""Division of fills: exact, monotone, fair."""

from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trade_executor.allocation import allocate_round, divide, tie_key

BLOCK = UUID(int=1)


def keys(count: int) -> list[bytes]:
    return [tie_key(BLOCK, UUID(int=100 + number)) for number in range(count)]


@st.composite
def block_with_fills(draw):
    quantities = draw(st.lists(st.integers(1, 5_000), min_size=1, max_size=40))
    total = sum(quantities)
    cuts = sorted(draw(st.sets(st.integers(1, total), max_size=12)))
    fills = [after - before for before, after in zip([0, *cuts], cuts, strict=False)]
    prices = [draw(st.integers(1, 10_000_00)) for _ in fills]
    return quantities, fills, prices


def test_the_worked_example_of_the_reference():
    assert allocate_round([100, 50, 37], [0, 0, 0], 100, keys(3)) == [53, 27, 20]


def test_a_full_fill_gives_everybody_what_he_asked_for():
    shares, paise = divide([100, 50, 37], [0, 0, 0], 187, 187 * 123_45, keys(3))
    assert shares == [100, 50, 37]
    assert paise == [100 * 123_45, 50 * 123_45, 37 * 123_45]


@settings(max_examples=400, deadline=None)
@given(block_with_fills())
def test_rounds_are_exact_never_take_back_and_stay_within_one_share(case):
    quantities, fills, prices = case
    total = sum(quantities)
    got = [0] * len(quantities)
    paid = [0] * len(quantities)
    for fill, price in zip(fills, prices, strict=True):
        shares, paise = divide(quantities, got, fill, fill * price, keys(len(quantities)))
        assert sum(shares) == fill
        assert sum(paise) == fill * price
        for index, (share, paisa) in enumerate(zip(shares, paise, strict=True)):
            assert share >= 0
            assert abs(paisa - share * price) <= 1
            got[index] += share
            paid[index] += paisa
        filled = sum(got)
        for asked, has in zip(quantities, got, strict=True):
            assert has <= asked
            assert abs(Fraction(filled * asked, total) - has) < 1
    assert sum(paid) == sum(fill * price for fill, price in zip(fills, prices, strict=True))


@settings(max_examples=150, deadline=None)
@given(block_with_fills(), st.randoms(use_true_random=False))
def test_the_answer_does_not_depend_on_the_order_of_the_children(case, random):
    quantities, fills, _ = case
    ties = keys(len(quantities))
    order = list(range(len(quantities)))
    random.shuffle(order)
    plain, shuffled = [0] * len(quantities), [0] * len(quantities)
    for fill in fills:
        for index, give in enumerate(allocate_round(quantities, plain, fill, ties)):
            plain[index] += give
        gives = allocate_round(
            [quantities[i] for i in order], [shuffled[i] for i in order], fill, [ties[i] for i in order]
        )
        for position, index in enumerate(order):
            shuffled[index] += gives[position]
    assert plain == shuffled


def test_equal_orders_share_single_fills_without_favour_for_the_early_one():
    firsts = [0] * 4
    for number in range(400):
        block = UUID(int=number + 1)
        ties = [tie_key(block, UUID(int=100 + child)) for child in range(4)]
        firsts[allocate_round([10] * 4, [0] * 4, 1, ties).index(1)] += 1
    assert min(firsts) > 60


@pytest.mark.parametrize(
    ("quantities", "already", "fill"), [([10], [0], 11), ([10, 10], [10, 5], 6), ([10], [0], -1), ([10], [11], 0)]
)
def test_more_than_was_asked_for_is_refused(quantities, already, fill):
    with pytest.raises(ValueError, match=r"shares filled|more than it asked"):
        allocate_round(quantities, already, fill, keys(len(quantities)))


def test_nothing_filled_gives_nothing():
    assert allocate_round([5, 5], [2, 3], 0, keys(2)) == [0, 0]
