"""Killed at every transaction, answers lost, news doubled and shuffled: the same facts appear, once."""

import random
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from common.db import Database
from common.events import BasketUpdated
from common.idempotency import request_hash
from smallcase_service import driver, proposals
from smallcase_service.proposals import Asker, checked
from smallcase_service.schemas_orders import InvestIn
from tests.baskets.floor import Floor, Killed, MortalDatabase, Person
from tests.baskets.test_baskets_two_steps import NEW

TRANSACTIONS_MAX = 30


def finish(floor: Floor) -> None:
    """Everybody works on until nothing is left to do."""
    for _ in range(6):
        floor.drive(seconds=30)
        floor.trade()


def invest_as(floor: Floor, db: Database, who: Person, smallcase: str, key: str) -> Any:
    desk, body = floor.desk_on(db), InvestIn(amount="20000")  # type: ignore[arg-type]
    asker = Asker(who.user_id, "approved")
    propose = checked(desk, lambda: proposals.first_purchase(desk, asker, UUID(smallcase), body.amount))
    return desk.place(who.user_id, key, request_hash(f"smallcases/{smallcase}/invest", body), propose)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_request_killed_at_any_transaction_is_one_investment_or_none(
    floor: Floor, mortal: Callable[[int, str], MortalDatabase], when: str
) -> None:
    lived = 0
    for number in range(1, TRANSACTIONS_MAX):
        who = floor.person()
        smallcase, key = floor.smallcase(who), uuid4().hex
        before = floor.count("user_order", portfolio=True)
        try:
            invest_as(floor, mortal(number, when), who, smallcase, key)
            lived = number
        except Killed:
            pass
        # The client repeats what was not answered, under the same key, perhaps before the driver has come by.
        if number % 2:
            answer = floor.post(who, f"/smallcases/{smallcase}/invest", {"amount": "20000"}, key)
            assert answer.status_code == 202
        finish(floor)
        items = floor.get(who, "/investments").json()["items"]
        orders = floor.count("user_order", portfolio=True) - before
        assert len(items) in ((1,) if number % 2 else (0, 1))
        assert orders == 3 * len(items)
        for item in items:
            assert item["status"] == "active"
            [order] = floor.get(who, f"/investments/{item['investment_id']}/orders").json()["items"]
            assert order["status"] == "filled"
            held = {leg["tradingsymbol"]: leg["filled_quantity"] for leg in order["orders"]}
            assert floor.holdings(who) == held
        if lived:
            break
    assert lived > 4, "the request has fewer transactions than were to be killed"
    told = [event["basket_order_id"] for event in floor.events(BasketUpdated)]
    assert len(told) == len(set(told)) == floor.count("basket_order")
    floor.sound()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_driver_killed_at_any_transaction_of_a_second_step_buys_once(
    floor: Floor, mortal: Callable[[int, str], MortalDatabase], when: str
) -> None:
    lived = 0
    for number in range(1, TRANSACTIONS_MAX):
        who = floor.person()
        smallcase = floor.smallcase(who)
        receipt = floor.invested(who, smallcase, "50000")
        floor.revise(who, smallcase, 1, NEW)
        order = floor.post(who, f"/investments/{receipt['investment_id']}/rebalance").json()
        floor.trade()
        assert floor.order(who, order)["stage"] == "SOLD"
        try:
            driver.drive_due(floor.desk_on(mortal(number, when)))
            lived = number
        except Killed:
            pass
        finish(floor)
        done = floor.order(who, order)
        assert (done["status"], done["stage"]) == ("filled", "DONE")
        bought = [leg["tradingsymbol"] for leg in done["orders"] if leg["side"] == "BUY"]
        assert len(bought) == len(set(bought)) > 0
        assert floor.held(who, receipt) == floor.holdings(who)
        if lived:
            break
    assert lived > 3
    floor.sound()


