"""Real servers for the gateway's tests: rooms and the gateway listen on sockets of this machine."""

import http.client
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Annotated, Any
from uuid import UUID

import httpx2 as httpx
import pytest
import uvicorn
from fastapi import Depends, FastAPI, Request
from starlette.types import ASGIApp

from api_gateway.app import SERVER_OPTIONS, create_app
from api_gateway.config import Settings
from api_gateway.limiter import Limiter, MemoryLimiter
from api_gateway.proxy import HttpPool, HttpUpstream
from api_gateway.routing import ROOMS, USER
from api_gateway.sessions import UserServiceSessions
from common.auth import Authenticator, ServiceIdentity, require_service
from common.clock import FixedClock
from common.testing import eventually

CONNECT_TIMEOUT_S = 1.0


@contextmanager
def serving(app: Any, **options: Any) -> Iterator[str]:
    """Serve an ASGI app on a free port of this machine; answers its base URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1, **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@dataclass
class EchoRoom:
    """A room that repeats what it received; user-service also knows which sessions were ended."""

    name: str
    auth: Authenticator
    ended_sessions: set[UUID] = field(default_factory=set)
    unknown_sessions: set[UUID] = field(default_factory=set)
    session_questions: int = 0
    session_failure: int | None = None
    received: list[str] = field(default_factory=list)
    ready: bool = True

    def app(self) -> FastAPI:
        """The room's HTTP app."""
        app = FastAPI(title=self.name, openapi_url=None)
        app.state.auth = self.auth

        @app.get("/internal/v1/sessions/{session_id}")
        def session(session_id: UUID, _: Annotated[str, Depends(require_service("api-gateway"))]) -> Any:
            self.session_questions += 1
            if self.session_failure is not None:
                return _status(self.session_failure)
            if session_id in self.unknown_sessions:
                return _status(404)
            return {"session_id": str(session_id), "active": session_id not in self.ended_sessions}

        @app.get("/health/ready")
        def ready() -> Any:
            checks = {"db": {"ok": self.ready, "detail": "host=secret-db-host"}}
            return _status(200 if self.ready else 503, {"status": "x", "checks": checks})

        @app.get("/health/{check}")
        def check(check: str) -> Any:
            return _status(200 if self.ready else 503, {"status": "x", "checks": {check: {"ok": self.ready}}})

        @app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
        async def echo(request: Request) -> Any:
            raw = request.scope["raw_path"].decode()
            self.received.append(f"{request.method} {raw}")
            body = await request.body()
            return {
                "room": self.name,
                "method": request.method,
                "path": raw,
                "query": request.scope["query_string"].decode(),
                "headers": [[name, value] for name, value in request.headers.items()],
                "client": request.client.host if request.client else None,
                "size": len(body),
                "body": body[:200].decode("latin-1"),
            }

        return app


def _status(status: int, body: Any = None) -> Any:
    from fastapi.responses import JSONResponse

    return JSONResponse(body or {"status": status}, status_code=status)


@dataclass
class Door:
    """A running gateway and the rooms behind it."""

    url: str
    rooms: Mapping[str, EchoRoom]
    clock: FixedClock
    client: httpx.Client

    @property
    def port(self) -> int:
        """The port the gateway listens on."""
        return int(self.url.rpartition(":")[2])

    def raw(
        self, method: str, target: str, *, headers: Mapping[str, str] | None = None, body: Any = None, **options: Any
    ) -> tuple[int, dict[str, str], bytes]:
        """A request whose target is sent as it stands: no client library tidies it up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            # A door that has refused closes while the rest is still being sent; its answer is there to be read.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, target, body=body, headers=dict(headers or {}), **options)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()


Start = Callable[..., Door]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what a test started, last first."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def echo_rooms(authenticator: Callable[[str], Authenticator]) -> dict[str, EchoRoom]:
    """One echoing room for every room of the platform."""
    auth = authenticator(USER)
    return {room: EchoRoom(room, replace(auth, name=room)) for room in ROOMS}


@pytest.fixture
def start(
    stack: ExitStack,
    echo_rooms: dict[str, EchoRoom],
    authenticator: Callable[[str], Authenticator],
    service_identity: Callable[[str], ServiceIdentity],
    clock: FixedClock,
) -> Start:
    """Factory of running gateways. `over_http`: rooms behind sockets instead of in the gateway's process;
    `upstreams`: replaces some rooms by ASGI apps or, given a text, by the HTTP address of something."""

    def make(
        *,
        over_http: bool = False,
        upstreams: Mapping[str, ASGIApp | str] | None = None,
        limiter: Limiter | None = None,
        upstream_timeout_s: float = 5.0,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        **settings: Any,
    ) -> Door:
        pool = HttpPool(connect_timeout_s=connect_timeout_s, timeout_s=upstream_timeout_s, connections_per_room=20)
        apps: dict[str, ASGIApp] = {}
        for name, room in echo_rooms.items():
            given = (upstreams or {}).get(name, room.app())
            if over_http and not isinstance(given, str):
                given = stack.enter_context(serving(given))
            apps[name] = HttpUpstream(name, given, pool) if isinstance(given, str) else given
        chosen = Settings(**settings)
        app = create_app(
            chosen,
            authenticator=authenticator("api-gateway"),
            upstreams=apps,
            sessions=UserServiceSessions(
                apps[USER], service_identity("api-gateway"), clock, ttl_s=chosen.session_check_s
            ),
            limiter=limiter or MemoryLimiter(clock),
            clock=clock,
            resources=(pool,),
        )
        url = stack.enter_context(serving(app, **SERVER_OPTIONS))
        client = stack.enter_context(httpx.Client(base_url=url, timeout=10, trust_env=False))
        return Door(url, echo_rooms, clock, client)

    return make


@pytest.fixture
def door(start: Start) -> Door:
    """A gateway with default settings and all rooms in its process."""
    return start()
