"""Rebalance and customise: sells first, then buys from the cash they have freed, computed at the prices of then."""

from typing import Any

import pytest

from common.events import BasketUpdated
from common.money import BPS_ONE
from smallcase_service.plan import SMALL_ORDER_BPS, SMALL_ORDER_PAISE
from tests.baskets.floor import Floor, Person

NEW = {"TCS": 2_000, "ITC": 3_000, "INFY": 5_000}
"""MARUTI leaves, INFY comes, TCS becomes less."""


@pytest.fixture
def owner(floor: Floor) -> Person:
    return floor.person("60000")


@pytest.fixture
def receipt(floor: Floor, owner: Person) -> dict[str, Any]:
    """A filled investment whose smallcase has a second version since."""
    smallcase = floor.smallcase(owner)
    receipt = floor.invested(owner, smallcase, "50000")
    floor.revise(owner, smallcase, 1, NEW)
    return receipt


def rebalance(floor: Floor, who: Person, receipt: dict[str, Any], **body: Any) -> dict[str, Any]:
    answer = floor.post(who, f"/investments/{receipt['investment_id']}/rebalance", body)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def test_sells_are_placed_alone_and_buys_follow_from_what_they_freed(
    floor: Floor, owner: Person, receipt: dict[str, Any]
) -> None:
    before = floor.investment(owner, receipt)
    assert (before["version"], before["newest_version"], before["update_available"]) == (1, 2, True)
    preview = floor.get(owner, f"/investments/{receipt['investment_id']}/rebalance").json()
    assert {row["side"] for row in preview["orders"]} == {"SELL", "BUY"}
    order = rebalance(floor, owner, receipt, version=2)
    assert {leg["side"] for leg in order["orders"]} == {"SELL"}
    assert {leg["tradingsymbol"] for leg in order["orders"]} >= {"TCS", "MARUTI"}
    floor.trade()
    assert floor.order(owner, order)["stage"] == "SOLD"
    # Prices move before the buys are computed.
    floor.market.shares["NSE", "INFY"] = 1_550_00
    cash = floor.funds(owner)["available"]
    floor.drive()
    working = floor.order(owner, order)
    assert working["stage"] == "WORKING"
    assert {leg["tradingsymbol"] for leg in working["orders"] if leg["side"] == "BUY"} >= {"INFY"}
    floor.trade()
    done = floor.order(owner, order)
    assert (done["status"], done["stage"]) == ("filled", "DONE")
    freed = sum(float(leg["amount"]) - float(leg["charges"]) for leg in done["orders"] if leg["side"] == "SELL")
    spent = sum(float(leg["amount"]) + float(leg["charges"]) for leg in done["orders"] if leg["side"] == "BUY")
    assert 0 < spent <= freed
    assert float(floor.funds(owner)["available"]) == pytest.approx(float(cash) - spent)
    within_one_share(floor, owner, receipt, NEW)
    after = floor.investment(owner, receipt)
    assert (after["version"], after["update_available"]) == (2, False)
    assert [event["kind"] for event in floor.events(BasketUpdated)] == ["INVEST", "REBALANCE"]
    floor.sound()


def within_one_share(floor: Floor, who: Person, receipt: dict[str, Any], weights: dict[str, int]) -> None:
    held = floor.held(who, receipt)
    prices = {symbol: floor.market.shares["NSE", symbol] for symbol in {*held, *weights}}
    worth = sum(units * prices[symbol] for symbol, units in held.items())
    for symbol, price in prices.items():
        off = held.get(symbol, 0) * price - worth * weights.get(symbol, 0) // 10_000
        # What is nearer than a share, or an order that the filter drops, is left as it is.
        assert abs(off) <= max(price, SMALL_ORDER_PAISE, worth * SMALL_ORDER_BPS // BPS_ONE), (
            f"{symbol} is {off / price:.2f} shares off"
        )


