"""What is sent: fields nobody asked for are refused, hostile values break nothing, redirects and addresses lead nowhere."""

import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from httpx import Response

from api_gateway import routing
from tests.security import people
from tests.security.hostile import PRIVILEGED, hostile_values, objects_in, with_field
from tests.security.house import House
from tests.security.matrix import Cell, Crowd, Route, merged_document, routes_of
from tests.security.rules import Access

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def crowd(house: House) -> Crowd:
    return Crowd(house)


def with_bodies(house: House) -> Iterator[tuple[Route, dict[str, Any]]]:
    """Canonical routes that take a JSON body, with the schema of the body."""
    document = merged_document(house)
    for route in routes_of(house):
        operation = document["paths"].get(route.path, {}).get(route.method.lower(), {})
        content = operation.get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema")
        if schema is not None and routing.without_alias(route.path) == route.path:
            yield route, resolved(schema, document)


def resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """The schema a reference points to; of several, the first that is an object."""
    if "$ref" in schema:
        return resolved(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    for option in schema.get("anyOf", []):
        if "$ref" in option:
            return resolved(option, document)
    return schema


def sender_of(crowd: Crowd, route: Route) -> Any:
    """Somebody whom the route lets in."""
    if route.rule.access in (Access.ADMIN, Access.OPS):
        crowd.admin.things = {**crowd.owner.things, **crowd.admin.things}
        return crowd.people["admin"] if route.rule.access is Access.ADMIN else crowd.people["ops"]
    return crowd.double("owner") if route.rule.spends else crowd.owner


def send(crowd: Crowd, route: Route, sender: Any, body: Any, maker: Any) -> Response:
    """A body to a route, as JSON that Python would not write by itself where need be."""
    path = route.path.format(**(route.rule.path(maker) if route.rule.path else {}))
    headers = {**sender.headers, "Idempotency-Key": uuid4().hex, "Content-Type": "application/json"}
    return crowd.house.gateway.request(route.method, path, content=json.dumps(body), headers=headers)


def good_request(crowd: Crowd, route: Route) -> tuple[Any, Any, Any]:
    """Who sends, a good body, and whose things it is about."""
    sender = sender_of(crowd, route)
    maker = crowd.admin if route.rule.access in (Access.ADMIN, Access.OPS) else sender
    if route.rule.fresh is not None:
        route.rule.fresh(maker)
    subject = maker if route.rule.access is not Access.PUBLIC else crowd.owner
    return sender, route.rule.body(subject) if route.rule.body else {}, maker


def test_a_good_request_is_let_in(crowd: Crowd, house: House) -> None:
    """Otherwise a refusal below would prove nothing."""
    refused = []
    for route, _ in with_bodies(house):
        if route.rule.access is Access.OWN:
            continue  # the matrix itself sends these
        sender, body, maker = good_request(crowd, route)
        answer = send(crowd, route, sender, body, maker)
        if answer.status_code not in (Cell("gateway", route, "admin").expected, route.rule.status):
            refused.append(f"{route.method} {route.path}: {answer.status_code} {answer.text[:200]}")
    assert refused == []


def test_no_request_takes_a_field_nobody_asked_for(crowd: Crowd, house: House) -> None:
    taken, tried = [], 0
    for route, schema in with_bodies(house):
        if route.path == f"{routing.API}/broker/postback":
            continue  # the broker's own form; nothing of it but the order's id is looked at
        sender, body, maker = good_request(crowd, route)
        known = set(schema.get("properties", {}))
        for place in objects_in(body):
            for name, value in PRIVILEGED.items():
                if name in known and not place:
                    continue
                inner = body
                for step in place:
                    inner = inner[step]
                if name in inner:
                    continue
                tried += 1
                answer = send(crowd, route, sender, with_field(body, place, name, value), maker)
                if answer.status_code != 422:
                    taken.append(f"{route.method} {route.path} takes {name} at {place}: {answer.status_code}")
    assert taken == []
    assert tried > 500


def test_hostile_values_break_nothing(crowd: Crowd, house: House) -> None:
    broken, tried = [], 0
    for route, schema in with_bodies(house):
        sender, body, maker = good_request(crowd, route)
        for name, field in schema.get("properties", {}).items():
            for value in hostile_values(field):
                tried += 1
                answer = send(crowd, route, sender, {**body, name: value}, maker)
                if answer.status_code >= 500:
                    broken.append(f"{route.method} {route.path} {name}={value!r:.60}: {answer.status_code}")
                if answer.status_code == 401 and route.rule.access is not Access.PUBLIC:
                    sender = sender_of(crowd, route)
    document = merged_document(house)
    for route in routes_of(house):
        operation = document["paths"].get(route.path, {}).get(route.method.lower(), {})
        parameters = [one for one in operation.get("parameters", []) if one["in"] == "query"]
        if not parameters or routing.without_alias(route.path) != route.path:
            continue
        sender, _, maker = good_request(crowd, route)
        path = route.path.format(**(route.rule.path(maker) if route.rule.path else {}))
        good = route.rule.query(maker) if route.rule.query else {}
        for parameter in parameters:
            for value in hostile_values(parameter["schema"]):
                tried += 1
                query = {**good, parameter["name"]: value}
                text = {key: str(item)[:5_000] for key, item in query.items()}
                answer = house.gateway.request(route.method, path, params=text, headers=sender.headers)
                if answer.status_code >= 500:
                    broken.append(f"{route.method} {path} ?{parameter['name']}={value!r:.60}: {answer.status_code}")
    assert broken == []
    assert tried > 500


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b'"text"', b"1", b"\xff\xfe", b"[" * 20_000, b'{"a":' * 5_000, b"{}" * 100,
        b'{"email": "a", "email": "b"}', b"\x00", b'{"\xed\xa0\x80": 1}',
    ],
)  # fmt: skip
def test_a_body_that_is_no_json_breaks_nothing(crowd: Crowd, house: House, content: bytes) -> None:
    statuses = set()
    for route, _ in with_bodies(house):
        path = re.sub(r"\{\w+\}", str(uuid4()), route.path)
        headers = {**crowd.people["admin"].headers, "Idempotency-Key": uuid4().hex, "Content-Type": "application/json"}
        statuses.add(house.gateway.request(route.method, path, content=content, headers=headers).status_code)
    assert all(400 <= status < 500 or status == 200 for status in statuses), statuses


