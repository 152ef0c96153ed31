"""Order life in virtual time."""

from datetime import UTC, datetime

import orjson
import pytest

from kite_simulator.engine import Refused

KEY = "NSE:RELIANCE"
LAST = 1327_80


def test_marketable_limit_order_fills_at_the_last_price_with_full_history(market):
    order = market.place(price="1330.00", tag="abc")
    assert order.status == "COMPLETE"
    assert order.filled_value_paise == 10 * LAST
    assert market.statuses(order) == [
        "PUT ORDER REQ RECEIVED",
        "VALIDATION PENDING",
        "OPEN PENDING",
        "OPEN",
        "COMPLETE",
    ]
    first = orjson.loads(order.history[0])
    assert first["tag"] == "abc"
    assert first["exchange_order_id"] is None
    assert len(order.order_id) == 19


def test_resting_order_fills_at_its_own_limit_when_the_price_comes(market):
    order = market.place(price="1320.00")
    market.pass_time(30)
    assert order.status == "OPEN"
    market.set_price(KEY, 1315_00)
    assert order.status == "COMPLETE"
    assert order.filled_value_paise == 10 * 1320_00


def test_order_fills_in_pieces_that_sum_to_its_quantity(make_market):
    market = make_market(partial_fill_probability=1.0)
    order = market.place(quantity=100, price="1330")
    assert 0 < order.filled_quantity < 100
    assert order.status == "OPEN"
    market.pass_time(1.1)
    assert order.status == "COMPLETE"
    assert 2 <= len(order.trades) <= 4
    assert sum(trade.quantity for trade in order.trades) == 100


def test_protected_market_order_is_shown_as_limit_with_the_band_price(market):
    order = market.place(order_type="MARKET", market_protection="2", quantity=1)
    assert (order.order_type, order.price_paise) == ("LIMIT", 1354_30)
    assert order.tags == ["mktp", "mktp:2.00"]


def test_remainder_of_a_protected_market_order_stays_open_at_the_band_price(make_market):
    market = make_market(partial_fill_probability=1.0)
    order = market.place(order_type="MARKET", market_protection="0.5", quantity=100)
    filled = order.filled_quantity
    market.set_price(KEY, 1345_00)
    market.pass_time(5)
    assert order.status == "OPEN"
    assert order.filled_quantity == filled
    assert order.price_paise == 1334_40


def test_cancel_of_a_partly_filled_order_keeps_what_was_filled(make_market):
    market = make_market(partial_fill_probability=1.0)
    order = market.place(quantity=100, price="1330")
    filled = order.filled_quantity
    market.engine.cancel("regular", order.order_id)
    market.pass_time(5)
    assert order.status == "CANCELLED"
    assert (order.filled_quantity, order.cancelled_quantity) == (filled, 100 - filled)
    with pytest.raises(Refused, match="cannot be cancelled"):
        market.engine.cancel("regular", order.order_id)


def test_modify_walks_through_its_states_and_counts_to_its_limit(market):
    order = market.place(price="1320")
    market.engine.modify("regular", order.order_id, {"price": "1319.00", "quantity": "12"})
    assert market.statuses(order)[-4:] == ["MODIFY VALIDATION PENDING", "MODIFY PENDING", "MODIFIED", "OPEN"]
    assert orjson.loads(order.history[-2])["price"] == 1320
    assert (order.price_paise, order.quantity) == (1319_00, 12)
    for _ in range(24):
        market.engine.modify("regular", order.order_id, {"price": "1318.00"})
    with pytest.raises(Refused, match="Maximum allowed order modifications"):
        market.engine.modify("regular", order.order_id, {"price": "1317.00"})


def test_modified_order_that_becomes_marketable_trades(market):
    order = market.place(price="1320")
    market.engine.modify("regular", order.order_id, {"price": "1328"})
    assert order.status == "COMPLETE"


def test_pieces_of_a_modified_order_are_void(make_market):
    market = make_market(partial_fill_probability=1.0)
    order = market.place(quantity=100, price="1330")
    market.engine.modify("regular", order.order_id, {"price": "1300"})
    filled = order.filled_quantity
    market.pass_time(5)
    assert order.filled_quantity == filled


def test_immediate_or_cancel_never_rests(make_market):
    market = make_market(partial_fill_probability=1.0)
    away = market.place(price="1320", validity="IOC")
    assert (away.status, away.filled_quantity) == ("CANCELLED", 0)
    part = market.place(price="1330", validity="IOC", quantity=50)
    assert part.status == "CANCELLED"
    assert 0 < part.filled_quantity < 50


def test_order_with_minutes_to_live_expires(market):
    order = market.place(price="1320", validity="TTL", validity_ttl=5)
    market.pass_time(299)
    assert order.status == "OPEN"
    market.pass_time(2)
    assert (order.status, order.cancelled_quantity) == ("CANCELLED", 10)


def test_stop_order_waits_triggers_and_trades(market):
    order = market.place(order_type="SL", trigger_price="1335", price="1340")
    assert order.status == "TRIGGER PENDING"
    market.set_price(KEY, 1336_00)
    assert order.status == "COMPLETE"
    assert market.statuses(order)[-3:] == ["TRIGGER PENDING", "OPEN", "COMPLETE"]
    assert order.filled_value_paise == 10 * 1336_00


def test_stop_market_order_becomes_a_protected_limit_order(market):
    market.give(KEY, 10)
    order = market.place(transaction_type="SELL", order_type="SL-M", trigger_price="1320", market_protection="1")
    market.set_price(KEY, 1300_00)
    assert order.status == "OPEN"
    assert (order.order_type, order.price_paise) == ("LIMIT", 1306_80)