def test_without_spare_cash_the_buys_are_lowered_until_they_can_be_held(floor: Floor) -> None:
    who = floor.person("50000")
    smallcase = floor.smallcase(who)
    receipt = floor.invested(who, smallcase, "48000")
    admin = {**floor.headers(who.user_id, roles=("admin",)), "Idempotency-Key": "out"}
    rest = floor.funds(who)["available"]
    out = {"user_id": str(who.user_id), "amount": rest, "reason": "taken out"}
    assert floor.portfolio_client.post("/api/v1/admin/funds/withdraw", json=out, headers=admin).status_code == 201
    floor.revise(who, smallcase, 1, NEW)
    order = rebalance(floor, who, receipt)
    floor.trade()
    floor.drive()
    floor.trade()
    done = floor.order(who, order)
    assert done["status"] == "filled"
    assert any(leg["side"] == "BUY" for leg in done["orders"])
    floor.sound()


def test_a_failed_sell_shrinks_the_buys_and_leaves_a_repair(
    floor: Floor, owner: Person, receipt: dict[str, Any]
) -> None:
    order = rebalance(floor, owner, receipt)
    floor.trade(refuse=("MARUTI",))
    floor.drive()
    floor.trade()
    broken = floor.order(owner, order)
    assert broken["status"] == "needs_repair"
    freed = sum(float(leg["amount"]) for leg in broken["orders"] if leg["side"] == "SELL")
    assert sum(float(leg["amount"]) for leg in broken["orders"] if leg["side"] == "BUY") <= freed
    repair = floor.post(owner, f"/investments/{receipt['investment_id']}/repair").json()
    assert [(leg["tradingsymbol"], leg["side"]) for leg in repair["orders"]] == [("MARUTI", "SELL")]
    floor.trade()
    assert floor.order(owner, order)["status"] == "repaired"
    assert "MARUTI" not in floor.held(owner, receipt)


def test_sells_that_all_fail_buy_nothing(floor: Floor, owner: Person, receipt: dict[str, Any]) -> None:
    order = rebalance(floor, owner, receipt)
    floor.trade(refuse=("MARUTI", "TCS", "ITC"))
    floor.drive()
    done = floor.order(owner, order)
    assert (done["status"], done["stage"]) == ("unfilled", "DONE")
    assert all(leg["side"] == "SELL" for leg in done["orders"])


def test_buys_wait_for_the_market_and_for_prices(floor: Floor, owner: Person, receipt: dict[str, Any]) -> None:
    order = rebalance(floor, owner, receipt)
    floor.trade()
    floor.market.is_open = False
    floor.drive()
    assert floor.order(owner, order)["stage"] == "SOLD"
    floor.market.is_open = True
    floor.market.price_age_s = 60
    floor.drive(seconds=13 * 3_600)
    put_off = floor.order(owner, order)
    assert put_off["stage"] == "SOLD"
    assert {row["code"] for row in put_off["refusals"]} == {"stale_price"}
    assert all(leg["side"] == "SELL" for leg in put_off["orders"])
    floor.market.price_age_s = 0
    floor.drive(seconds=60)
    floor.trade()
    assert floor.order(owner, order)["status"] == "filled"


def test_buys_that_stay_refused_need_repair(floor: Floor, owner: Person, receipt: dict[str, Any]) -> None:
    order = rebalance(floor, owner, receipt)
    floor.trade()
    floor.market.price_age_s = 60
    for _ in range(8):
        floor.drive(seconds=60)
    broken = floor.order(owner, order)
    assert (broken["status"], broken["stage"]) == ("needs_repair", "DONE")
    assert {leg["status"] for leg in broken["orders"] if leg["side"] == "BUY"} == {"REFUSED"}
    floor.market.price_age_s = 0
    repair = floor.post(owner, f"/investments/{receipt['investment_id']}/repair").json()
    assert {leg["side"] for leg in repair["orders"]} == {"BUY"}
    floor.trade()
    within_one_share(floor, owner, receipt, NEW)


def test_a_version_that_was_looked_at_must_still_be_the_newest(
    floor: Floor, owner: Person, receipt: dict[str, Any]
) -> None:
    path = f"/investments/{receipt['investment_id']}/rebalance"
    stale = floor.post(owner, path, {"version": 1})
    assert (stale.status_code, stale.json()["code"]) == (409, "smallcase_changed")
    floor.post(owner, path, {"version": 2})
    floor.trade()
    floor.drive()
    floor.trade()
    done = floor.post(owner, path)
    assert (done.status_code, done.json()["code"]) == (409, "nothing_to_rebalance")


