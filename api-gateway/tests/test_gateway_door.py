"""Requests through a running gateway over real sockets: tokens, headers, bodies, limits, paths."""

from __future__ import annotations

import http.client
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from starlette.types import Receive, Scope, Send

from api_gateway.gateway import QUERY_LENGTH_MAX
from common.auth import ISSUER
from common.errors import PROBLEM_JSON
from common.testing import eventually, new_rsa_pem

if TYPE_CHECKING:
    from conftest import Door, EchoRoom, Start

Headers = Callable[..., dict[str, str]]


def _code(answer: Any) -> str:
    assert answer.headers["content-type"] == PROBLEM_JSON
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["request_id"] == answer.headers["x-request-id"]
    return str(body["code"])


# --- tokens -------------------------------------------------------------------------------------------------------


def test_a_valid_token_is_forwarded_with_the_request(door: Door, auth_headers: Headers) -> None:
    headers = auth_headers()
    answer = door.client.post("/api/v1/orders?dry_run=1", json={"a": 1}, headers={**headers, "Idempotency-Key": "k-1"})
    assert answer.status_code == 200
    seen = answer.json()
    assert (seen["room"], seen["method"], seen["path"]) == ("portfolio-service", "POST", "/api/v1/orders")
    assert seen["query"] == "dry_run=1"
    assert seen["body"] == '{"a":1}'
    got = dict(seen["headers"])
    assert got["authorization"] == headers["Authorization"]
    assert got["idempotency-key"] == "k-1"
    assert got["host"] == "portfolio-service"
    assert got["x-request-id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Basic abc", "Bearer not.a.token", "Bearer a b", "Token x"],
)
def test_without_a_usable_token_nothing_reaches_a_room(door: Door, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = door.client.get("/api/v1/orders", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert _code(answer) in ("token_required", "invalid_token")
    assert not door.rooms["portfolio-service"].received


def test_forged_expired_and_foreign_tokens_are_refused(door: Door, user_token: Callable[..., str]) -> None:
    tokens = {
        user_token(pem=new_rsa_pem()): "invalid_token",
        user_token(aud="other"): "invalid_token",
        user_token(iss=ISSUER + "x"): "invalid_token",
        user_token(headers={"typ": "JWT"}): "invalid_token",
        user_token(headers={"kid": "../../etc/passwd"}): "invalid_token",
        user_token(lifetime_s=-1): "expired_token",
    }
    for token, code in tokens.items():
        answer = door.client.get("/api/v1/orders", headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, _code(answer)) == (401, code)
    assert not door.rooms["portfolio-service"].received


def test_two_authorization_headers_are_refused(door: Door, user_token: Callable[..., str]) -> None:
    pairs = [("Authorization", f"Bearer {user_token()}"), ("Authorization", f"Bearer {user_token()}")]
    answer = door.client.get("/api/v1/orders", headers=pairs)
    assert (answer.status_code, _code(answer)) == (401, "token_required")


def test_a_token_that_was_good_is_refused_after_its_expiry(door: Door, auth_headers: Headers) -> None:
    headers = auth_headers(lifetime_s=60)
    assert door.client.get("/api/v1/orders", headers=headers).status_code == 200
    door.clock.advance(61)
    answer = door.client.get("/api/v1/orders", headers=headers)
    assert (answer.status_code, _code(answer)) == (401, "expired_token")


@pytest.mark.parametrize(
    ("method", "path", "full"),
    [
        ("POST", "/register", "/api/v1/auth/register"),
        ("POST", "/login", "/api/v1/auth/login"),
        ("POST", "/auth/refresh", "/api/v1/auth/refresh"),
        ("POST", "/api/v1/auth/forgot-password", "/api/v1/auth/forgot-password"),
        ("GET", "/.well-known/jwks.json", "/.well-known/jwks.json"),
        ("POST", "/api/v1/broker/postback", "/api/v1/broker/postback"),
        ("GET", "/api/v1/broker/callback", "/api/v1/broker/callback"),
    ],
)
def test_public_routes_need_no_token(door: Door, method: str, path: str, full: str) -> None:
    answer = door.client.request(method, path)
    assert answer.status_code == 200
    assert answer.json()["path"] == full


@pytest.mark.parametrize(
    ("method", "alias", "full"),
    [
        ("GET", "/me", "/api/v1/auth/me"),
        ("GET", "/portfolio", "/api/v1/portfolios"),
        ("POST", "/portfolio", "/api/v1/portfolios"),
        ("POST", "/buy", "/api/v1/orders/buy"),
        ("POST", "/sell/", "/api/v1/orders/sell"),
        ("PUT", "/smallcase/7", "/api/v1/smallcases/7"),
        ("GET", "/analytics?user_id=7", "/api/v1/analytics"),
        ("POST", "/auth/logout", "/api/v1/auth/logout"),
    ],
)
def test_aliases_reach_the_canonical_route(
    door: Door, auth_headers: Headers, method: str, alias: str, full: str
) -> None:
    assert door.client.request(method, alias).status_code == 401
    answer = door.client.request(method, alias, headers=auth_headers())
    assert answer.status_code == 200
    assert answer.json()["path"] == full
    assert answer.json()["method"] == method


# --- paths and methods --------------------------------------------------------------------------------------------

INTERNAL_TRICKS = [
    "/internal/v1/sessions/7",
    "//internal/v1/sessions/7",
    "/./internal/v1/sessions/7",
    "/INTERNAL/v1/sessions/7",
    "/%69nternal/v1/sessions/7",
    "/internal%2fv1/sessions/7",
    "/api/v1/../../internal/v1/sessions/7",
    "/api/v1/auth/../../../internal/v1/sessions/7",
    "/api/v1/auth/%2e%2e/%2e%2e/%2e%2e/internal/v1/sessions/7",
    "/api/v1/auth/..%2f..%2f..%2finternal/v1/sessions/7",
    "/api/v1/auth/%252e%252e/internal/v1/sessions/7",
    "/api/v1/auth/..;/..;/internal/v1/sessions/7",
    "/api/v1/auth\\..\\..\\internal",
    "/login/../internal/v1/sessions/7",
    "/auth/..%00/internal",
    "http://127.0.0.1/internal/v1/sessions/7",
    "*",
]


@pytest.mark.parametrize("target", INTERNAL_TRICKS)
def test_no_spelling_reaches_an_internal_route(door: Door, auth_headers: Headers, target: str) -> None:
    status, headers, _ = door.raw("GET", target, headers=auth_headers())
    assert status in (400, 404)
    assert headers["content-type"] == PROBLEM_JSON or "*" in target
    for room in door.rooms.values():
        assert not room.received


def test_a_room_sees_the_path_the_gateway_decided_on(door: Door, auth_headers: Headers) -> None:
    status, _, body = door.raw("GET", "/api/v1/%6frders/a%20b/%4d&M/", headers=auth_headers())
    assert status == 200
    assert b'"path":"/api/v1/orders/a%20b/M&M"' in body


def test_unknown_paths_and_methods(door: Door) -> None:
    answer = door.client.get("/nothing/here")
    assert (answer.status_code, _code(answer)) == (404, "not_found")
    answer = door.client.get("/api/v1/orders/%2e%2e/x")
    assert (answer.status_code, _code(answer)) == (400, "invalid_path")
    for method in ("TRACE", "PROPFIND"):
        answer = door.client.request(method, "/api/v1/orders")
        assert (answer.status_code, _code(answer)) == (405, "method_not_allowed")
        assert "GET" in answer.headers["allow"]
    answer = door.client.get("/api/v1/orders?q=" + "x" * QUERY_LENGTH_MAX)
    assert (answer.status_code, _code(answer)) == (414, "query_too_long")


def test_too_many_headers(door: Door) -> None:
    answer = door.client.get("/health", headers={f"h-{number}": "x" for number in range(120)})
    assert (answer.status_code, _code(answer)) == (431, "too_many_headers")


# --- headers ------------------------------------------------------------------------------------------------------


def test_claims_of_the_client_do_not_travel(door: Door, auth_headers: Headers) -> None:
    forged = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Host": "evil.example",
        "X-Real-IP": "6.6.6.6",
        "X-User-Id": str(uuid4()),
        "X-User-Roles": "admin",
        "X-Internal-Service": "portfolio-service",
        "Forwarded": "for=6.6.6.6",
        "Host": "evil.example",
    }
    seen = door.client.get("/api/v1/orders", headers={**auth_headers(), **forged}).json()
    got = dict(seen["headers"])
    assert "6.6.6.6" not in str(seen)
    assert "evil.example" not in str(seen)
    assert not {"x-user-id", "x-user-roles", "x-internal-service", "forwarded", "x-real-ip"} & got.keys()
    assert got["x-forwarded-for"] == seen["client"] == "127.0.0.1"


def test_every_answer_carries_the_security_headers(door: Door, auth_headers: Headers) -> None:
    answers = [
        door.client.get("/api/v1/orders", headers=auth_headers()),
        door.client.get("/api/v1/orders"),
        door.client.get("/nothing"),
        door.client.get("/health"),
        door.client.get("/docs"),
    ]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert float(answer.headers["x-process-time"]) >= 0
        assert "server" not in answer.headers
        assert "strict-transport-security" not in answer.headers
        assert len(answer.headers.get_list("date")) == 1


def test_https_is_kept_once_a_trusted_proxy_reports_it(start: Start) -> None:
    answer = start(trusted_proxy_hops=1).client.get("/health", headers={"X-Forwarded-Proto": "https"})
    assert answer.headers["strict-transport-security"].startswith("max-age=")


@pytest.mark.parametrize("given", ["short", "x" * 65, "has space in it", "nl\tx-12345678", "{}$%&/()=?"])
def test_a_request_id_of_another_form_is_replaced(door: Door, given: str) -> None:
    answered = door.client.get("/health", headers={"X-Request-ID": given}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", answered)


def test_a_request_id_of_the_accepted_form_goes_all_the_way(door: Door, auth_headers: Headers) -> None:
    answer = door.client.get("/api/v1/orders", headers={**auth_headers(), "X-Request-ID": "trace-0042.a"})
    assert answer.headers.get_list("x-request-id") == ["trace-0042.a"]
    assert dict(answer.json()["headers"])["x-request-id"] == "trace-0042.a"


# --- bodies -------------------------------------------------------------------------------------------------------

LIMIT = 2048


def _chunks(total: int, size: int = 100) -> Iterator[bytes]:
    for _ in range(total // size):
        yield b"x" * size


def test_a_body_of_exactly_the_limit_passes(start: Start, auth_headers: Headers) -> None:
    door = start(body_limit_bytes=LIMIT)
    answer = door.client.post("/buy", content=b"x" * LIMIT, headers=auth_headers())
    assert answer.json()["size"] == LIMIT


def test_a_declared_body_over_the_limit_is_refused(start: Start, auth_headers: Headers) -> None:
    door = start(body_limit_bytes=LIMIT)
    answer = door.client.post("/buy", content=b"x" * (LIMIT + 1), headers=auth_headers())
    assert (answer.status_code, _code(answer)) == (413, "body_too_large")
    assert answer.json()["limit_bytes"] == LIMIT
    assert not door.rooms["portfolio-service"].received


def test_a_route_that_takes_a_file_has_a_limit_of_its_own(start: Start, auth_headers: Headers) -> None:
    door = start(body_limit_bytes=LIMIT, upload_limit_bytes=2 * LIMIT)
    taken = door.client.post("/analytics/imports", content=b"x" * (2 * LIMIT), headers=auth_headers())
    assert taken.json()["size"] == 2 * LIMIT
    refused = door.client.post("/analytics/imports", content=b"x" * (2 * LIMIT + 1), headers=auth_headers())
    assert (refused.status_code, refused.json()["limit_bytes"]) == (413, 2 * LIMIT)


@pytest.mark.parametrize("over_http", [False, True])
def test_a_chunked_body_is_measured_too(start: Start, auth_headers: Headers, over_http: bool) -> None:
    door = start(body_limit_bytes=LIMIT, over_http=over_http)
    status, _, body = door.raw("POST", "/buy", headers=auth_headers(), body=_chunks(2000), encode_chunked=True)
    assert status == 200
    assert b'"size":2000' in body
    status, headers, body = door.raw(
        "POST",
        "/buy",
        headers={**auth_headers(), "Transfer-Encoding": "chunked"},
        body=_chunks(LIMIT + 400),
        encode_chunked=True,
    )
    assert status == 413
    assert b"body_too_large" in body
    assert headers["connection"] == "close"
    assert len(door.rooms["portfolio-service"].received) == 1


def test_an_endless_body_is_cut_off(start: Start, user_token: Callable[..., str]) -> None:
    door = start(body_limit_bytes=LIMIT)
    with socket.create_connection(("127.0.0.1", door.port), timeout=10) as connection:
        head = f"POST /buy HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {user_token()}\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode())

        def pour() -> None:
            for _ in range(16 * 1024):
                connection.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")

        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            pour()
    assert not door.rooms["portfolio-service"].received


def test_a_wrong_token_is_refused_before_the_body_is_read(door: Door) -> None:
    with socket.create_connection(("127.0.0.1", door.port), timeout=10) as connection:
        connection.sendall(b"POST /buy HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nonly a part")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 401


# --- limits -------------------------------------------------------------------------------------------------------


def test_a_user_has_an_allowance_of_requests_and_another_of_orders(start: Start, auth_headers: Headers) -> None:
    door = start(general_per_minute=4, orders_per_minute=2)
    mine, other = auth_headers(user_id=uuid4()), auth_headers(user_id=uuid4())
    statuses = [door.client.post("/buy", headers=mine).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    statuses = [door.client.get("/portfolio", headers=mine).status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 200, 429]
    assert door.client.post("/buy", headers=other).status_code == 200

    refused = door.client.post("/api/v1/orders", headers=mine)
    assert (refused.status_code, _code(refused)) == (429, "rate_limited")
    assert refused.headers["x-ratelimit-limit"] == "2"
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert refused.headers["retry-after"] == refused.headers["x-ratelimit-reset"]
    assert refused.json()["retry_after"] == int(refused.headers["retry-after"])
    assert len(door.rooms["portfolio-service"].received) == 7
    door.clock.advance(int(refused.headers["retry-after"]))
    assert door.client.post("/buy", headers=mine).status_code == 200


def test_an_allowance_is_told_with_every_answer(door: Door, auth_headers: Headers) -> None:
    headers = auth_headers()
    first = door.client.get("/portfolio", headers=headers).headers
    second = door.client.get("/portfolio", headers=headers).headers
    assert first["x-ratelimit-limit"] == "600"
    assert int(first["x-ratelimit-remaining"]) - 1 == int(second["x-ratelimit-remaining"]) == 598


def test_two_tokens_of_one_user_share_the_allowance(start: Start, auth_headers: Headers) -> None:
    door = start(general_per_minute=3)
    user = uuid4()
    statuses = [door.client.get("/portfolio", headers=auth_headers(user_id=user)).status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]


def test_no_trick_enlarges_the_allowance_of_an_address(start: Start) -> None:
    door = start(auth_per_minute=5, anonymous_per_minute=5)
    spellings = ["/login", "/auth/login", "/api/v1/auth/login", "/login/", "/api/v1/auth/%6Cogin", "/%6cogin"]
    passed = 0
    for number in range(30):
        headers = {"X-Forwarded-For": f"9.9.9.{number}", "X-Real-IP": f"9.9.9.{number}", "User-Agent": str(number)}
        method = ("POST", "PUT", "OPTIONS")[number % 3]
        status, _, _ = door.raw(method, spellings[number % len(spellings)], headers=headers)
        passed += status == 200
    assert passed == 5


def test_trying_tokens_uses_up_the_address(start: Start, auth_headers: Headers) -> None:
    door = start(anonymous_per_minute=5)
    statuses = [
        door.client.get("/api/v1/orders", headers={"Authorization": f"Bearer x{number}"}).status_code
        for number in range(7)
    ]
    assert statuses == [401] * 5 + [429] * 2
    assert door.client.get("/nothing").status_code == 429
    assert door.client.get("/api/v1/orders", headers=auth_headers()).status_code == 200
    assert [door.client.get("/health").status_code for _ in range(10)] == [200] * 10


def test_behind_a_trusted_proxy_each_client_address_counts_alone(start: Start) -> None:
    door = start(auth_per_minute=2, trusted_proxy_hops=1)
    for address in ("1.2.3.4", "1.2.3.5"):
        statuses = [
            door.client.post("/login", headers={"X-Forwarded-For": f"{number}.0.0.1, {address}"}).status_code
            for number in range(3)
        ]
        assert statuses == [200, 200, 429]


def test_many_at_once_do_not_pass_the_limit(start: Start, auth_headers: Headers) -> None:
    door = start(orders_per_minute=10)
    headers = auth_headers()
    statuses: list[int] = []

    def shoot() -> None:
        statuses.extend(door.raw("POST", "/buy", headers=headers)[0] for _ in range(8))

    threads = [threading.Thread(target=shoot) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count(200) == 10
    assert statuses.count(429) == 38


# --- CORS ---------------------------------------------------------------------------------------------------------

ORIGIN = "https://app.example.com"


def test_a_configured_origin_may_ask_and_read(start: Start, auth_headers: Headers) -> None:
    door = start(cors_origins=(ORIGIN,))
    preflight = door.client.options(
        "/api/v1/orders",
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,idempotency-key,content-type",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "Idempotency-Key" in preflight.headers["access-control-allow-headers"]
    assert not door.rooms["portfolio-service"].received
    for headers in ({}, auth_headers()):
        answer = door.client.get("/api/v1/orders", headers={**headers, "Origin": ORIGIN})
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "X-Request-ID" in answer.headers["access-control-expose-headers"]


def test_another_origin_gets_no_permission(start: Start) -> None:
    door = start(cors_origins=(ORIGIN,))
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    preflight = door.client.options("/api/v1/orders", headers=headers)
    assert preflight.status_code == 400
    assert "access-control-allow-origin" not in preflight.headers


def test_without_configured_origins_there_is_no_cors(door: Door, auth_headers: Headers) -> None:
    answer = door.client.get("/api/v1/orders", headers={**auth_headers(), "Origin": ORIGIN})
    assert "access-control-allow-origin" not in answer.headers


# --- failures -----------------------------------------------------------------------------------------------------


async def broken_room(scope: Scope, receive: Receive, send: Send) -> None:
    """A room with a mistake in it."""
    raise RuntimeError("secret detail")


def test_a_mistake_in_a_room_becomes_a_generic_problem(start: Start, auth_headers: Headers) -> None:
    door = start(upstreams={"portfolio-service": broken_room})
    answer = door.client.get("/api/v1/orders", headers=auth_headers())
    assert (answer.status_code, _code(answer)) == (500, "internal_error")
    assert "secret" not in answer.text
    assert answer.headers["x-frame-options"] == "DENY"


def test_a_client_that_leaves_during_its_body_harms_nobody(
    door: Door, user_token: Callable[..., str], echo_rooms: dict[str, EchoRoom]
) -> None:
    with socket.create_connection(("127.0.0.1", door.port), timeout=10) as connection:
        head = f"POST /buy HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {user_token()}\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head.encode() + b"part")
    assert eventually(lambda: door.client.get("/health").status_code == 200)
    assert not echo_rooms["portfolio-service"].received


def test_requests_are_counted_by_route_not_by_path(door: Door, auth_headers: Headers) -> None:
    marker = uuid4().hex
    door.client.get(f"/api/v1/orders/{marker}?access_token={marker}", headers=auth_headers())
    door.client.get(f"/{marker}")
    exposition = door.client.get("/metrics").text
    assert (
        'saras_http_requests_total{method="GET",route="/api/v1/orders",service="api-gateway",status="200"}'
        in exposition
    )
    assert marker not in exposition


def test_a_websocket_is_refused(door: Door) -> None:
    with socket.create_connection(("127.0.0.1", door.port), timeout=10) as connection:
        connection.sendall(
            b"GET /ws/orders HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 403
