"""Charges: the worked examples to the paisa, the schedule's dates, partial fills, the pool's sharing."""

import math
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio_service.charge_schedule import (
    CHARGES,
    ChargeRowMissing,
    ChargeSchedule,
    ChargeScheduleInvalid,
    Levy,
    rates_in_force,
    schedule_in_force,
)
from portfolio_service.charges import (
    MAX_VALUE_PAISE,
    NO_CHARGES,
    Charges,
    ChargesNotShareable,
    ChargesWentBack,
    InvalidTrade,
    SharePart,
    Trade,
    day_stt,
    estimate,
    estimate_together,
    hold_estimate,
    incremental,
    share,
)

TODAY = date(2026, 11, 20)


def trade(side: str, quantity: int, price_paise: int, product: str = "CNC", segment: str = "EQ") -> Trade:
    return Trade("NSE", side, product, quantity, quantity * price_paise, TODAY, segment)


WORKED_EXAMPLES = [
    pytest.param(
        [trade("BUY", 100, 1000_00), trade("SELL", 100, 1100_00)],
        {"brokerage_paise": 0, "stt_paise": 210_00, "stamp_paise": 15_00, "dp_paise": 15_34},
        248_20,
        id="delivery-round-trip",
    ),
    pytest.param(
        [trade("BUY", 100, 1000_00, "MIS"), trade("SELL", 100, 1010_00, "MIS")],
        {"brokerage_paise": 40_00, "stt_paise": 25_00, "stamp_paise": 3_00, "dp_paise": 0},
        82_72,
        id="intraday-round-trip",
    ),
    pytest.param(
        [trade("BUY", 10, 1400_00)],
        {"brokerage_paise": 0, "stt_paise": 14_00, "stamp_paise": 2_10, "dp_paise": 0},
        16_62,
        id="delivery-buy",
    ),
    pytest.param(
        [trade("SELL", 10, 1500_00)],
        {"brokerage_paise": 0, "stt_paise": 15_00, "stamp_paise": 0, "dp_paise": 15_34},
        30_90,
        id="delivery-sale",
    ),
    pytest.param(
        [trade("BUY", 65, 26_000_00, "NRML", "FUT"), trade("SELL", 65, 26_100_00, "NRML", "FUT")],
        {"brokerage_paise": 40_00, "stt_paise": 848_00, "stamp_paise": 33_80, "dp_paise": 0},
        1_006_12,
        id="future-round-trip",
    ),
    pytest.param(
        [trade("BUY", 65, 100_00, "NRML", "OPT"), trade("SELL", 65, 120_00, "NRML", "OPT")],
        {"brokerage_paise": 40_00, "stt_paise": 12_00, "dp_paise": 0},
        65_41,
        id="option-round-trip",
    ),
]


@pytest.mark.parametrize(("trades", "expected_parts", "expected_total"), WORKED_EXAMPLES)
def test_worked_example_is_reproduced_to_the_paisa(
    trades: list[Trade], expected_parts: dict[str, int], expected_total: int
) -> None:
    charges = estimate_together(trades)
    assert charges.total_paise == expected_total
    assert {name: getattr(charges, name) for name in expected_parts} == expected_parts


def test_single_order_estimate_names_every_component() -> None:
    charges = estimate(exchange="NSE", side="SELL", product="CNC", quantity=10, value_paise=15_000_00, trade_date=TODAY)
    assert charges == Charges(
        brokerage_paise=0,
        stt_paise=1500,
        exchange_fee_paise=46,
        sebi_fee_paise=1,
        stamp_paise=0,
        gst_paise=9,
        dp_paise=1534,
    )
    assert charges.total_paise == 3090


def test_brokerage_is_a_percentage_until_its_cap() -> None:
    def brokerage(value_paise: int) -> int:
        return estimate(
            exchange="NSE", side="BUY", product="MIS", quantity=1, value_paise=value_paise, trade_date=TODAY
        ).brokerage_paise

    assert brokerage(10_000_00) == 3_00
    assert brokerage(66_666_00) == 20_00
    assert brokerage(10_00_000_00) == 20_00


