"""The access matrix: generated from the routes, judged by the declared rules, no wrong cell."""

import re
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest

from api_gateway import routing
from common.events import REGISTRY
from common.testing import ROOMS
from tests.security.house import House
from tests.security.matrix import (
    SECURITY_HEADERS,
    Cell,
    Crowd,
    Route,
    cells_of,
    merged_document,
    routes_of,
    without_ids,
)
from tests.security.rules import FOREIGN_IDS, OUTBOX_READERS, PAGES, ROOM_RULES, RULES, Access, rule_of

TOLD = (Access.ADMIN, Access.OPS, Access.SERVICE)
"""Whoever is permitted here is meant to see other people's things."""
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def crowd(house: House) -> Crowd:
    crowd = Crowd(house)
    for rule in RULES.values():
        # Objects that a request names, before anybody tries to get at them.
        if rule.access in (Access.ADMIN, Access.OPS) and rule.fresh is not None:
            rule.fresh(crowd.admin)
    return crowd


@pytest.fixture(scope="module")
def routes(house: House) -> list[Route]:
    return routes_of(house)


def test_every_route_has_a_rule_and_every_rule_a_route(routes: list[Route]) -> None:
    undecided = [
        f"{route.method} {route.path}" for route in routes if rule_of(route.method, route.path, route.room) is None
    ]
    assert undecided == [], "say in rules.py who may call these"
    served = {(route.room, route.method, route.path) for route in routes}
    assert [key for key in ROOM_RULES if key not in served] == [], "rules for routes that do not exist"
    assert RULES.keys() <= {key[1:] for key in served}, "rules for routes that do not exist"


def test_a_route_without_a_rule_would_be_noticed(house: House) -> None:
    house.apps["analytics-service"].get("/api/v1/analytics/unheard-of", include_in_schema=False)(lambda: None)
    new = [route for route in routes_of(house) if rule_of(route.method, route.path, route.room) is None]
    assert [route.path for route in new] == ["/api/v1/analytics/unheard-of"]
    house.apps["analytics-service"].router.routes.pop()


def written(smallcase: dict[str, Any]) -> dict[str, Any]:
    """What somebody has written into a smallcase."""
    weights = [(one["tradingsymbol"], one["weight_bps"]) for one in smallcase.get("constituents", ())]
    names = ("smallcase_id", "version", "name", "description", "visibility", "attributes", "changed_at")
    return {**{name: smallcase[name] for name in names}, "weights": weights}


def snapshot(crowd: Crowd) -> dict[str, Any]:
    """Everything the owner sees, and what operators could have changed."""
    owner, things = crowd.owner, crowd.owner.things
    paths = [
        "/orders", f"/orders/{things['order_id']}", "/trades", "/portfolios", "/funds", "/transactions", "/holdings",
        "/smallcases", f"/smallcases/{things['smallcase_id']}", "/notifications", "/kyc", "/users/profile", "/auth/me",
        "/users/stats", "/analytics",
    ]  # fmt: skip
    seen = {path: owner.get(path) for path in paths}
    seen["/analytics"].pop("as_of", None)
    # Prices, and what is expected of them, move by themselves.
    del seen["/smallcases"]
    # Those of before must be as they were; requests that are refused may need fresh ones.
    listed = owner.get("/smallcases?own=true&limit=100")["items"]
    seen |= {f"smallcase {one['smallcase_id']}": written(one) for one in listed}
    seen[f"/smallcases/{things['smallcase_id']}"] = written(seen[f"/smallcases/{things['smallcase_id']}"])
    counts = {
        (room, statement): crowd.house.rows(room, statement)
        for room, statement in (
            (routing.EXECUTOR, "SELECT trading_state, day_sends FROM control"),
            (routing.EXECUTOR, "SELECT count(*) FROM broker_session"),
            (routing.EXECUTOR, "SELECT count(*) FROM recon_break WHERE closed_at IS NULL"),
            (routing.EXECUTOR, "SELECT live_attested_at FROM broker_account"),
            (routing.MARKET_DATA, "SELECT count(*) FROM calendar_override WHERE withdrawn_at IS NULL"),
            (routing.PORTFOLIO, "SELECT count(*) FROM transfer"),
            (routing.PORTFOLIO, "SELECT count(*) FROM user_order"),
        )
    }
    return {**seen, **{str(key): value for key, value in counts.items()}}


