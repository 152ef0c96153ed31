"""Automatic rebalances: for those who asked and nobody else, once per version whatever dies, never beside another order.

The orders are accepted by the real portfolio-service, as in tests/baskets.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from common.events import BasketUpdated
from common.market_data import Instrument, Key
from common.standing import Standing
from common.testing import StaticMarketData
from smallcase_service import auto_rebalancing, driver
from smallcase_service.auto_rebalancing import NoLongerDue, check_due
from smallcase_service.dues import ATTEMPT_PAUSE, ATTEMPTS_MAX
from smallcase_service.models import AutoRebalance, AutoRebalanceConsent, Investment
from tests.baskets.floor import WEIGHTS, Floor, Killed, MortalDatabase, Person

NEW = {"TCS": 2_000, "ITC": 3_000, "INFY": 5_000}
NEWER = {"TCS": 2_000, "ITC": 3_000, "SBIN": 5_000}
AFTER_PAUSE_S = ATTEMPT_PAUSE.total_seconds() + 1
TRANSACTIONS_MAX = 40


@dataclass
class Published:
    """A published smallcase and its maker."""

    floor: Floor
    maker: Person
    smallcase_id: str
    version: int = 1

    def revise(self, weights: Mapping[str, int], **more: Any) -> None:
        """The next version."""
        fields = {"visibility": "published", "version": self.version, "reason": "a test", **more}
        answer = self.floor.client.put(
            f"/api/v1/smallcases/{self.smallcase_id}",
            json=self.floor.composition(weights, **fields),
            headers=self.maker.headers,
        )
        assert answer.status_code == 200, answer.text
        self.version += 1


@pytest.fixture
def published(floor: Floor) -> Published:
    maker = floor.person("60000", roles=("admin",))
    answer = floor.post(maker, "/smallcases", floor.composition(WEIGHTS, visibility="published"))
    assert answer.status_code == 201, answer.text
    return Published(floor, maker, answer.json()["smallcase_id"])


def holder(floor: Floor, published: Published, *, auto: bool = True) -> tuple[Person, dict[str, Any]]:
    """Somebody with a filled investment in the smallcase."""
    who = floor.person("60000")
    receipt = floor.invest(who, published.smallcase_id, "50000", auto_rebalance=auto)
    floor.trade()
    assert floor.investment(who, receipt)["auto_rebalance"] is auto
    return who, receipt


def switch(floor: Floor, who: Person, receipt: Mapping[str, Any], on: object) -> Any:
    path = f"/api/v1/investments/{receipt['investment_id']}/auto-rebalance"
    return floor.client.put(path, json={"auto_rebalance": on}, headers=who.headers)


def look(floor: Floor, *, seconds: float = 0, times: int = 3) -> None:
    """The driver looks for rebalances, after so much time."""
    floor.clock.advance(seconds)
    for _ in range(times):
        auto_rebalancing.drive_due(floor.desk, floor.standings)


def finish(floor: Floor) -> None:
    """Everybody works on until nothing is left to do, also what a dead process had taken."""
    look(floor, seconds=AFTER_PAUSE_S)
    for _ in range(4):
        floor.drive(seconds=30)
        floor.trade()
    look(floor)


def rebalances(floor: Floor, who: Person, receipt: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rebalance orders of an investment, newest first."""
    items = floor.get(who, f"/investments/{receipt['investment_id']}/orders").raise_for_status().json()["items"]
    return [order for order in items if order["kind"] == "REBALANCE"]


def shown(floor: Floor, who: Person, receipt: Mapping[str, Any]) -> list[tuple[int, str, str | None]]:
    """Version, state and reason of the automatic rebalances, newest first."""
    rows = floor.investment(who, receipt)["auto_rebalances"]
    return [(row["version"], row["status"], row["reason_code"]) for row in rows]


def what(orders: Iterable[Mapping[str, Any]]) -> set[tuple[str, str, int]]:
    return {(row["side"], row["tradingsymbol"], row["quantity"]) for row in orders}