def test_bse_has_its_own_fee() -> None:
    fee = estimate(
        exchange="BSE", side="BUY", product="CNC", quantity=100, value_paise=1_00_000_00, trade_date=TODAY
    ).exchange_fee_paise
    assert fee == 3_75


def test_depository_charge_is_taken_once_per_scrip_and_day() -> None:
    sale: dict[str, Any] = {
        "exchange": "NSE", "side": "SELL", "product": "CNC", "quantity": 10, "value_paise": 15_000_00,
        "trade_date": TODAY,
    }  # fmt: skip
    assert estimate(**sale).dp_paise == 15_34
    assert estimate(**sale, dp_charged=True).dp_paise == 0
    assert estimate(**sale, dp_charged=True).total_paise == 15_56
    assert estimate(**{**sale, "product": "MIS"}).dp_paise == 0
    assert estimate(**{**sale, "side": "BUY"}).dp_paise == 0


@pytest.mark.parametrize(
    ("segment", "on", "expected_stt"),
    [
        ("FUT", date(2026, 3, 31), 339_00),
        ("FUT", date(2026, 4, 1), 848_00),
        ("OPT", date(2026, 3, 31), 1697_00),
        ("OPT", date(2026, 4, 1), 2545_00),
    ],
)
def test_derivatives_stt_changes_with_the_finance_act(segment: str, on: date, expected_stt: int) -> None:
    charges = estimate(
        exchange="NSE", side="SELL", product="NRML", quantity=65, value_paise=65 * 26_100_00, trade_date=on,
        segment=segment,
    )  # fmt: skip
    assert charges.stt_paise == expected_stt


def test_nse_fee_absorbed_the_protection_fund_without_changing_the_sum() -> None:
    key = {"segment": "EQ", "exchange": "NSE", "product": "CNC", "side": "BUY"}
    before = rates_in_force(**key, trade_date=date(2026, 2, 28))
    after = rates_in_force(**key, trade_date=date(2026, 3, 1))
    assert (before["exchange_fee"].rate, before["investor_protection"].rate) == (Decimal("0.0000297"), Decimal("1e-6"))
    assert (after["exchange_fee"].rate, after["investor_protection"].rate) == (Decimal("0.0000307"), Decimal(0))

    def charged(on: date) -> Charges:
        return estimate(exchange="NSE", side="BUY", product="CNC", quantity=100, value_paise=100_000_00, trade_date=on)

    assert charged(date(2026, 2, 28)) == charged(date(2026, 3, 1))
    assert charged(date(2026, 3, 1)).exchange_fee_paise == 3_07


def test_day_before_the_schedule_starts_is_refused_by_name() -> None:
    with pytest.raises(ChargeRowMissing, match="no brokerage row for EQ NSE CNC SELL on 2024-09-30"):
        estimate(
            exchange="NSE", side="SELL", product="CNC", quantity=1, value_paise=100_00, trade_date=date(2024, 9, 30)
        )
    first_day = estimate(
        exchange="NSE", side="SELL", product="CNC", quantity=1, value_paise=100_00, trade_date=date(2024, 10, 1)
    )
    assert first_day.dp_paise == 15_34


@pytest.mark.parametrize(
    "wrong", [{"exchange": "MCX"}, {"side": "HOLD"}, {"product": "MTF"}, {"segment": "CDS"}, {"side": "*"}]
)
def test_trade_the_schedule_does_not_know_is_never_free(wrong: dict[str, str]) -> None:
    known: dict[str, Any] = {
        "exchange": "NSE", "side": "BUY", "product": "CNC", "quantity": 1, "value_paise": 100, "trade_date": TODAY,
    }  # fmt: skip
    with pytest.raises(ChargeRowMissing):
        estimate(**{**known, **wrong})


