"""Choosing the next block: age, sides, self-trade prevention, size."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trade_executor.batching import BlockKey, Candidate, LiveBlock, can_cross, choose, take


def candidate(oldest: int, side: str = "BUY", price: int | None = 100_00, symbol: str = "INFY", **more) -> Candidate:
    order_type = "LIMIT" if price is not None else "MARKET"
    key = BlockKey(more.get("exchange", "NSE"), symbol, side, "CNC", order_type, price, None, "DAY", None)
    return Candidate(key, oldest, 10, 1)


def live(side: str = "BUY", price: int | None = 100_00, symbol: str = "INFY", exchange: str = "NSE") -> LiveBlock:
    return LiveBlock(UUID(int=7), exchange, symbol, side, price)


@pytest.mark.parametrize(
    ("buy", "sell", "crosses"),
    [(100_00, 100_00, True), (100_05, 100_00, True), (99_95, 100_00, False), (None, 100_00, True),
     (100_00, None, True), (None, None, True)],
)  # fmt: skip
def test_opposite_orders_cross_when_the_buyer_pays_enough(buy, sell, crosses):
    assert can_cross(candidate(1, "BUY", buy), live("SELL", sell)) is crosses
    assert can_cross(candidate(1, "SELL", sell), live("BUY", buy)) is crosses


def test_other_instruments_and_same_sides_never_cross():
    assert not can_cross(candidate(1, "BUY", None), live("SELL", None, symbol="TCS"))
    assert not can_cross(candidate(1, "BUY", None), live("SELL", None, exchange="BSE"))
    assert not can_cross(candidate(1, "BUY", None), live("BUY", None))


def test_the_oldest_demand_goes_first():
    first = candidate(3, symbol="TCS")
    assert choose([candidate(9), first, candidate(5, symbol="SBIN")], []).candidate == first


def test_the_younger_opposite_side_waits_for_the_live_block():
    seller = candidate(1, "SELL", 100_00)
    choice = choose([seller], [live("BUY", 100_00)])
    assert choice.candidate is None
    assert [waiting for waiting, _ in choice.waiting] == [seller]


def test_a_steady_flow_of_one_side_does_not_starve_the_other():
    seller, later_buyer = candidate(1, "SELL", None), candidate(2, "BUY", None)
    assert choose([seller, later_buyer], [live("BUY", None)]).candidate is None
    assert choose([seller, later_buyer], []).candidate == seller


def test_demand_behind_a_waiting_one_goes_if_it_cannot_meet_it():
    seller = candidate(1, "SELL", 105_00)
    low_buyer, other_share = candidate(2, "BUY", 100_00), candidate(3, "BUY", None, "TCS")
    assert choose([seller, low_buyer, other_share], [live("BUY", 110_00)]).candidate == low_buyer


@given(
    st.lists(
        st.tuples(st.sampled_from(["BUY", "SELL"]), st.one_of(st.none(), st.integers(1, 12)), st.sampled_from("AB")),
        max_size=25,
    )
)
def test_whatever_is_chosen_one_after_the_other_never_can_cross(wishes):
    pool = [candidate(number, side, price, symbol) for number, (side, price, symbol) in enumerate(wishes)]
    working: list[LiveBlock] = []
    while (choice := choose(pool, working)).candidate is not None:
        chosen = choice.candidate
        working.append(LiveBlock(UUID(int=chosen.oldest), "NSE", chosen.tradingsymbol, chosen.side, chosen.price_paise))
        pool.remove(chosen)
    assert not any(can_cross(one, other) for one in working for other in working)
    assert not pool or any(can_cross(min(pool, key=lambda one: one.oldest), block) for block in working)


def test_a_block_takes_orders_up_to_its_limit_and_splits_the_last():
    assert take([("a", 60), ("b", 30), ("c", 40)], quantity_max=100, price_paise=None, value_max_paise=1) == [
        ("a", 60), ("b", 30), ("c", 10),
    ]  # fmt: skip


def test_the_value_limit_counts_whole_shares_and_never_blocks_a_dear_one():
    assert take([("a", 60)], quantity_max=100, price_paise=1_000, value_max_paise=25_999) == [("a", 25)]
    assert take([("a", 3)], quantity_max=100, price_paise=90_000, value_max_paise=1_000) == [("a", 1)]
