"""One document out of many, and the pages that show it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import pytest
from fastapi import FastAPI
from pydantic import BaseModel, Field, create_model

from api_gateway import openapi
from api_gateway.routing import ROOMS
from common.errors import problem_response

if TYPE_CHECKING:
    from conftest import Start

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


class Cat(BaseModel):
    """One of two."""

    kind: Literal["cat"]


class Dog(BaseModel):
    """The other."""

    kind: Literal["dog"]


class Order(BaseModel):
    """Shares its name with a schema of another room."""

    pet: Cat | Dog = Field(discriminator="kind")
    parts: list[Order] = []


SmallcaseOrder = create_model("Order", weight_bps=(int, ...))
"""Of the same name as the other room's schema."""


def orders_room() -> FastAPI:
    """A room with nested, recursive and discriminated schemas, and routes that are nobody's business."""
    app = FastAPI(title="orders")

    @app.post("/api/v1/orders")
    def place(order: Order) -> Order:
        return order

    @app.post("/api/v1/orders/buy")
    def buy(order: Order) -> Order:
        return order

    @app.get("/api/v1/portfolios")
    @app.post("/api/v1/portfolios")
    def portfolios() -> list[Order]:
        return []

    @app.get("/internal/v1/holds")
    def holds() -> None: ...

    @app.get("/api/v1/users/stolen")
    def stolen() -> None: ...

    @app.get("/health")
    def health() -> None: ...

    return app


def smallcases_room() -> FastAPI:
    """A room whose schema and operation names collide with the other's."""
    app = FastAPI(title="smallcases")

    @app.get("/api/v1/smallcases/{smallcase_id}")
    def place(smallcase_id: str) -> SmallcaseOrder:
        raise NotImplementedError

    return app


def users_room() -> FastAPI:
    """Public and private routes under one prefix, with a security scheme of its own."""
    from fastapi import Depends
    from fastapi.security import HTTPBasic

    app = FastAPI(title="users")

    @app.post("/api/v1/auth/login")
    def login() -> None: ...

    @app.get("/api/v1/auth/me", dependencies=[Depends(HTTPBasic())])
    def me() -> None: ...

    return app


async def silent_room(scope: Any, receive: Any, send: Any) -> None:
    """A room that is away."""
    await problem_response(503, "away", "away")(scope, receive, send)


def _upstreams() -> dict[str, Any]:
    rooms: dict[str, Any] = dict.fromkeys(ROOMS, silent_room)
    return rooms | {
        "portfolio-service": orders_room(),
        "smallcase-service": smallcases_room(),
        "user-service": users_room(),
    }


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method]


def _refs(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in (node.get("discriminator") or {}).get("mapping", {}).values() if "discriminator" in node else ():
            yield value
        for value in node.values():
            yield from _refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from _refs(value)


@pytest.fixture
def document(start: Start) -> dict[str, Any]:
    """The merged document of three rooms, with the others away."""
    answer = start(upstreams=_upstreams()).client.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    result: dict[str, Any] = answer.json()
    return result


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    refs = list(_refs(document))
    assert len(refs) > 10
    for ref in refs:
        node: Any = document
        for part in ref.removeprefix("#/").split("/"):
            node = node[part]
        assert node


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in _operations(document)]
    assert len(names) == len(set(names)) > 5
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in names)


def test_names_of_schemas_do_not_collide(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert "weight_bps" in schemas["smallcase-service.Order"]["properties"]
    assert "pet" in schemas["portfolio-service.Order-Input"]["properties"]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in schemas)
    answer = document["paths"]["/api/v1/smallcases/{smallcase_id}"]["get"]["responses"]["200"]
    assert answer["content"]["application/json"]["schema"]["$ref"] == "#/components/schemas/smallcase-service.Order"


