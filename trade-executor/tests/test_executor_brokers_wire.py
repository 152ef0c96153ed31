"""KiteBroker against a server that misbehaves on purpose: one request a call, and never a wrong certainty."""

import json
import logging
import os
import socket
import ssl
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kiteconnect import KiteConnect

from trade_executor.brokers.base import (
    Acked,
    BrokerReplyInvalid,
    BrokerSessionExpired,
    BrokerUnavailable,
    CancelRefused,
    CancelSent,
    CancelUnknown,
    PlaceRequest,
    Refused,
    Unknown,
)
from trade_executor.brokers.kite import KiteBroker
from trade_executor.brokers.wire import Client, Endpoint, Timeouts

API_KEY, TOKEN = "wire-key", "canary-access-token"
ORDER_ID = "1984561230004567890"
Reply = Callable[[socket.socket, "Received"], None]


@dataclass(frozen=True)
class Received:
    """One request as it arrived, and the connection it came on."""

    connection: int
    method: str
    path: str
    headers: dict[str, str]
    body: str


@dataclass
class RudeServer:
    """A raw socket server; `reply` decides what happens after each complete request."""

    reply: Reply
    tls: ssl.SSLContext | None = None
    received: list[Received] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._closing = threading.Event()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._closing.set()
        self._listener.close()
        for connection in self._open:
            connection.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            while request := read_request(connection, number):
                self.received.append(request)
                self.reply(connection, request)
        except (OSError, ValueError):
            pass
        finally:
            connection.close()


def read_request(connection: socket.socket, number: int) -> Received | None:
    raw = b""
    while b"\r\n\r\n" not in raw:
        piece = connection.recv(65536)
        if not piece:
            return None
        raw += piece
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    method, path, _ = lines[0].split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65536)
    return Received(number, method, path, headers, body.decode())


def raw_reply(status: str, body: bytes, headers: str = "Content-Type: application/json\r\n") -> Reply:
    def send(connection: socket.socket, _: Received) -> None:
        connection.sendall(f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    return send


def success(data: object, status: str = "200 OK") -> Reply:
    return raw_reply(status, json.dumps({"status": "success", "data": data}).encode())


def kite_error(status: str, error_type: str | None, message: str, headers: str = "") -> Reply:
    body = {"status": "error", "message": message, "data": None}
    if error_type:
        body["error_type"] = error_type
    return raw_reply(status, json.dumps(body).encode(), f"Content-Type: application/json\r\n{headers}")


def reset(connection: socket.socket, _: Received) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def reset_inside_body(connection: socket.socket, request: Received) -> None:
    connection.sendall(
        b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"status":"suc'
    )
    time.sleep(0.05)
    reset(connection, request)


def hang_up(connection: socket.socket, _: Received) -> None:
    connection.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., RudeServer]]:
    servers: list[RudeServer] = []

    def start(reply: Reply, tls: ssl.SSLContext | None = None) -> RudeServer:
        servers.append(RudeServer(reply, tls))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def never_answers(serve: Callable[..., RudeServer]) -> RudeServer:
    return serve(lambda _connection, _request: threading.Event().wait(5))


def broker_at(url: str, *, connect_s: float = 1.0, read_s: float = 2.0) -> KiteBroker:
    return KiteBroker(api_key=API_KEY, access_token=TOKEN, root=url, timeouts=Timeouts(connect_s, read_s))


def limit_order(tag: str = "d1abcdefghijklm2345") -> PlaceRequest:
    return PlaceRequest(
        tag=tag,
        exchange="NSE",
        tradingsymbol="M&M",
        side="BUY",
        quantity=7,
        product="CNC",
        order_type="LIMIT",
        price=Decimal("1E+2"),
    )


HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
TIMED_OUT = "Order request timed out. Please check the order book and confirm before placing again."
ID_BODY = json.dumps({"status": "success", "data": {"order_id": ORDER_ID}}).encode()
DEEP = b"[" * 100_000

