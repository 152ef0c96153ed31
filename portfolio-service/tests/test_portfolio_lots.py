"""Tax lots: first in first out, costs conserved to the paisa, the twelve-month rule."""

from datetime import date, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio_service.lots import (
    Disposal,
    InsufficientLots,
    InvalidLot,
    Lot,
    consume,
    gain,
    holding_term,
    split_proceeds,
)


def lot(number: int, acquired_on: date, quantity: int, cost_paise: int) -> Lot:
    return Lot(UUID(int=number), acquired_on, quantity, cost_paise)


JANUARY, MARCH = date(2026, 1, 5), date(2026, 3, 9)


def test_oldest_lot_is_sold_first() -> None:
    newer, older = lot(1, MARCH, 10, 1_500_00), lot(2, JANUARY, 10, 1_000_00)
    disposals, remaining = consume([newer, older], 14)
    assert disposals == [
        Disposal(older.lot_id, JANUARY, 10, 1_000_00),
        Disposal(newer.lot_id, MARCH, 4, 600_00),
    ]
    assert [(rest.lot_id, rest.quantity, rest.cost_paise) for rest in remaining] == [(newer.lot_id, 6, 900_00)]


def test_lots_of_one_day_are_sold_in_the_order_given() -> None:
    first, second = lot(9, JANUARY, 1, 100), lot(1, JANUARY, 1, 200)
    disposals, remaining = consume([first, second], 1)
    assert [disposal.lot_id for disposal in disposals] == [first.lot_id]
    assert remaining == [second]


def test_sale_in_pieces_costs_the_same_as_in_one() -> None:
    whole = lot(1, JANUARY, 10, 5)
    in_one, _ = consume([whole], 4)
    pieces, lots = 0, [whole]
    for _ in range(4):
        disposals, lots = consume(lots, 1)
        pieces += disposals[0].cost_paise
    assert pieces == in_one[0].cost_paise == 2


def test_selling_more_than_held_names_both_figures() -> None:
    with pytest.raises(InsufficientLots, match="11 shares to sell, the lots hold 10") as refused:
        consume([lot(1, JANUARY, 10, 100)], 11)
    assert (refused.value.requested, refused.value.available) == (11, 10)


@pytest.mark.parametrize("quantity", [0, -1])
def test_sale_of_nothing_is_refused(quantity: int) -> None:
    with pytest.raises(InvalidLot):
        consume([lot(1, JANUARY, 10, 100)], quantity)


@pytest.mark.parametrize(
    ("quantity", "cost_paise", "opened_quantity", "opened_cost_paise"),
    [(0, 0, None, None), (1, -1, None, None), (5, 50, 10, None), (11, 100, 10, 100), (5, 51, 10, 100)],
)
def test_lot_with_impossible_figures_is_refused(
    quantity: int, cost_paise: int, opened_quantity: int | None, opened_cost_paise: int | None
) -> None:
    with pytest.raises(InvalidLot):
        Lot(UUID(int=1), JANUARY, quantity, cost_paise, opened_quantity, opened_cost_paise)


