"""The token attack table: every forged token at the gateway and at every room's own verifier."""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from api_gateway import routing
from tests.security import people
from tests.security.forgery import SERVICE_TOKENS, USER_TOKENS, WHOLE_HEADERS, Forger
from tests.security.house import House
from tests.security.matrix import routes_of
from tests.security.people import API, Person
from tests.security.rules import RULES, Access

PROBES = {
    routing.USER: "/auth/me",
    routing.PORTFOLIO: "/funds",
    routing.SMALLCASE: "/smallcases",
    routing.EXECUTOR: "/ops/summary",
    routing.NOTIFICATION: "/notifications",
    routing.ANALYTICS: "/analytics",
    routing.MARKET_DATA: "/market/status",
}
"""A route of every room that wants a user (the executor's: an operator)."""


@pytest.fixture(scope="module")
def forger(house: House) -> Forger:
    return Forger(house, people.new_operator(house, "admin", "ops"))


def doors(house: House) -> Iterator[tuple[str, TestClient, str]]:
    """Every verifier: each room's own, and the gateway's before all of them."""
    yield "the gateway", house.gateway, API + PROBES[routing.PORTFOLIO]
    for room, path in PROBES.items():
        yield room, house.rooms[room], API + path


def asked(client: TestClient, path: str, headers: Any) -> int:
    """The status of a read with these headers."""
    encoded = [(name, value.encode()) for name, value in headers]
    return client.get(path, headers=encoded).status_code


def test_the_probes_let_a_good_token_in(house: House, forger: Forger) -> None:
    answers = {}
    for name, client, path in doors(house):
        for scheme in ("Bearer", "bearer", "BEARER"):  # RFC 9110, 11.1: the scheme's case does not matter
            answers[name, scheme] = asked(client, path, [("Authorization", f"{scheme} {forger.good}")])
    assert answers == dict.fromkeys(answers, 200)
    made = asked(house.gateway, API + "/funds", [("Authorization", f"Bearer {forger.signed()}")])
    assert made == 200, "the forger's own way of signing is right, or the rows below would fail for the wrong reason"


def test_every_forged_user_token_is_refused_everywhere(house: House, forger: Forger) -> None:
    let_in = [
        f"{attack} at {name}: {status}"
        for attack, make in USER_TOKENS.items()
        for token in [make(forger)]
        for name, client, path in doors(house)
        if (status := asked(client, path, [("Authorization", f"Bearer {token}")])) != 401
    ]
    assert let_in == []
    assert len(USER_TOKENS) >= 40


def test_a_good_token_in_the_wrong_place_signs_nobody_in(house: House, forger: Forger) -> None:
    wrong = [
        f"{attack} at {name}: {status}"
        for attack, headers in WHOLE_HEADERS.items()
        for name, client, path in doors(house)
        if (status := asked(client, path, headers(forger.good))) != 401
    ]
    for name, client, path in doors(house):
        for parameter in ("access_token", "token", "authorization", "jwt", "bearer"):
            status = client.get(path, params={parameter: forger.good}).status_code
            wrong += [f"?{parameter}= at {name}: {status}"] if status != 401 else []
    assert wrong == []


def test_every_forged_service_token_is_refused(house: House, forger: Forger) -> None:
    let_in, asked_of = [], 0
    # Whatever a route is about, it need not exist: the token is judged first.
    forger.victim.things = defaultdict(lambda: str(uuid4()), user_id=str(forger.victim.user_id))
    for route in routes_of(house):
        rule, room = route.rule, route.room
        if rule.access is not Access.SERVICE:
            continue
        target = route.path.format(**(rule.path(forger.victim) if rule.path else {}))
        query = rule.query(forger.victim) if rule.query else None
        ask = partial(asked_as_room, house.rooms[room], route.method, target, query)
        let = ask(forger.service(rule.callers[0], room))
        # What is posted here is empty: whoever is let in is told so.
        assert let == 200 if route.method == "GET" else let == 422, f"{room} {target}: {let}"
        for attack, make in SERVICE_TOKENS.items():
            asked_of += 1
            if (status := ask(make(forger, rule.callers[0], room))) != 401:
                let_in.append(f"{attack} at {room} {target}: {status}")
    assert let_in == []
    assert asked_of >= 100


