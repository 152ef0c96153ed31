"""Many at once: balances are never overspent, a key has one effect, the ledger stays provable."""

import random
import threading
from typing import Any
from uuid import UUID, uuid4

import pytest

from common.db import count_statements
from common.events import OrderAccepted

STATEMENTS_PER_BATCH_MAX = 25


def test_fifty_orders_against_money_for_ten_accept_exactly_ten(room: Any) -> None:
    user = room.customer()
    # One share at the limit price with its charges: 1,500.00 + 2.74 (STT rounds 1.50 up to 2.00).
    probe = room.customer()
    room.give(probe, "5000")
    room.accepted(probe, order_type="LIMIT", price="1500.00")
    each = float(room.funds(probe)["blocked"])
    room.give(user, f"{10 * each + each - 0.01:.2f}")

    answers = room.at_once(50, lambda _: room.order(user, order_type="LIMIT", price="1500.00"))

    codes = [answer.status_code for answer in answers]
    assert codes.count(202) == 10
    refused = [answer.json() for answer in answers if answer.status_code != 202]
    assert {problem["code"] for problem in refused} == {"insufficient_funds"}
    assert float(room.funds(user)["available"]) == pytest.approx(each - 0.01)
    room.sound()


def test_fifty_sales_of_shares_for_ten_accept_exactly_ten(room: Any) -> None:
    user = room.customer()
    room.bought(user, "INFY", 10, 150_000)
    answers = room.at_once(50, lambda _: room.order(user, side="SELL"))
    assert [answer.status_code for answer in answers].count(202) == 10
    assert {answer.json()["code"] for answer in answers if answer.status_code != 202} == {"insufficient_shares"}
    room.sound()


def test_one_key_fifty_times_in_parallel_is_one_order_and_fifty_equal_answers(room: Any) -> None:
    user = room.customer()
    room.give(user, "20000")
    key = uuid4().hex
    answers = room.at_once(50, lambda _: room.order(user, key, quantity=2))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers].count("true") == 49
    assert room.count("user_order") == 1
    assert len(room.events(OrderAccepted)) == 1

    other = room.order(user, key, quantity=3)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    assert room.count("user_order") == 1
    room.sound()


def test_a_refused_order_leaves_its_key_free(room: Any) -> None:
    user = room.customer()
    key = uuid4().hex
    assert room.order(user, key).json()["code"] == "insufficient_funds"
    room.give(user, "20000")
    assert room.order(user, key).status_code == 202


def test_parallel_topups_with_one_key_add_money_once(room: Any) -> None:
    user = room.customer()
    key = uuid4().hex
    answers = room.at_once(20, lambda _: room.post(user, "/funds/topup", {"amount": "1000"}, key))
    assert {answer.status_code for answer in answers} == {201}
    assert room.funds(user)["cash"] == "1000.00"
    room.sound()


def test_rate_limit_is_exact_under_concurrency(room: Any) -> None:
    room.use(submissions_per_minute=5)
    user = room.customer()
    room.give(user, "50000")
    answers = room.at_once(20, lambda _: room.order(user))
    assert [answer.status_code for answer in answers].count(202) == 5
    limited = next(answer for answer in answers if answer.status_code == 429)
    assert limited.json()["code"] == "order_rate"
    assert limited.headers["Retry-After"] == "12"
    room.clock.advance(12)
    assert room.order(user).status_code == 202


def test_duplicate_window_is_exact_under_concurrency(room: Any) -> None:
    room.use(duplicate_window_s=10)
    user = room.customer()
    room.give(user, "50000")
    answers = room.at_once(10, lambda _: room.order(user))
    assert [answer.status_code for answer in answers].count(202) == 1
    assert {answer.json()["code"] for answer in answers if answer.status_code != 202} == {"duplicate_order"}
    assert room.order(user, confirm_duplicate=True).status_code == 202


def test_batch_of_a_thousand_needs_a_handful_of_statements(room: Any) -> None:
    room.use(daily_value_max_rupees=100_000_000)
    user = room.customer()
    room.give(user, "5000000")
    orders = [
        {"tradingsymbol": ("INFY", "TCS", "ITC")[i % 3], "side": "BUY", "quantity": 1 + i % 2} for i in range(1_000)
    ]
    with count_statements(room.db) as statements:
        response = room.post(user, "/orders/batch", {"orders": orders})
    assert response.status_code == 202
    assert (response.json()["accepted"], response.json()["refused"]) == (1_000, 0)
    assert len(statements) <= STATEMENTS_PER_BATCH_MAX, statements
    assert room.count("user_order") == 1_000
    assert len(room.events(OrderAccepted)) == 1_000
    room.sound()


def test_same_batch_key_in_parallel_is_one_batch(room: Any) -> None:
    user = room.customer()
    room.give(user, "100000")
    body = {"orders": [{"tradingsymbol": "ITC", "side": "BUY", "quantity": n} for n in range(1, 11)]}
    key = uuid4().hex
    answers = room.at_once(10, lambda _: room.post(user, "/orders/batch", body, key))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert room.count("user_order") == 10
    room.sound()


def test_stress_of_deposits_orders_fills_and_closes_conserves_everything(room: Any) -> None:
    """Threads do random things to the same few users while a checker looks; the sums must hold all the time."""
    users = [room.customer() for _ in range(4)]
    for user in users:
        room.give(user, "200000")
    placed: list[UUID] = []
    guard = threading.Lock()
    done = threading.Event()
    seed = random.randrange(10**9)  # noqa: S311

    def act(worker: int) -> None:
        dice = random.Random(seed + worker)  # noqa: S311
        for _ in range(25):
            user = dice.choice(users)
            move = dice.random()
            if move < 0.15:
                room.give(user, f"{dice.randint(1, 5000)}.{dice.randint(0, 99):02d}")
            elif move < 0.55:
                side = dice.choice(["BUY", "BUY", "SELL"])
                answer = room.order(
                    user, side=side, tradingsymbol=dice.choice(["INFY", "ITC"]), quantity=dice.randint(1, 6)
                )
                assert answer.status_code in (202, 422), answer.text
                if answer.status_code == 202:
                    with guard:
                        placed.append(UUID(answer.json()["order_id"]))
            else:
                with guard:
                    order_id = dice.choice(placed) if placed else None
                if order_id is not None:
                    _advance(room, dice, order_id)

    def watch() -> None:
        while not done.wait(0.2):
            room.sound()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        room.at_once(8, act, threads=8)
    finally:
        done.set()
        watcher.join()
    room.sound()
    for order_id in placed:
        order = room.row(order_id)
        room.tell(room.closed(order_id, "CANCELLED", order.filled_quantity, order.amount_paise))
    room.sound()
    for user in users:
        assert room.funds(user)["blocked"] == "0.00", f"seed {seed}"


def _advance(room: Any, dice: random.Random, order_id: UUID) -> None:
    """One random fact about an order: a fill of what was open when we looked, or its end."""
    order = room.row(order_id)
    left = order.quantity - order.filled_quantity
    if order.closed_at is None and left and dice.random() < 0.8:
        quantity = dice.randint(1, left)
        price = room.market.shares["NSE", order.tradingsymbol] * dice.randint(97, 102) // 100
        room.tell(room.allocation(order_id, quantity, quantity * price))
    else:
        room.tell(room.closed(order_id, "CANCELLED", order.filled_quantity, order.amount_paise))
