"""The simulator inside the caller's process: a transport for `requests` without sockets, threads or an event loop.

For harnesses in virtual time. The official client speaks to the same application as over HTTP; whoever drives it moves
the clock, calls `engine.advance()` and collects `engine.drain_updates()` (see README).
"""

from collections.abc import Callable, Coroutine, Mapping
from io import BytesIO
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers
from starlette.applications import Starlette
from starlette.types import Message, Receive
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError, ReadTimeoutError

from kite_simulator.connection import EXTENSION, WAY_BACK
from kite_simulator.engine import Engine, FaultKind

READ_TIMEOUT_S = 10.0


class InProcessAdapter(BaseAdapter):
    """Serves prepared requests by running the application to its end.

    `sleep(seconds)` has to let that much of the engine's clock pass; it is called when a client would wait.
    `read_timeout_s` is the patience of that client, whatever timeout the request names. Faults come out as the
    exceptions `requests` raises over a socket: ReadTimeout, ConnectionError around urllib3's ProtocolError or around
    its NewConnectionError. The application's lifespan does not run: no pump, no postback sender. Not for threads.
    """

    def __init__(
        self, app: Starlette, *, sleep: Callable[[float], object], read_timeout_s: float = READ_TIMEOUT_S
    ) -> None:
        super().__init__()
        self.app = app
        """May be replaced: the broker died and another process reads its journal."""
        self._sleep = sleep
        self._read_timeout_s = read_timeout_s
        self.is_down = False
        """A broker that is not there: every connection is refused."""

    @property
    def engine(self) -> Engine:
        """The engine behind the application."""
        engine: Engine = self.app.state.engine
        return engine

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float | None, float | None] | None = None,
        verify: bool | str = True,
        cert: bytes | str | tuple[bytes | str, bytes | str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """One call; raises what `requests` raises when there is no answer."""
        if self.is_down or self._is_refused(request):
            raise _never_made(request)
        connection = _Patience(self._sleep, self._read_timeout_s)
        answer = _Answer()
        run_to_end(self.app(_scope(request, connection), _receiver(request), answer.send))
        if connection.is_reset:
            reset = ProtocolError("Connection aborted.", ConnectionResetError(104, "Connection reset by peer"))
            raise requests.exceptions.ConnectionError(reset, request=request)
        if connection.is_over:
            text = f"Read timed out. (read timeout={self._read_timeout_s})"
            raise requests.exceptions.ReadTimeout(
                ReadTimeoutError(_pool(request), request.url or "", text), request=request
            )
        return answer.response(request)

    def close(self) -> None:
        """Nothing is held."""

    def _is_refused(self, request: requests.PreparedRequest) -> bool:
        engine = self.engine
        if not engine.faults.draws(FaultKind.CONNECTION_REFUSED):
            return False
        with engine.command():
            path = urlsplit(request.url or "").path
            engine.faults.note(FaultKind.CONNECTION_REFUSED, endpoint=f"{request.method} {path}")
        return True


class _Patience:
    """The connection of one call: waiting is the caller's sleep, and ends when the client gives up."""

    def __init__(self, sleep: Callable[[float], object], read_timeout_s: float) -> None:
        self._sleep = sleep
        self._left_s = read_timeout_s
        self.is_reset = False
        self.is_over = False

    async def hang(self, receive: Receive) -> None:
        if not self.is_over:
            self._sleep(self._left_s)
        self.is_over = True

    async def reset(self, receive: Receive) -> None:
        self.is_reset = True

    async def pause(self, seconds: float) -> bool:
        step_s = min(max(seconds, 0.0), self._left_s)
        self._sleep(step_s)
        self._left_s -= step_s
        self.is_over = self._left_s <= 0
        return not self.is_over


class _Answer:
    """What the application sent."""

    def __init__(self) -> None:
        self._status = 0
        self._headers: CaseInsensitiveDict[str] = CaseInsensitiveDict()
        self._body: list[bytes] = []

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            for name, value in message["headers"]:
                self._headers[name.decode("latin-1")] = value.decode("latin-1")
        elif message["type"] == "http.response.body":
            self._body.append(message.get("body", b""))

    def response(self, request: requests.PreparedRequest) -> requests.Response:
        response = requests.Response()
        response.status_code = self._status
        response.headers = self._headers
        response.encoding = get_encoding_from_headers(self._headers)
        response.raw = BytesIO(b"".join(self._body))
        response.url = request.url or ""
        response.request = request
        return response


def run_to_end(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Run a coroutine that never really waits; RuntimeError when it does."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise RuntimeError("the application waited for something that needs an event loop")


def _scope(request: requests.PreparedRequest, connection: _Patience) -> dict[str, Any]:
    parts = urlsplit(request.url or "")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": parts.scheme,
        "path": unquote(parts.path),
        "raw_path": parts.path.encode("ascii"),
        "root_path": "",
        "query_string": parts.query.encode("ascii"),
        "headers": [
            (_latin(name).lower(), _latin(value)) for name, value in {"Host": parts.netloc, **request.headers}.items()
        ],
        "client": ("in-process", 0),
        "server": (parts.hostname or "", parts.port or 80),
        "extensions": {EXTENSION: {WAY_BACK: connection}},
    }


def _receiver(request: requests.PreparedRequest) -> Receive:
    body = request.body or b""
    if not isinstance(body, str | bytes):
        raise TypeError("a body is text or bytes here, not a stream")
    given = body.encode() if isinstance(body, str) else body
    messages: list[Message] = [{"type": "http.request", "body": given, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive


def _latin(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def _pool(request: requests.PreparedRequest) -> HTTPConnectionPool:
    parts = urlsplit(request.url or "")
    return HTTPConnectionPool(parts.hostname or "", parts.port)


def _never_made(request: requests.PreparedRequest) -> requests.exceptions.ConnectionError:
    parts = urlsplit(request.url or "")
    refused = NewConnectionError(
        HTTPConnection(parts.hostname or "", parts.port),
        "Failed to establish a new connection: [Errno 111] Connection refused",
    )
    return requests.exceptions.ConnectionError(MaxRetryError(_pool(request), parts.path, refused), request=request)