# --- whose, and what --------------------------------------------------------------------------------------------------


def test_who_asked_is_rebalanced_as_by_an_own_request_and_nobody_else(floor: Floor, published: Published) -> None:
    (asked, mine), (silent, other) = holder(floor, published), holder(floor, published, auto=False)
    published.revise(NEW)
    plan = floor.get(asked, f"/investments/{mine['investment_id']}/rebalance").json()["orders"]
    look(floor)
    [order] = rebalances(floor, asked, mine)
    assert {leg["side"] for leg in order["orders"]} == {"SELL"}, "sells go first and alone"
    assert what(order["orders"]) == {row for row in what(plan) if row[0] == "SELL"}
    floor.trade()
    floor.drive()
    floor.trade()
    [order] = rebalances(floor, asked, mine)
    assert (order["status"], order["version"]) == ("filled", 2)
    assert "INFY" in {leg["tradingsymbol"] for leg in order["orders"] if leg["side"] == "BUY"}
    after = floor.investment(asked, mine)
    assert (after["version"], after["update_available"]) == (2, False)
    assert [row["basket_order_id"] for row in after["auto_rebalances"]] == [order["basket_order_id"]]
    look(floor, seconds=3_600)
    assert len(rebalances(floor, asked, mine)) == 1
    assert rebalances(floor, silent, other) == []
    left_alone = floor.investment(silent, other)
    assert (left_alone["version"], left_alone["auto_rebalances"]) == (1, [])
    floor.sound()


def test_the_driver_looks_for_them_by_itself(floor: Floor, published: Published) -> None:
    who, mine = holder(floor, published)
    published.revise(NEW)
    stop = threading.Event()
    placed = floor.wire.handle_request

    def handle(request: Any) -> Any:
        if request.url.path.endswith("/baskets"):
            stop.set()
        return placed(request)

    floor.wire.handle_request = handle  # type: ignore[method-assign]
    running = threading.Thread(target=driver.run, args=(floor.desk, floor.standings, stop), daemon=True)
    running.start()
    running.join(timeout=30)
    stop.set()
    assert not running.is_alive()
    assert len(rebalances(floor, who, mine)) == 1


@pytest.mark.parametrize(
    ("revision", "code"),
    [({"visibility": "private"}, None), ({"name": "The same in other words"}, "same_composition")],
)
def test_what_is_no_new_published_composition_moves_nothing(
    floor: Floor, published: Published, revision: dict[str, str], code: str | None
) -> None:
    who, mine = holder(floor, published)
    own = floor.invest(published.maker, published.smallcase_id, "50000", auto_rebalance=True)
    floor.trade()
    published.revise(NEW if code is None else WEIGHTS, **revision)
    look(floor)
    for person, receipt in ((who, mine), (published.maker, own)):
        assert rebalances(floor, person, receipt) == []
        assert shown(floor, person, receipt) == ([] if code is None else [(2, "SKIPPED", code)])


def test_own_weights_are_left_alone(floor: Floor, published: Published) -> None:
    who, mine = holder(floor, published)
    body = {"changes": [{"tradingsymbol": "TCS", "units": 1}]}
    assert floor.post(who, f"/investments/{mine['investment_id']}/customise", body).status_code == 202
    floor.trade()
    published.revise(NEW)
    look(floor)
    assert rebalances(floor, who, mine) == []
    assert shown(floor, who, mine) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"auto_rebalance": False}, "switched_off"),
        ({"status": "closed"}, "nothing_held"),
        ({"target": []}, "customised"),
        ({"version": 2}, "followed_already"),
        ({"newest": 3}, "superseded"),
    ],
)
def test_every_reason_to_leave_it_is_named(change: dict[str, Any], code: str) -> None:
    facts: dict[str, Any] = {"auto_rebalance": True, "status": "active", "target": None, "version": 1, "newest": 2}
    check_due(Investment(**{key: value for key, value in facts.items() if key != "newest"}), 2, 2)
    facts |= change
    newest = facts.pop("newest")
    with pytest.raises(NoLongerDue) as raised:
        check_due(Investment(**facts), 2, newest)
    assert raised.value.code == code


