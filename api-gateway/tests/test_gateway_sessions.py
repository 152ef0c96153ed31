"""A session that was ended is refused within the window; a silent user-service closes nobody out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from api_gateway.sessions import UserServiceSessions
from common.auth import ServiceIdentity
from common.clock import FixedClock

if TYPE_CHECKING:
    from conftest import Door, EchoRoom, Start

Headers = Callable[..., dict[str, str]]


@pytest.mark.parametrize("over_http", [False, True])
def test_an_ended_session_is_refused_within_the_window(start: Start, auth_headers: Headers, over_http: bool) -> None:
    door = start(over_http=over_http, session_check_s=15)
    session = uuid4()
    headers = auth_headers(session_id=session)
    users = door.rooms["user-service"]
    assert [door.client.get("/portfolio", headers=headers).status_code for _ in range(5)] == [200] * 5
    assert users.session_questions == 1

    users.ended_sessions.add(session)
    door.clock.advance(14)
    assert door.client.get("/portfolio", headers=headers).status_code == 200
    door.clock.advance(1)
    answer = door.client.get("/portfolio", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "session_revoked")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert users.session_questions == 2

    # An ended session stays ended, whatever is said later.
    users.ended_sessions.clear()
    door.clock.advance(60)
    assert door.client.get("/portfolio", headers=headers).status_code == 401
    assert users.session_questions == 2
    assert door.client.get("/portfolio", headers=auth_headers()).status_code == 200


def test_a_session_nobody_knows_is_refused(door: Door, auth_headers: Headers) -> None:
    session = uuid4()
    door.rooms["user-service"].unknown_sessions.add(session)
    answer = door.client.get("/portfolio", headers=auth_headers(session_id=session))
    assert (answer.status_code, answer.json()["code"]) == (401, "session_revoked")


@pytest.mark.parametrize("status", [500, 503, 401, 302])
def test_a_silent_user_service_leaves_the_token_good_until_it_expires(
    door: Door, auth_headers: Headers, status: int
) -> None:
    users = door.rooms["user-service"]
    users.session_failure = status
    headers = auth_headers(lifetime_s=100)
    assert [door.client.get("/portfolio", headers=headers).status_code for _ in range(3)] == [200] * 3
    assert users.session_questions == 1
    door.clock.advance(101)
    assert door.client.get("/portfolio", headers=headers).json()["code"] == "expired_token"
    assert 'saras_gateway_session_checks_total{result="unanswered"' in door.client.get("/metrics").text


def test_an_unreachable_user_service_leaves_the_token_good(start: Start, auth_headers: Headers) -> None:
    door = start(upstreams={"user-service": "http://127.0.0.1:9"})
    assert door.client.get("/portfolio", headers=auth_headers()).status_code == 200


def test_simultaneous_requests_share_one_question_and_old_sessions_are_forgotten(
    echo_rooms: dict[str, EchoRoom], service_identity: Callable[[str], ServiceIdentity], clock: FixedClock
) -> None:
    users = echo_rooms["user-service"]
    sessions = UserServiceSessions(users.app(), service_identity("api-gateway"), clock, ttl_s=15, keys_max=10)

    async def ask() -> None:
        session = uuid4()
        assert await asyncio.gather(*(sessions.active(session) for _ in range(50))) == [True] * 50
        assert users.session_questions == 1
        for _ in range(30):
            await sessions.active(uuid4())
        assert len(sessions._known) == 10
        assert not sessions._asking

    asyncio.run(ask())


def test_one_asker_giving_up_does_not_disturb_the_others(
    echo_rooms: dict[str, EchoRoom], service_identity: Callable[[str], ServiceIdentity], clock: FixedClock
) -> None:
    users = echo_rooms["user-service"]
    sessions = UserServiceSessions(users.app(), service_identity("api-gateway"), clock, ttl_s=15)

    async def ask() -> None:
        session = uuid4()
        impatient = asyncio.create_task(sessions.active(session))
        patient = asyncio.create_task(sessions.active(session))
        await asyncio.sleep(0)
        impatient.cancel()
        assert await patient is True
        assert users.session_questions == 1

    asyncio.run(ask())


def test_only_the_gateway_is_answered(
    echo_rooms: dict[str, EchoRoom], service_identity: Callable[[str], ServiceIdentity], clock: FixedClock
) -> None:
    users = echo_rooms["user-service"]
    users.ended_sessions.add(session := uuid4())
    stranger = UserServiceSessions(users.app(), service_identity("trade-executor"), clock, ttl_s=15)
    # Forbidden is no answer about the session: nothing is concluded from it.
    assert asyncio.run(stranger.active(session)) is True
    assert users.session_questions == 0