lot_lists = st.lists(
    st.builds(
        Lot,
        st.uuids(),
        st.dates(date(2020, 1, 1), date(2026, 11, 20)),
        st.integers(1, 500),
        st.integers(0, 10**9),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda lot: lot.lot_id,
)


@given(lots=lot_lists, cuts=st.lists(st.integers(1, 400), max_size=20))
def test_quantities_and_costs_are_conserved_over_any_sequence_of_sales(lots: list[Lot], cuts: list[int]) -> None:
    cost_of = {lot.lot_id: lot.cost_paise for lot in lots}
    quantity_of = {lot.lot_id: lot.quantity for lot in lots}
    sold: list[Disposal] = []
    remaining = list(lots)
    for cut in cuts:
        held = sum(lot.quantity for lot in remaining)
        if cut > held:
            with pytest.raises(InsufficientLots):
                consume(remaining, cut)
            continue
        disposals, remaining = consume(remaining, cut)
        assert sum(disposal.quantity for disposal in disposals) == cut
        assert all(disposal.cost_paise >= 0 for disposal in disposals)
        sold += disposals
    for lot_id in cost_of:
        parts = [disposal for disposal in sold if disposal.lot_id == lot_id]
        rest = [lot for lot in remaining if lot.lot_id == lot_id]
        assert sum(part.quantity for part in parts) + sum(lot.quantity for lot in rest) == quantity_of[lot_id]
        assert sum(part.cost_paise for part in parts) + sum(lot.cost_paise for lot in rest) == cost_of[lot_id]
    assert all(earlier.acquired_on <= later.acquired_on for earlier, later in pairwise(sold))


@given(lots=lot_lists, data=st.data())
def test_way_of_cutting_a_sale_does_not_change_its_cost(lots: list[Lot], data: st.DataObject) -> None:
    held = sum(lot.quantity for lot in lots)
    whole = data.draw(st.integers(1, held))
    first = data.draw(st.integers(1, whole))
    in_one, rest_of_one = consume(lots, whole)
    in_two, rest_of_two = consume(lots, first)
    if whole > first:
        more, rest_of_two = consume(rest_of_two, whole - first)
        in_two += more
    assert sum(part.cost_paise for part in in_one) == sum(part.cost_paise for part in in_two)
    assert [(rest.lot_id, rest.quantity, rest.cost_paise) for rest in rest_of_one] == [
        (rest.lot_id, rest.quantity, rest.cost_paise) for rest in rest_of_two
    ]


@given(lots=lot_lists, proceeds=st.integers(0, 10**10))
def test_proceeds_and_gains_add_up_over_the_disposals(lots: list[Lot], proceeds: int) -> None:
    disposals, _ = consume(lots, sum(lot.quantity for lot in lots))
    parts = split_proceeds(disposals, proceeds)
    assert sum(parts) == proceeds
    gains = sum(gain(disposal, part) for disposal, part in zip(disposals, parts, strict=True))
    assert gains == proceeds - sum(lot.cost_paise for lot in lots)


def test_gain_is_negative_for_a_loss() -> None:
    assert gain(Disposal(UUID(int=1), JANUARY, 10, 1_000_00), 900_00) == -100_00


@pytest.mark.parametrize(
    ("acquired_on", "sold_on", "term"),
    [
        (date(2025, 1, 15), date(2025, 1, 15), "SHORT"),
        (date(2025, 1, 15), date(2026, 1, 14), "SHORT"),
        (date(2025, 1, 15), date(2026, 1, 15), "SHORT"),
        (date(2025, 1, 15), date(2026, 1, 16), "LONG"),
        (date(2024, 2, 29), date(2025, 2, 28), "SHORT"),
        (date(2024, 2, 29), date(2025, 3, 1), "LONG"),
        (date(2023, 2, 28), date(2024, 2, 28), "SHORT"),
        (date(2023, 2, 28), date(2024, 2, 29), "LONG"),
        (date(2023, 3, 1), date(2024, 3, 1), "SHORT"),
        (date(2025, 12, 31), date(2026, 12, 31), "SHORT"),
        (date(2025, 12, 31), date(2027, 1, 1), "LONG"),
    ],
)
def test_term_turns_long_on_the_day_after_the_anniversary(acquired_on: date, sold_on: date, term: str) -> None:
    assert holding_term(acquired_on, sold_on) == term


@given(acquired_on=st.dates(date(2000, 1, 1), date(2090, 1, 1)), days=st.integers(0, 2000))
def test_term_never_turns_back(acquired_on: date, days: int) -> None:
    sold_on = acquired_on + timedelta(days=days)
    term = holding_term(acquired_on, sold_on)
    assert term == ("SHORT" if days <= 364 else "LONG") or days in (365, 366)
    if term == "LONG":
        assert holding_term(acquired_on, sold_on + timedelta(days=1)) == "LONG"


def test_sale_before_the_purchase_is_refused() -> None:
    with pytest.raises(ValueError, match="before the purchase"):
        holding_term(date(2026, 1, 2), date(2026, 1, 1))