# --- consent ----------------------------------------------------------------------------------------------------------


def consents(floor: Floor, receipt: Mapping[str, Any]) -> list[tuple[bool, UUID]]:
    with floor.smallcase_db.session() as session:
        query = sa.select(AutoRebalanceConsent).where(AutoRebalanceConsent.investment_id == receipt["investment_id"])
        rows = session.scalars(query.order_by(AutoRebalanceConsent.changed_at)).all()
    return [(row.auto_rebalance, row.changed_by) for row in rows]


def test_it_is_off_until_its_owner_switches_it_and_every_change_is_kept(floor: Floor, published: Published) -> None:
    who, mine = holder(floor, published, auto=False)
    assert consents(floor, mine) == []
    stranger = floor.person()
    for person in (stranger, published.maker):
        refused = switch(floor, person, mine, True)
        assert (refused.status_code, refused.json()["code"]) == (404, "investment_not_found")
    assert switch(floor, Person(uuid4(), {}), mine, True).status_code == 401
    assert switch(floor, who, mine, "yes").status_code == 422, "consent is not guessed"
    assert (consents(floor, mine), floor.investment(who, mine)["auto_rebalance"]) == ([], False)
    on = switch(floor, who, mine, True).json()
    assert (on["auto_rebalance"], on["changed_at"]) == (True, "2026-11-23T10:00:01+05:30")
    floor.clock.advance(60)
    assert switch(floor, who, mine, True).json() == on, "said again it changes nothing"
    assert switch(floor, who, mine, False).json()["auto_rebalance"] is False
    assert consents(floor, mine) == [(True, who.user_id), (False, who.user_id)]
    published.revise(NEW)
    look(floor)
    assert rebalances(floor, who, mine) == []
    with pytest.raises(IntegrityError, match="insert-only"), floor.smallcase_db.transaction() as session:
        session.execute(sa.update(AutoRebalanceConsent).values(changed_by=stranger.user_id))


def test_consent_with_the_purchase_is_kept_and_an_archived_investment_takes_none(
    floor: Floor, published: Published
) -> None:
    who, mine = holder(floor, published)
    assert consents(floor, mine) == [(True, who.user_id)]
    floor.post(who, f"/investments/{mine['investment_id']}/exit").raise_for_status()
    floor.trade()
    floor.post(who, f"/investments/{mine['investment_id']}/archive").raise_for_status()
    assert switch(floor, who, mine, False).status_code == 200
    refused = switch(floor, who, mine, True)
    assert (refused.status_code, refused.json()["code"]) == (409, "investment_archived")


def test_switched_off_before_it_was_placed_it_is_not_and_on_again_it_is(floor: Floor, published: Published) -> None:
    who, mine = holder(floor, published)
    published.revise(NEW)
    floor.standings.known[who.user_id] = Standing("suspended", "approved")
    look(floor)
    assert shown(floor, who, mine) == [(2, "DUE", "account_not_active")]
    switch(floor, who, mine, False)
    del floor.standings.known[who.user_id]
    look(floor, seconds=AFTER_PAUSE_S)
    assert (shown(floor, who, mine), rebalances(floor, who, mine)) == ([], [])
    switch(floor, who, mine, True)
    look(floor)
    assert len(rebalances(floor, who, mine)) == 1


# --- once -------------------------------------------------------------------------------------------------------------


def test_two_drivers_at_once_place_it_once(floor: Floor, published: Published) -> None:
    holders = [holder(floor, published) for _ in range(4)]
    published.revise(NEW)
    start = threading.Barrier(2)

    def work() -> None:
        desk = floor.desk_on(floor.smallcase_db)
        start.wait(timeout=30)
        for _ in range(4):
            auto_rebalancing.drive_due(desk, floor.standings)

    drivers = [threading.Thread(target=work) for _ in range(2)]
    for one in drivers:
        one.start()
    for one in drivers:
        one.join(timeout=120)
    assert [len(rebalances(floor, *one)) for one in holders] == [1, 1, 1, 1]
    assert [shown(floor, *one) for one in holders] == [[(2, "PLACED", None)]] * 4


