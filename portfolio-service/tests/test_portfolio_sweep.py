"""What silence leads to, and how an order is replaced."""

import threading
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from common import catching_up
from common.bus import LocalBus
from common.events import OrderAccepted, OrderCancelRequested, OrderUpdated
from common.outbox import Relay
from common.testing import eventually
from portfolio_service import sweeper


def _swept(room: Any) -> int:
    return sweeper.sweep_orders(room.db, room.clock)


def test_silent_orders_are_said_again_with_growing_pauses_until_closed(room: Any) -> None:
    user = room.customer()
    room.give(user, "20000")
    order_id = room.accepted(user, quantity=2)
    assert _swept(room) == 0
    pauses = []
    for _ in range(9):
        waited = 0
        while not _swept(room):
            room.clock.advance(10)
            waited += 10
        pauses.append(waited)
    assert pauses == [120, 240, 480, 960, 960, 960, 960, 960, 960]
    told = room.events(OrderAccepted)
    assert len(told) == 10
    assert all(event == told[0] for event in told)

    room.tell(room.working(order_id))
    room.clock.advance(239)
    assert _swept(room) == 0
    room.clock.advance(1)
    assert _swept(room) == 1
    room.tell(room.closed(order_id, "CANCELLED", 0, 0))
    room.clock.advance(100_000)
    assert _swept(room) == 0


def test_silence_means_nothing_while_what_was_said_is_not_handled_yet(room: Any) -> None:
    user = room.customer()
    room.give(user, "20000")
    room.accepted(user)
    room.clock.advance(121)
    heard_until = {"consumer": "portfolio-service", "source": "trade-executor"}
    with room.db.transaction() as session:
        session.execute(
            sa.insert(catching_up.cursor).values(**heard_until, handled_before=room.clock.now() - timedelta(seconds=61))
        )
    assert _swept(room) == 0
    with room.db.transaction() as session:
        session.execute(sa.update(catching_up.cursor).values(handled_before=room.clock.now() - timedelta(seconds=10)))
    assert _swept(room) == 1


def test_a_lost_cancel_is_said_again(room: Any) -> None:
    user = room.customer()
    room.give(user, "20000")
    order_id = room.accepted(user)
    room.client.delete(f"/api/v1/orders/{order_id}", headers=user.headers)
    room.clock.advance(120)
    assert _swept(room) == 1
    assert len(room.events(OrderCancelRequested)) == 2


def test_two_sweepers_do_not_say_an_order_twice(room: Any) -> None:
    user = room.customer()
    room.give(user, "50000")
    for _ in range(12):
        room.accepted(user)
    room.clock.advance(120)
    assert sum(room.at_once(4, lambda _: _swept(room), threads=4)) == 12
    assert len(room.events(OrderAccepted)) == 24


def _put(room: Any, user: Any, order_id: Any, **body: Any) -> Any:
    return room.client.put(f"/api/v1/orders/{order_id}", json=body, headers=user.headers)


def _finish(room: Any) -> int:
    return sweeper.finish_replacements(room.db, room.market, room.clock, room.settings())


def test_replacement_becomes_a_new_order_for_what_is_left(room: Any) -> None:
    user = room.customer()
    room.give(user, "20000")
    order_id = room.accepted(user, quantity=10, order_type="LIMIT", price="1490")
    room.tell(room.working(order_id))
    room.tell(room.allocation(order_id, 3, 3 * 149_000))
    response = _put(room, user, order_id, price="1495", quantity=12)
    assert response.status_code == 202
    assert response.json()["replacement"]["state"] == "WAITING"
    assert len(room.events(OrderCancelRequested)) == 1
    assert _finish(room) == 0

    room.tell(room.closed(order_id, "CANCELLED", 3, 3 * 149_000))
    # money for the new order: 9 more at 1,495
    assert sum(room.at_once(4, lambda _: _finish(room), threads=4)) == 1

    old = room.get(user, f"/orders/{order_id}").json()
    assert (old["status"], old["replacement"]["state"]) == ("CANCELLED", "DONE")
    new = room.get(user, f"/orders/{old['replaced_by']}").json()
    assert (new["quantity"], new["price"], new["status"], new["replaces"]) == (9, "1495.00", "ACCEPTED", str(order_id))
    assert room.count("user_order") == 2
    room.sound()


