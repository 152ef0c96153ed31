"""Faults of orders, books and trades in virtual time: at rate 1 they happen, at rate 0 never, and the truth log knows."""

import json
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kite_simulator.engine import FaultKind, FaultRates, Refused
from kite_simulator.engine.faults import PRESETS, STANDARD, read_faults
from kite_simulator.engine.journal import Journal
from kite_simulator.engine.kernel import Kernel

KEY = "NSE:RELIANCE"
AHEAD = "1330"
"""A limit above the last price of 1327.80: a BUY trades at once."""
BEHIND = "1320"


def book(market):
    with market.engine.command():
        return {row["order_id"]: row for row in json.loads(market.engine.books.orders())}


def tradebook(market):
    market.engine.advance()
    return json.loads(market.engine.books.trades())


def injected(market, kind):
    facts = market.engine.kernel.facts
    return [fact for fact in facts if fact["kind"] == "fault_injected" and fact["fault"] == kind]


@pytest.fixture
def faulty(make_market):
    """An engine with some rates; the others are 0."""

    def build(data_dir=None, **rates):
        return make_market(data_dir, faults=FaultRates(**rates))

    return build


def test_every_kind_has_a_rate_and_every_rate_a_kind():
    numbers = {name for name, value in FaultRates().model_dump().items() if value == 0}
    assert numbers == {kind.value for kind in FaultKind}
    assert all(STANDARD.rate_of(kind) > 0 for kind in FaultKind if kind is not FaultKind.GHOST)
    assert STANDARD.ghost == 0


def test_setting_is_a_preset_or_rates():
    assert read_faults("standard") == PRESETS["standard"]
    assert read_faults("off") == FaultRates()
    assert read_faults('{"response_lost": 0.5, "stuck_s": [1, 2]}') == FaultRates(response_lost=0.5, stuck_s=(1, 2))
    for wrong, named in (("Standard", "Standard"), ('{"lost": 1}', "lost"), ('{"ghost": 2}', "ghost"), ("{", "JSON")):
        with pytest.raises(ValueError, match=named):
            read_faults(wrong)
    with pytest.raises(ValidationError, match="span"):
        FaultRates(stuck_s=(3, 2))


def test_nothing_is_injected_unless_asked_for(market):
    for number in range(30):
        order = market.place(price=AHEAD if number % 2 else BEHIND)
        if order.status == "OPEN":
            market.engine.cancel("regular", order.order_id)
        market.pass_time(1)
        book(market)
        tradebook(market)
    assert not any("fault" in fact["kind"] for fact in market.engine.kernel.facts)
    assert market.state.faults_injected == {}


def test_partial_fills_come_in_up_to_eight_pieces(faulty):
    market = faulty(partial_fill=1.0)
    seen = set()
    for _ in range(40):
        order = market.place(quantity=100, price=AHEAD)
        market.pass_time(2)
        assert (order.status, order.filled_quantity) == ("COMPLETE", 100)
        seen.add(len(order.trades))
    assert seen <= set(range(1, 9))
    assert {1, 8} <= seen
    assert len(injected(market, "partial_fill")) == 40


def test_stuck_order_is_shown_as_received_and_goes_on_later(faulty):
    market = faulty(order_stuck=1.0)
    order = market.place(price=AHEAD, tag="slow")
    market.pass_time(89)
    assert book(market)[order.order_id]["status"] == "PUT ORDER REQ RECEIVED"
    with pytest.raises(Refused, match="cannot be cancelled"):
        market.engine.cancel("regular", order.order_id)
    market.pass_time(2)
    assert order.status == "COMPLETE"
    assert [fact["tag"] for fact in injected(market, "order_stuck")] == ["slow"]


def test_stuck_order_survives_a_restart_and_keeps_its_instant(faulty, tmp_path):
    market = faulty(tmp_path, order_stuck=1.0)
    order_id = market.place(price=AHEAD).order_id
    market.pass_time(60)
    market.engine.close()
    again = faulty(tmp_path)
    again.clock.advance(60)
    again.engine.advance()
    assert again.state.orders[order_id].status == "PUT ORDER REQ RECEIVED"
    again.pass_time(31)
    assert again.state.orders[order_id].status == "COMPLETE"
    assert again.state.promises == {}


