"""Requests for orders are read by a route of their own: what it refuses, and what it says of itself."""

from typing import Any
from uuid import uuid4

import pytest

PATHS = ("/api/v1/orders", "/api/v1/orders/buy", "/api/v1/orders/sell", "/api/v1/orders/batch")
ORDER = b'{"tradingsymbol": "INFY", "side": "BUY", "quantity": 1}'


def send(
    room: Any, body: bytes, path: str = PATHS[0], *, kind: str | None = "application/json", who: Any = None
) -> Any:
    headers = {**(who or room.customer()).headers, "Idempotency-Key": uuid4().hex}
    if kind is not None:
        headers["Content-Type"] = kind
    return room.client.post(path, content=body, headers=headers)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (b"{", "body.1", "JSON decode error: Expecting property name enclosed in double quotes"),
        (b"", "body.0", "JSON decode error: Expecting value"),
        (b"[]", "body", "Input should be a valid dictionary or instance of "),
        (b"7", "body", "Input should be a valid dictionary or instance of "),
    ],
)
def test_a_body_of_another_form_is_refused_with_its_place(
    room: Any, path: str, body: bytes, field: str, message: str
) -> None:
    answer = send(room, body, path)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert error["message"].startswith(message)


def test_every_wrong_field_is_named(room: Any) -> None:
    answer = send(room, b'{"tradingsymbol": "infy", "side": "HOLD", "quantity": "1", "more": 1}')
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [
        "body.tradingsymbol", "body.quantity", "body.side", "body.more",
    ]  # fmt: skip


@pytest.mark.parametrize("body", [b'{"tradingsymbol": "\xff"}', b"[" * 100_000])
def test_what_is_no_text_of_json_is_refused(room: Any, body: bytes) -> None:
    answer = send(room, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "unreadable_body")


@pytest.mark.parametrize("kind", [None, "text/plain", "application/xml", "json", "application/jsonx"])
def test_a_body_that_is_not_said_to_be_json_is_refused(room: Any, kind: str | None) -> None:
    answer = send(room, ORDER, kind=kind)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"][0]["message"] == "Send JSON, and say so: Content-Type: application/json."


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.saras+json"])
def test_json_by_any_of_its_names_is_taken(room: Any, kind: str) -> None:
    who = room.customer()
    room.give(who, "5000")
    assert send(room, ORDER, kind=kind, who=who).status_code == 202


def test_who_asks_is_told_before_what_is_wrong(room: Any) -> None:
    """Nobody without a token learns what a valid order looks like, and a key is asked for before a body is judged."""
    who = room.customer()
    assert room.client.post(PATHS[0], json={}, headers={"Idempotency-Key": "k"}).status_code == 401
    assert room.client.post(PATHS[0], json={}, headers=who.headers).json()["code"] == "idempotency_key_required"


def test_the_routes_are_described_like_all_others(room: Any) -> None:
    paths = room.client.get("/openapi.json").json()["paths"]
    for path in PATHS:
        described = paths[path]["post"]
        assert described["requestBody"]["required"]
        assert [parameter["name"] for parameter in described["parameters"]] == ["Idempotency-Key"]
        assert {"202", "default"} <= set(described["responses"])


def test_metrics_know_the_route(room: Any) -> None:
    send(room, ORDER)
    assert 'route="/api/v1/orders"' in room.client.get("/metrics").text
