"""The checker of chaos runs must be able to fail: a day without fault holds, and every damage to it is found."""

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from common.events import OrderUpdated
from portfolio_service.ledger_check import LedgerReport
from tests.chaos.books import Books
from tests.chaos.checker import Evidence, verdict
from tests.chaos.load import Asked
from tests.chaos.truth import Truth

NOW = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)
USER, PORTFOLIO, BLOCK, FIRST, SECOND = (uuid4() for _ in range(5))
TAG = "c1" + "a" * 17
PRICE_PAISE = 1_500_00


def fact(kind: str, n: int = 1, **more: Any) -> dict[str, Any]:
    return {"n": n, "at": NOW.isoformat(), "kind": kind, **more}


def received(order_id: str = "b1", tag: str | None = TAG, quantity: int = 5) -> dict[str, Any]:
    order = {"order_id": order_id, "tag": tag, "exchange": "NSE", "symbol": "INFY", "side": "BUY", "quantity": quantity}
    return fact("order_received", order=order)


def traded(trade_id: str, quantity: int, order_id: str = "b1") -> dict[str, Any]:
    return fact("trade", trade_id=trade_id, order_id=order_id, quantity=quantity, price_paise=PRICE_PAISE)


def user_order(order_id: UUID, key: str, quantity: int) -> dict[str, Any]:
    return {
        "order_id": order_id, "user_id": USER, "idempotency_ref": key, "submission_id": uuid4(), "state": "FILLED",
        "filled_quantity": quantity, "amount_paise": quantity * PRICE_PAISE, "charges_paise": 0, "reason_code": None,
        "block_id": None,
    }  # fmt: skip


def update(order_id: UUID, quantity: int) -> OrderUpdated:
    return OrderUpdated(
        order_id=order_id, user_id=USER, portfolio_id=PORTFOLIO, exchange="NSE", tradingsymbol="INFY", side="BUY",
        product="CNC", status="FILLED", order_version=2, quantity=quantity, filled_quantity=quantity,
        amount_paise=quantity * PRICE_PAISE, charges_paise=0, trading_date=NOW.date(),
    )  # fmt: skip


def of_both(make: Callable[[UUID, str, int], dict[str, Any]]) -> list[dict[str, Any]]:
    return [make(FIRST, "k1", 2), make(SECOND, "k2", 3)]


def fill(trade_id: str, quantity: int) -> dict[str, Any]:
    return {
        "broker_trade_id": trade_id, "broker_order_id": "b1", "attempt_id": 1, "block_id": BLOCK, "round_no": 1,
        "quantity": quantity, "amount_paise": quantity * PRICE_PAISE, "booked_to": "block",
    }  # fmt: skip


def healthy() -> Evidence:
    """Two users' orders in one block, filled in two trades, and a top-up: everything agrees."""
    allocations = [
        {
            "allocation_id": uuid4(), "order_id": order_id, "block_id": BLOCK, "round_no": 1, "quantity": quantity,
            "amount_paise": quantity * PRICE_PAISE,
        }
        for order_id, quantity in ((FIRST, 2), (SECOND, 3))
    ]  # fmt: skip
    updates = [update(FIRST, 2), update(SECOND, 3)]
    asks = [
        Asked("k1", str(USER), "order", {}, 0.0, sent=1, status=202, answer={"order_id": str(FIRST)}),
        Asked("k2", str(USER), "order", {}, 0.0, sent=2),
        Asked("k3", str(USER), "topup", {"amount": "100.00"}, 0.0, sent=1, status=201, answer={}),
        Asked("k4", str(USER), "order", {}, 0.0, sent=1, status=422, answer={"code": "insufficient_funds"}),
    ]
    books = Books(
        orders=of_both(user_order),
        keys=[],
        given=[{**row, "house_quantity": 0} for row in allocations],
        accounts=[
            {"kind": "shares", "asset": "NSE:INFY", "posted": 5, "held": 0, "owner": str(PORTFOLIO)},
            {"kind": "cash", "asset": "INR", "posted": 100_00, "held": 0, "owner": str(PORTFOLIO)},
        ],
        topups=[{"cause": f"topup:{USER}:k3", "amount": 100_00}],
        updates=[
            {"message_id": uuid4(), "type": "OrderUpdated", "payload": one.model_dump(mode="json")} for one in updates
        ],
        children=of_both(user_order),
        attempts=[
            {
                "attempt_id": 1, "tag": TAG, "state": "SETTLED", "sent_at": NOW, "broker_order_id": "b1", "quantity": 5,
                "block_id": BLOCK,
            }
        ],
        blocks=[{"block_id": BLOCK, "quantity": 5}],
        fills=[fill("t1", 4), fill("t2", 1)],
        allocations=allocations,
        breaks=[],
        ledger_breaks=[],
        notifications=[{"cause": f"order:{one.order_id}:end"} for one in updates],
        order_facts=[one.model_dump() for one in updates],
        trades=of_both(user_order),
        cash_flows=[],
        unhandled={},
    )  # fmt: skip
    for row, quantity in zip(books.trades, (2, 3), strict=True):
        row["quantity"] = quantity
    truth = Truth.of([received(), traded("t1", 4), traded("t2", 1)])
    return Evidence(asks, books, truth, LedgerReport({}), [])