@pytest.mark.parametrize(("quantity", "value_paise"), [(0, 1), (1, 0), (-1, 100), (1, -100), (1, MAX_VALUE_PAISE + 1)])
def test_impossible_trade_is_refused(quantity: int, value_paise: int) -> None:
    with pytest.raises(InvalidTrade):
        estimate(
            exchange="NSE", side="BUY", product="CNC", quantity=quantity, value_paise=value_paise, trade_date=TODAY
        )


def test_nothing_executed_costs_nothing() -> None:
    assert (
        estimate(exchange="NSE", side="BUY", product="CNC", quantity=0, value_paise=0, trade_date=TODAY) == NO_CHARGES
    )


# --- the schedule file

ONE_ROW = """
[[row]]
charge = "dp"
side = "SELL"
flat_paise = {paise}
valid_from = {start}
{end}
source = "a circular"
"""


def test_new_depository_charge_takes_over_on_its_first_day() -> None:
    schedule = ChargeSchedule.from_toml(
        ONE_ROW.format(paise=1350, start="2020-01-01", end="valid_to = 2024-09-30")
        + ONE_ROW.format(paise=1300, start="2024-10-01", end="")
    )
    sale = {"segment": "EQ", "exchange": "NSE", "product": "CNC", "side": "SELL"}
    in_force = {
        on: [row.levy.flat_paise for row in schedule.rows if row.applies(sale, on)]
        for on in (date(2019, 12, 31), date(2024, 9, 30), date(2024, 10, 1))
    }
    assert list(in_force.values()) == [[], [1350], [1300]]


def test_two_rows_for_one_trade_and_day_are_refused() -> None:
    with pytest.raises(ChargeScheduleInvalid, match="two dp rows"):
        ChargeSchedule.from_toml(
            ONE_ROW.format(paise=1350, start="2020-01-01", end="valid_to = 2024-10-01")
            + ONE_ROW.format(paise=1300, start="2024-10-01", end='segment = "EQ"')
        )


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (ONE_ROW.format(paise=-1, start="2020-01-01", end=""), "never negative"),
        (ONE_ROW.format(paise=1, start="2020-01-01", end='percent = "1"'), "either percent or flat_paise"),
        (ONE_ROW.format(paise=1.5, start="2020-01-01", end=""), "whole paise"),
        (ONE_ROW.format(paise=1, start="2020-01-01", end="valid_to = 2019-01-01"), "dates in order"),
        (ONE_ROW.format(paise=1, start="2020-01-01", end="comment = 1"), "unknown keys"),
        (ONE_ROW.format(paise=1, start='"2020"', end=""), "dates in order"),
        (ONE_ROW.replace('"dp"', '"fee"').format(paise=1, start="2020-01-01", end=""), "unknown charge"),
        (ONE_ROW.replace('"a circular"', '""').format(paise=1, start="2020-01-01", end=""), "needs its source"),
        (ONE_ROW.replace("flat_paise", "percent").format(paise='"x"', start="2020-01-01", end=""), "not a number"),
        ("[[row", "not a TOML document"),
    ],
)
def test_schedule_with_a_mistake_is_refused(broken: str, message: str) -> None:
    with pytest.raises(ChargeScheduleInvalid, match=message):
        ChargeSchedule.from_toml(broken)


def test_shipped_schedule_answers_every_trade_of_every_day_it_covers() -> None:
    schedule = schedule_in_force()
    changes = {row.valid_from for row in schedule.rows} | {
        row.valid_to + timedelta(days=1) for row in schedule.rows if row.valid_to
    }
    products = {"EQ": ("CNC", "MIS"), "FUT": ("NRML", "MIS"), "OPT": ("NRML", "MIS")}
    answered = 0
    for on in [*changes, *(day - timedelta(days=1) for day in changes if day > min(changes)), TODAY]:
        for segment, choices in products.items():
            for product in choices:
                for exchange in ("NSE", "BSE"):
                    for side in ("BUY", "SELL"):
                        rates = schedule.rates(
                            segment=segment, exchange=exchange, product=product, side=side, trade_date=on
                        )
                        assert set(rates) == set(CHARGES)
                        answered += 1
    assert answered >= 24 * 6