UNKNOWN_REPLIES = {
    "reset after the request": reset,
    "hung up after the request": hang_up,
    "reset inside the body": reset_inside_body,
    "502 html": raw_reply("502 Bad Gateway", HTML, "Content-Type: text/html\r\n"),
    "503 network": kite_error("503 Service Unavailable", "NetworkException", "OMS down", "Retry-After: 0\r\n"),
    "504 data": kite_error("504 Gateway Timeout", "DataException", "OMS reply unusable"),
    "500 without error_type": kite_error("500 Internal Server Error", None, "boom"),
    "500 without data": raw_reply("500 Internal Server Error", b'{"message": "boom"}'),
    "500 with an id": success({"order_id": ORDER_ID}, "500 Internal Server Error"),
    "202 with an id": success({"order_id": ORDER_ID}, "202 Accepted"),
    "400 timed out": kite_error("400 Bad Request", "OrderException", TIMED_OUT),
    "400 unknown text": kite_error("400 Bad Request", "InputException", "Something nobody has seen"),
    "400 refusal as text/plain": raw_reply(
        "400 Bad Request",
        b'{"status":"error","error_type":"MarginException","message":"Insufficient funds."}',
        "Content-Type: text/plain\r\n",
    ),
    "200 without content type": raw_reply("200 OK", ID_BODY, ""),
    "200 html": raw_reply("200 OK", HTML, "Content-Type: text/html\r\n"),
    "200 csv": raw_reply("200 OK", ID_BODY, "Content-Type: text/csv\r\n"),
    "200 without order_id": success({}),
    "200 data null": success(None),
    "200 empty id": success({"order_id": ""}),
    "200 number as id": success({"order_id": int(ORDER_ID)}),
    "200 list": raw_reply("200 OK", b"[1, 2]"),
    "200 null": raw_reply("200 OK", b"null"),
    "200 malformed": raw_reply("200 OK", b'{"status": "success", "data": {"order_id": "19'),
    "200 empty": raw_reply("200 OK", b""),
    "200 absurdly nested": raw_reply("200 OK", DEEP),
    "200 not utf-8": raw_reply("200 OK", b'{"status": "\xff\xfe'),
    "200 wrong gzip": raw_reply("200 OK", ID_BODY, "Content-Type: application/json\r\nContent-Encoding: gzip\r\n"),
    "200 error envelope": kite_error("200 OK", "TokenException", "Incorrect `api_key` or `access_token`."),
    "not http": lambda connection, _: (connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n"), connection.close())[1],
    "403 html": raw_reply("403 Forbidden", HTML, "Content-Type: text/html\r\n"),
}


@pytest.mark.parametrize("reply", UNKNOWN_REPLIES.values(), ids=UNKNOWN_REPLIES.keys())
def test_an_answer_that_proves_nothing_is_unknown_after_one_request(
    serve: Callable[..., RudeServer], reply: Reply
) -> None:
    server = serve(reply)
    outcome = broker_at(server.url).place(limit_order())
    assert isinstance(outcome, Unknown), outcome
    assert outcome.reason
    assert [request.method for request in server.received] == ["POST"]


def test_a_silent_server_is_unknown_after_the_read_timeout(never_answers: RudeServer) -> None:
    started = time.monotonic()
    outcome = broker_at(never_answers.url, connect_s=5, read_s=0.2).place(limit_order())
    assert isinstance(outcome, Unknown)
    assert "ReadTimeout" in outcome.reason
    assert time.monotonic() - started < 3
    assert len(never_answers.received) == 1


REFUSALS = {
    "429": (kite_error("429 Too Many Requests", "NetworkException", "Too many requests"), "rate_limited", True, False),
    "429 retry-after": (
        kite_error("429 Too Many Requests", "NetworkException", "Too many requests", "Retry-After: 0\r\n"),
        "rate_limited",
        True,
        False,
    ),
    "429 html": (
        raw_reply("429 Too Many Requests", HTML, "Content-Type: text/html\r\n"),
        "rate_limited",
        True,
        False,
    ),
    "403 token": (
        kite_error("403 Forbidden", "TokenException", "Incorrect `api_key` or `access_token`."),
        "session_expired",
        False,
        True,
    ),
    "403 address": (
        kite_error("403 Forbidden", "PermissionException", "IP (203.0.113.7) is not allowed to place orders"),
        "ip_not_allowed",
        False,
        True,
    ),
    "428": (
        kite_error("428 Precondition Required", "OrderException", "7 quantity needs authorisation at depository."),
        "holdings_not_authorised",
        False,
        False,
    ),
    "margin": (
        kite_error("400 Bad Request", "MarginException", "Insufficient funds. Required margin is 2.00 but ..."),
        "insufficient_funds",
        False,
        False,
    ),
    "holding": (
        kite_error("400 Bad Request", "HoldingException", "Insufficient stock holding or there are pending sell..."),
        "insufficient_holdings",
        False,
        False,
    ),
}


@pytest.mark.parametrize(("reply", "code", "retryable", "halts"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_proven_refusal_is_refused_after_one_request(
    serve: Callable[..., RudeServer], reply: Reply, code: str, retryable: bool, halts: bool
) -> None:
    server = serve(reply)
    outcome = broker_at(server.url).place(limit_order())
    assert isinstance(outcome, Refused), outcome
    assert (outcome.code, outcome.retryable, outcome.halts) == (code, retryable, halts)
    assert len(server.received) == 1


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect"])
@pytest.mark.parametrize("location", ["{other}/orders/regular", "http://[broken", ""])
def test_a_redirect_is_not_followed(serve: Callable[..., RudeServer], status: str, location: str) -> None:
    other = serve(success({"order_id": ORDER_ID}))
    server = serve(raw_reply(status, b"", f"Location: {location.format(other=other.url)}\r\n"))
    broker = broker_at(server.url)
    assert isinstance(broker.place(limit_order()), Unknown)
    assert isinstance(broker.cancel(ORDER_ID), CancelUnknown)
    with pytest.raises(BrokerUnavailable):
        broker.orders()
    assert [request.method for request in server.received] == ["POST", "DELETE", "GET"]
    assert other.connections == 0


def test_an_order_goes_out_as_documented(serve: Callable[..., RudeServer]) -> None:
    server = serve(success({"order_id": ORDER_ID}))
    assert broker_at(server.url).place(limit_order()) == Acked(ORDER_ID)
    (request,) = server.received
    assert (request.method, request.path) == ("POST", "/orders/regular")
    assert request.headers["authorization"] == f"token {API_KEY}:{TOKEN}"
    assert request.headers["x-kite-version"] == "3"
    assert parse_qs(request.body) == {
        "variety": ["regular"],
        "exchange": ["NSE"],
        "tradingsymbol": ["M&M"],
        "transaction_type": ["BUY"],
        "quantity": ["7"],
        "product": ["CNC"],
        "order_type": ["LIMIT"],
        "price": ["100"],
        "validity": ["DAY"],
        "tag": ["d1abcdefghijklm2345"],
    }


def test_a_stop_order_carries_trigger_protection_and_lifetime(serve: Callable[..., RudeServer]) -> None:
    server = serve(success({"order_id": ORDER_ID}))
    order = PlaceRequest(
        tag="d1x",
        exchange="NSE",
        tradingsymbol="INFY",
        side="SELL",
        quantity=1,
        product="MIS",
        order_type="SL-M",
        trigger_price=Decimal("1499.95"),
        validity="TTL",
        ttl_minutes=5,
        market_protection=Decimal(-1),
    )
    assert broker_at(server.url).place(order) == Acked(ORDER_ID)
    sent = parse_qs(server.received[0].body)
    assert (sent["trigger_price"], sent["market_protection"]) == (["1499.95"], ["-1"])
    assert (sent["validity"], sent["validity_ttl"]) == (["TTL"], ["5"])
    assert "price" not in sent


def test_nobody_listening_means_nothing_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outcome = broker_at(f"http://127.0.0.1:{port}").place(limit_order())
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.retryable) == ("not_sent", True)


def test_an_unknown_host_means_nothing_was_sent() -> None:
    broker = KiteBroker(
        api_key=API_KEY,
        access_token=TOKEN,
        root="http://no-such-host.invalid:9010",
        simulator_hosts={"no-such-host.invalid"},
        timeouts=Timeouts(1, 1),
    )
    outcome = broker.place(limit_order())
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.retryable) == ("not_sent", True)
    assert isinstance(broker.cancel(ORDER_ID), CancelRefused)
    with pytest.raises(BrokerUnavailable):
        broker.orders()


def test_a_connect_timeout_means_nothing_was_sent() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        started = time.monotonic()
        outcome = broker_at(f"http://127.0.0.1:{port}", connect_s=0.2, read_s=30).place(limit_order())
        elapsed = time.monotonic() - started
        for one in waiting:
            one.close()
    assert isinstance(outcome, Refused), outcome
    assert (outcome.code, outcome.retryable) == ("not_sent", True)
    assert elapsed < 5


def test_the_callers_own_failure_is_not_mistaken_for_ours(serve: Callable[..., RudeServer]) -> None:
    server = serve(reset)
    refused = broker_at("http://127.0.0.1:1")
    try:
        refused.orders()
    except BrokerUnavailable:
        # An exception raised now has "connection refused" in its context; ours was sent all the same.
        outcome = broker_at(server.url).place(limit_order())
    assert isinstance(outcome, Unknown)


@pytest.fixture
def stranger(tmp_path: Path) -> ssl.SSLContext:
    """A server certificate nobody has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "stranger.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def test_a_certificate_nobody_signed_gets_no_order(serve: Callable[..., RudeServer], stranger: ssl.SSLContext) -> None:
    server = serve(success({"order_id": ORDER_ID}), stranger)
    outcome = broker_at(server.url).place(limit_order())
    assert isinstance(outcome, Refused)
    assert outcome.code == "not_sent"
    assert server.received == []


def test_proxies_and_netrc_of_the_environment_are_ignored_on_loopback(
    serve: Callable[..., RudeServer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    proxy = serve(success({"order_id": "1"}))
    server = serve(success({"order_id": ORDER_ID}))
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login thief password thief\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert broker_at(server.url).place(limit_order()) == Acked(ORDER_ID)
    assert proxy.connections == 0
    assert server.received[0].headers["authorization"] == f"token {API_KEY}:{TOKEN}"


def test_warnings_of_the_process_stay_as_they_were(serve: Callable[..., RudeServer]) -> None:
    server = serve(success({"order_id": ORDER_ID}))
    before = list(warnings.filters)
    broker_at(server.url).place(limit_order())
    assert list(warnings.filters) == before


@pytest.mark.parametrize("reply", [success({"order_id": ORDER_ID}), kite_error("500 Oops", "GeneralException", TOKEN)])
def test_no_secret_reaches_a_log_or_an_outcome(
    serve: Callable[..., RudeServer], caplog: pytest.LogCaptureFixture, reply: Reply
) -> None:
    server = serve(reply)
    broker = broker_at(server.url)
    with caplog.at_level(logging.DEBUG), structlog.testing.capture_logs() as lines:
        outcome = broker.place(limit_order())
        broker.cancel(ORDER_ID)
    written = caplog.text + repr(lines) + repr(outcome) + repr(broker)
    assert [line["event"] for line in lines] == ["broker.place_answered", "broker.cancel_answered"]
    assert TOKEN not in written
    assert API_KEY not in written


def test_threads_do_not_read_each_others_answers(serve: Callable[..., RudeServer]) -> None:
    def echo_tag(connection: socket.socket, request: Received) -> None:
        success({"order_id": parse_qs(request.body)["tag"][0]})(connection, request)

    server = serve(echo_tag)
    broker = broker_at(server.url, read_s=10)
    tags = [f"t{number:018d}" for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda tag: broker.place(limit_order(tag)), tags))
    assert outcomes == [Acked(tag) for tag in tags]
    assert len(server.received) == len(tags)
    assert server.connections <= 8


def test_calls_of_one_thread_share_a_connection_until_it_is_closed(serve: Callable[..., RudeServer]) -> None:
    server = serve(success([]))
    broker = broker_at(server.url)
    broker.orders()
    broker.trades()
    assert server.connections == 1
    broker.close()
    broker.orders()
    assert server.connections == 2


def test_a_forked_process_opens_its_own_connection(serve: Callable[..., RudeServer]) -> None:
    server = serve(success([]))
    broker = broker_at(server.url)
    broker.orders()
    child = os.fork()
    if child == 0:
        os._exit(0 if broker.orders() == [] else 1)
    deadline = time.monotonic() + 10
    done, status = os.waitpid(child, os.WNOHANG)
    while not done and time.monotonic() < deadline:
        time.sleep(0.01)
        done, status = os.waitpid(child, os.WNOHANG)
    if not done:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert (done, status) == (child, 0)
    assert [request.connection for request in server.received] == [1, 2]


@pytest.mark.parametrize("first", [REFUSALS["429"][0], REFUSALS["403 token"][0], success({"order_id": ORDER_ID})])
def test_the_answer_of_an_earlier_call_decides_nothing(serve: Callable[..., RudeServer], first: Reply) -> None:
    replies = iter([first, reset])
    server = serve(lambda connection, request: next(replies)(connection, request))
    broker = broker_at(server.url)
    assert isinstance(broker.place(limit_order()), Acked | Refused)
    assert isinstance(broker.place(limit_order()), Unknown)
    assert len(server.received) == 2


def test_a_dropped_idle_connection_is_replaced_without_a_second_order(serve: Callable[..., RudeServer]) -> None:
    def answer_once(connection: socket.socket, request: Received) -> None:
        success({"order_id": ORDER_ID})(connection, request)
        connection.shutdown(socket.SHUT_RDWR)

    server = serve(answer_once)
    broker = broker_at(server.url)
    assert broker.place(limit_order()) == Acked(ORDER_ID)
    time.sleep(0.1)  # the broker's side closes the idle connection; nothing observable tells when that has arrived
    assert broker.place(limit_order()) == Acked(ORDER_ID)
    assert len(server.received) == 2


@pytest.mark.parametrize("reply", UNKNOWN_REPLIES.values(), ids=UNKNOWN_REPLIES.keys())
def test_a_read_that_failed_never_looks_like_an_empty_book(serve: Callable[..., RudeServer], reply: Reply) -> None:
    server = serve(reply)
    broker = broker_at(server.url)
    for read in (broker.orders, broker.trades, broker.margins, broker.positions, broker.holdings):
        with pytest.raises((BrokerUnavailable, BrokerReplyInvalid, BrokerSessionExpired)):
            read()
    assert len(server.received) == 5


@pytest.mark.parametrize("reply", UNKNOWN_REPLIES.values(), ids=UNKNOWN_REPLIES.keys())
def test_a_cancel_never_raises_and_asks_once(serve: Callable[..., RudeServer], reply: Reply) -> None:
    server = serve(reply)
    assert isinstance(broker_at(server.url).cancel(ORDER_ID), CancelSent | CancelRefused | CancelUnknown)
    assert [(request.method, request.path) for request in server.received] == [
        ("DELETE", f"/orders/regular/{ORDER_ID}")
    ]


def test_an_expired_session_is_told_apart_on_reads(serve: Callable[..., RudeServer]) -> None:
    server = serve(kite_error("403 Forbidden", "TokenException", "Incorrect `api_key` or `access_token`."))
    with pytest.raises(BrokerSessionExpired, match="Incorrect"):
        broker_at(server.url).orders()
    server = serve(kite_error("429 Too Many Requests", "NetworkException", "Too many requests"))
    with pytest.raises(BrokerUnavailable, match="429"):
        broker_at(server.url).orders()


@pytest.mark.parametrize("order_id", ["", "../../session/token", "1?x=1", "1\r\nX: y", "1" * 65])
def test_an_id_that_could_not_be_the_brokers_never_becomes_a_url(
    serve: Callable[..., RudeServer], order_id: str
) -> None:
    server = serve(success({"order_id": ORDER_ID}))
    with pytest.raises(ValueError, match="not a broker order id"):
        broker_at(server.url).cancel(order_id)
    assert server.connections == 0


@pytest.mark.parametrize(
    "root",
    [
        "http://api.kite.trade",
        "http://localhost.example.com",
        "http://127.0.0.1:9010/oms",
        "http://user:password@127.0.0.1",
        "ftp://127.0.0.1",
        "127.0.0.1:9010",
        "https://api.kite.trade?x=1",
        "http://127.0.0.1\\@example.com",
        "http://0.0.0.0:9010",
        "",
    ],
)
def test_a_root_that_is_not_safe_is_refused(root: str) -> None:
    with pytest.raises(ValueError, match=r"broker root|plain HTTP"):
        Endpoint.checked(root)


def test_only_local_roots_count_as_simulators() -> None:
    assert Endpoint.checked("http://127.0.0.1:9010/").root == "http://127.0.0.1:9010"
    assert Endpoint.checked("http://[::1]:9010").is_simulator_allowed
    assert Endpoint.checked("http://localhost:9010").is_simulator_allowed
    assert Endpoint.checked("http://kite-simulator:9010", {"kite-simulator"}).is_simulator_allowed
    assert not Endpoint.checked("https://api.kite.trade").is_simulator_allowed


def test_a_session_without_credentials_is_refused() -> None:
    with pytest.raises(ValueError, match="access token"):
        KiteBroker(api_key=API_KEY, access_token="")


def test_instants_are_read_as_the_client_reads_them() -> None:
    row = {"order_timestamp": "2026-01-30 09:15:02", "exchange_timestamp": None, "status_message": "2026-01-30 09:15:02",
           "fill_timestamp": "2026-01-30 15:29:59", "timestamp": "09:15:02", "order_id": "1"}  # fmt: skip
    client, library = Client(API_KEY), KiteConnect(API_KEY)
    assert client._format_response([dict(row), dict(row)]) == library._format_response([dict(row), dict(row)])
    assert client._format_response(dict(row)) == library._format_response(dict(row))
    assert client._format_response(dict(row))["fill_timestamp"] == datetime(2026, 1, 30, 15, 29, 59)  # noqa: DTZ001  as sent


def test_an_instant_of_another_form_is_not_guessed_at() -> None:
    with pytest.raises(ValueError, match="isoformat"):
        Client(API_KEY)._format_response([{"order_timestamp": "30-01-2026 09:15:02"}])