def test_cancel_is_acknowledged_and_the_order_fills_anyway(faulty):
    market = faulty(cancel_then_filled=1.0)
    outcomes = set()
    for _ in range(20):
        order = market.place(quantity=50, price=BEHIND)
        assert market.engine.cancel("regular", order.order_id) == {"order_id": order.order_id}
        assert order.status == "OPEN"
        market.pass_time(6)
        assert 1 <= order.filled_quantity <= 50
        assert {trade.price_paise for trade in order.trades} == {1320_00}
        assert order.status == ("COMPLETE" if order.filled_quantity == 50 else "CANCELLED")
        outcomes.add(order.status)
    assert outcomes == {"COMPLETE", "CANCELLED"}


def test_cancel_is_refused_though_the_order_is_open(faulty):
    market = faulty(cancel_refused=1.0)
    order = market.place(price=BEHIND)
    with pytest.raises(Refused, match="cannot be cancelled"):
        market.engine.cancel("regular", order.order_id)
    assert order.status == "OPEN"
    market.engine.faults.calm()
    market.engine.cancel("regular", order.order_id)
    assert order.status == "CANCELLED"


def test_update_after_complete_tells_an_older_state(faulty):
    market = faulty(update_after_complete=1.0)
    market.place(price=AHEAD)
    updates = [(update["status"], update["filled_quantity"]) for update in market.engine.drain_updates()]
    assert updates == [("COMPLETE", 10), ("UPDATE", 0)]


def test_stale_book_is_exactly_the_book_of_that_moment(faulty):
    market = faulty(book_stale_s=(3, 3))
    early = market.place(price=BEHIND)
    market.pass_time(2)
    asked = book(market)
    market.engine.cancel("regular", early.order_id)
    late = market.place(price=AHEAD)
    market.pass_time(2)
    market.engine.faults.force(FaultKind.BOOK_STALE)
    stale = book(market)
    assert stale == asked
    assert late.order_id not in stale
    now = book(market)
    assert (now[early.order_id]["status"], now[late.order_id]["status"]) == ("CANCELLED", "COMPLETE")


def test_stale_and_truncated_books_happen_at_rate_one(faulty):
    stale, cut = faulty(book_stale=1.0), faulty(book_truncated=1.0)
    for market in (stale, cut):
        for _ in range(8):
            market.place(price=BEHIND)
    assert book(stale) == {}
    shown = [len(book(cut)) for _ in range(20)]
    assert max(shown) < 8
    assert len(set(shown)) > 2
    assert [fact["shown"] for fact in injected(cut, "book_truncated")] == shown
    assert len(injected(stale, "book_stale")) == 1


def test_trades_lag_behind_the_order_book(faulty):
    market = faulty(trades_lag=1.0, trades_lag_s=(10, 20))
    order = market.place(price=AHEAD)
    assert book(market)[order.order_id]["filled_quantity"] == 10
    assert tradebook(market) == json.loads(market.engine.books.trades_of(order)) == []
    market.pass_time(9)
    assert tradebook(market) == []
    market.pass_time(12)
    assert [row["quantity"] for row in tradebook(market)] == [10]
    assert json.loads(market.engine.books.trades_of(order)) == tradebook(market)


def test_foreign_order_has_no_tag_and_trades(faulty):
    market = faulty(foreign_order=1.0)
    market.give(KEY, 100)
    sides = set()
    for _ in range(12):
        ours = market.place(price=BEHIND, tag="ours")
        foreign = market.state.orders[injected(market, "foreign_order")[-1]["order_id"]]
        assert (foreign.tag, foreign.tags, foreign.status) == (None, [], "COMPLETE")
        assert (ours.status, ours.filled_quantity) == ("OPEN", 0)
        sides.add(foreign.side)
    assert sides == {"BUY", "SELL"}
    assert market.state.order_requests == 12
    assert market.state.self_trades_prevented == 0


