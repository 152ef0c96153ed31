"""The fault endpoint, the setting, and the truth a checker reads."""

import httpx
import orjson
import pytest
from kiteconnect import exceptions
from pydantic import ValidationError

from kite_simulator.config import Settings
from kite_simulator.engine import FaultKind, FaultRates
from kite_simulator.engine.faults import STANDARD
from kite_simulator.engine.truth import fold


@pytest.fixture
def server(serve):
    return serve(rate_limits=False, partial_fill_probability=0.0)


def post(server, **body):
    return httpx.post(f"{server.url}/simulator/faults", json=body, trust_env=False)


def get(server, path="faults"):
    return httpx.get(f"{server.url}/simulator/{path}", trust_env=False).json()["data"]


def test_faults_are_off_until_the_endpoint_says_otherwise(server):
    assert set(get(server)["rates"].values()) == {0}
    data = post(server, preset="standard").json()["data"]
    assert data["rates"] == {kind.value: STANDARD.rate_of(kind) for kind in FaultKind}
    data = post(server, preset="standard", rates={"token_killed": 0, "stuck_s": [1, 2]}).json()["data"]
    assert (data["rates"]["token_killed"], data["rates"]["response_lost"]) == (0, 0.03)
    assert data["sizes"]["stuck_s"] == [1, 2]
    data = post(server, rates={"book_stale": 1}).json()["data"]
    assert {name: rate for name, rate in data["rates"].items() if rate} == {"book_stale": 1}
    data = post(server, off=True).json()["data"]
    assert set(data["rates"].values()) == {0}


def test_forced_faults_happen_once_and_are_counted(server, log_in):
    kite = log_in(server)
    assert post(server, once=[{"kind": "bad_gateway"}, {"kind": "too_many_requests", "count": 2}]).status_code == 200
    order = {"exchange": "NSE", "tradingsymbol": "INFY", "transaction_type": "BUY", "quantity": 1}
    order |= {"product": "CNC", "order_type": "LIMIT", "price": 1160}
    for seen in (exceptions.DataException, exceptions.NetworkException, exceptions.NetworkException):
        with pytest.raises(seen):
            kite.place_order("regular", **order)
    assert kite.place_order("regular", **order)
    data = get(server)
    assert (data["injected"], data["forced"]) == ({"bad_gateway": 1, "too_many_requests": 2}, {})


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"presets": "standard"},
        {"preset": "harsh"},
        {"rates": {"response_lost": 1.5}},
        {"rates": {"lost": 0.5}},
        {"rates": []},
        {"once": {"kind": "ghost"}},
        {"once": [{"kind": "gost"}]},
        {"once": [{"kind": ["ghost"]}]},
        {"once": [{"kind": "ghost", "count": 0}]},
        {"once": ["ghost"]},
    ],
)
def test_wrong_requests_change_nothing(server, body):
    assert post(server, **body).status_code == 400
    data = get(server)
    assert (set(data["rates"].values()), data["forced"]) == ({0}, {})


def test_setting_is_checked_at_the_start():
    assert Settings(faults="standard").engine_settings().faults == STANDARD
    assert Settings().engine_settings().faults == FaultRates()
    with pytest.raises(ValidationError, match="hard"):
        Settings(faults="hard")


def test_truth_tells_every_order_with_fills_corrections_and_strangers(make_market):
    market = make_market(faults=FaultRates(correction_s=(1, 1)), partial_fill_probability=1.0)
    faults = market.engine.faults
    faults.force(FaultKind.FOREIGN_ORDER)
    faults.force(FaultKind.TRADE_CORRECTED)
    ours = market.place(price="1330", quantity=60, tag="ours")
    resting = market.place(price="1320", quantity=7, tag="resting")
    faults.force(FaultKind.CANCEL_THEN_FILLED)
    market.engine.cancel("regular", resting.order_id)
    market.pass_time(6)
    crossing = market.place(price="1310", tag="bid")
    market.place(price="1310", transaction_type="SELL", tag="ask")
    truth = fold(market.engine.kernel.facts)

    assert [order.order_id for order in truth.by_tag("ours")] == [ours.order_id]
    told = truth.orders[ours.order_id]
    assert (told.status, told.quantity, told.filled_quantity) == ("COMPLETE", 60, ours.filled_quantity)
    assert told.filled_value_paise == ours.filled_value_paise
    foreign = [order for order in truth.orders.values() if order.is_foreign]
    assert [(order.tag, order.faults) for order in foreign] == [(None, ["foreign_order"])]
    assert truth.orders[resting.order_id].faults == ["cancel_then_filled"]
    assert truth.orders[resting.order_id].filled_quantity >= 1
    (correction,) = truth.corrections
    assert truth.trades[correction["trade_id"]].was == [(correction["was_quantity"], correction["was_price_paise"])]
    assert truth.self_trades_prevented == 1
    assert truth.injected == market.state.faults_injected
    assert truth.promised == {}

    before = {order.order_id: order.filled_quantity for order in truth.orders.values()}
    market.pass_time(86_400)
    assert market.state.orders == {}
    later = fold(market.engine.kernel.facts)
    assert {order.order_id: order.filled_quantity for order in later.orders.values()} == before
    assert all(order.is_purged for order in later.orders.values())
    assert later.orders[crossing.order_id].cancelled_quantity == 10


def test_truth_over_http_is_paged(server, log_in):
    kite = log_in(server)
    post(server, once=[{"kind": "foreign_order"}])
    for number in range(3):
        kite.place_order("regular", "NSE", "INFY", "BUY", 5, "CNC", "LIMIT", price=1160, tag=f"t{number}")
    first, second = get(server, "truth/orders?limit=3"), get(server, "truth/orders?after=3")
    assert (first["last"], second["last"], first["total"]) == (3, 4, 4)
    orders = first["orders"] + second["orders"]
    assert [order["tag"] for order in orders if not order["is_foreign"]] == ["t0", "t1", "t2"]
    assert sum(order["is_foreign"] for order in orders) == 1
    assert {trade["quantity"] for order in orders if order["tag"] for trade in order["trades"]} == {5}
    assert first["faults_injected"] == {"foreign_order": 1}
    assert orjson.dumps(first)