def test_replacement_of_a_filled_order_is_dropped_and_told(room: Any) -> None:
    user = room.customer()
    room.give(user, "20000")
    order_id = room.accepted(user, quantity=2, order_type="LIMIT", price="1490")
    assert _put(room, user, order_id, price="1495").status_code == 202
    room.fill(order_id, 149_000)
    assert _finish(room) == 1
    assert room.get(user, f"/orders/{order_id}").json()["replacement"]["state"] == "DROPPED"
    assert room.events(OrderUpdated)[-1]["reason_code"] == "replacement_dropped"
    assert room.count("user_order") == 1


def test_replacement_that_is_refused_at_last_keeps_its_reason(room: Any) -> None:
    user = room.customer()
    room.give(user, "4000")
    order_id = room.accepted(user, quantity=2, order_type="LIMIT", price="1490")
    assert _put(room, user, order_id, quantity=3).status_code == 202
    room.tell(room.closed(order_id, "CANCELLED", 0, 0))
    assert _finish(room) == 1
    replacement = room.get(user, f"/orders/{order_id}").json()["replacement"]
    assert (replacement["state"], replacement["code"]) == ("REFUSED", "insufficient_funds")
    assert room.funds(user)["available"] == "4000.00"
    room.sound()


def test_bad_replacements_change_nothing(room: Any) -> None:
    user, other = room.customer(), room.customer()
    room.give(user, "20000")
    order_id = room.accepted(user, quantity=4, order_type="LIMIT", price="1490")
    room.tell(room.allocation(order_id, 2, 2 * 149_000))
    assert _put(room, other, order_id, price="1495").status_code == 404
    assert _put(room, user, order_id, price="1495.01").json()["code"] == "tick_size"
    assert _put(room, user, order_id, quantity=2).json()["code"] == "quantity_filled"
    assert _put(room, user, order_id, side="SELL").json()["code"] == "invalid_request"
    assert room.client.put(f"/api/v1/orders/{order_id}", json={}).status_code == 401
    assert room.row(order_id).cancel_requested_at is None
    room.tell(room.closed(order_id, "CANCELLED", 2, 2 * 149_000))
    assert _put(room, user, order_id, price="1495").json()["code"] == "order_closed"


def test_cancel_takes_a_waiting_replacement_back(room: Any) -> None:
    user = room.customer()
    room.give(user, "20000")
    order_id = room.accepted(user, quantity=2, order_type="LIMIT", price="1490")
    _put(room, user, order_id, order_type="MARKET")
    assert room.client.delete(f"/api/v1/orders/{order_id}", headers=user.headers).status_code == 202
    room.tell(room.closed(order_id, "CANCELLED", 0, 0))
    assert _finish(room) == 0
    assert room.count("user_order") == 1


def test_the_loop_sweeps_and_relays_until_told_to_stop(room: Any, local_bus: LocalBus) -> None:
    user = room.customer()
    room.give(user, "20000")
    room.accepted(user)
    heard: list[Any] = []
    local_bus.declare("listener", [OrderAccepted])
    stop = threading.Event()
    threads = [
        threading.Thread(
            target=sweeper.run, args=(room.db, room.market, room.clock, room.settings(sweep_interval_s=0.05), stop)
        ),
        threading.Thread(target=Relay(room.db, local_bus, name="portfolio-service").run, args=(stop,)),
        threading.Thread(target=local_bus.consume, args=("listener", heard.extend, stop)),
    ]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(heard) == 1)
        room.clock.advance(120)
        eventually(lambda: len(heard) == 2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert heard[0].payload == heard[1].payload
    assert heard[0].id != heard[1].id