def test_correction_changes_a_trade_under_the_same_id(faulty):
    market = faulty(trade_corrected=1.0)
    changed = set()
    for number in range(20):
        order = market.place(price=AHEAD, quantity=10 + number)
        before = tradebook(market)[-1]
        market.pass_time(61)
        after = tradebook(market)[-1]
        assert after["trade_id"] == before["trade_id"]
        assert after["fill_timestamp"] == before["fill_timestamp"]
        assert (after["quantity"], after["average_price"]) != (before["quantity"], before["average_price"])
        changed |= {name for name in ("quantity", "average_price") if after[name] != before[name]}
        assert order.filled_quantity == after["quantity"]
        assert order.filled_value_paise == sum(trade.quantity * trade.price_paise for trade in order.trades)
    assert changed == {"quantity", "average_price"}
    position = market.state.account.position("NSE", "RELIANCE", 738561, "", "CNC")
    assert position.buy_quantity == sum(trade.quantity for trade in market.state.trades.values())
    assert position.buy_value_paise == sum(t.quantity * t.price_paise for t in market.state.trades.values())


def test_corrections_never_take_shares_that_were_sold_on(faulty):
    market = faulty(trade_corrected=1.0)
    for _ in range(15):
        market.place(price=AHEAD, quantity=20)
        market.place(transaction_type="SELL", price="1325", quantity=20)
        market.pass_time(61)
    isin = market.engine.kernel.instruments.find(KEY).isin
    assert market.state.account.sellable(isin, 0) >= 0
    market.pass_time(2 * 86_400)


def test_forced_faults_happen_so_often_and_no_more(faulty):
    market = faulty()
    market.engine.faults.force(FaultKind.CANCEL_REFUSED, 2)
    order = market.place(price=BEHIND)
    for _ in range(2):
        with pytest.raises(Refused):
            market.engine.cancel("regular", order.order_id)
    market.engine.cancel("regular", order.order_id)
    assert market.state.faults_injected == {"cancel_refused": 2}
    assert market.state.faults_forced == {}
    market.engine.faults.force(FaultKind.CANCEL_REFUSED)
    market.engine.faults.calm()
    assert market.state.faults_forced == {}


def test_held_request_reaches_the_desk_later_and_answers_then(faulty):
    market = faulty()
    with market.engine.command():
        number, delay_s = market.engine.aftermath.hold(
            FaultKind.ACCEPT_DELAYED, "regular", market.fields(price=AHEAD, tag="late"), tag="late"
        )
    assert 1 <= delay_s <= 120
    market.pass_time(delay_s - 0.01)
    assert (market.state.orders, market.engine.aftermath.answer_of(number)) == ({}, None)
    market.pass_time(0.02)
    (order,) = market.state.orders.values()
    assert (order.tag, order.status) == ("late", "COMPLETE")
    assert market.engine.aftermath.answer_of(number) == {"order_id": order.order_id}
    followed = [fact for fact in market.engine.kernel.facts if fact["kind"] == "fault_followed"]
    assert [(fact["cause"], fact["order_id"]) for fact in followed] == [(number, order.order_id)]


def test_held_request_may_be_refused_when_it_arrives_and_outlives_a_restart(faulty, tmp_path):
    market = faulty(tmp_path, ghost_delay_s=(200, 200))
    with market.engine.command():
        market.engine.aftermath.hold(FaultKind.GHOST, "regular", market.fields(price=AHEAD))
        market.engine.aftermath.hold(FaultKind.GHOST, "regular", market.fields(price="9999"))
    market.engine.close()
    again = faulty(tmp_path)
    again.pass_time(199)
    assert again.state.orders == {}
    again.pass_time(2)
    assert [order.status for order in again.state.orders.values()] == ["COMPLETE"]
    assert sum(fact["kind"] == "order_refused" for fact in again.engine.kernel.facts) == 1


def test_held_request_does_not_live_into_another_day(faulty):
    market = faulty(ghost_delay_s=(86_400, 86_400))
    with market.engine.command():
        market.engine.aftermath.hold(FaultKind.GHOST, "regular", market.fields(price=AHEAD))
    market.pass_time(2 * 86_400)
    assert market.state.orders_ever == 0
    assert market.state.promises == {}


def draws_of(market, kind, count):
    return [market.engine.faults.draws(kind) for _ in range(count)]