class SlowMarket(StaticMarketData):
    """Market data whose first answer about instruments takes so long that others act meanwhile."""

    meanwhile: Callable[[], None] | None = None

    def instruments(self, keys: Iterable[Key]) -> Mapping[Key, Instrument]:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().instruments(keys)


def slow_desk(floor: Floor, meanwhile: Callable[[], None]) -> Any:
    market = SlowMarket(floor.market.shares, floor.clock)
    market.meanwhile = meanwhile
    return replace(floor.desk, market=market)


def test_a_driver_that_comes_back_late_places_nothing(floor: Floor, published: Published) -> None:
    who, mine = holder(floor, published)
    published.revise(NEW)
    # The first one has planned when the second takes the row over.
    auto_rebalancing.drive_due(slow_desk(floor, lambda: look(floor, seconds=AFTER_PAUSE_S)), floor.standings)
    assert len(rebalances(floor, who, mine)) == 1
    assert shown(floor, who, mine) == [(2, "PLACED", None)]
    finish(floor)
    assert [order["status"] for order in rebalances(floor, who, mine)] == ["filled"]


def test_a_driver_that_comes_back_after_it_has_failed_does_not_try_again(floor: Floor, published: Published) -> None:
    who, mine = holder(floor, published)
    sell_outside(floor, who, mine)
    published.revise(NEW)
    auto_rebalancing.drive_due(slow_desk(floor, lambda: look(floor, seconds=AFTER_PAUSE_S)), floor.standings)
    assert shown(floor, who, mine) == [(2, "FAILED", "insufficient_shares")]
    assert len(rebalances(floor, who, mine)) == 1


def test_switched_off_while_it_is_planned_it_is_not_placed(floor: Floor, published: Published) -> None:
    who, mine = holder(floor, published)
    published.revise(NEW)
    auto_rebalancing.drive_due(slow_desk(floor, lambda: switch(floor, who, mine, False)), floor.standings)
    assert (rebalances(floor, who, mine), floor.count("auto_rebalance")) == ([], 0)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_driver_killed_at_any_transaction_has_it_placed_once(
    floor: Floor, published: Published, mortal: Callable[[int, str], MortalDatabase], when: str
) -> None:
    lived, weights = 0, [NEW, NEWER]
    who, mine = holder(floor, published)
    for number in range(1, TRANSACTIONS_MAX):
        published.revise(weights[number % 2])
        try:
            auto_rebalancing.drive_due(floor.desk_on(mortal(number, when)), floor.standings)
            lived = number
        except Killed:
            pass
        finish(floor)
        orders = rebalances(floor, who, mine)
        assert [order["version"] for order in orders] == list(range(number + 1, 1, -1)), "one order of each version"
        assert {order["status"] for order in orders} == {"filled"}
        assert floor.held(who, mine) == floor.holdings(who)
        if lived:
            break
    assert lived > 6, "a look has fewer transactions than were to be killed"
    floor.sound()


@pytest.mark.parametrize(("requests", "answers"), [(1, 0), (0, 1)])
def test_an_unknown_outcome_is_asked_for_again_and_not_placed_anew(
    floor: Floor, published: Published, requests: int, answers: int
) -> None:
    who, mine = holder(floor, published)
    published.revise(NEW)
    floor.wire.lose_requests, floor.wire.lose_answers = requests, answers
    look(floor)
    [order] = rebalances(floor, who, mine)
    assert order["status"] == "placing"
    finish(floor)
    assert [order["status"] for order in rebalances(floor, who, mine)] == ["filled"]


# --- when -------------------------------------------------------------------------------------------------------------


