"""The rules of comparing books, without a database: what differs, what cannot be judged, when a difference is a break."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trade_executor import reconciling
from trade_executor.brokers.base import BookHolding, BookOrder, BookPosition, BookTrade, Funds
from trade_executor.reconciling import (
    BrokerView,
    Difference,
    Judgement,
    LedgerAsset,
    Suspect,
    Told,
    cash_is_comparable,
    judge_cash,
    judge_day_net,
    judge_ledger,
    judge_units,
    ripen,
)

NOW = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)


def trade(key="NSE:INFY", quantity=10, order="1", number="T1", side="BUY", at=NOW):
    exchange, symbol = key.split(":")
    return BookTrade(number, order, exchange, symbol, side, quantity, Decimal(100), at)


def order(key="NSE:INFY", filled=10, number="1", status="COMPLETE"):
    exchange, symbol = key.split(":")
    return BookOrder(
        number, frozenset(), exchange, symbol, "BUY", 10, filled, status, None, Decimal(100), "LIMIT", Decimal(100), NOW
    )


def position(key="NSE:INFY", quantity=10, overnight=0, product="CNC"):
    exchange, symbol = key.split(":")
    return BookPosition(exchange, symbol, product, quantity, overnight, Decimal(100))


def holding(symbol="INFY", quantity=0, t1=0, isin="INE1"):
    return BookHolding("NSE", symbol, isin, quantity, t1, 0, quantity, Decimal(100))


def view(orders=(), before=None, positions=(), holdings=(), funds=Funds(0, 0), trades=()):
    return BrokerView(orders, trades if before is None else before, positions, holdings, funds, trades)


def asset(units, house=0, out=0, back=0):
    return LedgerAsset(units, house, out, back)


def keys(judgement):
    return [one.key for one in judgement.differences]


# --- what moves ---------------------------------------------------------------------------------------------------


def test_an_instrument_that_traded_during_the_reads_is_not_judged():
    later = (trade(), trade("NSE:TCS", order="2"))
    assert view([order(), order("NSE:TCS", number="2")], before=(trade(),), trades=later).moving() == {"NSE:TCS"}


def test_an_instrument_whose_trades_lag_the_book_is_not_judged():
    assert view([order(filled=10)], trades=(trade(quantity=4),)).moving() == {"NSE:INFY"}
    assert view([order(filled=4, status="OPEN")], trades=(trade(quantity=4),)).moving() == frozenset()
    assert view([order(filled=0, status="REJECTED")]).moving() == frozenset()


def test_books_are_of_the_day_of_their_trades_until_the_broker_forgets_them():
    monday = date(2026, 11, 23)
    assert view(trades=(trade(),)).day(date(2026, 11, 28)) == monday
    assert view().day(date(2026, 11, 24)) == date(2026, 11, 24)


# --- B7 -----------------------------------------------------------------------------------------------------------


def test_the_day_s_net_is_compared_over_products_and_without_what_came_over_night():
    positions = [position(quantity=7, product="CNC"), position(quantity=8, overnight=5, product="MIS")]
    assert judge_day_net(positions, {"NSE:INFY": 10}, ()).differences == ()
    [difference] = judge_day_net(positions, {"NSE:INFY": 11}, ()).differences
    assert (difference.key, difference.freezes) == ("NSE:INFY", ("NSE:INFY",))
    assert "10" in difference.detail
    assert "11" in difference.detail


@pytest.mark.parametrize(("positions", "own"), [([position(quantity=3)], {}), ([], {"NSE:INFY": 3})])
def test_a_side_that_knows_nothing_of_an_instrument_counts_as_zero(positions, own):
    assert keys(judge_day_net(positions, own, ())) == ["NSE:INFY"]
    assert judge_day_net(positions, own, {"NSE:INFY"}) == Judgement((), frozenset({"NSE:INFY"}))


# --- B8 -----------------------------------------------------------------------------------------------------------


def test_units_are_compared_by_share_over_both_exchanges():
    read = view(positions=[position("BSE:INFY", 5), position("NSE:INFY", -2)], holdings=[holding(quantity=10, t1=4)])
    ledger = {"NSE:INFY": asset(9, house=3), "BSE:INFY": asset(5), "INR": asset(-1)}
    assert judge_units(read, ledger, {}, ()).differences == ()
    [difference] = judge_units(read, {**ledger, "BSE:INFY": asset(6)}, {}, ()).differences
    assert (difference.key, difference.amount) == ("INE1", "17/18")
    assert set(difference.freezes) == {"NSE:INFY", "BSE:INFY"}


def test_an_isin_joins_symbols_that_differ_between_exchanges():
    read = view(holdings=[holding("BAJAJ-AUTO", quantity=3, isin="INE9")])
    ledger = {"BSE:BAJAJAUT": asset(3)}
    assert keys(judge_units(read, ledger, {}, ())) == ["BAJAJAUT", "INE9"]
    assert judge_units(read, ledger, {"BSE:BAJAJAUT": "INE9"}, ()).differences == ()


def test_a_share_is_undecided_while_one_of_its_instruments_is():
    read = view(holdings=[holding(quantity=1)])
    ledger = {"BSE:INFY": asset(2)}
    assert keys(judge_units(read, ledger, {}, ())) == ["INE1"]
    assert judge_units(read, ledger, {}, {"BSE:INFY"}) == Judgement((), frozenset({"INE1"}))


@given(
    bought=st.dictionaries(st.sampled_from(["NSE:A", "NSE:B", "BSE:A", "BSE:C"]), st.integers(1, 1_000)),
    delivered=st.dictionaries(st.sampled_from(["A", "B", "C"]), st.integers(0, 1_000)),
    to_house=st.integers(0, 50),
)
def test_books_that_agree_never_differ_and_one_share_more_always_does(bought, delivered, to_house):
    read = view(
        positions=[position(key, units) for key, units in bought.items()],
        holdings=[holding(symbol, units, isin=f"I{symbol}") for symbol, units in delivered.items()],
    )
    ledger = {key: asset(units - to_house, house=to_house) for key, units in bought.items()}
    for symbol, units in delivered.items():
        key = f"NSE:{symbol}"
        known = ledger.get(key, asset(0))
        ledger[key] = replace(known, users=known.users + units)
    assert judge_units(read, ledger, {}, ()) == Judgement()
    for key in ledger:
        wrong = {**ledger, key: replace(ledger[key], house=ledger[key].house + 1)}
        assert len(judge_units(read, wrong, {}, ()).differences) == 1


# --- B9 -----------------------------------------------------------------------------------------------------------


def test_cash_is_compared_by_its_movement_and_within_a_tolerance():
    assert judge_cash(99_00, 100_00, -1_00, 0, tolerance_paise=0) == Judgement()
    assert judge_cash(98_99, 100_00, -1_00, 0, tolerance_paise=1) == Judgement()
    assert keys(judge_cash(98_98, 100_00, -1_00, 0, tolerance_paise=1)) == ["INR"]
    assert keys(judge_cash(100_00, 100_00, -1_00, 0, tolerance_paise=99)) == ["INR"]


def test_cash_is_not_comparable_while_something_else_than_trades_moves_it():
    assert cash_is_comparable(view([order()], trades=(trade(),)))
    assert not cash_is_comparable(view([order(filled=0, status="OPEN")])), "money is blocked"
    assert not cash_is_comparable(view(positions=[position(quantity=0, product="MIS")])), "margin is blocked"
    assert not cash_is_comparable(view(positions=[position(quantity=-5)], holdings=[holding(quantity=4, t1=3)]))
    assert cash_is_comparable(view(positions=[position(quantity=-4)], holdings=[holding(quantity=4, t1=3)]))
    assert reconciling.movable_paise(Funds(150, 100, payin_paise=50)) == 100


# --- B6 across rooms ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("booked", "behind", "beyond"),
    [((5, 3), 0, 0), ((5, 2), 1, 0), ((4, 3), 1, 0), ((6, 3), 0, 1), ((5, 4), 0, 1), ((6, 2), 1, 1)],
)
def test_the_ledger_may_be_behind_and_never_beyond(booked, behind, beyond):
    told, ledger = {"NSE:INFY": Told(5, 3)}, {"NSE:INFY": asset(0, out=booked[0], back=booked[1])}
    assert len(judge_ledger(told, ledger, "behind").differences) == behind
    assert len(judge_ledger(told, ledger, "beyond").differences) == beyond
    assert reconciling.unheard(told, ledger) == ({"NSE:INFY"} if behind else set())


def test_an_asset_only_one_side_knows_is_compared_too():
    assert keys(judge_ledger({}, {"NSE:TCS": asset(1, back=1)}, "beyond")) == ["NSE:TCS"]
    assert keys(judge_ledger({"NSE:TCS": Told(0, 1)}, {}, "behind")) == ["NSE:TCS"]
    assert judge_ledger({}, {"INR": asset(5)}, "behind").differences == ()


# --- when a difference is a break ---------------------------------------------------------------------------------

DIFFERENT = Difference("K", "10/12", "ten, not twelve")


def weighed(suspects, still, judgement=Judgement((DIFFERENT,)), open_keys=()):
    return ripen(judgement, suspects, open_keys, still=still, patience_s=60)


def test_a_difference_of_a_busy_instrument_must_stay_the_same_for_a_while():
    assert weighed({}, ()).breaks == ()
    assert weighed({}, ()).suspects == (DIFFERENT,)
    assert weighed({"K": Suspect("10/12", 59.9)}, ()).breaks == ()
    assert weighed({"K": Suspect("10/11", 500)}, ()).breaks == (), "it was another one before"
    assert weighed({"K": Suspect("10/12", 60)}, ()).breaks == (DIFFERENT,)


def test_a_difference_where_nothing_is_under_way_is_a_break_at_once():
    assert weighed({}, {"K"}).breaks == (DIFFERENT,)
    assert weighed({}, {"L"}).breaks == ()
    assert weighed({}, None).breaks == (), "stillness does not count for this rule"


def test_only_keys_that_were_judged_equal_are_cured():
    old = {"K": Suspect("1", 5), "L": Suspect("1", 5), "M": Suspect("1", 5)}
    judgement = Judgement((DIFFERENT,), frozenset({"L"}))
    assert weighed(old, (), judgement, open_keys={"K", "L", "N"}).agreed == {"M", "N"}
    assert weighed(old, (), Judgement(nothing=True), open_keys={"K"}) == reconciling.Ripened((), (), frozenset())
