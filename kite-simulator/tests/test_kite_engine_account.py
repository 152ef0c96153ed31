"""Money, holdings, the day cycle, GTT."""

from datetime import UTC, datetime

import orjson
import pytest

from kite_simulator.engine import Refused
from kite_simulator.engine.clock import token_expiry
from kite_simulator.engine.sessions import checksum

KEY = "NSE:RELIANCE"
LAST = 1327_80
DAY = 24 * 3600


def test_open_order_blocks_money_and_its_end_releases_it(market):
    before = market.state.account.available_paise()
    order = market.place(price="1320")
    assert market.state.account.available_paise() == before - 10 * 1320_00
    market.engine.cancel("regular", order.order_id)
    assert market.state.account.available_paise() == before


def test_fill_at_a_better_price_costs_only_that_price(market):
    before = market.state.account.available_paise()
    market.place(price="1330")
    assert market.state.account.available_paise() == before - 10 * LAST


def test_order_beyond_the_cash_is_refused_with_the_margin_text(make_market):
    market = make_market(opening_cash_paise=10_000_00)
    with pytest.raises(Refused) as refusal:
        market.place(price="1320")
    assert refusal.value.error_type == "MarginException"
    assert refusal.value.message == (
        "Insufficient funds. Required margin is 13200.00 but available margin is 10000.00."
    )
    assert market.engine.kernel.facts[-1]["kind"] == "order_refused"
    assert market.place(price="1320", product="MIS").status == "OPEN"


def test_shares_on_offer_cannot_be_sold_twice(market):
    market.give(KEY, 10)
    market.place(transaction_type="SELL", price="1340", quantity=6)
    with pytest.raises(Refused) as refusal:
        market.place(transaction_type="SELL", price="1340", quantity=5)
    assert refusal.value.error_type == "HoldingException"
    market.place(transaction_type="SELL", price="1340", quantity=4)


def test_shares_bought_today_can_be_sold_today(market):
    market.place(price="1330")
    assert market.place(transaction_type="SELL", price="1320").status == "COMPLETE"
    assert market.state.account.delivery_net("INE002A01018") == 0


def test_bought_shares_are_first_t1_and_then_delivered(market):
    market.place(price="1330")
    market.pass_time(DAY)
    assert market.engine.portfolio.holdings()[0]["t1_quantity"] == 10
    assert market.state.orders == {}
    assert market.state.trades == {}
    assert market.engine.portfolio.positions()["net"] == []
    market.pass_time(DAY)
    row = market.engine.portfolio.holdings()[0]
    assert (row["quantity"], row["t1_quantity"], row["average_price"]) == (10, 0, 1327.8)


def test_proceeds_of_delivered_shares_are_usable_today_those_of_t1_tomorrow(market):
    market.place(price="1330")
    market.pass_time(DAY)
    before = market.state.account.available_paise()
    market.give(KEY, 4)
    market.place(transaction_type="SELL", price="1320", quantity=14)
    last = market.last(KEY)
    assert market.state.account.available_paise() == before + 4 * last


def test_day_roll_settles_cash_and_charges(market):
    cash = market.state.account.cash_paise
    market.place(price="1330")
    market.pass_time(DAY)
    charges = next(fact for fact in market.engine.kernel.facts if fact["kind"] == "day_rolled")["charges_paise"]
    assert 15_00 < charges < 20_00
    assert market.state.account.cash_paise == cash - 10 * LAST - charges


def test_intraday_position_is_squared_off_at_the_close(make_market):
    market = make_market(always_open=False)
    market.place(price="1330", product="MIS")
    market.place(price="1300", product="MIS")
    market.pass_time(4 * 3600)
    position = market.state.account.positions[f"{KEY}:MIS"]
    assert position.quantity == 0
    assert {order.status for order in market.state.orders.values()} == {"COMPLETE", "CANCELLED"}
    assert [o.placed_by for o in market.state.orders.values()].count("ADMINSQF") == 1


def test_day_orders_end_with_the_session(make_market):
    market = make_market(always_open=False)
    order = market.place(price="1320")
    market.pass_time(4 * 3600)
    assert order.status == "CANCELLED"
    with pytest.raises(Refused, match="Markets are closed"):
        market.place(price="1320")