def test_levy_stops_at_its_cap() -> None:
    levy = Levy(rate=Decimal("0.0003"), cap_paise=2000)
    assert [levy.on(value) for value in (10_000_00, 66_666_67, 10**12)] == [Decimal(300), Decimal(2000), Decimal(2000)]


# --- partial fills and holds

orders = st.fixed_dictionaries(
    {
        "exchange": st.sampled_from(["NSE", "BSE"]),
        "side": st.sampled_from(["BUY", "SELL"]),
        "product": st.sampled_from(["CNC", "MIS"]),
    }
)
fill_lists = st.lists(
    st.tuples(st.integers(1, 5000), st.integers(1, 1_00_000_00)), min_size=1, max_size=12
)  # (quantity, price in paise)


@given(order=orders, fills=fill_lists, slack=st.integers(0, 10**9))
def test_charges_of_any_split_into_fills_add_up_and_stay_within_the_hold(
    order: dict[str, Any], fills: list[tuple[int, int]], slack: int
) -> None:
    total_quantity = sum(quantity for quantity, _ in fills)
    total_value = sum(quantity * price for quantity, price in fills)
    hold = hold_estimate(**order, quantity=total_quantity, worst_value_paise=total_value + slack, trade_date=TODAY)
    charged, before, quantity_so_far, value_so_far = NO_CHARGES, NO_CHARGES, 0, 0
    for quantity, price in fills:
        quantity_so_far += quantity
        value_so_far += quantity * price
        after = estimate(**order, quantity=quantity_so_far, value_paise=value_so_far, trade_date=TODAY)
        of_this_fill = incremental(before, after)
        assert of_this_fill.total_paise >= 0
        charged, before = charged + of_this_fill, after
        assert charged.total_paise <= hold
    assert charged == estimate(**order, quantity=total_quantity, value_paise=total_value, trade_date=TODAY)


@given(order=orders, value=st.integers(1, 10**11), more=st.integers(0, 10**7))
def test_total_never_falls_when_the_value_rises(order: dict[str, Any], value: int, more: int) -> None:
    lower = estimate(**order, quantity=1, value_paise=value, trade_date=TODAY)
    higher = estimate(**order, quantity=1, value_paise=value + more, trade_date=TODAY)
    assert lower.total_paise <= higher.total_paise


@given(order=orders, value=st.integers(1, MAX_VALUE_PAISE))
def test_components_are_within_a_paisa_of_the_exact_amounts(order: dict[str, Any], value: int) -> None:
    charges = estimate(**order, quantity=1, value_paise=value, trade_date=TODAY)
    rates = rates_in_force(segment="EQ", **order, trade_date=TODAY)
    exact = {name: Fraction(levy.rate) * value for name, levy in rates.items()}
    brokerage = min(exact["brokerage"], Fraction(2000))
    exchange_fee = exact["exchange_fee"] + exact["investor_protection"]
    gst = (brokerage + exchange_fee + exact["sebi_fee"]) * Fraction(18, 100)
    dp = Fraction(rates["dp"].flat_paise) * Fraction(118, 100)
    stt = math.floor(exact["stt"] / 100 + Fraction(1, 2)) * 100
    others = (brokerage, exchange_fee, exact["sebi_fee"], exact["stamp"], gst, dp)
    assert charges.stt_paise == stt
    assert abs(charges.total_paise - stt - sum(others)) <= Fraction(1, 2)
    shown = (
        charges.brokerage_paise, charges.exchange_fee_paise, charges.sebi_fee_paise, charges.stamp_paise,
        charges.gst_paise, charges.dp_paise,
    )  # fmt: skip
    assert all(abs(part - amount) < 1 for part, amount in zip(shown, others, strict=True))


