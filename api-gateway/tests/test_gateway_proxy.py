"""Rooms behind HTTP: what is passed on, and what happens when a room is away, slow or breaks off."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, RedirectResponse, StreamingResponse

if TYPE_CHECKING:
    from conftest import Start

Headers = Callable[..., dict[str, str]]
ORDERS = "portfolio-service"


@dataclass
class SlowRoom:
    """A room with answers of every difficult kind."""

    release: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)

    def app(self) -> FastAPI:
        """The room's HTTP app."""
        app = FastAPI(openapi_url=None)

        async def words() -> AsyncIterator[bytes]:
            try:
                yield b"first "
                while not self.release.is_set():
                    await asyncio.sleep(0.01)
                yield b"last"
            finally:
                self.left.set()

        async def breaking() -> AsyncIterator[bytes]:
            yield b"half"
            raise OSError("the room fell over")

        @app.get("/api/v1/orders/stream")
        async def stream() -> StreamingResponse:
            return StreamingResponse(words(), media_type="text/plain")

        @app.get("/api/v1/orders/broken")
        async def broken() -> StreamingResponse:
            return StreamingResponse(breaking(), media_type="text/plain")

        @app.api_route("/api/v1/orders/slow", methods=["GET", "POST"])
        async def slow() -> None:
            await asyncio.sleep(5)

        @app.get("/api/v1/orders/large")
        async def large() -> PlainTextResponse:
            return PlainTextResponse("x" * 3_000_000)

        @app.get("/api/v1/orders/moved")
        async def moved() -> RedirectResponse:
            return RedirectResponse(f"http://{ORDERS}/api/v1/orders/large")

        @app.get("/api/v1/orders/nothing", status_code=204)
        async def nothing() -> None:
            return None

        @app.get("/api/v1/orders/cookies")
        async def cookies() -> PlainTextResponse:
            answer = PlainTextResponse("ok", headers={"Cache-Control": "private, max-age=5", "ETag": '"1"'})
            answer.set_cookie("a", "1")
            answer.set_cookie("b", "2")
            return answer

        return app


@pytest.fixture
def slow_room() -> SlowRoom:
    """The room in front of which the gateway of a test stands."""
    return SlowRoom()


def test_requests_and_answers_cross_unchanged(start: Start, auth_headers: Headers) -> None:
    door = start(over_http=True)
    answer = door.client.request(
        "PATCH", "/api/v1/orders/a%20b?x=%26&y=", content=b"\x00\xff body", headers={**auth_headers(), "Accept": "x/y"}
    )
    seen = answer.json()
    assert (seen["method"], seen["path"], seen["query"]) == ("PATCH", "/api/v1/orders/a%20b", "x=%26&y=")
    assert seen["body"] == "\x00\xff body"
    got = dict(seen["headers"])
    assert got["accept"] == "x/y"
    assert got["content-length"] == "7"
    assert got["host"] == ORDERS
    assert seen["client"] == "127.0.0.1"
    assert not {"connection", "transfer-encoding", "keep-alive"} & got.keys()


def test_a_post_without_body_says_so(start: Start, auth_headers: Headers) -> None:
    seen = start(over_http=True).client.post("/buy", headers=auth_headers()).json()
    assert dict(seen["headers"])["content-length"] == "0"
    assert "content-type" not in dict(seen["headers"])


@pytest.mark.parametrize("over_http", [False, True])
def test_an_answer_arrives_while_it_is_written(
    start: Start, auth_headers: Headers, slow_room: SlowRoom, over_http: bool
) -> None:
    door = start(over_http=over_http, upstreams={ORDERS: slow_room.app()})
    with door.client.stream("GET", "/api/v1/orders/stream", headers=auth_headers()) as answer:
        chunks = answer.iter_raw()
        assert next(chunks) == b"first "
        assert not slow_room.left.is_set()
        slow_room.release.set()
        assert b"".join(chunks) == b"last"
    assert slow_room.left.wait(5)


def test_a_reader_who_leaves_ends_the_answer_in_the_room(
    start: Start, auth_headers: Headers, slow_room: SlowRoom
) -> None:
    door = start(over_http=True, upstreams={ORDERS: slow_room.app()}, upstream_timeout_s=30)
    with door.client.stream("GET", "/api/v1/orders/stream", headers=auth_headers()) as answer:
        assert next(answer.iter_raw()) == b"first "
    assert slow_room.left.wait(5)


