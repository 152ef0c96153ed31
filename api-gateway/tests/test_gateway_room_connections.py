"""Kept connections to a room whose answers are written byte by byte: what is an answer, which connection is used again, and
what is never sent twice."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import pytest

from api_gateway import room_connections
from api_gateway.proxy import HttpPool
from common.config import InvalidSettings
from common.process import KEEP_ALIVE_S

if TYPE_CHECKING:
    from conftest import Start

Headers = Callable[..., dict[str, str]]
ORDERS = "portfolio-service"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Scripted:
    """Sends the next of its answers for every request of a connection, and hangs up after the last."""

    answers: Sequence[bytes]
    last: bool = True
    """Whether it hangs up; otherwise the last answer is repeated."""
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    sent: int = 0
    go: threading.Event = field(default_factory=threading.Event)
    """Set: it answers. Otherwise it has read the request and waits."""
    port: int = 0

    def serve(self, listener: socket.socket) -> None:
        """Accept connections until the listener is closed."""
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def methods(self) -> list[str]:
        """What was asked, in its order."""
        return [head.split(b" ", 1)[0].decode() for head in self.requests]

    def _talk(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):  # a client that hangs up is what some tests are about
            for answer in self.answers if self.last else self._endless():
                head = b""
                while b"\r\n\r\n" not in head:
                    part = connection.recv(65536)
                    if not part:
                        return
                    head += part
                self.requests.append(head)
                self.go.wait(10)
                for start in range(0, len(answer), 65536):
                    connection.sendall(answer[start : start + 65536])
                    self.sent += len(answer[start : start + 65536])

    def _endless(self) -> Iterator[bytes]:
        yield from self.answers
        while True:
            yield self.answers[-1]


@contextmanager
def scripted(*answers: bytes, last: bool = True, paused: bool = False) -> Iterator[Scripted]:
    """A running room."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        room = Scripted(answers, last, port=listener.getsockname()[1])
        if not paused:
            room.go.set()
        threading.Thread(target=room.serve, args=(listener,), daemon=True).start()
        yield room
        room.go.set()
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 3\r\n\r\nyes", 202, b"yes"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n", 200, b"abcde"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 304, b""),
        (b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 1\r\n\r\n-", 404, b"-"),
    ],
)  # fmt: skip
def test_every_form_of_an_answer_is_passed_on(
    start: Start, auth_headers: Headers, answer: bytes, status: int, body: bytes
) -> None:
    with scripted(answer) as room:
        door = start(upstreams={ORDERS: f"http://127.0.0.1:{room.port}"})
        got = door.client.get("/api/v1/orders", headers=auth_headers())
        assert (got.status_code, got.content) == (status, body)
        assert not {"link", "x-sum"} & got.headers.keys()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nfour",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"",
    ],
)
def test_what_is_no_whole_answer_is_told_as_unknown(start: Start, auth_headers: Headers, answer: bytes) -> None:
    with scripted(answer) as room:
        door = start(upstreams={ORDERS: f"http://127.0.0.1:{room.port}"})
        got = door.client.post("/api/v1/orders", headers=auth_headers())
        assert (got.status_code, got.json()["code"]) == (502, "upstream_disconnected")
        assert len(room.requests) == 1


def test_an_answer_to_head_has_no_body_and_ends_its_connection(start: Start, auth_headers: Headers) -> None:
    with scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", last=False) as room:
        door = start(upstreams={ORDERS: f"http://127.0.0.1:{room.port}"})
        for _ in range(2):
            got = door.client.head("/api/v1/orders", headers=auth_headers())
            assert (got.status_code, got.headers["content-length"]) == (200, "2")
        assert room.connections == 2