def test_charges_of_a_smaller_total_are_not_a_later_state() -> None:
    with pytest.raises(ChargesWentBack):
        incremental(Charges(stt_paise=200), Charges(stt_paise=100))


# --- the exchange's day rule


def test_day_stt_uses_the_weighted_average_of_all_trades() -> None:
    result = day_stt(
        exchange="NSE",
        buy_quantity=700,
        buy_value_paise=500 * 100_00 + 200 * 110_00,
        sell_quantity=500,
        sell_value_paise=500 * 105_00,
        trade_date=TODAY,
    )
    assert result.average_price_paise == Fraction(103_75)
    assert (result.intraday_paise, result.delivery_paise) == (13_00, 21_00)


def test_day_stt_of_a_plain_sale_is_delivery_only() -> None:
    result = day_stt(
        exchange="NSE",
        buy_quantity=0,
        buy_value_paise=0,
        sell_quantity=10,
        sell_value_paise=15_000_00,
        trade_date=TODAY,
    )
    assert (result.intraday_paise, result.delivery_paise) == (0, 15_00)


@pytest.mark.parametrize(("buy_quantity", "buy_value_paise"), [(0, 0), (0, 5), (5, 0), (-1, 100)])
def test_day_stt_refuses_figures_that_are_no_day(buy_quantity: int, buy_value_paise: int) -> None:
    with pytest.raises(InvalidTrade):
        day_stt(
            exchange="NSE",
            buy_quantity=buy_quantity,
            buy_value_paise=buy_value_paise,
            sell_quantity=0,
            sell_value_paise=0,
            trade_date=TODAY,
        )


# --- sharing in the pool

amounts = st.integers(0, 10**7)
notes = st.builds(Charges, amounts, amounts, amounts, amounts, amounts, amounts, amounts)
participants = st.lists(
    st.builds(SharePart, st.uuids(), st.integers(1, 10**11), st.integers(1, 10**11)),
    min_size=1,
    max_size=20,
    unique_by=lambda part: part.key,
)


@given(note=notes, parts=participants)
def test_shares_add_up_to_the_contract_note(note: Charges, parts: list[SharePart]) -> None:
    shares = share(note, parts)
    assert sum(shares, NO_CHARGES) == note
    traded = sum(part.traded_paise for part in parts)
    for part, charges in zip(parts, shares, strict=True):
        assert all(amount >= 0 for amount in charges.parts())
        assert abs(charges.stt_paise - Fraction(note.stt_paise * part.traded_paise, traded)) < 1


@given(note=notes, parts=participants, data=st.data())
def test_shares_do_not_depend_on_the_order_of_the_parts(
    note: Charges, parts: list[SharePart], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(parts))
    by_key = dict(zip((part.key for part in shuffled), share(note, shuffled), strict=True))
    assert [by_key[part.key] for part in parts] == share(note, parts)


def test_capped_brokerage_goes_by_traded_value_and_depository_charge_to_sellers() -> None:
    buyer, seller, big_seller = (UUID(int=number) for number in (1, 2, 3))
    shares = share(
        Charges(brokerage_paise=20_00, dp_paise=15_34),
        [
            SharePart(buyer, traded_paise=50_000_00),
            SharePart(seller, traded_paise=10_000_00, sold_paise=10_000_00),
            SharePart(big_seller, traded_paise=40_000_00, sold_paise=40_000_00),
        ],
    )
    assert [(part.brokerage_paise, part.dp_paise) for part in shares] == [(10_00, 0), (2_00, 3_07), (8_00, 12_27)]


@pytest.mark.parametrize(
    ("note", "parts"),
    [
        (Charges(dp_paise=1534), [SharePart(UUID(int=1), traded_paise=100)]),
        (Charges(stt_paise=100), []),
        (Charges(stt_paise=-100), [SharePart(UUID(int=1), traded_paise=100)]),
    ],
)
def test_charge_nobody_can_carry_is_refused(note: Charges, parts: list[SharePart]) -> None:
    with pytest.raises(ChargesNotShareable):
        share(note, parts)
