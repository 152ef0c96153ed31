"""/api/v1/notifications over a real database: own rows only, stable pages, repeatable changes."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from common.clock import FixedClock
from common.events import OrderUpdated

PATH = "/api/v1/notifications"
ABSENT = "00000000-0000-4000-8000-000000000000"
Make = Callable[..., OrderUpdated]
Consume = Callable[..., UUID]
Headers = Callable[..., dict[str, str]]


@pytest.fixture
def user_id() -> UUID:
    return uuid4()


@pytest.fixture
def mine(auth_headers: Headers, user_id: UUID) -> dict[str, str]:
    return auth_headers(user_id)


def listed(client: TestClient, headers: dict[str, str], **params: Any) -> dict[str, Any]:
    answer = client.get(PATH, headers=headers, params=params)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", PATH),
        ("GET", f"{PATH}/unread-count"),
        ("PUT", f"{PATH}/read-all"),
        ("GET", f"{PATH}/{ABSENT}"),
        ("PUT", f"{PATH}/{ABSENT}/read"),
        ("DELETE", f"{PATH}/{ABSENT}"),
    ],
)
def test_anonymous_caller_is_refused(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"


def test_list_shows_own_notifications_in_indian_time(
    client: TestClient, consume: Consume, order_updated: Make, mine: dict[str, str], user_id: UUID
) -> None:
    event = order_updated(user_id=user_id)
    consume(event)
    consume(order_updated())  # somebody else's
    body = listed(client, mine)
    assert body["next_cursor"] is None
    (item,) = body["items"]
    assert item == {
        "notification_id": item["notification_id"],
        "kind": "order_filled",
        "title": "Bought 10 RELIANCE",
        "text": "Your order to buy 10 RELIANCE (NSE) is filled: average price ₹12,345.65, value ₹1,23,456.50, "
        "charges ₹15.20.",
        "subject": {"order_id": str(event.order_id), "portfolio_id": str(event.portfolio_id)},
        "occurred_at": "2026-11-23T10:00:00+05:30",
        "read_at": None,
    }


def test_pages_cover_all_rows_once_although_instants_tie_and_rows_vanish(
    client: TestClient, consume: Consume, order_updated: Make, mine: dict[str, str], user_id: UUID
) -> None:
    for number in range(7):
        consume(order_updated(user_id=user_id, minutes=number // 3))
    everything = [item["notification_id"] for item in listed(client, mine)["items"]]
    assert len(everything) == 7

    seen: list[str] = []
    cursor: str | None = None
    for _ in range(4):
        page = listed(client, mine, limit=2, **({"cursor": cursor} if cursor else {}))
        seen += [item["notification_id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is not None:  # the row the cursor names goes away between two pages
            assert client.delete(f"{PATH}/{cursor}", headers=mine).status_code == 204
    assert cursor is None
    assert seen == everything


def test_newest_comes_first_even_when_it_arrived_first(
    client: TestClient, consume: Consume, order_updated: Make, mine: dict[str, str], user_id: UUID
) -> None:
    consume(order_updated(user_id=user_id, minutes=5, tradingsymbol="TCS"))
    consume(order_updated(user_id=user_id, minutes=1, tradingsymbol="INFY"))
    assert [item["title"] for item in listed(client, mine)["items"]] == ["Bought 10 TCS", "Bought 10 INFY"]


@pytest.mark.parametrize(
    "params",
    [{"limit": 0}, {"limit": 201}, {"cursor": "x"}, {"unread": "perhaps"}, {"cursor": ABSENT}],
)
def test_bad_page_parameters_are_refused(client: TestClient, mine: dict[str, str], params: dict[str, Any]) -> None:
    answer = client.get(PATH, headers=mine, params=params)
    assert answer.status_code == 422
    assert answer.json()["code"] in {"invalid_request", "cursor_invalid"}


def test_cursor_of_another_user_is_unknown(
    client: TestClient, consume: Consume, order_updated: Make, auth_headers: Headers, mine: dict[str, str]
) -> None:
    other = uuid4()
    consume(order_updated(user_id=other))
    foreign = listed(client, auth_headers(other))["items"][0]["notification_id"]
    answer = client.get(PATH, headers=mine, params={"cursor": foreign})
    assert answer.json()["code"] == "cursor_invalid"


def test_reading_one_keeps_the_first_instant_and_counts_down(
    client: TestClient,
    consume: Consume,
    order_updated: Make,
    mine: dict[str, str],
    user_id: UUID,
    clock: FixedClock,
) -> None:
    for _ in range(2):
        consume(order_updated(user_id=user_id))
    assert client.get(f"{PATH}/unread-count", headers=mine).json() == {"unread": 2}
    first = listed(client, mine)["items"][0]["notification_id"]

    clock.advance(60)
    answer = client.put(f"{PATH}/{first}/read", headers=mine)
    assert answer.status_code == 200
    assert answer.json()["read_at"] == "2026-11-23T10:01:00+05:30"
    clock.advance(60)
    assert client.put(f"{PATH}/{first}/read", headers=mine).json() == answer.json()

    assert client.get(f"{PATH}/unread-count", headers=mine).json() == {"unread": 1}
    unread = listed(client, mine, unread=True)["items"]
    assert [item["read_at"] for item in unread] == [None]
    assert first not in {item["notification_id"] for item in unread}


def test_read_all_touches_only_own_unread_ones(
    client: TestClient,
    consume: Consume,
    order_updated: Make,
    auth_headers: Headers,
    mine: dict[str, str],
    user_id: UUID,
) -> None:
    other = uuid4()
    for owner in (user_id, user_id, other):
        consume(order_updated(user_id=owner))
    assert client.put(f"{PATH}/read-all", headers=mine).json() == {"marked": 2}
    assert client.put(f"{PATH}/read-all", headers=mine).json() == {"marked": 0}
    assert client.get(f"{PATH}/unread-count", headers=auth_headers(other)).json() == {"unread": 1}


def test_deleted_one_is_gone_for_every_route(
    client: TestClient, consume: Consume, order_updated: Make, mine: dict[str, str], user_id: UUID
) -> None:
    consume(order_updated(user_id=user_id))
    one = listed(client, mine)["items"][0]["notification_id"]
    assert client.delete(f"{PATH}/{one}", headers=mine).status_code == 204
    assert client.delete(f"{PATH}/{one}", headers=mine).status_code == 404
    assert client.put(f"{PATH}/{one}/read", headers=mine).status_code == 404
    assert client.get(f"{PATH}/unread-count", headers=mine).json() == {"unread": 0}
    assert listed(client, mine)["items"] == []


def test_foreign_notification_looks_absent_and_stays_as_it_is(
    client: TestClient, consume: Consume, order_updated: Make, auth_headers: Headers, mine: dict[str, str]
) -> None:
    owner = uuid4()
    consume(order_updated(user_id=owner))
    theirs = listed(client, auth_headers(owner))["items"][0]["notification_id"]
    absent = client.delete(f"{PATH}/{ABSENT}", headers=mine)
    for answer in (
        client.delete(f"{PATH}/{theirs}", headers=mine),
        client.put(f"{PATH}/{theirs}/read", headers=mine),
    ):
        assert answer.status_code == absent.status_code == 404
        assert answer.json()["code"] == absent.json()["code"] == "notification_not_found"
        assert answer.json()["detail"] == absent.json()["detail"]
    (item,) = listed(client, auth_headers(owner))["items"]
    assert item["read_at"] is None


@pytest.mark.parametrize(("method", "path"), [("PUT", f"{PATH}/not-an-id/read"), ("DELETE", f"{PATH}/not-an-id")])
def test_malformed_id_is_refused(client: TestClient, mine: dict[str, str], method: str, path: str) -> None:
    answer = client.request(method, path, headers=mine)
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_request"