def test_cover_order_opens_its_second_leg_and_exits_through_it(market):
    entry = market.place("co", product="MIS", price="1330", trigger_price="1300")
    assert entry.product == "CO"
    leg = next(order for order in market.state.orders.values() if order.parent_order_id == entry.order_id)
    assert (leg.side, leg.status) == ("SELL", "TRIGGER PENDING")
    market.engine.cancel("co", leg.order_id)
    assert leg.status == "COMPLETE"
    assert market.state.account.positions[f"{KEY}:CO"].quantity == 0


def test_cover_order_leg_stops_the_loss(market):
    entry = market.place("co", product="MIS", price="1330", trigger_price="1300")
    leg = next(order for order in market.state.orders.values() if order.parent_order_id == entry.order_id)
    market.set_price(KEY, 1299_00)
    assert leg.status == "COMPLETE"


def test_iceberg_releases_one_leg_after_another(market):
    first = market.place("iceberg", quantity=25, price="1320", iceberg_legs=3, iceberg_quantity=10)
    assert first.quantity == 10
    assert market.state.account.blocked_paise == 25 * 1320_00
    market.set_price(KEY, 1315_00)
    legs = list(market.state.orders.values())
    assert [leg.quantity for leg in legs] == [10, 10, 5]
    assert all(leg.status == "COMPLETE" for leg in legs)
    assert {leg.parent_order_id for leg in legs[1:]} == {first.order_id}
    assert legs[2].meta["iceberg"]["remaining_quantity"] == 0


def test_after_market_order_waits_for_the_opening(make_market):
    evening = datetime(2026, 11, 16, 13, 0, tzinfo=UTC)
    market = make_market(start=evening, always_open=False)
    market.engine.advance()
    with pytest.raises(Refused, match="Markets are closed"):
        market.place(price="1330")
    order = market.place("amo", price="1330")
    assert market.statuses(order) == ["PUT ORDER REQ RECEIVED", "AMO REQ RECEIVED"]
    cancelled = market.place("amo", price="1330")
    market.engine.cancel("amo", cancelled.order_id)
    assert cancelled.status == "CANCELLED AMO"
    market.pass_time(14 * 3600)
    assert order.status == "AMO REQ RECEIVED"
    market.pass_time(3600)
    assert order.status == "COMPLETE"


def test_released_after_market_order_is_changed_as_regular(market):
    order = market.place("amo", price="1320")
    with market.engine.command():
        market.engine.control.switch_market(False)
        market.engine.control.switch_market(True)
    assert order.status == "OPEN"
    with pytest.raises(Refused, match="timed out"):
        market.engine.cancel("amo", order.order_id)
    market.engine.cancel("regular", order.order_id)
    assert order.status == "CANCELLED"


def test_younger_order_that_could_trade_with_our_own_is_rejected(market):
    market.give(KEY, 10)
    resting = market.place(price="1320")
    younger = market.place(transaction_type="SELL", price="1319")
    assert younger.status == "REJECTED"
    assert "17071" in younger.status_message
    assert resting.status == "OPEN"
    assert market.state.self_trades_prevented == 1
    apart = market.place(transaction_type="SELL", price="1340")
    assert apart.status == "OPEN"
    market.engine.modify("regular", apart.order_id, {"price": "1320"})
    assert (apart.status, apart.price_paise) == ("OPEN", 1340_00)
    assert "17071" in apart.status_message


def test_refused_symbol_ends_rejected_without_reaching_the_exchange(market):
    with market.engine.command():
        market.engine.control.refuse_symbol(KEY, "Scrip is blocked")
    order = market.place(price="1330")
    assert (order.status, order.exchange_order_id) == ("REJECTED", None)
    assert order.status_message == "Scrip is blocked"
    with market.engine.command():
        market.engine.control.refuse_symbol(KEY, None)
    assert market.place(price="1330").status == "COMPLETE"


def test_order_latency_leaves_the_order_received_first(make_market):
    market = make_market(order_latency_s=3.0)
    order = market.place(price="1330")
    assert order.status == "PUT ORDER REQ RECEIVED"
    with pytest.raises(Refused, match="being processed"):
        market.engine.cancel("regular", order.order_id)
    market.pass_time(3.1)
    assert order.status == "COMPLETE"


def test_autoslice_cuts_above_the_freeze_quantity(make_market):
    market = make_market(freeze_quantity=100)
    data = market.engine.place("regular", market.fields(quantity=250, price="1330", autoslice="true", tag="t"))
    assert len(data["children"]) == 2
    child = market.state.orders[data["children"][0]["order_id"]]
    assert child.tags == ["t", "autoslice", f"autoslice:{data['order_id']}"]
    with pytest.raises(Refused, match="greater than or equal to 101"):
        market.place(quantity=100, price="1330", autoslice="true")


def test_order_updates_tell_partial_and_complete_fills_but_not_the_placement(make_market):
    market = make_market(partial_fill_probability=1.0)
    resting = market.place(price="1320")
    assert market.engine.drain_updates() == []
    market.engine.cancel("regular", resting.order_id)
    market.place(price="1330", quantity=100)
    market.pass_time(2)
    statuses = [update["status"] for update in market.engine.drain_updates()]
    assert statuses[0] == "CANCELLED"
    assert set(statuses[1:-1]) == {"UPDATE"}
    assert statuses[-1] == "COMPLETE"