def test_it_waits_for_the_market(floor: Floor, published: Published) -> None:
    who, mine = holder(floor, published)
    published.revise(NEW)
    floor.market.is_open = False
    look(floor, seconds=12 * 3_600, times=20)
    assert (rebalances(floor, who, mine), floor.count("auto_rebalance")) == ([], 0), "no attempt is spent"
    floor.market.is_open = True
    look(floor)
    assert len(rebalances(floor, who, mine)) == 1


def test_it_waits_while_another_order_of_the_basket_works(floor: Floor, published: Published) -> None:
    who, mine = holder(floor, published)
    more = floor.post(who, f"/investments/{mine['investment_id']}/invest-more", {"amount": "5000"}).json()
    published.revise(NEW)
    look(floor, seconds=6 * 3_600, times=2 * ATTEMPTS_MAX)
    assert floor.order(who, more)["status"] == "placed"
    assert (rebalances(floor, who, mine), shown(floor, who, mine)) == ([], [(2, "DUE", None)])
    floor.trade()
    look(floor)
    assert len(rebalances(floor, who, mine)) == 1, "waiting has spent no attempt and no time"


def test_an_own_rebalance_leaves_nothing_to_do(floor: Floor, published: Published) -> None:
    who, mine = holder(floor, published)
    more = floor.post(who, f"/investments/{mine['investment_id']}/invest-more", {"amount": "5000"}).json()
    published.revise(NEW)
    look(floor)
    floor.trade()
    assert floor.order(who, more)["status"] == "filled"
    floor.post(who, f"/investments/{mine['investment_id']}/rebalance").raise_for_status()
    finish(floor)
    assert len(rebalances(floor, who, mine)) == 1
    assert shown(floor, who, mine) == [(2, "SKIPPED", "followed_already")]


def test_of_two_versions_in_a_row_only_the_newest_is_followed(floor: Floor, published: Published) -> None:
    who, mine = holder(floor, published)
    more = floor.post(who, f"/investments/{mine['investment_id']}/invest-more", {"amount": "5000"}).json()
    published.revise(NEW)
    look(floor)
    published.revise(NEWER)
    look(floor)
    assert shown(floor, who, mine) == [(3, "DUE", None), (2, "SKIPPED", "superseded")]
    floor.trade()
    assert floor.order(who, more)["status"] == "filled"
    finish(floor)
    assert [(order["version"], order["status"]) for order in rebalances(floor, who, mine)] == [(3, "filled")]
    assert set(floor.held(who, mine)) == set(NEWER)


def test_a_version_published_while_it_is_planned_takes_its_place(floor: Floor, published: Published) -> None:
    who, mine = holder(floor, published)
    published.revise(NEW)
    auto_rebalancing.drive_due(slow_desk(floor, lambda: published.revise(NEWER)), floor.standings)
    look(floor)
    assert [order["version"] for order in rebalances(floor, who, mine)] == [3]


