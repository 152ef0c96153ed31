"""Holdings and positions: Kite's arithmetic in whole paise, and None where a price is missing."""

from datetime import date
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio_service.lots import Lot
from portfolio_service.valuation import (
    DayTrade,
    HoldingRow,
    HoldingsTotal,
    PositionRow,
    Quote,
    holding_rows,
    holdings_total,
    position_rows,
)

RELIANCE, TCS = ("NSE", "RELIANCE"), ("NSE", "TCS")
THURSDAY, FRIDAY = date(2026, 11, 19), date(2026, 11, 20)


def lot(acquired_on: date, quantity: int, cost_paise: int) -> Lot:
    return Lot(UUID(int=quantity), acquired_on, quantity, cost_paise)


def reliance(quote: Quote | None) -> HoldingRow:
    [row] = holding_rows(
        {RELIANCE: [lot(date(2026, 1, 5), 7, 9_100_00), lot(THURSDAY, 3, 4_000_01)]},
        free_quantities={RELIANCE: 6},
        quotes={RELIANCE: quote} if quote else {},
        unsettled_since=THURSDAY,
    )
    return row


def test_holding_is_valued_at_the_last_price() -> None:
    assert reliance(Quote(1_400_00, 1_380_00)) == HoldingRow(
        exchange="NSE",
        tradingsymbol="RELIANCE",
        quantity=10,
        t1_quantity=3,
        free_quantity=6,
        average_price_paise=1_310_00,
        invested_paise=13_100_01,
        last_price_paise=1_400_00,
        value_paise=14_000_00,
        pnl_paise=899_99,
        pnl_bps=687,
        day_change_paise=200_00,
        day_change_bps=145,
    )


def test_loss_is_negative_in_paise_and_basis_points() -> None:
    row = reliance(Quote(1_200_00, 1_250_00))
    assert (row.pnl_paise, row.pnl_bps) == (-1_100_01, -840)
    assert (row.day_change_paise, row.day_change_bps) == (-500_00, -400)


def test_holding_without_a_price_is_unknown_not_worthless() -> None:
    row = reliance(None)
    assert (row.quantity, row.invested_paise, row.average_price_paise) == (10, 13_100_01, 1_310_00)
    unknown = (
        row.last_price_paise,
        row.value_paise,
        row.pnl_paise,
        row.pnl_bps,
        row.day_change_paise,
        row.day_change_bps,
    )
    assert unknown == (None,) * 6


def test_day_change_is_unknown_without_a_previous_close() -> None:
    row = reliance(Quote(1_400_00))
    assert row.value_paise == 14_000_00
    assert (row.day_change_paise, row.day_change_bps) == (None, None)


def test_free_shares_have_no_percentage_gain() -> None:
    [row] = holding_rows(
        {TCS: [lot(date(2026, 1, 5), 5, 0)]}, free_quantities={}, quotes={TCS: Quote(100_00)}, unsettled_since=THURSDAY
    )
    assert (row.pnl_paise, row.pnl_bps, row.free_quantity) == (500_00, None, 0)


def test_rows_are_sorted_by_symbol_and_sold_out_shares_are_left_out() -> None:
    rows = holding_rows(
        {TCS: [lot(FRIDAY, 1, 100)], RELIANCE: [lot(FRIDAY, 2, 100)], ("NSE", "INFY"): []},
        free_quantities={},
        quotes={},
        unsettled_since=THURSDAY,
    )
    assert [(row.tradingsymbol, row.t1_quantity) for row in rows] == [("RELIANCE", 2), ("TCS", 1)]


def test_total_adds_up_and_one_missing_price_makes_it_unknown() -> None:
    priced, unpriced = reliance(Quote(1_400_00, 1_380_00)), reliance(None)
    assert holdings_total([priced, priced]) == HoldingsTotal(26_200_02, 28_000_00, 1_799_98, 687, 400_00, 0)
    assert holdings_total([priced, unpriced]) == HoldingsTotal(26_200_02, None, None, None, None, 1)
    assert holdings_total([]) == HoldingsTotal(0, 0, 0, None, 0, 0)


