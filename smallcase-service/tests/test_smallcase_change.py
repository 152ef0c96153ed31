"""PUT /api/v1/smallcases/{id}: a change is a new version, based on the newest one, and says why."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from common.clock import FixedClock
from common.db import Database
from common.testing import StaticMarketData

PATH = "/api/v1/smallcases"
ABSENT = "00000000-0000-4000-8000-000000000000"
Headers = Callable[..., dict[str, str]]
Basket = Callable[..., dict[str, Any]]
Created = Callable[..., dict[str, Any]]
HALVES = [{"exchange": "NSE", "tradingsymbol": symbol, "weight_bps": 5_000} for symbol in ("TCS", "ITC")]


@pytest.fixture
def user_id() -> UUID:
    return uuid4()


@pytest.fixture
def mine(auth_headers: Headers, user_id: UUID) -> dict[str, str]:
    return auth_headers(user_id)


@pytest.fixture
def path(created: Created, mine: dict[str, str]) -> str:
    """The path of a smallcase of mine in version 1."""
    return f"{PATH}/{created(mine)['smallcase_id']}"


def versions(client: TestClient, headers: dict[str, str], path: str, **params: int) -> list[dict[str, Any]]:
    answer = client.get(f"{path}/versions", headers=headers, params=params)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def test_change_is_a_new_version_and_the_old_one_stays(
    client: TestClient, mine: dict[str, str], user_id: UUID, path: str, basket: Basket, clock: FixedClock
) -> None:
    clock.advance(600)
    change = basket(name="Two halves", constituents=HALVES, version=1, reason="MARUTI has run too far")
    answer = client.put(path, headers=mine, json=change)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["version"], body["name"], body["constituents"]) == (2, "Two halves", shown(HALVES))
    assert (body["created_at"], body["changed_at"]) == ("2026-11-23T10:00:00+05:30", "2026-11-23T10:10:00+05:30")
    assert client.get(path, headers=mine).json()["version"] == 2

    found = versions(client, mine, path)
    assert [item.pop("attributes")["weighting"] for item in found] == ["custom", "custom"]
    assert found == [
        {
            "version": 2,
            "name": "Two halves",
            "description": "An example",
            "visibility": "private",
            "reason": "MARUTI has run too far",
            "changed_by": str(user_id),
            "changed_at": "2026-11-23T10:10:00+05:30",
            "constituents": shown(HALVES),
        },
        {
            "version": 1,
            "name": "Three of a kind",
            "description": "An example",
            "visibility": "private",
            "reason": "created",
            "changed_by": str(user_id),
            "changed_at": "2026-11-23T10:00:00+05:30",
            "constituents": shown(basket()["constituents"]),
        },
    ]
    assert [item["version"] for item in versions(client, mine, path, limit=1)] == [2]
    assert [item["version"] for item in versions(client, mine, path, before=2)] == [1]


def test_change_based_on_an_old_version_is_refused(
    client: TestClient, mine: dict[str, str], path: str, basket: Basket
) -> None:
    change = basket(version=1, reason="first")
    assert client.put(path, headers=mine, json=change).status_code == 200
    again = client.put(path, headers=mine, json=change)
    assert again.status_code == 409
    assert (again.json()["code"], again.json()["version_now"]) == ("smallcase_changed", 2)
    assert client.put(path, headers=mine, json={**change, "version": 3}).status_code == 409
    assert len(versions(client, mine, path)) == 2


def test_of_concurrent_changes_exactly_one_wins(
    client: TestClient, mine: dict[str, str], path: str, basket: Basket
) -> None:
    def change(number: int) -> int:
        body = basket(name=f"Attempt {number}", version=1, reason="at once")
        return client.put(path, headers=mine, json=body).status_code

    with ThreadPoolExecutor(6) as pool:
        statuses = sorted(pool.map(change, range(6)))
    assert statuses == [200, 409, 409, 409, 409, 409]
    assert [item["version"] for item in versions(client, mine, path)] == [2, 1]


def shown(constituents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**one, "rationale": ""} for one in constituents]


def test_anonymous_caller_is_refused(client: TestClient, path: str, basket: Basket) -> None:
    assert client.put(path, json=basket(version=1, reason="x")).status_code == 401


def test_stranger_finds_no_private_smallcase_and_may_not_change_a_published_one(
    client: TestClient, mine: dict[str, str], auth_headers: Headers, created: Created, basket: Basket, path: str
) -> None:
    stranger, change = auth_headers(uuid4()), basket(version=1, reason="mine now")
    for absent in (path, f"{PATH}/{ABSENT}"):
        answer = client.put(absent, headers=stranger, json=change)
        assert (answer.status_code, answer.json()["code"]) == (404, "smallcase_not_found")
    published = f"{PATH}/{created(auth_headers(roles=('admin',)), visibility='published')['smallcase_id']}"
    answer = client.put(published, headers=stranger, json=change)
    assert (answer.status_code, answer.json()["code"]) == (403, "not_your_smallcase")
    assert [item["version"] for item in versions(client, stranger, published)] == [1]
    assert [item["version"] for item in versions(client, mine, path)] == [1]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"reason": " "}, "invalid_request"),
        ({"reason": None}, "invalid_request"),
        ({"version": 0}, "invalid_request"),
        ({"version": "1"}, "invalid_request"),
        ({"smallcase_id": ABSENT}, "invalid_request"),
        ({"constituents": [{"tradingsymbol": "TCS", "weight_bps": 9_999}]}, "weights_not_whole"),
        ({"constituents": [*HALVES, *HALVES]}, "duplicate_constituent"),
        ({"constituents": [{"tradingsymbol": "NOSUCH", "weight_bps": 10_000}]}, "unknown_instrument"),
    ],
    ids=str,
)
def test_bad_change_is_refused_and_writes_nothing(
    client: TestClient, mine: dict[str, str], path: str, basket: Basket, fields: dict[str, Any], code: str
) -> None:
    answer = client.put(path, headers=mine, json={**basket(version=1, reason="why"), **fields})
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == code
    assert len(versions(client, mine, path)) == 1


def test_owner_may_not_publish_by_changing(client: TestClient, mine: dict[str, str], path: str, basket: Basket) -> None:
    answer = client.put(path, headers=mine, json=basket(version=1, reason="for all", visibility="published"))
    assert answer.status_code == 403
    assert client.get(path, headers=mine).json()["visibility"] == "private"


def test_strangers_do_not_see_versions_from_before_the_publishing(
    client: TestClient, auth_headers: Headers, created: Created, basket: Basket
) -> None:
    admin, stranger = auth_headers(uuid4(), roles=("admin",)), auth_headers(uuid4())
    path = f"{PATH}/{created(admin, name='Secret idea')['smallcase_id']}"
    change = basket(version=1, reason="ready", visibility="published")
    assert client.put(path, headers=admin, json=change).status_code == 200
    assert [item["version"] for item in versions(client, stranger, path)] == [2]
    assert [item["version"] for item in versions(client, admin, path)] == [2, 1]
    assert client.put(path, headers=admin, json=basket(version=2, reason="withdrawn")).status_code == 200
    assert client.get(path, headers=stranger).status_code == 404


def test_delisted_share_must_go_with_the_next_change(
    client: TestClient, mine: dict[str, str], path: str, basket: Basket, market: StaticMarketData
) -> None:
    del market.shares["NSE", "MARUTI"]
    kept = client.put(path, headers=mine, json=basket(version=1, reason="a new name"))
    assert kept.json()["code"] == "unknown_instrument"
    assert client.put(path, headers=mine, json=basket(version=1, reason="out", constituents=HALVES)).status_code == 200
    assert client.get(path, headers=mine).json()["validation"]["valid"] is True


@pytest.mark.parametrize("table", ["smallcase_version", "smallcase_constituent"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET version = version + 1", "DELETE FROM {}"])
@pytest.mark.usefixtures("path")
def test_database_refuses_to_change_a_version(db: Database, table: str, statement: str) -> None:
    with pytest.raises(IntegrityError, match="insert-only"), db.transaction() as session:
        session.execute(text(statement.format(table)))
