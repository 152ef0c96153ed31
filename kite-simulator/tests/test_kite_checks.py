"""Synchronous refusals: text, type, status; and what the compat profile lets pass."""

import pytest

from kite_simulator.engine import Refused

CASES = [
    ("tick", {"price": "1320.03"}, "Tick size for this script is 0.10. Kindly enter price in the multiple"),
    ("trigger tick", {"order_type": "SL", "price": "1340", "trigger_price": "1335.01"}, "enter trigger price in"),
    ("upper band", {"price": "1500"}, "higher than the current [upper circuit limit]"),
    ("lower band", {"price": "1100"}, "lower than the current lower circuit limit of 1195.10"),
    ("protection", {"order_type": "MARKET"}, "Market orders without market protection are not allowed via API."),
    ("stop protection", {"order_type": "SL-M", "trigger_price": "1335"}, "Market orders without market protection"),
    ("protection type", {"order_type": "MARKET", "market_protection": "True"}, "failed to decode market_protection"),
    ("tag", {"price": "1320", "tag": "x" * 21}, "Invalid `tag`"),
    ("freeze", {"price": "1320", "quantity": 100_001}, "higher than the maximum quantity of 100000"),
    ("product", {"price": "1320", "product": "NRML"}, "Trading in NSE is not allowed using NRML product type."),
    ("symbol", {"price": "1320", "tradingsymbol": "NOSUCH"}, "expired or does not exist"),
    ("index", {"price": "1320", "tradingsymbol": "NIFTY 50"}, "expired or does not exist"),
    ("quantity", {"price": "1320", "quantity": 0}, "Invalid `quantity`"),
    ("quantity text", {"price": "1320", "quantity": "ten"}, "failed to decode quantity"),
    ("missing price", {}, "Missing or empty field `price`"),
    ("side", {"price": "1320", "transaction_type": "HOLD"}, "Invalid `transaction_type`"),
    ("ttl", {"price": "1320", "validity": "TTL"}, "Invalid `validity_ttl`"),
    ("nan", {"price": "NaN"}, "failed to decode price"),
    ("stop below last", {"order_type": "SL", "price": "1320", "trigger_price": "1310"}, "should be higher"),
    ("price below trigger", {"order_type": "SL", "price": "1334", "trigger_price": "1335"}, "should be lower"),
]


@pytest.mark.parametrize(("fields", "text"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_strict_profile_refuses(market, fields, text):
    with pytest.raises(Refused) as refusal:
        market.place(**fields)
    assert text in refusal.value.message
    assert (refusal.value.error_type, refusal.value.status) == ("InputException", 400)
    assert market.state.orders == {}
    assert market.state.order_requests == 1


def test_price_with_binary_dust_is_taken(market):
    assert market.place(price=str(1320.3 + 0.1 + 0.2 - 0.3)).price_paise == 1320_30


@pytest.mark.parametrize(
    ("legs", "size"), [(1, 10), (51, 1), (3, 10), (2, 0)], ids=["one leg", "too many", "wrong size", "zero"]
)
def test_iceberg_with_wrong_legs_is_refused(market, legs, size):
    with pytest.raises(Refused, match="iceberg"):
        market.place("iceberg", price="1320", quantity=10, iceberg_legs=legs, iceberg_quantity=size)


def test_compat_profile_takes_what_the_public_suite_sends(make_market):
    market = make_market(strict=False)
    assert market.place(order_type="MARKET", product="MIS").status == "COMPLETE"
    below = market.place(order_type="SL", product="MIS", price="1315", trigger_price="1314")
    assert below.status == "OPEN"
    stop = market.place(order_type="SL-M", product="MIS", trigger_price="1314")
    assert (stop.status, stop.price_paise) == ("COMPLETE", 0)
    assert market.place("co", product="MIS", trigger_price="1314").status == "REJECTED"


def test_unknown_order_is_told_apart_from_a_finished_one(market):
    with pytest.raises(Refused, match="Couldn't find that `order_id`"):
        market.engine.cancel("regular", "1")
    order = market.place(price="1330")
    with pytest.raises(Refused, match="cannot be modified as it is being processed"):
        market.engine.modify("regular", order.order_id, {"price": "1320"})
    with pytest.raises(Refused, match="Couldn't find"):
        market.engine.cancel("co", order.order_id)
