"""The addresses that the room that tells people things may ask for, and nobody else."""

from typing import Any
from uuid import uuid4

import pytest
from httpx import Response

CONTACTS, HOLDERS = "/internal/v1/contacts", "/internal/v1/role-holders"


@pytest.fixture
def ask(house: Any, service_identity: Any) -> Any:
    def ask(path: str, params: Any, room: str = "notification-service") -> Response:
        token = service_identity(room).token("user-service")
        return house.client.get(path, params=params, headers={"Authorization": f"Bearer {token}"})

    return ask


def test_contacts_are_those_of_active_accounts(house: Any, ask: Any) -> None:
    person, closed = house.person(), house.person()
    house.client.request("DELETE", "/api/v1/users/account", json={"password": closed.password}, headers=closed.headers)
    answer = ask(CONTACTS, [("user_id", str(one)) for one in (person.user_id, closed.user_id)])
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    [contact] = answer.json()["contacts"]
    assert contact["user_id"] == str(person.user_id)
    assert contact["email"] == person.email
    assert contact["email_verified"] is False


def test_holders_of_a_role_are_active(house: Any, ask: Any) -> None:
    admin, _ = house.admin(), house.person()
    assert ask(HOLDERS, {"role": "admin"}).json() == {"user_ids": [str(admin.user_id)]}


@pytest.mark.parametrize("params", [[], [("user_id", "x")], [("user_id", "0" * 32)] * 101])
def test_a_bounded_list_of_ids_is_asked_for(ask: Any, params: Any) -> None:
    assert ask(CONTACTS, params).status_code == 422


@pytest.mark.parametrize("path", [f"{CONTACTS}?user_id={'0' * 32}", f"{HOLDERS}?role=admin"])
def test_only_the_room_that_tells_people_things_may_ask(house: Any, ask: Any, path: str) -> None:
    person = house.person()
    assert house.client.get(path, headers=person.headers).status_code == 401
    assert house.client.get(path).status_code == 401
    assert ask(path, None, room="analytics-service").status_code == 403
    assert ask(path, None).status_code == 200


def test_the_standing_of_an_account_is_what_holds_now(house: Any, ask: Any) -> None:
    person, room = house.person(), "portfolio-service"
    path = f"/internal/v1/standing/{person.user_id}"
    answer = ask(path, {}, room)
    assert (answer.json(), answer.headers["cache-control"]) == ({"status": "active", "kyc": "none"}, "no-store")
    house.client.request("DELETE", "/api/v1/users/account", json={"password": person.password}, headers=person.headers)
    assert ask(path, {}, room).json()["status"] == "closed"
    assert ask(f"/internal/v1/standing/{uuid4()}", {}, room).status_code == 404
    assert ask(path, {}).status_code == 403