def test_a_complete_answer_leaves_its_connection_to_the_next_request(start: Start, auth_headers: Headers) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    with scripted(PLAIN, chunked, PLAIN, last=False) as room:
        door = start(upstreams={ORDERS: f"http://127.0.0.1:{room.port}"})
        for _ in range(4):
            assert door.client.post("/api/v1/orders", headers=auth_headers()).text == "ok"
        assert (len(room.requests), room.connections) == (4, 1)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        PLAIN + b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsomebody",
        PLAIN + b"more",
    ],
)
def test_a_connection_that_may_not_be_used_again_is_not(start: Start, auth_headers: Headers, answer: bytes) -> None:
    """Above all: what came after an answer is never taken for the answer of the next request, which may be another user's."""
    with scripted(answer, last=False) as room:
        door = start(upstreams={ORDERS: f"http://127.0.0.1:{room.port}"})
        for _ in range(3):
            assert door.client.post("/api/v1/orders", headers=auth_headers()).text == "ok"
        assert room.connections == 3


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_request_with_an_effect_is_never_sent_twice(start: Start, auth_headers: Headers, method: str) -> None:
    with scripted(PLAIN, b"") as room:
        door = start(upstreams={ORDERS: f"http://127.0.0.1:{room.port}"})
        assert door.client.get("/api/v1/orders", headers=auth_headers()).text == "ok"
        answer = door.client.request(method, "/api/v1/orders", headers=auth_headers())
        assert (answer.status_code, answer.json()["code"]) == (502, "upstream_disconnected")
        assert "Idempotency-Key" in answer.json()["detail"]
        assert room.methods() == ["GET", method]
        assert room.connections == 1


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_a_get_on_a_closing_connection_is_sent_once_more_unless_its_answer_has_begun(
    start: Start, auth_headers: Headers, begun: bytes
) -> None:
    with scripted(PLAIN, begun) as room:
        door = start(upstreams={ORDERS: f"http://127.0.0.1:{room.port}"})
        answers = [door.client.get("/api/v1/orders", headers=auth_headers()) for _ in range(2)]
        assert answers[0].text == "ok"
        assert answers[1].status_code == (502 if begun else 200)
        assert (len(room.requests), room.connections) == ((2, 1) if begun else (3, 2))


def test_a_connection_that_has_rested_too_long_is_not_used_again(
    start: Start, auth_headers: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_connections, "KEEPALIVE_S", 0.0)
    with scripted(PLAIN, last=False) as room:
        door = start(upstreams={ORDERS: f"http://127.0.0.1:{room.port}"})
        for _ in range(2):
            assert door.client.post("/api/v1/orders", headers=auth_headers()).text == "ok"
        assert room.connections == 2


def test_an_answer_that_comes_too_late_is_never_given_to_the_next_request(start: Start, auth_headers: Headers) -> None:
    with scripted(PLAIN, last=False, paused=True) as room:
        door = start(upstreams={ORDERS: f"http://127.0.0.1:{room.port}"}, upstream_timeout_s=0.3)
        assert door.client.post("/api/v1/orders", headers=auth_headers()).status_code == 504
        room.go.set()
        assert door.client.post("/api/v1/orders", headers=auth_headers()).text == "ok"
        assert room.connections == 2


def test_no_more_connections_than_allowed_and_nobody_is_lost_in_the_queue(start: Start, auth_headers: Headers) -> None:
    """Twenty connections to a room; thirty requests at once share them."""
    with scripted(PLAIN, last=False) as room, ThreadPoolExecutor(30) as callers:
        door = start(upstreams={ORDERS: f"http://127.0.0.1:{room.port}"}, connect_timeout_s=20, upstream_timeout_s=20)
        answers = list(callers.map(lambda _: door.raw("GET", "/api/v1/orders", headers=auth_headers()), range(120)))
        assert {(status, body) for status, _, body in answers} == {(200, b"ok")}
        assert len(room.requests) == 120
        assert room.connections <= 20


def test_a_reader_who_does_not_read_makes_the_room_wait(start: Start, auth_headers: Headers) -> None:
    size = 64 * 1024 * 1024
    with scripted(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size) as room:
        door = start(upstreams={ORDERS: f"http://127.0.0.1:{room.port}"}, upstream_timeout_s=30)
        token = auth_headers()["Authorization"]
        with socket.create_connection(("127.0.0.1", door.port)) as reader:
            reader.sendall(f"GET /api/v1/orders HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode())
            assert reader.recv(1024).startswith(b"HTTP/1.1 200")
            assert settled(lambda: room.sent) < size / 4
            read = 0
            while read < size - 1024:
                read += len(reader.recv(1 << 20))
        assert room.sent > size


def settled(count: Callable[[], int]) -> int:
    """A number that has stopped growing: the same for half a second."""
    wait, same, before = threading.Event(), 0, -1
    for _ in range(600):
        same = same + 1 if count() == before else 0
        before = count()
        if same >= 10:
            return before
        wait.wait(0.05)
    raise AssertionError("it never stops")


def test_an_idle_connection_is_closed_by_its_client_long_before_its_server() -> None:
    assert room_connections.KEEPALIVE_S * 10 < KEEP_ALIVE_S
    # What rooms say to each other goes over httpx, with its own default.
    assert (httpx.Limits().keepalive_expiry or 0) * 10 < KEEP_ALIVE_S


@pytest.mark.parametrize("address", ["https://room:8000", "room:8000", "http://", "http://room:8000/api"])
def test_an_address_that_is_none_is_refused_at_the_start(address: str) -> None:
    with pytest.raises(InvalidSettings):
        HttpPool(connect_timeout_s=1, timeout_s=1, connections_per_room=1).to(address)