def test_own_weights_are_followed_until_the_user_gives_them_up(floor: Floor) -> None:
    who = floor.person()
    receipt = floor.invested(who, floor.smallcase(who), "50000")
    own = {"TCS": 2_000, "MARUTI": 4_000, "SBIN": 4_000}
    weights = [{"tradingsymbol": symbol, "weight_bps": bps} for symbol, bps in own.items()]
    path = f"/investments/{receipt['investment_id']}/customise"
    bad = floor.post(who, path, {"constituents": weights[:2]})
    assert (bad.status_code, bad.json()["code"]) == (422, "weights_not_whole")
    unknown = floor.post(who, path, {"constituents": [{"tradingsymbol": "NOPE", "weight_bps": 10_000}]})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_instrument")
    order = floor.post(who, path, {"constituents": weights})
    assert order.status_code == 202, order.text
    floor.trade()
    floor.drive()
    floor.trade()
    investment = floor.investment(who, receipt)
    assert (investment["customised"], investment["update_available"]) == (True, False)
    within_one_share(floor, who, receipt, own)
    floor.market.shares["NSE", "SBIN"] = 1_200_00
    back = floor.post(who, f"/investments/{receipt['investment_id']}/rebalance", {"follow": True})
    assert back.status_code == 202, back.text
    floor.trade()
    floor.drive()
    floor.trade()
    assert floor.investment(who, receipt)["customised"] is False
    within_one_share(floor, who, receipt, {"TCS": 5_000, "ITC": 3_000, "MARUTI": 2_000})


def test_own_changes_sell_first_and_then_buy_what_was_named(floor: Floor) -> None:
    who = floor.person()
    receipt = floor.invested(who, floor.smallcase(who))
    path, before = f"/investments/{receipt['investment_id']}/customise", floor.held(who, receipt)
    more = floor.post(who, path, {"changes": [{"tradingsymbol": "TCS", "units": -50}]})
    assert (more.status_code, more.json()["code"]) == (422, "not_enough_shares")
    changes = [{"tradingsymbol": "TCS", "units": -3}, {"tradingsymbol": "SBIN", "units": 4}]
    order = floor.post(who, path, {"changes": changes})
    assert [(leg["tradingsymbol"], leg["side"]) for leg in order.json()["orders"]] == [("TCS", "SELL")]
    floor.trade()
    floor.drive()
    floor.trade()
    assert floor.held(who, receipt) == {**before, "TCS": before["TCS"] - 3, "SBIN": 4}
    targets = {row["tradingsymbol"]: row["target_weight_bps"] for row in floor.investment(who, receipt)["positions"]}
    assert sum(targets.values()) == 10_000
    assert set(targets) == {"TCS", "ITC", "MARUTI", "SBIN"}


def test_many_at_once_are_judged_one_by_one_and_repeat_alike(
    floor: Floor, owner: Person, receipt: dict[str, Any]
) -> None:
    body = {"investment_ids": [receipt["investment_id"], "00000000-0000-0000-0000-000000000001"]}
    first = floor.post(owner, "/smallcases/bulk/rebalance", body, key="bulk-1")
    assert first.status_code == 202, first.text
    assert (first.json()["accepted"], first.json()["refused"]) == (1, 1)
    assert first.json()["results"][1]["code"] == "investment_not_found"
    again = floor.post(owner, "/smallcases/bulk/rebalance", body, key="bulk-1")
    assert again.json() == first.json()
    clash = floor.post(
        owner, "/smallcases/bulk/rebalance", {"investment_ids": [receipt["investment_id"]]}, key="bulk-1"
    )
    assert (clash.status_code, clash.json()["code"]) == (409, "idempotency_key_reused")
    floor.trade()
    floor.drive()
    floor.trade()
    closed = floor.post(owner, "/smallcases/bulk/close", {"investment_ids": [receipt["investment_id"]]})
    assert closed.json()["accepted"] == 1
    floor.trade()
    assert floor.holdings(owner) == {}