def test_kinds_draw_from_streams_of_their_own(faulty):
    rates = {"book_stale": 0.3, "cancel_refused": 0.3}
    alone, beside, other_seed = (faulty(**rates) for _ in range(3))
    other_seed = type(other_seed)(
        replace(other_seed.engine.settings, seed=2), None, other_seed.clock.now(), frozen=True
    )
    expected = draws_of(alone, FaultKind.BOOK_STALE, 200)
    draws_of(beside, FaultKind.CANCEL_REFUSED, 77)
    assert draws_of(beside, FaultKind.BOOK_STALE, 200) == expected
    assert draws_of(other_seed, FaultKind.BOOK_STALE, 200) != expected
    assert 30 < sum(expected) < 90


def test_rates_set_by_hand_survive_a_restart_and_the_schedule_goes_on(faulty, tmp_path):
    market = faulty(tmp_path)
    market.engine.faults.set_rates(FaultRates(cancel_refused=0.5))
    first = draws_of(market, FaultKind.CANCEL_REFUSED, 64)
    market.engine.close()
    again = faulty(tmp_path)
    assert again.engine.faults.rates == FaultRates(cancel_refused=0.5)
    assert draws_of(again, FaultKind.CANCEL_REFUSED, 64) != first


ENGINE_KINDS = {
    "partial_fill": 0.4,
    "order_stuck": 0.2,
    "cancel_then_filled": 0.4,
    "cancel_refused": 0.2,
    "foreign_order": 0.2,
    "trade_corrected": 0.3,
    "trades_lag": 0.3,
    "update_after_complete": 0.3,
    "book_stale": 0.3,
    "book_truncated": 0.2,
}
words = st.lists(
    st.one_of(
        st.tuples(st.just("place"), st.sampled_from(["BUY", "BUY", "SELL"]), st.integers(1, 60), st.integers(-40, 40)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("read")),
        st.tuples(st.just("wait"), st.sampled_from([0.3, 5.0, 100.0, 90_000.0])),
    ),
    min_size=10,
    max_size=40,
)


def act(market, word):
    if word[0] == "place":
        price = (1327_80 + word[3] * 10) / 100
        market.place(transaction_type=word[1], quantity=word[2], price=f"{price:.2f}")
    elif word[0] == "cancel" and market.state.orders:
        orders = list(market.state.orders.values())
        market.engine.cancel("regular", orders[word[1] % len(orders)].order_id)
    elif word[0] == "read":
        book(market)
        tradebook(market)
    elif word[0] == "wait":
        market.pass_time(word[1])


def check_truth(market):
    """The books of the account follow from the facts of the log, corrections and foreign orders included."""
    trades, side = {}, {}
    cash, shares = market.engine.settings.opening_cash_paise, 0
    for fact in market.engine.kernel.facts:
        if fact["kind"] == "order_received":
            side[fact["order"]["order_id"]] = 1 if fact["order"]["side"] == "BUY" else -1
        elif fact["kind"] in ("trade", "trade_corrected"):
            trades[fact["trade_id"]] = (side[fact["order_id"]], fact["quantity"], fact["price_paise"])
        elif fact["kind"] == "day_rolled":
            cash -= fact["charges_paise"]
        elif fact["kind"] == "holding_given":
            shares += fact["quantity"]
    cash -= sum(sign * quantity * price for sign, quantity, price in trades.values())
    shares += sum(sign * quantity for sign, quantity, _ in trades.values())
    account = market.state.account
    held = sum(h.total for h in account.holdings.values()) + sum(p.quantity for p in account.positions.values())
    assert account.cash_paise + account.net_flow_paise() == cash
    assert held == shares
    for order in market.state.orders.values():
        assert order.filled_quantity == sum(trade.quantity for trade in order.trades) <= order.quantity


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=words)
def test_books_hold_under_faults_replay_rebuilds_them_and_a_seed_repeats_them(make_market, script):
    runs = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            market = make_market(Path(folder), faults=FaultRates(**ENGINE_KINDS), frozen=False, tick_interval_s=5.0)
            market.give(KEY, 300)
            for word in script:
                with suppress(Refused):
                    act(market, word)
            check_truth(market)
            market.engine.close()
            again = Kernel(market.engine.settings, market.clock, Journal(Path(folder)))
            again.replay()
            assert again.state == market.state
            assert again.facts == market.engine.kernel.facts
            assert again.order_facts == market.engine.kernel.order_facts
            runs.append(market.engine.kernel.facts)
    assert runs[0] == runs[1]
