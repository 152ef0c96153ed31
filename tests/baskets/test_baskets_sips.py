"""SIPs: due dates become due once and on trading days, the user or the platform places them, nothing is placed twice."""

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.events import BasketUpdated, SipDue
from common.standing import Standing
from smallcase_service import instalments
from smallcase_service.sip_schedule import Frequency, first_due, next_due
from tests.baskets.floor import Floor, Person

DAYS = st.dates(date(2026, 1, 1), date(2030, 12, 31))


@given(DAYS, st.integers(1, 31))
def test_monthly_dates_come_once_a_month_on_their_day_or_the_last(start: date, day: int) -> None:
    first = first_due(Frequency.MONTHLY, day, start)
    following = next_due(Frequency.MONTHLY, day, first)
    assert start <= first < following
    assert (following.year * 12 + following.month) - (first.year * 12 + first.month) == 1
    for due in (first, following):
        assert due.day == day or (due.day < day and (due + timedelta(days=1)).day == 1)


@given(DAYS, st.integers(1, 5))
def test_weekly_dates_come_every_week_on_their_day(start: date, day: int) -> None:
    first = first_due(Frequency.WEEKLY, day, start)
    assert (first.isoweekday(), (first - start).days < 7) == (day, True)
    assert next_due(Frequency.WEEKLY, day, first) == first + timedelta(days=7)


def test_a_day_the_frequency_does_not_have_is_an_error() -> None:
    with pytest.raises(ValueError, match="no day"):
        first_due(Frequency.WEEKLY, 6, date(2026, 1, 1))


