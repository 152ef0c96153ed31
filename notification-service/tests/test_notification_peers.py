"""What is asked of user-service: addresses together and remembered for a moment, tokens each time."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from common.auth import ServiceIdentity
from common.http import PeerUnavailable, ServiceClient
from notification_service.peers import IDS_PER_REQUEST_MAX, UserDirectory


class Users:
    """user-service's internal routes, as its own tests pin them."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self.verified: set[UUID] = set()
        self.tokens: dict[str, str] = {}
        self.is_away = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if self.is_away:
            raise httpx.ConnectError("refused")
        path = request.url.path
        if path == "/internal/v1/contacts":
            people = [UUID(one) for one in request.url.params.get_list("user_id")]
            rows = [
                {
                    "user_id": str(one),
                    "email": f"{one}@x.example",
                    "email_verified": one in self.verified,
                    "full_name": "A",
                }
                for one in people
            ]
            return httpx.Response(200, json={"contacts": rows})
        if path == "/internal/v1/role-holders":
            return httpx.Response(200, json={"user_ids": [str(one) for one in self.verified]})
        token = self.tokens.get(path.rpartition("/")[2])
        if token is None:
            return httpx.Response(404, json={"code": "not_found", "detail": "no such token"})
        return httpx.Response(
            200, json={"token": token, "purpose": "verify_email", "expires_at": "2026-11-23T00:00:00Z"}
        )


@pytest.fixture
def users_room() -> Users:
    return Users()


@pytest.fixture
def directory(users_room: Users, service_identity: Callable[[str], ServiceIdentity]) -> UserDirectory:
    client = ServiceClient(
        "http://users",
        audience="user-service",
        identity=service_identity("notification-service"),
        transport=httpx.MockTransport(users_room),
    )
    return UserDirectory(client)


def test_addresses_are_asked_for_together_and_once(directory: UserDirectory, users_room: Users) -> None:
    people = [uuid4() for _ in range(250)]
    users_room.verified = set(people)
    for one in people:
        contact = directory.contact(one, people)
        assert contact is not None
        assert contact.email == f"{one}@x.example"
    assert len(users_room.asked) == 3
    assert all(len(one.url.params.get_list("user_id")) <= IDS_PER_REQUEST_MAX for one in users_room.asked)
    assert all(one.headers["authorization"].startswith("Bearer ") for one in users_room.asked)


def test_an_address_is_good_the_moment_it_is_verified(directory: UserDirectory, users_room: Users) -> None:
    one = uuid4()
    first = directory.contact(one)
    assert first is not None
    assert not first.is_verified
    users_room.verified.add(one)
    second = directory.contact(one)
    assert second is not None
    assert second.is_verified


def test_tokens_are_asked_for_each_time_and_a_used_one_is_none(directory: UserDirectory, users_room: Users) -> None:
    token_id = uuid4()
    assert directory.mail_token(token_id) is None
    users_room.tokens[str(token_id)] = "t"
    assert directory.mail_token(token_id) == "t"
    users_room.tokens.clear()
    assert directory.mail_token(token_id) is None


def test_a_room_that_is_away_is_said_to_be(directory: UserDirectory, users_room: Users) -> None:
    users_room.is_away = True
    calls: list[Callable[[], Any]] = [
        lambda: directory.contact(uuid4()), directory.admins, lambda: directory.mail_token(uuid4())
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(PeerUnavailable):
            call()
