"""Baskets of smallcase-service: one acceptance for all orders, judged once, and nothing else gets in by this door."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from common.auth import ServiceIdentity
from common.events import OrderAccepted
from portfolio_service.portfolios import default_portfolio_id

BASKETS = "/internal/v1/baskets"


@pytest.fixture
def call(room: Any, service_identity: Callable[[str], ServiceIdentity]) -> Callable[..., Any]:
    """POST (with a body) or GET of an internal route as a room, smallcase-service by default."""

    def make(path: str, body: Any = None, *, caller: str = "smallcase-service", **params: Any) -> Any:
        headers = {"Authorization": f"Bearer {service_identity(caller).token('portfolio-service')}"}
        if body is None:
            return room.client.get(path, headers=headers, params=params)
        return room.client.post(path, headers=headers, json=body)

    return make


def order(symbol: str, side: str = "BUY", quantity: int = 1) -> dict[str, Any]:
    return {
        "order_id": str(uuid4()), "exchange": "NSE", "tradingsymbol": symbol, "side": side, "quantity": quantity,
    }  # fmt: skip


def basket(who: Any, *orders: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "submission_id": str(uuid4()), "user_id": str(who.user_id), "kyc": "approved", "orders": list(orders), **more,
    }  # fmt: skip


def test_a_basket_is_accepted_under_the_ids_it_came_with(room: Any, call: Callable[..., Any]) -> None:
    who = room.customer()
    room.give(who, "10000")
    wanted = basket(who, order("INFY", quantity=2), order("ITC", quantity=3), tag="basket")
    answer = call(BASKETS, wanted)
    assert (answer.status_code, answer.json()) == (
        200, {"submission_id": wanted["submission_id"], "status": "accepted", "refusals": []},
    )  # fmt: skip
    placed = room.get(who, "/orders").json()["items"]
    assert {row["order_id"] for row in placed} == {one["order_id"] for one in wanted["orders"]}
    assert {(row["submission_id"], row["tag"], row["product"], row["order_type"]) for row in placed} == {
        (wanted["submission_id"], "basket", "CNC", "MARKET")
    }
    assert len(room.events(OrderAccepted)) == 2
    room.sound()


def test_the_same_submission_is_judged_once_whatever_happened_meanwhile(room: Any, call: Callable[..., Any]) -> None:
    who = room.customer()
    room.give(who, "10000")
    wanted = basket(who, order("INFY", quantity=6))
    answers = room.at_once(10, lambda _: call(BASKETS, wanted).json(), threads=10)
    assert all(answer == answers[0] for answer in answers)
    assert room.count("user_order") == 1
    # The money is gone and prices have moved: the answer stays.
    assert call(BASKETS, wanted).json() == answers[0]
    assert call(BASKETS, {**wanted, "orders": [order("INFY")]}).status_code == 409


def test_one_bad_order_refuses_the_basket_and_stays_refused(room: Any, call: Callable[..., Any]) -> None:
    who = room.customer()
    room.give(who, "4000")
    wanted = basket(who, order("INFY"), order("TCS"), order("NOPE"))
    answer = call(BASKETS, wanted).json()
    assert answer["status"] == "refused"
    assert [(row["index"], row["code"]) for row in answer["refusals"]] == [(2, "unknown_instrument")]
    short = basket(who, order("INFY"), order("TCS"))
    answer = call(BASKETS, short).json()
    assert [(row["index"], row["code"]) for row in answer["refusals"]] == [(1, "insufficient_funds")]
    room.give(who, "100000")
    assert call(BASKETS, short).json() == answer, "an answer that was lost is the one that was given"
    assert room.count("user_order") == 0
    assert room.funds(who)["blocked"] == "0.00"
    room.sound()


def test_sales_need_the_shares_and_a_foreign_portfolio_does_not_exist(room: Any, call: Callable[..., Any]) -> None:
    who, other = room.customer(), room.customer()
    room.bought(other, "INFY", 5, 1_500_00)
    foreign = basket(who, order("INFY", "SELL"), portfolio_id=str(default_portfolio_id(other.user_id)))
    assert call(BASKETS, foreign).json()["refusals"][0]["code"] == "portfolio_not_found"
    own = basket(other, order("INFY", "SELL", 5), order("INFY", "SELL", 1))
    assert [row["code"] for row in call(BASKETS, own).json()["refusals"]] == ["insufficient_shares"]
    assert call(BASKETS, basket(other, order("INFY", "SELL", 5))).json()["status"] == "accepted"


def test_kyc_and_the_rate_are_judged_and_follow_ups_do_not_count(room: Any, call: Callable[..., Any]) -> None:
    who = room.customer()
    room.give(who, "100000")
    assert call(BASKETS, basket(who, order("INFY"), kyc="pending")).json()["refusals"][0]["code"] == "kyc_required"
    room.use(submissions_per_minute=1)
    assert call(BASKETS, basket(who, order("INFY"))).json()["status"] == "accepted"
    assert call(BASKETS, basket(who, order("INFY"))).json()["refusals"][0]["code"] == "order_rate"
    assert call(BASKETS, basket(who, order("INFY"), counted=False)).json()["status"] == "accepted"


def test_a_closed_market_refuses_unless_the_basket_may_wait(room: Any, call: Callable[..., Any]) -> None:
    who = room.customer()
    room.give(who, "100000")
    room.market.is_open = False
    assert call(BASKETS, basket(who, order("INFY"))).json()["refusals"][0]["code"] == "market_closed"
    assert call(BASKETS, basket(who, order("INFY"), queue_when_closed=True)).json()["status"] == "accepted"


def test_the_estimate_is_what_acceptance_holds(room: Any, call: Callable[..., Any]) -> None:
    who = room.customer()
    room.give(who, "20000")
    orders = [
        {"exchange": "NSE", "side": "BUY", "quantity": 2, "price_paise": 1_500_00},
        {"exchange": "NSE", "side": "BUY", "quantity": 3, "price_paise": 400_00},
        {"exchange": "NSE", "side": "SELL", "quantity": 1, "price_paise": 400_00},
    ]
    answer = call(f"{BASKETS}/estimate", {"user_id": str(who.user_id), "orders": orders}).json()
    assert answer["portfolio_id"] == str(default_portfolio_id(who.user_id))
    assert answer["available_paise"] == 20_000_00
    assert all(charge > 0 for charge in answer["charges_paise"])
    assert (
        call(BASKETS, basket(who, order("INFY", quantity=2), order("ITC", quantity=3))).json()["status"] == "accepted"
    )
    assert int(room.funds(who)["blocked"].replace(".", "")) == answer["hold_paise"]
    foreign = {"user_id": str(room.customer().user_id), "portfolio_id": answer["portfolio_id"], "orders": orders}
    assert call(f"{BASKETS}/estimate", foreign).status_code == 404


def test_states_of_orders_are_read_by_id_and_unknown_ones_left_out(room: Any, call: Callable[..., Any]) -> None:
    who = room.customer()
    order_id = room.bought(who, "INFY", 2, 1_500_00)
    [row] = call("/internal/v1/orders", id=[str(order_id), str(uuid4())]).json()["orders"]
    assert (UUID(row["order_id"]), row["state"], row["filled_quantity"], row["amount_paise"]) == (
        order_id, "FILLED", 2, 3_000_00,
    )  # fmt: skip
    assert row["charges_paise"] > 0


@pytest.mark.parametrize("caller", ["trade-executor", "notification-service"])
def test_no_other_room_may_place_or_read(room: Any, call: Callable[..., Any], caller: str) -> None:
    who = room.customer()
    assert call(BASKETS, basket(who, order("INFY")), caller=caller).status_code == 403
    assert call("/internal/v1/orders", id=[str(uuid4())], caller=caller).status_code == 403
    assert room.client.post(BASKETS, headers=who.headers, json=basket(who, order("INFY"))).status_code == 401


def test_a_malformed_basket_is_refused(room: Any, call: Callable[..., Any]) -> None:
    who = room.customer()
    for broken in (
        basket(who),
        basket(who, {**order("INFY"), "quantity": 0}),
        basket(who, *[order("INFY") for _ in range(101)]),
        basket(who, order("INFY"), extra=1),
    ):
        assert call(BASKETS, broken).status_code == 422
