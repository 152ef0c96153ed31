"""One order from acceptance to its end."""

from typing import Any
from uuid import uuid4

from common.events import OrderAccepted, OrderCancelRequested, OrderUpdated


def test_accepted_order_holds_money_and_is_told_to_the_executor(room: Any) -> None:
    user = room.customer()
    room.give(user, "20000")

    response = room.order(user, quantity=10, order_type="LIMIT", price="1500.00", tag="first")

    assert response.status_code == 202
    body = response.json()
    assert (body["status"], body["price"], body["quantity"], body["tag"]) == ("ACCEPTED", "1500.00", 10, "first")
    # 15,000.00 plus all charges of a delivery buy of that value, computed by hand from the schedule:
    # STT 15.00, exchange 0.46 (0.4605), SEBI 0.015, stamp 2.25, GST 0.0856 -> 17.81
    assert room.funds(user)["blocked"] == "15017.81"
    assert room.funds(user)["available"] == "4982.19"
    (told,) = room.events(OrderAccepted)
    assert told["order_id"] == body["order_id"]
    assert told["trading_date"] == "2026-11-23"
    room.sound()


def test_fill_in_parts_pays_exactly_and_releases_the_rest(room: Any) -> None:
    user = room.customer()
    room.give(user, "20000")
    order_id = room.accepted(user, quantity=10, order_type="LIMIT", price="1500.00")

    room.tell(room.working(order_id))
    assert room.row(order_id).state == "WORKING"
    room.tell(room.allocation(order_id, 4, 4 * 149_000))
    order = room.row(order_id)
    assert (order.state, order.filled_quantity) == ("PARTIAL", 4)
    # What is still to come stays covered at the limit price, with the charges not yet taken.
    assert order.hold_amount == 6 * 150_000 + order.hold_charges_paise - order.charges_paise
    room.sound()

    room.tell(room.allocation(order_id, 6, 6 * 150_000))
    order = room.row(order_id)
    assert (order.state, order.filled_quantity, order.amount_paise) == ("FILLED", 10, 1_496_000)
    assert order.hold_transfer_id is None
    funds = room.funds(user)
    assert funds["blocked"] == "0.00"
    assert funds["cash"] == f"{(2_000_000 - 1_496_000 - order.charges_paise) / 100:.2f}"
    assert room.tell(room.closed(order_id, "FILLED", 10, 1_496_000))
    assert room.row(order_id).version == 4
    assert [update["status"] for update in room.events(OrderUpdated)] == ["WORKING", "PARTIAL", "FILLED"]
    room.sound()


def test_charges_of_parts_add_up_to_the_charges_of_the_whole(room: Any) -> None:
    user = room.customer()
    room.give(user, "100000")
    whole = room.accepted(user, quantity=10)
    parts = room.accepted(user, quantity=10, tradingsymbol="INFY")
    room.fill(whole, 150_000)
    for quantity in (1, 2, 3, 4):
        room.tell(room.allocation(parts, quantity, quantity * 150_000))
    assert room.row(whole).charges_paise == room.row(parts).charges_paise
    room.sound()


def test_sale_delivers_shares_and_credits_proceeds_less_charges(room: Any) -> None:
    user = room.customer()
    room.bought(user, "INFY", 10, 150_000)
    before = room.funds(user)["cash"]
    order_id = room.accepted(user, side="SELL", quantity=4)
    assert room.get(user, "/holdings").json()["items"][0]["free_quantity"] == 6

    room.fill(order_id, 160_000)

    order = room.row(order_id)
    assert order.state == "FILLED"
    gained = 4 * 160_000 - order.charges_paise
    assert float(room.funds(user)["cash"]) == float(before) + gained / 100
    holding = room.get(user, "/holdings").json()["items"][0]
    assert (holding["quantity"], holding["free_quantity"], holding["average_price"]) == (6, 6, "1500.00")
    room.sound()


def test_close_before_its_allocations_waits_for_them(room: Any) -> None:
    user = room.customer()
    room.give(user, "20000")
    order_id = room.accepted(user, quantity=10)

    room.tell(room.closed(order_id, "CANCELLED", 4, 600_000, reason_code="user_cancel", reason="asked"))
    assert room.row(order_id).state == "ACCEPTED"
    room.tell(room.allocation(order_id, 3, 450_000))
    assert room.row(order_id).state == "PARTIAL"
    room.tell(room.allocation(order_id, 1, 150_000))

    order = room.row(order_id)
    assert (order.state, order.filled_quantity, order.reason_code) == ("CANCELLED", 4, "user_cancel")
    assert (order.hold_transfer_id, order.hold_amount) == (None, 0)
    assert room.funds(user)["blocked"] == "0.00"
    room.sound()