def test_a_header_claims_no_identity_and_no_method(crowd: Crowd, house: House) -> None:
    other, owner = crowd.people["other"], crowd.owner
    claims = {
        "X-User-Id": str(owner.user_id), "X-Forwarded-User": str(owner.user_id), "X-Roles": "admin",
        "X-HTTP-Method-Override": "DELETE", "X-Method-Override": "DELETE", "X-Original-URL": "/internal/v1/session",
        "X-Rewrite-URL": "/api/v1/admin/users", "X-Forwarded-Host": "evil.example", "Forwarded": "for=127.0.0.1",
        "X-Saras-Service": "api-gateway", "X-Request-ID": "../../x", "Host": "evil.example",
    }  # fmt: skip
    before = owner.get("/orders")
    answer = house.gateway.get("/api/v1/auth/me", headers={**other.headers, **claims})
    assert answer.json()["user_id"] == str(other.user_id)
    assert answer.headers["x-request-id"] != "../../x"
    assert house.gateway.get("/api/v1/admin/users", headers={**other.headers, **claims}).status_code == 403
    path = f"/api/v1/orders/{owner.things['order_id']}"
    assert house.gateway.get(path, headers={**other.headers, **claims}).status_code == 404
    assert house.gateway.get(path, headers={**owner.headers, **claims}).status_code == 200
    assert owner.get("/orders") == before, "nothing was deleted by a header"


def test_nothing_redirects_elsewhere_and_no_field_is_an_address(crowd: Crowd, house: House) -> None:
    for raw in ("//evil.example", "/\\evil.example", "/docs//evil.example", "/docs/..//evil.example", "/orders/"):
        request = house.gateway.build_request("GET", "/x", headers=crowd.owner.headers)
        request.url = request.url.copy_with(raw_path=raw.encode())
        answer = house.gateway.send(request, follow_redirects=False)
        assert "evil.example" not in answer.headers.get("location", ""), raw
    names = {name for _, schema in with_bodies(house) for name in schema.get("properties", {})}
    addresses = {name for name in names if any(word in name for word in ("url", "uri", "host", "callback", "webhook"))}
    assert addresses == set(), "a field that names an address needs an allow-list of where the platform may call"


def test_a_spent_allowance_is_not_refilled_by_another_spelling(house: House) -> None:
    door = house.door(general_per_minute=5, anonymous_per_minute=5, auth_per_minute=5, orders_per_minute=5)
    person = people.new_user(house)
    spelled = [
        "/api/v1/funds", "/api/v1/funds/", "/api/v1/fund%73", "/api/v1/funds?x=1", "/portfolio", "/api/v1/portfolios",
    ]  # fmt: skip
    claims = [{"X-Forwarded-For": f"10.0.0.{n}", "X-Real-IP": f"10.0.0.{n}", "Forwarded": f"for=10.0.0.{n}"}
              for n in range(6)]  # fmt: skip
    statuses = []
    for n in range(24):
        request = door.build_request("GET", "/x", headers={**person.headers, **claims[n % 6]})
        request.url = request.url.copy_with(raw_path=spelled[n % len(spelled)].encode())
        statuses.append(door.send(request).status_code)
    assert statuses.count(200) == 5
    assert set(statuses[5:]) == {429}
    tries = [
        door.post(path, json={"email": people.new_email(), "password": "x"}, headers=claims[n % 6]).status_code
        for n, path in enumerate(["/login", "/api/v1/auth/login", "/auth/login", "/api/v1/auth/login/"] * 4)
    ]
    assert tries.count(401) == 5
    assert set(tries[5:]) == {429}