@pytest.mark.parametrize(("requests", "answers"), [(1, 0), (0, 1), (2, 1)])
def test_an_unknown_outcome_is_asked_for_again_under_the_same_key(floor: Floor, requests: int, answers: int) -> None:
    who = floor.person()
    smallcase, key = floor.smallcase(who), uuid4().hex
    floor.wire.lose_requests, floor.wire.lose_answers = requests, answers
    answer = floor.post(who, f"/smallcases/{smallcase}/invest", {"amount": "20000"}, key)
    assert (answer.status_code, answer.json()["status"]) == (202, "placing")
    finish(floor)
    assert floor.order(who, answer.json())["status"] == "filled"
    assert floor.count("user_order", portfolio=True) == 3
    again = floor.post(who, f"/smallcases/{smallcase}/invest", {"amount": "20000"}, key)
    assert (again.status_code, again.json()["status"]) == (202, "placed")
    assert floor.count("basket_order") == 1
    floor.sound()


def test_a_refusal_whose_answer_was_lost_is_told_by_message(floor: Floor) -> None:
    who = floor.person()
    smallcase = floor.smallcase(who)
    floor.wire.lose_requests = 1
    answer = floor.post(who, f"/smallcases/{smallcase}/invest", {"amount": "20000"})
    assert answer.json()["status"] == "placing"
    floor.market.price_age_s = 60
    floor.drive(seconds=30)
    order = floor.order(who, answer.json())
    assert (order["status"], order["refusals"][0]["code"]) == ("refused", "stale_price")
    [told] = floor.events(BasketUpdated)
    assert (told["status"], told["reason_code"]) == ("refused", "stale_price")
    assert floor.get(who, "/investments").json()["items"] == []
    floor.market.price_age_s = 0
    floor.drive()
    assert floor.invest(who, smallcase)["status"] == "placed"


@pytest.mark.parametrize("seed", range(4))
def test_news_doubled_and_shuffled_say_the_same(floor: Floor, seed: int) -> None:
    who = floor.person()
    receipt = floor.invest(who, floor.smallcase(who))
    rng = random.Random(seed)  # noqa: S311  an order of messages, no secret
    wanted = {row["tradingsymbol"]: row["quantity"] for row in receipt["orders"]}
    held_back = floor.deliver
    floor.deliver = lambda **_: None  # type: ignore[method-assign]
    floor.fill_part("TCS", 2)
    floor.fill_part("ITC", 5)
    floor.fill_part("TCS", 1)
    floor.trade(refuse=("MARUTI",))
    floor.deliver = held_back  # type: ignore[method-assign]
    floor.deliver(shuffle=rng, twice=True)
    order = floor.order(who, receipt)
    assert order["status"] == "needs_repair"
    assert floor.held(who, receipt) == floor.holdings(who) == {key: wanted[key] for key in ("TCS", "ITC")}
    assert len(floor.events(BasketUpdated)) == 1
    funds = float(floor.funds(who)["available"])
    assert 100_000 - funds == pytest.approx(float(order["bought"]) + float(order["charges"]))


def test_news_that_come_before_the_answer_are_kept(floor: Floor) -> None:
    who = floor.person()
    smallcase = floor.smallcase(who)
    floor.wire.lose_answers = 1
    receipt = floor.post(who, f"/smallcases/{smallcase}/invest", {"amount": "20000"}).json()
    floor.trade()
    waiting = floor.order(who, receipt)
    assert waiting["stage"] == "INTENT"
    assert {leg["status"] for leg in waiting["orders"]} == {"FILLED"}
    floor.drive(seconds=30)
    assert (floor.order(who, receipt)["status"], floor.order(who, receipt)["stage"]) == ("filled", "DONE")


def test_news_that_were_lost_are_read(floor: Floor) -> None:
    who = floor.person()
    receipt = floor.invest(who, floor.smallcase(who))
    floor.deliver = lambda **_: None  # type: ignore[method-assign]
    floor.trade()
    assert floor.order(who, receipt)["status"] == "placed"
    floor.drive(seconds=90)
    assert floor.order(who, receipt)["status"] == "filled"
    assert floor.held(who, receipt) == floor.holdings(who)
