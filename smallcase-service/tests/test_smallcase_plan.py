"""Whole-share plans: what may never happen, and that no single-share change is closer, against brute force."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.money import BPS_ONE, split_by_largest_remainder
from smallcase_service.plan import (
    SMALL_ORDER_BPS,
    SMALL_ORDER_PAISE,
    Allowance,
    Line,
    buys_after_sells,
    distance,
    exit_all,
    holdings_of,
    invest,
    invest_more,
    minimum_cost,
    partial_exit,
    rebalance,
    target_quantities,
    weights,
)

EXAMPLE = [
    Line(("NSE", "TCS"), 5_000, 1_400_00),
    Line(("NSE", "ITC"), 3_000, 250_00),
    Line(("NSE", "MARUTI"), 2_000, 2_400_00),
]
PRICES = st.one_of(st.integers(1, 400), st.integers(1_00, 5_000_00), st.integers(5_000_00, 1_50_000_00))


@st.composite
def baskets(draw: st.DrawFn, *, held_max: int = 0, shares_max: int = 6) -> list[Line]:
    """Baskets with any weights and prices, each share with up to `held_max` units."""
    parts = draw(st.lists(st.integers(1, 1_000), min_size=1, max_size=shares_max))
    bps = [part + 1 for part in split_by_largest_remainder(BPS_ONE - len(parts), parts)]
    return [
        Line(("NSE", f"S{index}"), weight, draw(PRICES), draw(st.integers(0, held_max)))
        for index, weight in enumerate(bps)
    ]


def cost(lines: Sequence[Line], quantities: Sequence[int]) -> int:
    return sum(line.price_paise * quantity for line, quantity in zip(lines, quantities, strict=True))


def single_share_changes(quantities: Sequence[int]) -> Iterator[list[int]]:
    """Every plan that is one share more, one share less, or both in two shares."""
    places = [None, *range(len(quantities))]
    for more in places:
        for less in places:
            if more != less:
                changed = list(quantities)
                if more is not None:
                    changed[more] += 1
                if less is not None:
                    changed[less] -= 1
                yield changed


def assert_nothing_closer(
    lines: Sequence[Line], quantities: Sequence[int], lowest: Sequence[int], total: int, money: int
) -> None:
    here = distance(lines, quantities, total)
    for changed in single_share_changes(quantities):
        if any(now < least for now, least in zip(changed, lowest, strict=True)) or cost(lines, changed) > money:
            continue
        assert distance(lines, changed, total) >= here, f"{changed} is closer than {quantities}"


def test_the_published_example_at_its_minimum_is_the_published_basket() -> None:
    assert minimum_cost(EXAMPLE) == 11_500_00
    assert invest(EXAMPLE, 11_500_00) == [4, 14, 1]


def test_the_distance_is_the_sum_of_squared_gaps_in_value() -> None:
    # 4 TCS 5,600 of 5,750; 14 ITC 3,500 of 3,450; 1 MARUTI 2,400 of 2,300 rupees
    expected = (150_00**2 + 50_00**2 + 100_00**2) * BPS_ONE**2
    assert distance(EXAMPLE, [4, 14, 1], 11_500_00) == expected


@given(baskets(), st.integers(0, 10**9))
def test_a_first_purchase_keeps_its_promises(lines: list[Line], more: int) -> None:
    budget = minimum_cost(lines) + more
    quantities = invest(lines, budget)
    assert cost(lines, quantities) <= budget
    assert min(quantities) >= 1
    assert_nothing_closer(lines, quantities, [1] * len(lines), budget, budget)


@given(baskets(shares_max=3), st.fractions(0, 3))
def test_no_share_of_a_first_purchase_is_a_whole_share_above_its_target(lines: list[Line], more: Fraction) -> None:
    budget = minimum_cost(lines) + int(minimum_cost(lines) * more)
    quantities = invest(lines, budget)
    for line, quantity in zip(lines, quantities, strict=True):
        over = quantity * line.price_paise * BPS_ONE - budget * line.weight_bps
        assert quantity == 1 or over <= line.price_paise * BPS_ONE, "never more than one share above the target"


def test_a_budget_below_the_minimum_is_no_plan() -> None:
    with pytest.raises(ValueError, match="minimum"):
        invest(EXAMPLE, 11_500_00 - 1)


@given(baskets(held_max=50), st.integers(0, 10**8))
def test_new_money_buys_under_weight_shares_only_and_never_overspends(lines: list[Line], money: int) -> None:
    buys = invest_more(lines, money)
    assert min(buys) >= 0
    assert cost(lines, buys) <= money
    total = sum(line.value_paise for line in lines) + money
    held = [line.held for line in lines]
    for line, bought in zip(lines, buys, strict=True):
        if bought:
            assert line.value_paise * BPS_ONE < total * line.weight_bps, "only positive differences are bought"
    after = [line.held + bought for line, bought in zip(lines, buys, strict=True)]
    assert_nothing_closer(lines, after, held, total, total)


def test_new_money_goes_to_the_most_under_weight_share_first() -> None:
    lines = [replace(line, held=held) for line, held in zip(EXAMPLE, (4, 0, 1), strict=True)]
    assert invest_more(lines, 3_500_00) == [0, 14, 0]


@given(baskets(held_max=50))
def test_a_rebalance_sells_what_left_and_ends_within_one_share(lines: list[Line]) -> None:
    leaving = [Line(("NSE", "OLD"), 0, 777_00, 3)]
    worth = sum(line.value_paise for line in (*lines, *leaving))
    trades = rebalance(lines, leaving, filtered=False)
    held = {line.key: line.held for line in (*lines, *leaving) if line.held}
    after = holdings_of(trades, held)
    assert ("NSE", "OLD") not in after
    wanted = target_quantities(lines, worth)
    assert [after.get(line.key, 0) for line in lines] == wanted
    assert cost(lines, wanted) <= worth
    lowest = [1 if worth >= minimum_cost(lines) else 0] * len(lines)
    assert_nothing_closer(lines, wanted, lowest, worth, worth)


@given(baskets(held_max=50))
def test_the_filter_drops_small_orders_but_no_new_share_and_no_complete_exit(lines: list[Line]) -> None:
    leaving = [Line(("NSE", "OLD"), 0, 1_00, 3)]
    worth = sum(line.value_paise for line in (*lines, *leaving))
    every = rebalance(lines, leaving, filtered=False)
    kept = rebalance(lines, leaving)
    assert set(kept) <= set(every)
    assert any(trade.key == ("NSE", "OLD") for trade in kept)
    held = {line.key: line.held for line in lines}
    for trade in every:
        small = trade.value_paise < SMALL_ORDER_PAISE or trade.value_paise * BPS_ONE < worth * SMALL_ORDER_BPS
        complete = trade.side == "SELL" and trade.quantity == held.get(trade.key, trade.quantity)
        new = trade.side == "BUY" and not held.get(trade.key)
        assert (trade in kept) == (not small or complete or new)


@given(baskets(held_max=50), st.integers(0, 10**8))
def test_buys_after_sells_stay_inside_the_freed_cash(lines: list[Line], money: int) -> None:
    trades = buys_after_sells(lines, money, filtered=False)
    assert all(trade.side == "BUY" for trade in trades)
    assert sum(trade.value_paise for trade in trades) <= money
    bought = {trade.key for trade in trades}
    left = money - sum(trade.value_paise for trade in trades)
    for line in lines:
        if not line.held and line.key not in bought:
            assert line.price_paise > left, "a new share that can be paid is bought"


@given(baskets(held_max=50).filter(lambda lines: any(line.held for line in lines)), st.fractions(0, 1))
def test_a_partial_exit_never_frees_more_and_keeps_the_proportions(lines: list[Line], part: Fraction) -> None:
    worth = sum(line.value_paise for line in lines)
    amount = int(worth * part)
    trades = partial_exit(lines, amount)
    assert sum(trade.value_paise for trade in trades) <= amount
    sold = {trade.key: trade.quantity for trade in trades}
    for line in lines:
        quantity = sold.get(line.key, 0)
        assert 0 <= quantity <= line.held
        # Within one share of the same part of every holding.
        assert quantity * worth - line.held * amount < worth


def test_half_a_holding_is_half_of_every_share() -> None:
    lines = [replace(line, held=held) for line, held in zip(EXAMPLE, (4, 14, 2), strict=True)]
    worth = sum(line.value_paise for line in lines)
    assert [trade.quantity for trade in partial_exit(lines, worth // 2)] == [2, 7, 1]


def test_a_partial_exit_above_the_worth_is_no_plan() -> None:
    with pytest.raises(ValueError, match="worth less"):
        partial_exit([replace(EXAMPLE[0], held=1)], 1_400_01)


def test_an_exit_sells_all_that_is_held() -> None:
    lines = [replace(line, held=held) for line, held in zip(EXAMPLE, (4, 0, 2), strict=True)]
    assert [(trade.key[1], trade.side, trade.quantity) for trade in exit_all(lines)] == [
        ("TCS", "SELL", 4), ("MARUTI", "SELL", 2),
    ]  # fmt: skip


@given(st.integers(0, 10**12), st.integers(0, 50), st.integers(0, 500), st.integers(0, 1_000))
def test_an_amount_for_a_budget_leaves_exactly_that_room(budget: int, orders: int, rate: int, each: int) -> None:
    allowance = Allowance(rate, each)
    amount = allowance.amount(budget, orders)
    assert allowance.budget(amount, orders) >= budget
    assert amount == 0 or allowance.budget(amount - 1, orders) < budget


def test_weights_of_nothing_are_zero() -> None:
    assert weights([0, 0]) == [0, 0]
    assert weights([1, 3]) == [2_500, 7_500]