def test_one_look_does_a_bounded_number(floor: Floor, published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    holders = [holder(floor, published) for _ in range(3)]
    published.revise(NEW)
    monkeypatch.setattr(auto_rebalancing, "BATCH", 2)
    before = floor.count("basket_order")
    look(floor, times=1)
    assert floor.count("basket_order") == before + 2
    look(floor, times=1)
    assert [len(rebalances(floor, *one)) for one in holders] == [1, 1, 1]


# --- what can not be done ---------------------------------------------------------------------------------------------


def told(floor: Floor) -> list[tuple[str, str, str | None]]:
    events = [event for event in floor.events(BasketUpdated) if event["kind"] == "REBALANCE"]
    return [(event["status"], event["basket_order_id"], event["reason_code"]) for event in events]


def sell_outside(floor: Floor, who: Person, receipt: Mapping[str, Any]) -> None:
    """Sell shares of the basket by a plain order: a rebalance wants to sell what is not there, and is refused."""
    body = {"tradingsymbol": "TCS", "exchange": "NSE", "side": "SELL", "quantity": floor.held(who, receipt)["TCS"]}
    headers = {**who.headers, "Idempotency-Key": uuid4().hex}
    floor.portfolio_client.post("/api/v1/orders", json=body, headers=headers).raise_for_status()
    floor.trade()


def test_a_refusal_that_stays_is_shown_and_told_and_not_tried_again(floor: Floor, published: Published) -> None:
    who, mine = holder(floor, published)
    sell_outside(floor, who, mine)
    published.revise(NEW)
    look(floor)
    [order] = rebalances(floor, who, mine)
    code = order["refusals"][0]["code"]
    assert (order["status"], code) == ("refused", "insufficient_shares")
    assert shown(floor, who, mine) == [(2, "FAILED", code)]
    assert told(floor) == [("refused", order["basket_order_id"], code)]
    look(floor, seconds=AFTER_PAUSE_S)
    assert len(rebalances(floor, who, mine)) == 1
    assert floor.investment(who, mine)["version"] == 1


def test_a_refusal_that_passes_is_tried_again_without_telling(floor: Floor, published: Published) -> None:
    who, mine = holder(floor, published)
    published.revise(NEW)
    floor.market.price_age_s = 60
    look(floor)
    assert shown(floor, who, mine) == [(2, "DUE", "stale_price")]
    look(floor, seconds=60)
    assert len(rebalances(floor, who, mine)) == 1, "not before the pause is over"
    floor.market.price_age_s = 0
    look(floor, seconds=AFTER_PAUSE_S)
    assert [order["status"] for order in rebalances(floor, who, mine)] == ["placed", "refused"]
    assert (shown(floor, who, mine), told(floor)) == ([(2, "PLACED", None)], [])


@pytest.mark.parametrize("hindrance", ["refused", "standing"])
def test_what_does_not_pass_ends_and_is_told_once(floor: Floor, published: Published, hindrance: str) -> None:
    who, mine = holder(floor, published)
    published.revise(NEW)
    code = "stale_price" if hindrance == "refused" else "account_not_active"
    if hindrance == "refused":
        floor.market.price_age_s = 60
    else:
        floor.standings.known[who.user_id] = Standing("suspended", "approved")
    for _ in range(ATTEMPTS_MAX + 4):
        look(floor, seconds=AFTER_PAUSE_S)
    assert shown(floor, who, mine) == [(2, "FAILED", code)]
    orders = rebalances(floor, who, mine)
    assert len(orders) == (ATTEMPTS_MAX if hindrance == "refused" else 1)
    assert told(floor) == [("refused", orders[0]["basket_order_id"], code)]
    assert orders[0]["refusals"][0]["code"] == code
    assert floor.investment(who, mine)["auto_rebalances"][0]["basket_order_id"] == orders[0]["basket_order_id"]
    floor.market.price_age_s = 0
    floor.standings.known.clear()
    look(floor, seconds=AFTER_PAUSE_S)
    assert len(rebalances(floor, who, mine)) == len(orders), "given up is given up"
    # The next version is another matter, and the user's own request never was forbidden.
    published.revise(NEWER)
    look(floor)
    assert rebalances(floor, who, mine)[0]["version"] == 3


def test_a_holding_as_close_as_whole_shares_allow_is_left_alone(floor: Floor, published: Published) -> None:
    who, mine = holder(floor, published)
    published.revise({"TCS": 5_001, "ITC": 2_999, "MARUTI": 2_000})
    look(floor)
    assert (rebalances(floor, who, mine), told(floor)) == ([], [])
    assert shown(floor, who, mine) == [(2, "SKIPPED", "nothing_to_rebalance")]


def test_a_row_of_each_version_can_not_be_there_twice(floor: Floor, published: Published) -> None:
    _, mine = holder(floor, published)
    published.revise(NEW)
    look(floor)
    row = {"investment_id": mine["investment_id"], "version": 2, "state": "DUE", "attempts": 0}
    with pytest.raises(IntegrityError, match="pk_auto_rebalance"), floor.smallcase_db.transaction() as session:
        session.execute(sa.insert(AutoRebalance).values(**row, created_at=floor.clock.now()))
