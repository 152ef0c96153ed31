"""The cells of the access matrix: every route of every room, by every kind of caller, at both doors."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import uuid4

from fastapi import FastAPI
from fastapi.routing import APIRoute
from httpx import Response

from api_gateway import openapi, routing
from tests.security import people
from tests.security.house import House
from tests.security.people import Person
from tests.security.rules import Access, Rule, rule_of

PEOPLE = ("owner", "other", "admin", "ops")
ROOM_TOKENS = ("room", "wrong room", "wrong audience")
CALLERS = (*PEOPLE, *ROOM_TOKENS, "nobody")
DOORS = ("gateway", "room")
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


@dataclass(frozen=True)
class Route:
    """One method at one path, and the room that answers."""

    room: str
    method: str
    path: str

    @property
    def rule(self) -> Rule:
        """Who may call it."""
        rule = rule_of(self.method, self.path, self.room)
        assert rule is not None, f"no rule says who may call {self.method} {self.path}"
        return rule

    @property
    def is_internal(self) -> bool:
        """Not for the outside."""
        return self.path.startswith("/internal")


@dataclass(frozen=True)
class Cell:
    """One caller at one route at one door."""

    door: str
    route: Route
    caller: str

    @property
    def expected(self) -> int:
        """The status the declared rule leads to."""
        if self.door == "gateway" and self.route.is_internal:
            return 404
        rule = self.route.rule
        allowed = rule.statuses.get(self.caller, rule.status)
        if rule.access is Access.PUBLIC:
            return allowed
        if rule.access is Access.SERVICE:
            return {"room": allowed, "wrong room": 403}.get(self.caller, 401)
        if self.caller not in PEOPLE:
            return 401
        if rule.access is Access.USER:
            return allowed
        if rule.access is Access.OWN:
            return allowed if self.caller == "owner" else 404
        permitted = ("admin",) if rule.access is Access.ADMIN else ("admin", "ops")
        return allowed if self.caller in permitted else 403

    @property
    def is_let_in(self) -> bool:
        """Whether the door and the owner's filter let the caller through to the use case."""
        return self.expected in (self.route.rule.status, *self.route.rule.statuses.values())

    def __str__(self) -> str:
        return f"{self.door}: {self.caller} {self.route.method} {self.route.path}"


def api_routes(app: FastAPI) -> Iterator[APIRoute]:
    """Routes of an app, those that no document lists among them; health and metrics are the same in every room."""
    for entry in app.routes:
        for route in getattr(getattr(entry, "original_router", None), "routes", [entry]):
            if isinstance(route, APIRoute) and not route.path.startswith(("/health", "/metrics")):
                yield route


def routes_of(house: House) -> list[Route]:
    """Every route of the rooms, then the short names of the merged document."""
    found = [
        Route(room, method, route.path)
        for room, app in house.apps.items()
        for route in api_routes(app)
        for method in sorted(route.methods)
    ]
    merged = merged_document(house)
    listed = {(method.upper(), path) for path, item in merged["paths"].items() for method in item}
    canonical = {(route.method, route.path) for route in found}
    for method, path in sorted(listed - canonical):
        target = routing.resolve(method, path)
        assert target is not None, f"the document lists {method} {path}, which nobody answers"
        assert target.room is not None
        found.append(Route(target.room, method, path))
    return found


def merged_document(house: House) -> dict[str, Any]:
    """The platform's public OpenAPI document."""
    documents = {room: app.openapi() for room, app in house.apps.items()}
    return openapi.merge(documents, title="Saras", version="0", missing={})


def cells_of(routes: list[Route]) -> list[Cell]:
    """Every caller at every route; short names exist at the gateway only."""
    return [
        Cell(door, route, caller)
        for route in routes
        for door in DOORS
        if door == "gateway" or routing.without_alias(route.path) == route.path
        for caller in CALLERS
    ]


class Crowd:
    """The people and rooms of a matrix, and how each of them makes a request."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.admin = people.new_operator(house, "admin")
        everybody = {
            "owner": people.new_user(house),
            "other": people.new_user(house),
            "admin": people.new_operator(house, "admin"),
            "ops": people.new_operator(house, "ops"),
        }
        self.people: Mapping[str, Person] = {
            name: people.equip(self.admin, person) for name, person in everybody.items()
        }
        self.owner = self.people["owner"]

    @cache  # noqa: B019  lives as long as one test file
    def spare(self) -> Person:
        """Somebody to make a request for that is refused anyway."""
        spare = people.new_user(self.house)
        spare.totp_secret = spare.post("/auth/totp/setup")["secret"]
        return spare

    def double(self, caller: str) -> Person:
        """Somebody of the same kind whose session may be used up."""
        if caller in ("admin", "ops"):
            return people.new_operator(self.house, caller)
        return people.new_user(self.house)

    def answer(self, cell: Cell, things: Mapping[str, str] | None = None) -> tuple[Response, str]:
        """Make the cell's request; answers the response and the request as text.

        `things` replaces ids in the path (for objects that do not exist).
        """
        rule, route = cell.route.rule, cell.route
        speaker = self.people.get(cell.caller)
        if rule.spends:
            speaker = self.double(cell.caller) if speaker is not None and cell.is_let_in else speaker
            subject = speaker if speaker is not None and cell.is_let_in else self.spare()
        else:
            subject = speaker if rule.access is Access.USER and speaker is not None else self.owner
        if rule.fresh is not None and cell.is_let_in and cell.caller != "nobody":
            rule.fresh(subject if rule.access in (Access.OWN, Access.USER) else self._maker(cell, subject))
        path = route.path.format(**{**(rule.path(self._maker(cell, subject)) if rule.path else {}), **(things or {})})
        query = rule.query(subject) if rule.query else None
        body = rule.body(subject) if rule.body else None
        headers = {**self._token(cell, speaker), "Idempotency-Key": uuid4().hex}
        client = self.house.gateway if cell.door == "gateway" else self.house.rooms[route.room]
        # Without a body of its own a route gets none.
        options = {} if body is None else {"json": body}
        response = client.request(route.method, path, params=query, headers=headers, **options)
        return response, f"{path} {query} {body}"

    def _maker(self, cell: Cell, subject: Person) -> Person:
        # What operators act on is made with an administrator's rights and belongs to the owner's things.
        if cell.route.rule.access in (Access.ADMIN, Access.OPS):
            self.admin.things = {**self.owner.things, **self.admin.things}
            return self.admin
        return subject

    def _token(self, cell: Cell, speaker: Person | None) -> dict[str, str]:
        if speaker is not None:
            return speaker.headers
        if cell.caller == "nobody":
            return {}
        permitted = cell.route.rule.callers or ("api-gateway",)
        name = permitted[0] if cell.caller != "wrong room" else cell.route.room
        audience = cell.route.room if cell.caller != "wrong audience" else "strategy-service"
        return {"Authorization": f"Bearer {self.house.identity(name).token(audience)}"}

    def leaked(self, text: str, request: str) -> list[str]:
        """What of the owner stands in an answer although the request did not name it."""
        owner = self.owner
        named = [thing for name, thing in owner.things.items() if name.endswith("_id") and isinstance(thing, str)]
        marks = [owner.email, owner.name, owner.pan, *named]
        return [mark for mark in marks if mark in text and mark not in request]


def without_ids(response: Response) -> tuple[int, str]:
    """An answer with every id taken out, to compare two of them."""
    return response.status_code, re.sub(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", "ID", response.text)
