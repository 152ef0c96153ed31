"""Orders that an administrator places for a user: the one acceptance, once per key, with a row that names who did it."""

from typing import Any
from uuid import uuid4

import pytest

from common.events import OrderAccepted
from common.standing import Standing
from common.testing import StaticMarketData, StaticStandings

PATH = "/admin/orders"


def order(symbol: str = "INFY", side: str = "BUY", quantity: int = 2, **more: Any) -> dict[str, Any]:
    return {"tradingsymbol": symbol, "side": side, "quantity": quantity, **more}


def body(who: Any, *orders: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"user_id": str(who.user_id), "orders": list(orders), "reason": "asked for by telephone", **more}


@pytest.fixture
def admin(room: Any) -> Any:
    return room.customer(roles=("user", "admin"))


@pytest.fixture
def user(room: Any) -> Any:
    who = room.customer()
    room.give(who, "100000")
    return who


def audit_rows(room: Any, admin: Any) -> list[dict[str, Any]]:
    rows = room.get(admin, "/admin/audit/portfolio-service", action="orders.placed_for_user").json()["items"]
    return list(rows)


def test_orders_belong_to_the_user_and_the_audit_row_names_the_administrator(room: Any, admin: Any, user: Any) -> None:
    answer = room.post(admin, PATH, body(user, order(), order("ITC", quantity=5)))
    assert answer.status_code == 202, answer.text
    assert (answer.json()["accepted"], answer.json()["refused"]) == (2, 0)
    placed = room.get(user, "/orders").json()["items"]
    assert {row["order_id"] for row in placed} == {row["order"]["order_id"] for row in answer.json()["results"]}
    assert room.get(admin, "/orders").json()["items"] == []
    [row] = audit_rows(room, admin)
    assert (row["actor"], row["target"]) == (str(admin.user_id), f"user:{user.user_id}")
    assert row["details"] == {
        "submission_id": answer.json()["submission_id"],
        "accepted": 2,
        "refused": 0,
        "reason": "asked for by telephone",
    }
    assert {event["user_id"] for event in room.events(OrderAccepted)} == {str(user.user_id)}
    room.sound()


def test_a_key_places_once_also_for_another_administrator(room: Any, admin: Any, user: Any) -> None:
    wanted, key = body(user, order()), uuid4().hex
    first = room.post(admin, PATH, wanted, key)
    again = room.post(room.customer(roles=("admin",)), PATH, wanted, key)
    assert (first.status_code, again.status_code, again.json()) == (202, 202, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(room.get(user, "/orders").json()["items"]) == 1
    assert room.post(admin, PATH, body(user, order(quantity=3)), key).json()["code"] == "idempotency_key_reused"
    # The user's own keys are another matter.
    assert room.order(user, key).status_code == 202


def test_a_refused_list_places_nothing_and_may_come_again(room: Any, admin: Any, user: Any) -> None:
    wanted, key = body(user, order(), order(quantity=100)), uuid4().hex
    refused = room.post(admin, PATH, wanted, key)
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "insufficient_funds")
    assert room.get(user, "/orders").json()["items"] == []
    assert audit_rows(room, admin) == []
    room.give(user, "400000")
    assert room.post(admin, PATH, wanted, key).status_code == 202


def test_each_order_may_be_judged_alone(room: Any, admin: Any, user: Any) -> None:
    answer = room.post(admin, PATH, body(user, order(), order("NOPE"), atomic=False)).json()
    assert [row["code"] for row in answer["results"]] == [None, "unknown_instrument"]
    assert audit_rows(room, admin)[0]["details"]["refused"] == 1


@pytest.mark.parametrize(
    ("standing", "status", "code"),
    [
        (Standing("suspended", "approved"), 409, "account_not_active"),
        (Standing("closed", "approved"), 409, "account_not_active"),
        (Standing("active", "pending"), 403, "kyc_required"),
    ],
)
def test_the_users_standing_decides_not_the_administrators(
    room: Any, admin: Any, user: Any, standings: StaticStandings, standing: Standing, status: int, code: str
) -> None:
    standings.known[user.user_id] = standing
    for path in (PATH, f"{PATH}/preview"):
        wanted = body(user, order())
        if path != PATH:
            del wanted["reason"]
        answer = room.post(admin, path, wanted)
        if path == PATH or status == 409:
            assert (answer.status_code, answer.json()["code"]) == (status, code)
        else:
            assert answer.json()["results"][0]["code"] == code
    assert room.count("user_order") == 0


def test_somebody_without_an_account_is_not_found(room: Any, admin: Any, standings: StaticStandings) -> None:
    stranger = room.customer()
    standings.unknown.add(stranger.user_id)
    answer = room.post(admin, PATH, body(stranger, order()))
    assert (answer.status_code, answer.json()["code"]) == (404, "user_not_found")
    assert room.count("trader") == 0


def test_a_preview_says_what_would_happen_and_keeps_nothing(room: Any, admin: Any, user: Any) -> None:
    newcomer = room.customer()
    before = {table: room.count(table) for table in ("trader", "portfolio", "account", "transfer", "outbox")}
    wanted = {"user_id": str(user.user_id), "orders": [order(), order(quantity=100)], "atomic": False}
    answer = room.post(admin, f"{PATH}/preview", wanted)
    assert answer.status_code == 200, answer.text
    good, bad = answer.json()["results"]
    # 3 % market protection over 1,500: two at 1,545.00 and their charges.
    assert (good["status"], good["worst_price"], bad["code"]) == ("accepted", "1545.00", "insufficient_funds")
    assert float(good["hold"]) > 2 * 1545
    poor = room.post(admin, f"{PATH}/preview", {"user_id": str(newcomer.user_id), "orders": [order()]}).json()
    assert poor["results"][0]["code"] == "insufficient_funds"
    assert {table: room.count(table) for table in before} == before
    placed = room.post(admin, PATH, body(user, order())).json()["results"][0]["order"]
    assert placed["status"] == "ACCEPTED"


def test_only_administrators_with_a_second_factor(room: Any, user: Any, market: StaticMarketData) -> None:
    for roles in (("user",), ("user", "ops")):
        who = room.customer(roles=roles)
        assert room.post(who, PATH, body(user, order())).status_code == 403
        assert room.post(who, f"{PATH}/preview", {"user_id": str(user.user_id), "orders": [order()]}).status_code == 403
    assert room.count("user_order") == 0


@pytest.mark.parametrize(
    "wrong",
    [{"orders": []}, {"reason": "x"}, {"user_id": "me"}, {"kyc": "approved"}, {"reason": "control \x00"}],
)
def test_bad_requests_are_refused(room: Any, admin: Any, user: Any, wrong: dict[str, Any]) -> None:
    assert room.post(admin, PATH, {**body(user, order()), **wrong}).status_code in (400, 422)
    assert room.count("user_order") == 0