def test_large_and_empty_answers(start: Start, auth_headers: Headers, slow_room: SlowRoom) -> None:
    door = start(over_http=True, upstreams={ORDERS: slow_room.app()})
    headers = auth_headers()
    large = door.client.get("/api/v1/orders/large", headers=headers)
    assert large.headers["content-length"] == "3000000"
    assert len(large.content) == 3_000_000
    nothing = door.client.get("/api/v1/orders/nothing", headers=headers)
    assert (nothing.status_code, nothing.content) == (204, b"")
    cookies = door.client.get("/api/v1/orders/cookies", headers=headers)
    assert len(cookies.headers.get_list("set-cookie")) == 2
    assert cookies.headers["cache-control"] == "private, max-age=5"
    assert len(cookies.headers.get_list("date")) == 1
    # The connection is still good after every kind of answer.
    assert door.client.get("/api/v1/orders/cookies", headers=headers).text == "ok"


def test_a_redirect_is_passed_on_without_the_room_name(
    start: Start, auth_headers: Headers, slow_room: SlowRoom
) -> None:
    door = start(over_http=True, upstreams={ORDERS: slow_room.app()})
    answer = door.client.get("/api/v1/orders/moved", headers=auth_headers())
    assert answer.status_code == 307
    assert answer.headers["location"] == "/api/v1/orders/large"


def test_a_broken_answer_is_not_passed_off_as_complete(
    start: Start, auth_headers: Headers, slow_room: SlowRoom
) -> None:
    door = start(over_http=True, upstreams={ORDERS: slow_room.app()})
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        door.raw("GET", "/api/v1/orders/broken", headers=auth_headers())
    assert door.client.get("/health").status_code == 200


def test_a_room_that_is_down(start: Start, auth_headers: Headers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    door = start(upstreams={ORDERS: f"http://127.0.0.1:{port}"})
    for method in ("GET", "POST"):
        answer = door.client.request(method, "/api/v1/orders", headers=auth_headers())
        assert (answer.status_code, answer.json()["code"]) == (503, "upstream_unavailable")
        assert "127.0.0.1" not in answer.text


def test_a_room_that_accepts_no_connection_in_time(start: Start, auth_headers: Headers) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        try:
            door = start(upstreams={ORDERS: f"http://127.0.0.1:{listener.getsockname()[1]}"})
            answer = door.client.post("/buy", headers=auth_headers())
        finally:
            for filler in fillers:
                filler.close()
    assert (answer.status_code, answer.json()["code"]) == (503, "upstream_unavailable")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_room_that_is_slow(start: Start, auth_headers: Headers, slow_room: SlowRoom, method: str) -> None:
    door = start(over_http=True, upstreams={ORDERS: slow_room.app()}, upstream_timeout_s=0.2)
    answer = door.client.request(method, "/api/v1/orders/slow", headers=auth_headers())
    assert (answer.status_code, answer.json()["code"]) == (504, "upstream_timeout")
    assert "Idempotency-Key" in answer.json()["detail"]


def test_failures_are_counted_by_room(start: Start, auth_headers: Headers) -> None:
    door = start(upstreams={ORDERS: "http://127.0.0.1:9"})
    door.client.get("/api/v1/orders", headers=auth_headers())
    exposition = door.client.get("/metrics").text
    assert (
        f'saras_gateway_upstream_errors_total{{kind="unavailable",room="{ORDERS}",service="api-gateway"}}' in exposition
    )


@pytest.mark.parametrize("over_http", [False, True])
def test_odd_bytes_in_headers_and_query_are_never_our_mistake(
    start: Start, user_token: Callable[..., str], over_http: bool
) -> None:
    door = start(over_http=over_http)
    token = user_token().encode()
    odd = [bytes([byte]) for byte in (*range(1, 32), 127, 128, 160, 195, 255) if byte not in (10, 13)]
    odd += [
        b"%",
        b"%zz",
        b"%00",
        b"%0d%0aX: y",
        b'"',
        b"<>",
        b"{|}",
        b"\\",
        b"^`",
        b"'",
        b"caf\xc3\xa9",
        b"#f",
        b"?&&==",
    ]
    for value in odd:
        for place in (b"GET /api/v1/orders?q=a%s HTTP/1.1\r\nX: y", b"GET /api/v1/orders HTTP/1.1\r\nUser-Agent: a%sb"):
            with socket.create_connection(("127.0.0.1", door.port), timeout=10) as connection:
                head = place.replace(b"%s", value)
                connection.sendall(
                    head + b"\r\nHost: x\r\nAuthorization: Bearer " + token + b"\r\nConnection: close\r\n\r\n"
                )
                answer = http.client.HTTPResponse(connection)
                answer.begin()
                assert answer.status in (200, 400), (value, place, answer.status)
                answer.read()
