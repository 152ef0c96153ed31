"""Investing and leaving over two real rooms: what is ordered, what is refused, and that nothing is half done."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from common.events import BasketUpdated
from common.testing import StaticMarketData
from tests.baskets.floor import WEIGHTS, Floor


def test_a_plan_states_shares_cost_charges_leftover_and_deviation(floor: Floor) -> None:
    who = floor.person()
    smallcase = floor.smallcase(who)
    answer = floor.get(who, f"/smallcases/{smallcase}/plan", amount="20000")
    assert answer.status_code == 200, answer.text
    plan = answer.json()
    assert {row["tradingsymbol"]: row["quantity"] for row in plan["orders"]} == {"TCS": 7, "ITC": 21, "MARUTI": 2}
    cost = 7 * 1_400 + 21 * 250 + 2 * 2_400
    assert plan["buys"] == f"{cost}.00"
    spent = float(plan["buys"]) + float(plan["charges"])
    assert spent <= 20_000
    assert float(plan["leftover"]) == pytest.approx(20_000 - spent)
    assert plan["minimum_amount"] == "11520.29"
    assert float(plan["hold"]) > cost
    assert sum(row["weight_after_bps"] for row in plan["weights"]) == 10_000
    assert plan["largest_deviation_bps"] == max(abs(row["deviation_bps"]) for row in plan["weights"])
    assert floor.count("basket_order") == 0


def test_investing_buys_the_plan_and_the_ledger_agrees(floor: Floor) -> None:
    who = floor.person()
    smallcase = floor.smallcase(who)
    plan = floor.get(who, f"/smallcases/{smallcase}/plan", amount="20000").json()
    receipt = floor.invest(who, smallcase)
    assert receipt["status"] == "placed"
    working = floor.order(who, receipt)
    assert (working["status"], working["stage"], working["kind"]) == ("placed", "WORKING", "INVEST")
    floor.fill_part("TCS", 1)
    assert floor.order(who, receipt)["status"] == "partially_filled"
    assert floor.investment(who, receipt)["status"] == "active"
    floor.trade()
    done = floor.order(who, receipt)
    assert (done["status"], done["stage"]) == ("filled", "DONE")
    wanted = {row["tradingsymbol"]: row["quantity"] for row in plan["orders"]}
    assert floor.held(who, receipt) == floor.holdings(who) == wanted
    investment = floor.investment(who, receipt)
    assert investment["bought"] == plan["buys"]
    assert investment["current_value"] == plan["buys"]
    assert investment["profit"] == f"-{investment['charges']}"
    [told] = floor.events(BasketUpdated)
    assert (told["status"], told["orders"], told["orders_filled"]) == ("filled", 3, 3)
    floor.sound()


def test_one_key_is_one_basket_with_equal_answers(floor: Floor) -> None:
    who = floor.person()
    smallcase, key = floor.smallcase(who), uuid4().hex

    def invest(_: int) -> Any:
        return floor.post(who, f"/smallcases/{smallcase}/invest", {"amount": "20000"}, key)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(invest, range(16)))
    assert {answer.status_code for answer in answers} == {202}, [answer.text for answer in answers]
    assert len({answer.text for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert (floor.count("basket_order"), floor.count("user_order", portfolio=True)) == (1, 3)
    other = floor.post(who, f"/smallcases/{smallcase}/invest", {"amount": "30000"}, key)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")


def test_two_requests_at_once_are_one_investment(floor: Floor) -> None:
    who = floor.person()
    smallcase = floor.smallcase(who)
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(lambda _: floor.post(who, f"/smallcases/{smallcase}/invest", {"amount": "20000"}), range(4))
        )
    assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"already_invested"}
    assert floor.count("user_order", portfolio=True) == 3


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"amount": "11519.00"}, 422, "amount_below_minimum"),
        ({"amount": "0"}, 422, "invalid_request"),
        ({"amount": "20000", "version": 7}, 409, "smallcase_changed"),
        ({"amount": "20000", "extra": 1}, 422, "invalid_request"),
        ({"amount": "90000", "portfolio_id": "00000000-0000-0000-0000-000000000001"}, 404, "portfolio_not_found"),
        ({"amount": "500000"}, 422, "insufficient_funds"),
    ],
)
def test_a_request_that_can_not_be_met_leaves_nothing(
    floor: Floor, body: dict[str, Any], status: int, code: str
) -> None:
    who = floor.person()
    smallcase, key = floor.smallcase(who), uuid4().hex
    answer = floor.post(who, f"/smallcases/{smallcase}/invest", body, key)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    if code == "amount_below_minimum":
        assert answer.json()["minimum"] == "11520.29"
    assert (floor.count("investment"), floor.count("user_order", portfolio=True)) == (0, 0)
    # The key is free for a request that can be met.
    assert floor.post(who, f"/smallcases/{smallcase}/invest", {"amount": "20000"}, key).status_code == 202


def test_what_is_not_the_callers_does_not_exist(floor: Floor) -> None:
    who, stranger = floor.person(), floor.person()
    private = floor.smallcase(who)
    receipt = floor.invested(who, private)
    one, order = receipt["investment_id"], receipt["basket_order_id"]
    assert floor.post(stranger, f"/smallcases/{private}/invest", {"amount": "20000"}).status_code == 404
    for path in (f"/investments/{one}", f"/investments/{one}/orders", f"/investments/orders/{order}",
                 f"/investments/{one}/exit", f"/investments/{one}/rebalance"):  # fmt: skip
        assert floor.get(stranger, path).status_code == 404, path
    for path, body in (("invest-more", {"amount": "5000"}), ("rebalance", {}), ("exit", {}), ("repair", {}),
                       ("partial-exit", {"fraction_bps": 5000}), ("archive", {}),
                       ("customise", {"changes": [{"tradingsymbol": "ITC", "units": 1}]})):  # fmt: skip
        assert floor.post(stranger, f"/investments/{one}/{path}", body).status_code == 404, path
    assert floor.get(stranger, "/investments").json()["items"] == []


def test_a_closed_market_refuses_unless_the_basket_may_wait(floor: Floor) -> None:
    who = floor.person()
    smallcase = floor.smallcase(who)
    floor.market.is_open = False
    answer = floor.post(who, f"/smallcases/{smallcase}/invest", {"amount": "20000"})
    assert (answer.status_code, answer.json()["code"]) == (422, "market_closed")
    assert floor.count("investment") == 0
    receipt = floor.invest(who, smallcase, queue_when_closed=True)
    assert floor.order(who, receipt)["status"] == "placed"


def test_a_refusal_of_acceptance_reaches_the_user_and_frees_the_key(floor: Floor) -> None:
    who = floor.person(kyc="pending")
    smallcase, key = floor.smallcase(who), uuid4().hex
    answer = floor.post(who, f"/smallcases/{smallcase}/invest", {"amount": "20000"}, key)
    assert (answer.status_code, answer.json()["code"]) == (403, "kyc_required")
    assert (floor.count("user_order", portfolio=True), floor.events(BasketUpdated)) == (0, [])
    assert floor.get(who, "/investments").json()["items"] == []
    who.headers = floor.headers(who.user_id)
    assert floor.post(who, f"/smallcases/{smallcase}/invest", {"amount": "20000"}, key).status_code == 202


def test_one_order_above_a_limit_refuses_the_whole_basket(floor: Floor) -> None:
    who = floor.person("2000000")
    floor.use(order_value_max_rupees=5_000)
    smallcase = floor.smallcase(who)
    answer = floor.post(who, f"/smallcases/{smallcase}/invest", {"amount": "20000"})
    assert (answer.status_code, answer.json()["code"]) == (422, "order_value_limit")
    assert {row["tradingsymbol"] for row in answer.json()["errors"]} >= {"TCS"}
    assert floor.funds(who)["blocked"] == "0.00"


def test_invest_more_buys_the_under_weight_shares(floor: Floor) -> None:
    who = floor.person()
    receipt = floor.invested(who, floor.smallcase(who))
    one = receipt["investment_id"]
    floor.market.shares["NSE", "ITC"] = 200_00
    plan = floor.get(who, f"/investments/{one}/plan", amount="3000").json()
    answer = floor.post(who, f"/investments/{one}/invest-more", {"amount": "3000"})
    assert answer.status_code == 202
    bought = {row["tradingsymbol"]: row["quantity"] for row in answer.json()["orders"]}
    assert "ITC" in bought
    assert "MARUTI" not in bought, "it is over-weight"
    assert [row["quantity"] for row in plan["orders"]] == [row["quantity"] for row in answer.json()["orders"]]
    busy = floor.post(who, f"/investments/{one}/invest-more", {"amount": "3000"})
    assert (busy.status_code, busy.json()["code"]) == (409, "basket_working")
    before = floor.held(who, receipt)["ITC"]
    floor.trade()
    assert floor.held(who, receipt)["ITC"] == before + bought["ITC"]
    tiny = floor.post(who, f"/investments/{one}/invest-more", {"amount": "5"})
    assert (tiny.status_code, tiny.json()["code"]) == (422, "amount_too_small")


def test_partial_exit_then_exit_then_archive(floor: Floor) -> None:
    who = floor.person()
    receipt = floor.invested(who, floor.smallcase(who), "40000")
    one, before = receipt["investment_id"], floor.held(who, receipt)
    refused = floor.post(who, f"/investments/{one}/archive")
    assert (refused.status_code, refused.json()["code"]) == (409, "still_held")
    half = floor.post(who, f"/investments/{one}/partial-exit", {"fraction_bps": 5_000})
    assert half.status_code == 202, half.text
    floor.trade()
    after = floor.held(who, receipt)
    assert all(abs(after[symbol] * 2 - before[symbol]) <= 2 for symbol in before)
    above = floor.post(who, f"/investments/{one}/partial-exit", {"amount": "100000"})
    assert (above.status_code, above.json()["code"]) == (422, "amount_above_worth")
    preview = floor.get(who, f"/smallcases/investments/{one}/closure-preview").json()
    assert {row["tradingsymbol"]: row["quantity"] for row in preview["orders"]} == after
    leave = floor.post(who, f"/smallcases/investments/{one}/close")
    assert leave.status_code == 202
    floor.trade()
    assert floor.holdings(who) == {}
    assert floor.investment(who, receipt)["status"] == "closed"
    assert [row["investment_id"] for row in floor.get(who, "/smallcases/user/positions/closed").json()["items"]] == [
        one
    ]
    nothing = floor.post(who, f"/investments/{one}/exit")
    assert (nothing.status_code, nothing.json()["code"]) == (409, "nothing_held")
    assert floor.post(who, f"/investments/{one}/archive").json()["status"] == "archived"
    assert floor.get(who, "/investments").json()["items"] == []
    again = floor.post(who, f"/investments/{one}/invest-more", {"amount": "20000"})
    assert (again.status_code, again.json()["code"]) == (409, "investment_archived")
    kinds = [row["kind"] for row in floor.get(who, "/smallcases/user/positions/history").json()["items"]]
    assert kinds == ["EXIT", "PARTIAL_EXIT", "INVEST"]
    floor.sound()


def test_failed_legs_need_repair_and_repair_places_only_those(floor: Floor) -> None:
    who = floor.person()
    receipt = floor.invest(who, floor.smallcase(who))
    wanted = {row["tradingsymbol"]: row["quantity"] for row in receipt["orders"]}
    floor.fill_part("ITC", 3, then_close=True)
    floor.trade(refuse=("MARUTI",))
    broken = floor.order(who, receipt)
    assert broken["status"] == "needs_repair"
    assert {leg["tradingsymbol"]: leg["status"] for leg in broken["orders"]} == {
        "TCS": "FILLED", "ITC": "CANCELLED", "MARUTI": "REJECTED",
    }  # fmt: skip
    assert floor.investment(who, receipt)["needs_repair"] == [receipt["basket_order_id"]]
    [told] = floor.events(BasketUpdated)
    assert told["status"] == "needs_repair"
    assert told["reason_code"] == "broker_refused"
    repair = floor.post(who, f"/investments/{receipt['investment_id']}/repair")
    assert repair.status_code == 202, repair.text
    assert {leg["tradingsymbol"]: leg["quantity"] for leg in repair.json()["orders"]} == {
        "ITC": wanted["ITC"] - 3, "MARUTI": wanted["MARUTI"],
    }  # fmt: skip
    floor.trade()
    assert floor.order(who, receipt)["status"] == "repaired"
    assert floor.order(who, repair.json())["status"] == "filled"
    assert floor.held(who, receipt) == wanted
    nothing = floor.post(who, f"/investments/{receipt['investment_id']}/repair")
    assert (nothing.status_code, nothing.json()["code"]) == (409, "nothing_to_repair")
    floor.sound()


def test_a_basket_of_which_nothing_was_filled_can_be_repaired_too(floor: Floor) -> None:
    who = floor.person()
    receipt = floor.invest(who, floor.smallcase(who))
    floor.trade(refuse=tuple(WEIGHTS))
    assert floor.order(who, receipt)["status"] == "unfilled"
    assert floor.investment(who, receipt)["status"] == "failed"
    repair = floor.post(who, f"/investments/{receipt['investment_id']}/repair")
    floor.trade()
    assert floor.order(who, repair.json())["status"] == "filled"
    assert floor.investment(who, receipt)["status"] == "active"


def test_prices_that_can_not_be_read_change_nothing_but_the_values(floor: Floor) -> None:
    who = floor.person()
    receipt = floor.invested(who, floor.smallcase(who))
    gone: StaticMarketData = floor.market
    del gone.shares["NSE", "MARUTI"]
    investment = floor.investment(who, receipt)
    assert (investment["current_value"], investment["profit"]) == (None, None)
    answer = floor.post(who, f"/investments/{receipt['investment_id']}/invest-more", {"amount": "5000"})
    assert (answer.status_code, answer.json()["code"]) == (422, "smallcase_not_buyable")