def asked_as_room(client: TestClient, method: str, path: str, query: Any, token: str) -> int:
    """The status of an internal call without a body worth the name."""
    headers = {"Authorization": f"Bearer {token}".encode()}
    body = None if method == "GET" else {}
    return client.request(method, path, params=query, json=body, headers=headers).status_code


def test_internal_routes_do_not_exist_at_the_gateway_however_they_are_spelled(house: House, forger: Forger) -> None:
    token = forger.service("api-gateway", routing.USER)
    path = f"internal/v1/sessions/{forger.claims['sid']}"
    spelled = [
        f"/{path}", f"//{path}", f"/./{path}", f"/api/v1/../../{path}", f"/api/v1/%2e%2e/%2e%2e/{path}",
        f"/api/v1/auth/..;/{path}", f"/%69nternal/v1/{path.partition('/v1/')[2]}", f"/api/v1/auth/%2e%2e%2f{path}",
        f"/Internal/v1/{path.partition('/v1/')[2]}", f"/api/v1/auth/..%5c{path}", f"/auth/../{path}", f"/{path}/",
        f"/api/v1/auth//../../../{path}", f"/{path}%20", f"/{path}%00",
    ]  # fmt: skip
    answers = {}
    for raw in spelled:
        request = house.gateway.build_request("GET", "/x", headers={"Authorization": f"Bearer {token}"})
        request.url = request.url.copy_with(raw_path=raw.encode())
        answers[raw] = house.gateway.send(request).status_code
    assert {raw: status for raw, status in answers.items() if status not in (400, 401, 404)} == {}
    assert house.rooms[routing.USER].get(f"/{path}", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_an_ended_session_ends_its_tokens(house: House) -> None:
    person = people.new_user(house)
    assert asked(house.gateway, API + "/funds", person.headers.items()) == 200
    person.post("/auth/logout")
    for path in PROBES.values():
        assert asked(house.gateway, API + path, person.headers.items()) == 401
    # The room that owns sessions looks by itself; the others are reached through the gateway only.
    assert asked(house.rooms[routing.USER], API + "/auth/me", person.headers.items()) == 401
    used = house.gateway.post(f"{API}/auth/refresh", json={"refresh_token": person.tokens["refresh_token"]})
    assert used.status_code == 401


def suspended(admin: Person, person: Person) -> None:
    admin.call("PUT", f"/admin/users/{person.user_id}/status", {"status": "suspended", "reason": "a test"})


def degraded(admin: Person, person: Person) -> None:
    admin.call("PUT", f"/admin/users/{person.user_id}/roles", {"roles": ["user"]})


def changed_password(admin: Person, person: Person) -> None:
    other = Person(person.house, person.user_id, person.email).sign_in(totp_code=person.code(1))
    new = "another battery staple"
    other.post("/auth/change-password", {"current_password": person.password, "new_password": new})


@pytest.mark.parametrize("act", [suspended, degraded, changed_password])
def test_what_ends_trust_in_an_operator_ends_his_tokens(house: House, act: Any) -> None:
    admin, person = people.new_operator(house, "admin"), people.new_operator(house, "ops")
    assert asked(house.gateway, API + "/ops/summary", person.headers.items()) == 200
    act(admin, person)
    assert asked(house.gateway, API + "/ops/summary", person.headers.items()) == 401


def test_operators_without_their_second_factor_are_turned_away(house: House) -> None:
    made = people.new_operator(house, "admin", "ops")
    weak = Forger(house, made).but(mfa=False)
    headers = [("Authorization", f"Bearer {weak}")]
    for (method, path), rule in RULES.items():
        if rule.access in (Access.ADMIN, Access.OPS) and "{" not in path:
            body = {"reason": "a reason of the tests"} if method != "GET" else None
            answer = house.gateway.request(method, path, headers=headers, json=body)
            # user-service reads the session itself, which has the factor: there the token's word is not what counts.
            assert answer.status_code == 403, f"{method} {path}: {answer.status_code} {answer.text}"
            assert answer.json()["code"] == "mfa_required"


def test_a_reused_refresh_token_ends_the_whole_family(house: House) -> None:
    person = people.new_user(house)
    stolen = person.tokens["refresh_token"]
    person.refresh()
    assert house.gateway.post(f"{API}/auth/refresh", json={"refresh_token": stolen}).status_code == 401
    assert asked(house.gateway, API + "/funds", person.headers.items()) == 401
