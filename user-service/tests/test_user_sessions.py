"""Refresh rotation, reuse detection, revocation, and what the gateway is told."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

DAY_S = 86_400


def refresh(house, token):
    return house.post("/auth/refresh", {"refresh_token": token})


def state(house, service_identity, sid, room="api-gateway"):
    token = service_identity(room).token("user-service")
    return house.client.get(f"/internal/v1/sessions/{sid}", headers={"Authorization": f"Bearer {token}"})


def sid_of(house, person) -> str:
    return house.me(person).json()["session_id"]


def test_a_refresh_token_is_exchanged_for_a_new_pair_of_the_same_session(house):
    person = house.person()
    sid = sid_of(house, person)

    answer = refresh(house, person.tokens["refresh_token"])

    assert answer.status_code == 200
    assert answer.json()["refresh_token"] != person.tokens["refresh_token"]
    person.tokens = answer.json()
    assert sid_of(house, person) == sid


def test_reuse_revokes_the_whole_family(house):
    person = house.person()
    old = person.tokens["refresh_token"]
    newer = refresh(house, old).json()
    newest = refresh(house, newer["refresh_token"]).json()

    reused = refresh(house, old)

    assert reused.status_code == 401
    assert reused.json()["code"] == "refresh_token_reused"
    assert refresh(house, newest["refresh_token"]).json()["code"] == "session_revoked"
    person.tokens = newest
    assert house.me(person).json()["code"] == "session_revoked"
    (event,) = house.rows("SELECT actor_kind, target FROM audit_log WHERE action = 'refresh_token.reused'")
    assert event == {"actor_kind": "unknown", "target": f"user:{person.user_id}"}


def test_reuse_leaves_other_sessions_alone(house):
    person = house.person()
    old = person.tokens["refresh_token"]
    other = house.login(person.email).json()
    refresh(house, old)
    refresh(house, old)
    assert refresh(house, other["refresh_token"]).status_code == 200


@pytest.mark.parametrize("contenders", [2, 8])
def test_of_parallel_refreshes_with_one_token_exactly_one_wins_and_the_family_ends(house, contenders):
    for _ in range(5):
        person = house.person()
        token = person.tokens["refresh_token"]
        with ThreadPoolExecutor(contenders) as threads:
            answers = list(threads.map(lambda _, t=token: refresh(house, t), range(contenders)))

        assert sorted(answer.status_code for answer in answers) == [200] + [401] * (contenders - 1)
        assert {a.json()["code"] for a in answers if a.status_code == 401} == {"refresh_token_reused"}
        (winner,) = [answer.json() for answer in answers if answer.status_code == 200]
        assert refresh(house, winner["refresh_token"]).json()["code"] == "session_revoked"
        live = house.rows(
            "SELECT 1 FROM auth_sessions WHERE user_id = :user_id AND revoked_at IS NULL", user_id=person.user_id
        )
        assert live == []


def test_an_unknown_refresh_token_is_unauthorized(house):
    for token in ["x", "nonsense" * 20, "é", "' OR 1=1 --"]:
        answer = refresh(house, token)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_refresh_token")


def test_a_malformed_refresh_is_refused(house):
    for body in [{}, {"refresh_token": ""}, {"refresh_token": "x" * 5000}, {"refresh_token": "x", "a": 1}]:
        assert house.post("/auth/refresh", body).status_code == 422, body


def test_an_access_token_is_no_refresh_token(house):
    person = house.person()
    assert refresh(house, person.tokens["access_token"]).json()["code"] == "invalid_refresh_token"


def test_a_refresh_token_ends_after_its_lifetime(house, clock):
    person = house.person()
    clock.advance(7 * DAY_S)
    assert refresh(house, person.tokens["refresh_token"]).json()["code"] == "invalid_refresh_token"


def test_refreshing_does_not_keep_a_session_for_ever(house, clock):
    person = house.person()
    token = person.tokens["refresh_token"]
    weeks = 0
    while (answer := refresh(house, token)).status_code == 200:
        token = answer.json()["refresh_token"]
        clock.advance(6 * DAY_S)
        weeks += 1
        assert weeks < 10
    assert weeks == 5
    assert answer.json()["code"] == "invalid_refresh_token"


def test_logout_ends_the_session_and_can_be_repeated(house):
    person = house.person()

    assert house.post("/auth/logout", headers=person.headers).status_code == 204
    assert house.post("/auth/logout", headers=person.headers).status_code == 204

    assert house.me(person).json()["code"] == "session_revoked"
    assert refresh(house, person.tokens["refresh_token"]).json()["code"] == "session_revoked"
    assert house.post("/auth/logout").status_code == 401


def test_logout_all_ends_every_session_of_the_caller_only(house):
    person, other = house.person(), house.person()
    second = house.login(person.email).json()

    assert house.post("/auth/logout-all", headers=person.headers).status_code == 204

    assert house.me(person).status_code == 401
    assert refresh(house, second["refresh_token"]).status_code == 401
    assert house.me(other).status_code == 200
    assert house.post("/auth/logout-all").status_code == 401


def test_the_gateway_sees_a_revocation_at_once(house, service_identity):
    person = house.person()
    sid = sid_of(house, person)
    live = state(house, service_identity, sid)
    assert live.json() == {
        "active": True, "user_id": str(person.user_id), "roles": ["user"], "kyc": "none", "status": "active",
    }  # fmt: skip

    house.post("/auth/logout", headers=person.headers)

    assert state(house, service_identity, sid).json()["active"] is False


def test_a_session_that_never_was_is_inactive(house, service_identity):
    answer = state(house, service_identity, uuid4())
    assert answer.status_code == 200
    assert answer.json()["active"] is False


def test_internal_routes_are_for_the_named_room_only(house, service_identity, keys, clock):
    person = house.person()
    sid = sid_of(house, person)
    path = f"/internal/v1/sessions/{sid}"
    assert house.client.get(path).status_code == 401
    assert house.client.get(path, headers=person.headers).status_code == 401
    assert house.client.get(path, headers=house.admin().headers).status_code == 401
    assert state(house, service_identity, sid, room="analytics-service").status_code == 403
    for_another = service_identity("api-gateway").token("portfolio-service")
    assert house.client.get(path, headers={"Authorization": f"Bearer {for_another}"}).status_code == 401
    assert house.client.get("/internal/v1/sessions/x", headers=person.headers).status_code in (401, 422)


def test_roles_and_kyc_in_a_refreshed_token_are_those_of_now(house):
    person, admin = house.person(), house.admin()
    house.client.put(
        f"/api/v1/admin/users/{person.user_id}/roles", json={"roles": ["user", "ops"]}, headers=admin.headers
    )
    person.tokens = refresh(house, person.tokens["refresh_token"]).json()
    valid = house.post("/auth/validate-token", {"token": person.tokens["access_token"]}).json()
    assert valid["roles"] == ["ops", "user"]