def is_pages_policy(policy: str) -> bool:
    """Whether a page may run its own script at most, fetch nothing, and stand in nobody's frame."""
    parts = {part.strip().partition(" ")[0]: part.strip().partition(" ")[2] for part in policy.split(";")}
    scripts = parts.get("script-src", "'none'")
    return (
        parts.get("default-src") == parts.get("frame-ancestors") == parts.get("form-action") == "'none'"
        and set(parts)
        <= {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action", "frame-ancestors"}
        and (scripts == "'none'" or re.fullmatch(r"'nonce-[\w-]{20,}'", scripts) is not None)
    )


def judge(crowd: Crowd, cells: list[Cell]) -> list[str]:
    """The wrong cells among these, each with what is wrong."""
    wrong = []
    for cell in cells:
        response, request = crowd.answer(cell)
        faults = [] if response.status_code == cell.expected else [f"{response.status_code}, not {cell.expected}"]
        if cell.caller != "owner" and not (cell.is_let_in and cell.route.rule.access in TOLD):
            faults += [f"tells {mark}" for mark in crowd.leaked(response.text, request)]
        if cell.door == "gateway":
            got = {name: response.headers.get(name) for name in SECURITY_HEADERS}
            if routing.without_alias(cell.route.path) in PAGES and is_pages_policy(
                got["content-security-policy"] or ""
            ):
                got["content-security-policy"] = SECURITY_HEADERS["content-security-policy"]
            faults += [f"{name}: {got[name]}" for name, value in SECURITY_HEADERS.items() if got[name] != value]
        if response.status_code >= 400 and response.headers["content-type"] != "application/problem+json":
            faults.append(f"a refusal of type {response.headers['content-type']}")
        if faults:
            wrong.append(f"{cell}: {'; '.join(faults)}: {response.text[:200]}")
    return wrong


def test_the_matrix_has_no_wrong_cell(crowd: Crowd, routes: list[Route], record_property: Any) -> None:
    cells = cells_of(routes)
    refused = [cell for cell in cells if not cell.is_let_in]
    before = snapshot(crowd)
    wrong = judge(crowd, refused)
    after = snapshot(crowd)
    changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    wrong += judge(crowd, [cell for cell in cells if cell.is_let_in])
    expected = Counter(cell.expected for cell in cells)
    report = f"access matrix: {len(routes)} routes, {len(cells)} cells, {len(wrong)} wrong; expected {dict(expected)}"
    record_property("matrix", report)
    print(report)  # noqa: T201  the figure of this test
    assert changed == {}, "a refused request changed something"
    assert wrong == []
    assert len(cells) > 1_500


def test_a_foreign_object_looks_like_one_that_does_not_exist(crowd: Crowd, routes: list[Route]) -> None:
    different = []
    for route in routes:
        if route.rule.access is not Access.OWN:
            continue
        for caller in ("other", "admin"):
            cell = Cell("gateway", route, caller)
            foreign, _ = crowd.answer(cell)
            [name] = route.rule.path(crowd.owner)  # type: ignore[misc]
            absent, _ = crowd.answer(cell, {name: str(uuid4())})
            if without_ids(foreign) != without_ids(absent):
                different.append(f"{cell}: {foreign.text} / {absent.text}")
    assert different == []


def named_ids(operation: dict[str, Any], document: dict[str, Any]) -> set[str]:
    """Names of ids and cursors in an operation's query and JSON body."""
    names = {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "query"}
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    todo = [content.get("schema", {})]
    while todo:
        schema = todo.pop()
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        names |= schema.get("properties", {}).keys()
        todo += [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]
        todo += [schema["items"]] if isinstance(schema.get("items"), dict) else []
    return {name for name in names if name.endswith("_id") or name == "cursor"}


def test_a_foreign_id_in_query_or_body_opens_nothing(crowd: Crowd, house: House) -> None:
    document = merged_document(house)
    found = {
        (method.upper(), path, name)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        for name in named_ids(operation, document)
        if routing.without_alias(path) == path and rule_of(method.upper(), path).access is Access.USER  # type: ignore[union-attr]
    }
    assert found == FOREIGN_IDS.keys(), "say in rules.py what a foreign id of this name leads to"
    wrong = []
    for (method, path, name), expected in FOREIGN_IDS.items():
        for caller in ("other", "admin"):
            if caller == "admin" and path.startswith("/api/v1/analytics") and name == "user_id":
                continue  # operators may read anybody's figures
            response, given = ask_with_foreign_id(crowd, caller, method, path, name)
            leaks = crowd.leaked(response.text, given)
            items = response.json().get("items", []) if expected == 200 and name != "cursor" else []
            if response.status_code != expected or leaks or items:
                wrong.append(f"{caller} {method} {path} with {name}: {response.status_code} {leaks} {response.text}")
    assert wrong == []


def ask_with_foreign_id(crowd: Crowd, caller: str, method: str, path: str, name: str) -> Any:
    """A request that names the owner's object; answers the response and the id."""
    person, rule = crowd.people[caller], rule_of(method, path)
    assert rule is not None
    if name == "cursor":
        given = crowd.owner.get(path.removeprefix("/api/v1"), limit=1)["next_cursor"]
        assert given is not None, f"the owner needs two of what {path} lists"
    else:
        given = crowd.owner.things[name]
    headers = {**person.headers, "Idempotency-Key": uuid4().hex}
    if method == "GET":
        return crowd.house.gateway.get(path, params={name: given}, headers=headers), given
    body = rule.body(person)  # type: ignore[misc]
    if "orders" in body:
        body = {"orders": [{**order, name: given} for order in body["orders"]]}
    else:
        body = {**body, name: given}
    return crowd.house.gateway.request(method, path, json=body, headers=headers), given


def test_a_room_reads_of_another_s_outbox_what_is_meant_for_it(house: House) -> None:
    wrong = []
    for room, readers in OUTBOX_READERS.items():
        for caller in ROOMS:
            for event in {event for given in OUTBOX_READERS.values() for event in given.values()}:
                token = house.identity(caller).token(room)
                answer = house.rooms[room].get(
                    "/internal/v1/outbox",
                    params={"type": event, "after": "2026-01-01T00:00:00+00:00"},
                    headers={"Authorization": f"Bearer {token}"},
                )
                stated = REGISTRY[event]
                meant = room in stated.producers and caller in stated.consumers
                if answer.status_code != (200 if meant else 403):
                    wrong.append(f"{caller} reads {event} at {room}: {answer.status_code}")
                if readers.get(caller) == event and not meant:
                    wrong.append(f"{event} of {room} is not meant for {caller}")
    assert wrong == []