def test_only_what_is_routed_is_described(document: dict[str, Any]) -> None:
    assert set(document["paths"]) == {
        "/api/v1/auth/login",
        "/api/v1/auth/me",
        "/api/v1/orders",
        "/api/v1/orders/buy",
        "/api/v1/portfolios",
        "/api/v1/smallcases/{smallcase_id}",
        "/auth/login",
        "/auth/me",
        "/buy",
        "/login",
        "/me",
        "/portfolio",
        "/smallcase/{smallcase_id}",
    }
    assert set(document["paths"]["/portfolio"]) == {"get", "post"}


def test_security_is_the_gateways_own(document: dict[str, Any]) -> None:
    assert set(document["components"]["securitySchemes"]) == {"accessToken"}
    for _, path, operation in _operations(document):
        public = path in ("/login", "/auth/login", "/api/v1/auth/login")
        assert operation["security"] == ([] if public else [{"accessToken": []}])


def test_a_room_that_is_away_is_named(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    missing = document["info"]["x-missing-rooms"]
    assert set(missing) == set(ROOMS) - {"portfolio-service", "smallcase-service", "user-service"}
    assert "analytics-service" in document["info"]["description"]


def test_the_document_is_kept_for_a_minute_and_outlives_a_room(start: Start) -> None:
    asked: list[str] = []
    orders = orders_room()
    away = False

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        await (silent_room if away else orders)(scope, receive, send)

    door = start(upstreams=_upstreams() | {"portfolio-service": counting})
    assert "/buy" in door.client.get("/openapi.json").json()["paths"]
    door.client.get("/openapi.json")
    assert asked == ["/openapi.json"]
    away = True
    door.clock.advance(61)
    document = door.client.get("/openapi.json").json()
    assert len(asked) == 2
    assert "/buy" in document["paths"]
    assert document["info"]["x-missing-rooms"]["portfolio-service"] == "status_503"


def test_nonsense_from_a_room_does_not_spoil_the_rest(start: Start) -> None:
    async def nonsense(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"<html>"})

    document = start(upstreams=_upstreams() | {"analytics-service": nonsense}).client.get("/openapi.json").json()
    assert document["info"]["x-missing-rooms"]["analytics-service"] == "not_understood"
    assert "/buy" in document["paths"]


def test_merging_changes_no_input() -> None:
    document = orders_room().openapi()
    before = repr(document)
    merged = openapi.merge({"portfolio-service": document}, title="t", version="1", missing={})
    assert repr(document) == before
    assert "x-missing-rooms" not in merged["info"]


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_pages_need_nothing_from_elsewhere(start: Start, page: str) -> None:
    door = start(upstreams=_upstreams())
    answer = door.client.get(page)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "//" not in answer.text.replace("<!--", "")
    assert not re.search(r"<script[^>]*>[^<]", answer.text), "an inline script would be blocked by the policy"
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assets = re.findall(r'(?:src|href|spec-url)="([^"]+)"', answer.text)
    assert len(assets) >= 3
    for asset in assets:
        served = door.client.get(asset)
        assert served.status_code == 200
        assert len(served.content) > 100


def test_the_shown_pages_understand_the_version_of_the_document(start: Start) -> None:
    door = start(upstreams=_upstreams())
    bundle = door.client.get("/docs/assets/swagger-ui-bundle.js").text
    version = re.search(r'PACKAGE_VERSION:"(\d+)\.(\d+)\.', bundle)
    assert version is not None
    # Swagger UI shows OpenAPI 3.1 from version 5 on.
    assert int(version[1]) >= 5
    assert 'url: "/openapi.json"' in door.client.get("/docs/start.js").text


@pytest.mark.parametrize(
    "path", ["/docs/assets/../start.js", "/docs/assets/%2e%2e/core.py", "/docs/assets//etc/passwd"]
)
def test_assets_do_not_lead_out_of_their_directory(start: Start, path: str) -> None:
    assert start(upstreams=_upstreams()).raw("GET", path)[0] in (400, 404)


def test_about(start: Start, auth_headers: Callable[..., dict[str, str]]) -> None:
    door = start(upstreams=_upstreams())
    assert door.client.get("/").json()["docs"] == "/docs"
    info = door.client.get("/info").json()
    assert info["rooms"] == sorted(ROOMS)
    assert info["environment"] == "development"
