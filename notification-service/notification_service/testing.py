"""Servers on loopback that behave on the wire like the providers: what they take is kept, how they answer is told to them."""

import json
import random
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self
from urllib.parse import parse_qsl
from uuid import uuid4

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from common.testing_ports import free_port

Answer = Literal["ok", "busy", "refused", "lost"]
"""`lost`: the message is taken and the connection ends without an answer."""
HANG_S = 3.0


def always(answer: Answer) -> Callable[[], Answer]:
    """A provider that answers one way."""
    return lambda: answer


def sometimes(share: float, seed: int, *answers: Answer) -> Callable[[], Answer]:
    """A provider that fails in a share of the calls, in one of these ways."""
    dice, lock = random.Random(seed), threading.Lock()  # noqa: S311  repeatable, no secret

    def answer() -> Answer:
        with lock:
            return dice.choice(answers) if dice.random() < share else "ok"

    return answer


# --- SMTP -------------------------------------------------------------------------------------------------------------


@dataclass
class MailServer:
    """A real SMTP server (aiosmtpd). `stop` and `start` are an outage: the port is closed meanwhile."""

    answer: Callable[[], Answer] = field(default_factory=lambda: always("ok"))
    receiver_answer: str = "250 OK"
    port: int = field(default_factory=free_port)
    taken: list[EmailMessage] = field(default_factory=list)
    refused: int = 0
    _controller: Controller | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen."""
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, ready_timeout=10)
        self._controller.start()

    def stop(self) -> None:
        """Close the port and all connections."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def named(self) -> list[str]:
        """The Message-IDs of everything taken."""
        return [str(mail["Message-ID"]) for mail in self.taken]

    async def handle_RCPT(  # noqa: N802  aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take or refuse a receiver."""
        if self.receiver_answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.receiver_answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take a mail or not, as told."""
        answer = self.answer()
        if answer == "busy":
            self.refused += 1
            return "451 4.3.0 Try again later"
        if answer == "refused":
            self.refused += 1
            return "554 5.7.1 Not this one"
        content = envelope.content if isinstance(envelope.content, bytes) else str(envelope.content).encode()
        self.taken.append(BytesParser(EmailMessage, policy=policy.default).parsebytes(content))
        if answer == "lost" and server.transport is not None:
            server.transport.close()
        return "250 OK"


# --- HTTP -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """One request that was made."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        """The body as form fields."""
        return dict(parse_qsl(self.body.decode()))

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class WireServer:
    """One HTTP server with the routes of Twilio, FCM (and the token endpoint), Telegram, a webhook and a push service.

    `status`: answer this status instead of success. `lost` keeps the message and ends the connection; `hangs` keeps the
    caller waiting.
    """

    answer: Callable[[], Answer] = field(default_factory=lambda: always("ok"))
    status: int | None = None
    error: dict[str, Any] = field(default_factory=dict)
    hangs: bool = False
    location: str | None = None
    after: Callable[[Call, dict[str, Any]], None] = lambda call, answer: None
    """What the provider does once it has taken a message: Twilio calls back."""
    port: int = field(default_factory=free_port)
    taken: list[Call] = field(default_factory=list)
    refused: int = 0
    tokens: list[Call] = field(default_factory=list)
    open: set[socket.socket] = field(default_factory=set)
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler_of(self))
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """Close the port and all connections."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in list(self.open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


_ROUTES: dict[str, Callable[[Call], tuple[int, dict[str, Any]]]] = {
    r"/2010-04-01/Accounts/[A-Za-z0-9]+/Messages\.json\Z": lambda call: (
        201, {"sid": f"SM{uuid4().hex}", "status": "queued", "to": call.form["To"], "error_code": None}
    ),
    r"/v1/projects/[a-z0-9-]+/messages:send\Z": lambda call: (200, {"name": f"projects/p/messages/{uuid4().hex}"}),
    r"/bot[0-9]+:[A-Za-z0-9_-]+/sendMessage\Z": lambda call: (200, {"ok": True, "result": {"message_id": 1}}),
    r"/hook": lambda call: (200, {}),
    r"/push/": lambda call: (201, {}),
}  # fmt: skip


def _handler_of(owner: WireServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            owner.open.add(self.connection)

        def finish(self) -> None:
            owner.open.discard(self.connection)
            with suppress(OSError):
                super().finish()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            call = Call(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            if self.path == "/token":
                owner.tokens.append(call)
                self._answer(200, {"access_token": "an-access-token", "expires_in": 3600, "token_type": "Bearer"})
                return
            made = next((make for pattern, make in _ROUTES.items() if re.match(pattern, self.path)), None)
            if made is None:
                self._answer(404, {})
                return
            if owner.hangs:
                time.sleep(HANG_S)
                self.close_connection = True
                return
            answer = owner.answer()
            failing = owner.status or {"busy": 503, "refused": 400}.get(answer)
            if failing is not None:
                owner.refused += 1
                self._answer(failing, owner.error)
                return
            owner.taken.append(call)
            code, content = made(call)
            if answer == "lost":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self._answer(code, content)
            owner.after(call, content)

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            if owner.location is not None:
                self.send_header("Location", owner.location)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """The test tells what happened."""

    return Handler