def test_book_of_friday_is_shown_over_the_weekend(make_market):
    market = make_market(always_open=False, start=datetime(2026, 11, 20, 6, 30, tzinfo=UTC))
    order = market.place(price="1330")
    market.pass_time(2 * DAY)
    assert order.order_id in market.state.orders
    market.pass_time(DAY)
    assert market.state.orders == {}


def test_position_converts_between_products(market):
    market.place(price="1330", product="MIS")
    fields = market.fields(position_type="day", old_product="MIS", new_product="CNC", quantity=4)
    with market.engine.command():
        market.engine.portfolio.convert(fields)
    positions = market.state.account.positions
    assert (positions[f"{KEY}:MIS"].quantity, positions[f"{KEY}:CNC"].quantity) == (6, 4)
    assert positions[f"{KEY}:CNC"].buy_value_paise == 4 * LAST


def gtt_fields(market, kind, values, sides, prices):
    condition = {"exchange": "NSE", "tradingsymbol": "RELIANCE", "trigger_values": values, "last_price": LAST / 100}
    orders = [
        {
            "exchange": "NSE",
            "tradingsymbol": "RELIANCE",
            "transaction_type": side,
            "quantity": 1,
            "order_type": "LIMIT",
            "product": "CNC",
            "price": price,
        }
        for side, price in zip(sides, prices, strict=True)
    ]
    return {"type": kind, "condition": orjson.dumps(condition).decode(), "orders": orjson.dumps(orders).decode()}


def test_trigger_places_its_order_once(market):
    with market.engine.command():
        trigger_id = market.engine.gtts.place(gtt_fields(market, "single", [1340], ["BUY"], [1345]))
    market.set_price(KEY, 1341_00)
    market.pass_time(5)
    gtt = market.engine.gtts.render(market.engine.gtts.find(trigger_id))
    assert gtt["status"] == "triggered"
    result = gtt["orders"][0]["result"]["order_result"]
    assert market.state.orders[result["order_id"]].status == "COMPLETE"
    assert len(market.state.orders) == 1


def test_two_leg_trigger_fires_the_leg_that_was_reached_and_shows_a_refusal(market):
    with market.engine.command():
        trigger_id = market.engine.gtts.place(
            gtt_fields(market, "two-leg", [1300, 1350], ["SELL", "SELL"], [1300, 1350])
        )
    market.set_price(KEY, 1300_00)
    orders = market.engine.gtts.find(trigger_id).orders
    assert orders[1]["result"] is None
    assert orders[0]["result"]["order_result"]["status"] == "failed"
    assert "Insufficient stock holding" in orders[0]["result"]["order_result"]["rejection_reason"]


def test_deleted_trigger_never_fires(market):
    with market.engine.command():
        trigger_id = market.engine.gtts.place(gtt_fields(market, "single", [1340], ["BUY"], [1345]))
        market.engine.gtts.delete(trigger_id)
    market.set_price(KEY, 1341_00)
    assert market.state.orders == {}


def test_checksum_matches_the_known_vector():
    assert checksum("akey", "rt", "sec") == "2ef5ab054923b99656a9f388260004c81607612e33a8f3ab813ff4c33f8bf8a6"


def test_token_dies_at_six_in_the_morning_of_the_next_day(market):
    settings = market.engine.settings
    with market.engine.command():
        token = market.engine.sessions.issue_request_token()
        proof = checksum(settings.api_key, token, settings.api_secret)
        session = market.engine.sessions.open(settings.api_key, token, proof)
    assert token_expiry(session.login_at) == datetime(2026, 11, 17, 0, 30, tzinfo=UTC)
    market.pass_time(17 * 3600)
    market.engine.sessions.check(settings.api_key, session.access_token)
    market.pass_time(3600)
    with pytest.raises(Refused) as refusal:
        market.engine.sessions.check(settings.api_key, session.access_token)
    assert (refusal.value.error_type, refusal.value.status) == ("TokenException", 403)
    with pytest.raises(Refused, match="Token is invalid or has expired"):
        market.engine.sessions.open(settings.api_key, token, proof)


def test_request_token_grows_stale(market):
    settings = market.engine.settings
    with market.engine.command():
        token = market.engine.sessions.issue_request_token()
    market.pass_time(301)
    with pytest.raises(Refused, match="Token is invalid or has expired"):
        market.engine.sessions.open(settings.api_key, token, checksum(settings.api_key, token, settings.api_secret))