def violated(evidence: Evidence) -> set[str]:
    return {name for name, lines in verdict(evidence).items() if lines}


def test_a_day_without_fault_holds() -> None:
    assert violated(healthy()) == set()


def lose_an_order(day: Evidence) -> None:
    del day.books.orders[0]


def accept_twice(day: Evidence) -> None:
    day.books.orders.append({**day.books.orders[1], "order_id": uuid4(), "submission_id": uuid4()})


def accept_what_was_refused(day: Evidence) -> None:
    day.books.orders.append(user_order(uuid4(), "k4", 1))


def accept_what_nobody_asked(day: Evidence) -> None:
    day.books.orders.append(user_order(uuid4(), "unknown", 1))


def book_a_topup_twice(day: Evidence) -> None:
    day.books.topups.append({"cause": f"topup:{USER}:other", "amount": 100_00})


def lose_a_topup(day: Evidence) -> None:
    day.books.topups.clear()


def contradict(day: Evidence) -> None:
    day.asks[0].contradictions.append("202 and then another 202")


def leave_an_order_open(day: Evidence) -> None:
    day.books.orders[0]["state"] = "WORKING"


def forget_an_order_in_the_executor(day: Evidence) -> None:
    del day.books.children[0]


def end_differently(day: Evidence) -> None:
    day.books.children[0]["state"] = "CANCELLED"


def send_twice(day: Evidence) -> None:
    day.truth.orders.update(Truth.of([received("b2")]).orders)


def send_the_unknown(day: Evidence) -> None:
    day.truth.orders.update(Truth.of([received("b2", "c1" + "z" * 17)]).orders)


def give_up_what_lives(day: Evidence) -> None:
    day.books.attempts[0]["state"] = "LOST"


def name_what_never_was(day: Evidence) -> None:
    day.truth.orders.clear()
    day.truth.trades.clear()


def miss_a_trade(day: Evidence) -> None:
    del day.books.fills[1]


def book_a_trade_twice(day: Evidence) -> None:
    day.books.fills.append(day.books.fills[1])


def invent_a_trade(day: Evidence) -> None:
    day.books.fills.append(fill("t9", 1))


def book_a_paisa_too_much(day: Evidence) -> None:
    day.books.fills[0]["amount_paise"] += 1


def give_a_paisa_too_little(day: Evidence) -> None:
    day.books.allocations[0]["amount_paise"] -= 1


def keep_a_fill_back(day: Evidence) -> None:
    day.books.fills[1]["round_no"] = None


def fill_beyond_the_block(day: Evidence) -> None:
    day.books.blocks[0]["quantity"] = 4


def miss_an_allocation_in_the_ledger(day: Evidence) -> None:
    del day.books.given[0]


def book_an_allocation_otherwise(day: Evidence) -> None:
    day.books.given[0]["amount_paise"] += 1


def leave_a_hold(day: Evidence) -> None:
    day.books.accounts[1]["held"] = 1


def break_the_ledger(day: Evidence) -> None:
    day.ledger.problems["asset_sums_to_zero"] = [{"asset": "INR", "off_by": 1}]