def buy(quantity: int, value_paise: int, product: str = "MIS") -> DayTrade:
    return DayTrade("NSE", "RELIANCE", product, "BUY", quantity, value_paise)


def sell(quantity: int, value_paise: int, product: str = "MIS") -> DayTrade:
    return DayTrade("NSE", "RELIANCE", product, "SELL", quantity, value_paise)


def one_position(trades: list[DayTrade], last_price_paise: int | None = 105_00) -> PositionRow:
    [row] = position_rows(trades, {RELIANCE: Quote(last_price_paise)})
    return row


def test_open_long_splits_realised_from_unrealised() -> None:
    row = one_position([buy(10, 1_000_00), sell(4, 440_00), buy(10, 1_020_00)])
    assert (row.buy_quantity, row.buy_value_paise, row.sell_quantity, row.sell_value_paise) == (
        20,
        2_020_00,
        4,
        440_00,
    )
    assert (row.quantity, row.value_paise, row.pnl_paise) == (16, -1_580_00, 100_00)
    assert (row.realised_paise, row.unrealised_paise) == (36_00, 64_00)
    assert (row.buy_price_paise, row.sell_price_paise, row.average_price_paise) == (101_00, 110_00, 101_00)


def test_short_gains_when_the_price_falls() -> None:
    row = one_position([sell(10, 1_100_00)])
    assert (row.quantity, row.average_price_paise, row.buy_price_paise) == (-10, 110_00, None)
    assert (row.pnl_paise, row.realised_paise, row.unrealised_paise) == (50_00, 0, 50_00)


@pytest.mark.parametrize("last_price_paise", [105_00, None])
def test_closed_position_stays_and_needs_no_price(last_price_paise: int | None) -> None:
    row = one_position([buy(10, 1_000_00), sell(10, 990_00)], last_price_paise)
    assert (row.quantity, row.average_price_paise, row.pnl_paise) == (0, None, -10_00)
    assert (row.realised_paise, row.unrealised_paise) == (-10_00, 0)


def test_open_position_without_a_price_knows_only_what_it_realised() -> None:
    row = one_position([buy(10, 1_000_00), sell(4, 440_00)], None)
    assert (row.value_paise, row.realised_paise) == (-560_00, 40_00)
    assert (row.last_price_paise, row.pnl_paise, row.unrealised_paise) == (None, None, None)


def test_products_and_instruments_are_separate_positions() -> None:
    rows = position_rows(
        [buy(1, 100, "MIS"), buy(2, 200, "CNC"), DayTrade("BSE", "RELIANCE", "CNC", "BUY", 3, 300)],
        {RELIANCE: Quote(1)},
    )
    assert [(row.exchange, row.product, row.quantity, row.last_price_paise) for row in rows] == [
        ("BSE", "CNC", 3, None),
        ("NSE", "CNC", 2, 1),
        ("NSE", "MIS", 1, 1),
    ]


day_trades = st.lists(
    st.builds(
        DayTrade,
        st.just("NSE"),
        st.just("RELIANCE"),
        st.just("MIS"),
        st.sampled_from(["BUY", "SELL"]),
        st.integers(1, 1000),
        st.integers(1, 10**9),
    ),
    min_size=1,
    max_size=15,
)


@given(trades=day_trades, last_price=st.integers(1, 10**7), data=st.data())
def test_position_satisfies_kites_arithmetic_in_any_order_of_trades(
    trades: list[DayTrade], last_price: int, data: st.DataObject
) -> None:
    row = one_position(trades, last_price)
    assert row.value_paise == row.sell_value_paise - row.buy_value_paise
    assert row.quantity == row.buy_quantity - row.sell_quantity
    assert row.pnl_paise == row.value_paise + row.quantity * last_price
    assert row.unrealised_paise is not None
    assert row.realised_paise + row.unrealised_paise == row.pnl_paise
    closed = min(row.buy_quantity, row.sell_quantity)
    if closed:
        exact = closed * (
            Fraction(row.sell_value_paise, row.sell_quantity) - Fraction(row.buy_value_paise, row.buy_quantity)
        )
        assert abs(row.realised_paise - exact) <= 1
    else:
        assert row.realised_paise == 0
    assert one_position(data.draw(st.permutations(trades)), last_price) == row