def make(floor: Floor, who: Person, smallcase: str, **more: Any) -> dict[str, Any]:
    body = {"smallcase_id": smallcase, "amount": "12000", "frequency": "MONTHLY", "day": 23, **more}
    answer = floor.post(who, "/sips", body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def tick(floor: Floor, *, days: int = 0, seconds: int = 0) -> None:
    """The driver looks at instalments, after so much time."""
    floor.clock.advance(days * 86_400 + seconds)
    floor.market.trading_date += timedelta(days=days)
    for _ in range(3):
        instalments.drive_due(floor.desk, floor.standings)


def read(floor: Floor, who: Person, sip: dict[str, Any]) -> dict[str, Any]:
    return dict(floor.get(who, f"/sips/{sip['sip_id']}").raise_for_status().json())


def test_the_first_instalment_must_reach_the_minimum(floor: Floor) -> None:
    who = floor.person()
    smallcase = floor.smallcase(who)
    body = {"smallcase_id": smallcase, "amount": "5000", "frequency": "MONTHLY", "day": 5}
    low = floor.post(who, "/sips", body)
    assert (low.status_code, low.json()["code"]) == (422, "amount_below_minimum")
    weekly = floor.post(who, "/sips", {**body, "amount": "12000", "frequency": "WEEKLY", "day": 6})
    assert weekly.status_code == 422
    stranger = floor.post(floor.person(), "/sips", {**body, "amount": "12000"})
    assert (stranger.status_code, stranger.json()["code"]) == (404, "smallcase_not_found")


def test_a_due_instalment_is_told_once_and_confirmed_by_the_user(floor: Floor) -> None:
    who = floor.person()
    sip = make(floor, who, floor.smallcase(who))
    assert sip["next_due_on"] == "2026-11-23"
    floor.market.is_open = False
    tick(floor)
    assert floor.events(SipDue) == [], "a closed day is no due day"
    floor.market.is_open = True
    tick(floor)
    tick(floor)
    [told] = floor.events(SipDue)
    assert (told["mode"], told["due_on"]) == ("CONFIRM", "2026-11-23")
    assert [row["sip_id"] for row in floor.get(who, "/sips/due").json()["items"]] == [sip["sip_id"]]
    assert floor.count("basket_order") == 0, "nothing is placed without the user"
    placed = floor.post(who, f"/sips/{sip['sip_id']}/confirm")
    assert placed.status_code == 202, placed.text
    twice = floor.post(who, f"/sips/{sip['sip_id']}/confirm")
    assert (twice.status_code, twice.json()["code"]) == (409, "nothing_due")
    floor.trade()
    order = floor.order(who, placed.json())
    assert (order["kind"], order["status"], order["sip_due_on"]) == ("SIP", "filled", "2026-11-23")
    assert read(floor, who, sip)["sip"]["next_due_on"] == "2026-12-23"
    # The next one is more of the same investment.
    tick(floor, days=30)
    more = floor.post(who, f"/sips/{sip['sip_id']}/confirm")
    assert more.json()["investment_id"] == placed.json()["investment_id"]
    floor.sound()


def test_the_platform_places_what_it_was_asked_to_once(floor: Floor) -> None:
    who = floor.person()
    sip = make(floor, who, floor.smallcase(who), mode="AUTO")
    tick(floor)
    assert floor.count("basket_order") == 1
    floor.trade()
    [row] = read(floor, who, sip)["instalments"]
    assert row["status"] == "PLACED"
    [investment] = floor.get(who, "/investments").json()["items"]
    assert investment["status"] == "active"
    tick(floor, seconds=3_600)
    assert floor.count("basket_order") == 1


@pytest.mark.parametrize(
    ("standing", "code"),
    [(Standing("suspended", "approved"), "account_not_active"), (Standing("active", "none"), "kyc_required")],
)
def test_an_account_that_may_not_trade_places_nothing_by_itself(floor: Floor, standing: Standing, code: str) -> None:
    who = floor.person()
    sip = make(floor, who, floor.smallcase(who), mode="AUTO")
    floor.standings.known[who.user_id] = standing
    tick(floor)
    floor.drive()
    [row] = read(floor, who, sip)["instalments"]
    assert (row["status"], row["reason_code"]) == ("DUE", code)
    assert floor.count("user_order", portfolio=True) == 0


def test_without_money_it_is_tried_again_and_then_left_to_the_user(floor: Floor) -> None:
    who = floor.person("100")
    sip = make(floor, who, floor.smallcase(who), mode="AUTO")
    tick(floor)
    [row] = read(floor, who, sip)["instalments"]
    assert (row["status"], row["reason_code"]) == ("DUE", "insufficient_funds")
    for _ in range(20):
        tick(floor, seconds=16 * 60)
    assert [event["mode"] for event in floor.events(SipDue)] == ["AUTO", "CONFIRM"]
    floor.give(who, "50000")
    tick(floor, seconds=16 * 60)
    assert floor.count("basket_order") == 0
    assert floor.post(who, f"/sips/{sip['sip_id']}/confirm").status_code == 202


def test_a_refused_instalment_waits_again(floor: Floor) -> None:
    who = floor.person(kyc="pending")
    sip = make(floor, who, floor.smallcase(who))
    tick(floor)
    refused = floor.post(who, f"/sips/{sip['sip_id']}/confirm")
    assert (refused.status_code, refused.json()["code"]) == (403, "kyc_required")
    [row] = read(floor, who, sip)["instalments"]
    assert (row["status"], row["reason_code"]) == ("DUE", "kyc_required")


def test_what_the_exchange_side_refuses_is_tried_for_hours_and_then_left_to_the_user(floor: Floor) -> None:
    who = floor.person()
    sip = make(floor, who, floor.smallcase(who), mode="AUTO")
    floor.market.price_age_s = 60
    tick(floor)
    tried = floor.count("basket_order")
    assert tried == 1
    assert floor.events(BasketUpdated) == [], "it is tried again: nothing to tell yet"
    for _ in range(30):
        tick(floor, seconds=16 * 60)
    [row] = read(floor, who, sip)["instalments"]
    assert (row["status"], row["reason_code"]) == ("DUE", "stale_price")
    assert tried < floor.count("basket_order") <= 17
    assert [event["status"] for event in floor.events(BasketUpdated)] == ["refused"], "told once, at the end"
    floor.market.price_age_s = 0
    tick(floor, seconds=16 * 60)
    assert floor.post(who, f"/sips/{sip['sip_id']}/confirm").status_code == 202


def test_dates_that_were_missed_are_asked_for_once(floor: Floor) -> None:
    who = floor.person()
    sip = make(floor, who, floor.smallcase(who), frequency="WEEKLY", day=1)
    tick(floor)
    tick(floor, days=23)
    rows = read(floor, who, sip)["instalments"]
    assert [(row["due_on"], row["status"]) for row in rows] == [("2026-12-14", "DUE"), ("2026-11-23", "SKIPPED")]
    assert read(floor, who, sip)["sip"]["next_due_on"] == "2026-12-21"


def test_skip_pause_resume_and_stop(floor: Floor) -> None:
    who, stranger = floor.person(), floor.person()
    sip = make(floor, who, floor.smallcase(who))
    path = f"/sips/{sip['sip_id']}"
    for word in ("confirm", "skip", "pause", "resume", "stop"):
        assert floor.post(stranger, f"{path}/{word}").status_code == 404
    assert floor.get(stranger, path).status_code == 404
    assert floor.post(who, f"{path}/skip").json()["next_due_on"] == "2026-12-23"
    tick(floor)
    assert floor.events(SipDue) == []
    assert floor.post(who, f"{path}/pause").json()["status"] == "PAUSED"
    tick(floor, days=40)
    assert floor.events(SipDue) == []
    resumed = floor.post(who, f"{path}/resume").json()
    assert (resumed["status"], resumed["next_due_on"]) == ("ACTIVE", "2027-01-23")
    tick(floor, days=30)
    assert len(floor.events(SipDue)) == 1
    assert floor.post(who, f"{path}/stop").json()["due"] is None
    assert floor.post(who, f"{path}/resume").json()["code"] == "sip_stopped"
    assert floor.post(who, f"{path}/skip").json()["code"] == "sip_stopped"