def test_rejected_order_gives_everything_back(room: Any) -> None:
    user = room.customer()
    room.give(user, "20000")
    order_id = room.accepted(user, quantity=10)
    room.tell(room.closed(order_id, "REJECTED", 0, 0, reason_code="rms", reason="not today"))
    order = room.row(order_id)
    assert (order.state, order.reason) == ("REJECTED", "not today")
    assert room.funds(user)["available"] == "20000.00"
    room.sound()


def test_cost_above_the_hold_takes_free_cash_then_a_due_and_never_goes_negative(room: Any) -> None:
    user = room.customer()
    room.give(user, "15500")
    order_id = room.accepted(user, quantity=10, order_type="LIMIT", price="1500.00")

    room.tell(room.allocation(order_id, 10, 1_600_000))

    order = room.row(order_id)
    assert order.state == "FILLED"
    funds = room.funds(user)
    assert funds["cash"] == "0.00"
    owed = 1_600_000 + order.charges_paise - 1_550_000
    assert funds["due"] == f"{owed / 100:.2f}"
    room.sound()

    room.give(user, "1000")
    assert room.funds(user)["due"] == "0.00"
    assert room.funds(user)["cash"] == f"{(100_000 - owed) / 100:.2f}"
    room.sound()


def test_fill_beyond_the_quantity_goes_to_the_house_and_opens_a_break(room: Any) -> None:
    user = room.customer()
    room.give(user, "20000")
    order_id = room.accepted(user, quantity=5)
    room.tell(room.allocation(order_id, 8, 8 * 150_000))
    order = room.row(order_id)
    assert (order.state, order.filled_quantity, order.amount_paise) == ("FILLED", 5, 5 * 150_000)
    assert room.count("ledger_break") == 1
    assert room.get(user, "/trades").json()["items"][0]["quantity"] == 5
    room.sound()


def test_fill_after_the_end_and_of_an_unknown_order_go_to_the_house(room: Any) -> None:
    user = room.customer()
    room.give(user, "20000")
    order_id = room.accepted(user, quantity=5)
    fact = room.allocation(order_id, 5, 750_000)
    room.tell(room.closed(order_id, "CANCELLED", 0, 0))
    room.tell(fact)
    room.tell(fact.model_copy(update={"order_id": uuid4(), "allocation_id": uuid4()}))
    assert room.row(order_id).filled_quantity == 0
    assert room.count("ledger_break") == 2
    assert room.funds(user)["cash"] == "20000.00"
    room.sound()


def test_same_allocation_under_a_new_message_id_is_booked_once(room: Any) -> None:
    user = room.customer()
    room.give(user, "20000")
    order_id = room.accepted(user, quantity=5)
    fact = room.allocation(order_id, 2, 300_000)
    assert room.tell(fact)
    assert room.tell(fact)
    assert room.row(order_id).filled_quantity == 2
    assert room.count("order_allocation") == 1
    room.tell(fact.model_copy(update={"amount_paise": 299_999}))
    assert room.row(order_id).amount_paise == 300_000
    assert room.count("ledger_break") == 1
    room.sound()


def test_cancel_is_asked_once_and_answered_the_same_again(room: Any) -> None:
    user = room.customer()
    room.give(user, "20000")
    order_id = room.accepted(user, quantity=5)
    for _ in range(2):
        response = room.client.delete(f"/api/v1/orders/{order_id}", headers=user.headers)
        assert response.status_code == 202
        assert response.json()["cancel_requested"] is True
    assert len(room.events(OrderCancelRequested)) == 1
    room.tell(room.closed(order_id, "CANCELLED", 0, 0))
    response = room.client.delete(f"/api/v1/orders/{order_id}", headers=user.headers)
    assert (response.status_code, response.json()["code"]) == (409, "order_closed")
    room.sound()


def test_detail_shows_fills_and_history(room: Any) -> None:
    user = room.customer()
    room.give(user, "20000")
    order_id = room.accepted(user, quantity=5)
    room.tell(room.working(order_id))
    room.tell(room.allocation(order_id, 5, 750_000))
    detail = room.get(user, f"/orders/{order_id}").json()
    assert [step["status"] for step in detail["history"]] == ["ACCEPTED", "WORKING", "FILLED"]
    assert [fill["quantity"] for fill in detail["allocations"]] == [5]
    assert detail["average_price"] == "1500.00"
    assert detail["charges"] == detail["allocations"][0]["charges"]


def test_news_of_a_block_after_the_end_changes_nothing(room: Any) -> None:
    user = room.customer()
    room.give(user, "20000")
    order_id = room.accepted(user, quantity=5)
    room.fill(order_id, 150_000)
    version = room.row(order_id).version
    room.tell(room.working(order_id))
    assert (room.row(order_id).state, room.row(order_id).version) == ("FILLED", version)