def lose_a_share(day: Evidence) -> None:
    day.books.accounts[0]["posted"] = 4


def trade_with_ourselves(day: Evidence) -> None:
    day.truth.self_trades.append({"order_id": "b1"})


def miss_a_message(day: Evidence) -> None:
    day.books.unhandled["analytics-service"] = [{"message_id": uuid4()}]


def tell_nobody(day: Evidence) -> None:
    del day.books.notifications[0]


def tell_twice(day: Evidence) -> None:
    day.books.notifications.append(day.books.notifications[0])


def count_an_old_state(day: Evidence) -> None:
    day.books.order_facts[0]["order_version"] = 1


def count_a_trade_twice(day: Evidence) -> None:
    day.books.trades.append(day.books.trades[0])


def send_while_halted(day: Evidence) -> None:
    moment = NOW.timestamp()
    day.halts.append((moment - 1, moment + timedelta(seconds=1).total_seconds()))


def open_a_break_of_our_own(day: Evidence) -> None:
    day.books.breaks.append({"kind": "overfilled", "key": "b1", "detail": ""})


def raise_a_false_alarm(day: Evidence) -> None:
    day.books.breaks.append({"kind": "units_mismatch", "key": "NSE:INFY", "detail": ""})


def give_a_ghost_to_a_user(day: Evidence) -> None:
    day.books.attempts[0]["state"] = "CLOSED"


@pytest.mark.parametrize(
    ("damage", "check"),
    [
        (lose_an_order, "orders accepted exist exactly once"),
        (accept_twice, "orders accepted exist exactly once"),
        (accept_what_was_refused, "orders accepted exist exactly once"),
        (accept_what_nobody_asked, "orders accepted exist exactly once"),
        (contradict, "one key, one answer"),
        (book_a_topup_twice, "top-ups are booked once"),
        (lose_a_topup, "top-ups are booked once"),
        (leave_an_order_open, "every order has ended, equally in both rooms"),
        (forget_an_order_in_the_executor, "every order has ended, equally in both rooms"),
        (end_differently, "every order has ended, equally in both rooms"),
        (send_twice, "attempts are the exchange's orders"),
        (send_the_unknown, "attempts are the exchange's orders"),
        (give_up_what_lives, "attempts are the exchange's orders"),
        (name_what_never_was, "attempts are the exchange's orders"),
        (miss_a_trade, "fills are the exchange's trades"),
        (book_a_trade_twice, "fills are the exchange's trades"),
        (invent_a_trade, "fills are the exchange's trades"),
        (book_a_paisa_too_much, "fills are the exchange's trades"),
        (give_a_paisa_too_little, "fills are given out to the paisa"),
        (keep_a_fill_back, "fills are given out to the paisa"),
        (fill_beyond_the_block, "fills are given out to the paisa"),
        (miss_an_allocation_in_the_ledger, "the ledger has every allocation"),
        (book_an_allocation_otherwise, "the ledger has every allocation"),
        (leave_a_hold, "the ledger holds"),
        (break_the_ledger, "the ledger holds"),
        (lose_a_share, "units are what the exchange delivered"),
        (trade_with_ourselves, "no self-trade"),
        (miss_a_message, "copies of other rooms are equal"),
        (tell_nobody, "copies of other rooms are equal"),
        (tell_twice, "copies of other rooms are equal"),
        (count_an_old_state, "copies of other rooms are equal"),
        (count_a_trade_twice, "copies of other rooms are equal"),
        (send_while_halted, "nothing is sent while halted"),
        (open_a_break_of_our_own, "breaks have causes"),
        (raise_a_false_alarm, "breaks have causes"),
        (give_a_ghost_to_a_user, "breaks have causes"),
    ],
)
def test_every_damage_is_found(damage: Callable[[Evidence], None], check: str) -> None:
    day = copy.deepcopy(healthy())
    damage(day)
    assert check in violated(day)


def test_a_late_half_of_a_fault_is_waited_for_until_it_came() -> None:
    promise = fact("fault_injected", 7, fault="accept_delayed", due=NOW.isoformat())
    assert Truth.of([promise]).promised == {7: "accept_delayed"}
    assert Truth.of([promise, fact("fault_followed", 8, fault="accept_delayed", cause=7)]).promised == {}
