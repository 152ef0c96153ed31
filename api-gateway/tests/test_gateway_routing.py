"""The route table and the canonical spelling of paths, without any server."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api_gateway.routing import (
    CREDENTIAL_PATHS,
    EXACT_ALIASES,
    PREFIX_ALIASES,
    PUBLIC_PATHS,
    ROOMS,
    ROUTES,
    InvalidPath,
    Limit,
    canonical_path,
    resolve,
    without_alias,
)

REFUSED = [
    b"",
    b"api/v1/orders",
    b"*",
    b"//api/v1/orders",
    b"/api//v1/orders",
    b"/api/v1/orders//",
    b"/api/v1/./orders",
    b"/api/v1/../internal/v1/sessions",
    b"/api/v1/orders/..",
    b"/api/v1/orders/%2e%2e/internal",
    b"/api/v1/orders/%2E%2E",
    b"/api/v1/orders/.%2e",
    b"/api/v1/orders/%2e",
    b"/api/v1/orders%2finternal",
    b"/api/v1/orders%2Finternal",
    b"/api/v1/orders%5c..%5cinternal",
    b"/api/v1/orders\\..\\internal",
    b"/api/v1/orders/%252e%252e/internal",
    b"/api/v1/orders%00",
    b"/api/v1/orders%0d%0aX-User-Id: 1",
    b"/api/v1/orders%7f",
    b"/api/v1/orders%c2%85",
    b"/api/v1/orders%ff",
    b"/api/v1/orders%c0%ae",
    b"/api/v1/orders%",
    b"/api/v1/orders%2",
    b"/api/v1/orders%zz",
    b"/api/v1/ord ers",
    b"/api/v1/..;/internal",
    b"/api/v1/orders;x=1",
    b"/api/v1/orders%3bx",
    b"/api/v1/orders\xc3\xa9",
    b"/api/v1/orders#x",
    b"/api/v1/orders\x00",
    b"/" + b"a" * 2048,
]


@pytest.mark.parametrize("raw", REFUSED, ids=[raw[:40].decode("latin-1") for raw in REFUSED])
def test_a_path_with_two_readings_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidPath):
        canonical_path(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"/", "/"),
        (b"/buy", "/buy"),
        (b"/buy/", "/buy"),
        (b"/api/v1/orders/3f0e", "/api/v1/orders/3f0e"),
        (b"/%61pi/v1/orders", "/api/v1/orders"),
        (b"/.well-known/jwks.json", "/.well-known/jwks.json"),
        (b"/api/v1/instruments/NSE/M%26M", "/api/v1/instruments/NSE/M&M"),
        (b"/api/v1/instruments/NSE/NIFTY%2050", "/api/v1/instruments/NSE/NIFTY%2050"),
        (b"/api/v1/users/a..b", "/api/v1/users/a..b"),
        (b"/api/v1/smallcases/%E0%A4%B8", "/api/v1/smallcases/%E0%A4%B8"),
    ],
)
def test_the_canonical_spelling(raw: bytes, expected: str) -> None:
    assert canonical_path(raw) == expected


@given(st.binary(max_size=60).map(lambda tail: b"/" + tail))
@example(b"/%2e%2e/x")
@example(b"/a/%2525")
def test_a_canonical_path_is_stable_and_harmless(raw: bytes) -> None:
    try:
        path = canonical_path(raw)
    except InvalidPath:
        return
    assert canonical_path(path.encode()) == path
    segments = path[1:].split("/")
    assert path == "/" or all(segment not in ("", ".", "..") for segment in segments)
    assert "%2F" not in path
    assert "%5C" not in path
    assert "%25" not in path


@given(st.text(max_size=40), st.sampled_from(["/internal", "/internal/v1/", "/Internal", "/INTERNAL/v1/"]))
def test_internal_routes_are_in_no_table(tail: str, head: str) -> None:
    assert resolve("GET", head + tail) is None


@pytest.mark.parametrize(
    "path",
    [
        "/internal/v1/sessions/x",
        "/api/v1/internal/x",
        "/api/v1",
        "/api/v1/ordersx",
        "/api/v1/admin",
        "/api/v1/admin/breaks",
        "/API/V1/orders",
        "/Buy",
        "/buy/extra",
        "/login/x",
        "/openapi.json/x",
        "/docsx",
        "/healthy",
        "/.well-known",
        "/.well-known/other",
        "/.well-known/jwks.json/x",
        "/metricsx",
    ],
)
def test_unknown_paths_have_no_target(path: str) -> None:
    assert resolve("GET", path) is None


@pytest.mark.parametrize(
    ("path", "room", "full"),
    [
        ("/register", "user-service", "/api/v1/auth/register"),
        ("/login", "user-service", "/api/v1/auth/login"),
        ("/me", "user-service", "/api/v1/auth/me"),
        ("/auth/login", "user-service", "/api/v1/auth/login"),
        ("/auth/sessions/7", "user-service", "/api/v1/auth/sessions/7"),
        ("/portfolio", "portfolio-service", "/api/v1/portfolios"),
        ("/buy", "portfolio-service", "/api/v1/orders/buy"),
        ("/sell", "portfolio-service", "/api/v1/orders/sell"),
        ("/smallcase", "smallcase-service", "/api/v1/smallcases"),
        ("/smallcase/7", "smallcase-service", "/api/v1/smallcases/7"),
        ("/analytics", "analytics-service", "/api/v1/analytics"),
        ("/api/v1/admin/users/7/roles", "user-service", "/api/v1/admin/users/7/roles"),
        ("/api/v1/security/metrics", "user-service", "/api/v1/security/metrics"),
        ("/api/v1/admin/orders/7", "portfolio-service", "/api/v1/admin/orders/7"),
        ("/api/v1/admin/ledger", "portfolio-service", "/api/v1/admin/ledger"),
        ("/api/v1/ops/kill-switch", "trade-executor", "/api/v1/ops/kill-switch"),
        ("/api/v1/market/session", "market-data-service", "/api/v1/market/session"),
        ("/api/v1/notifications/a/b/c/d/e/f", "notification-service", "/api/v1/notifications/a/b/c/d/e/f"),
    ],
)
def test_who_answers(path: str, room: str, full: str) -> None:
    target = resolve("GET", path)
    assert target is not None
    assert (target.room, target.path) == (room, full)


def test_every_route_names_a_room_and_every_alias_leads_to_a_route() -> None:
    assert set(ROUTES.values()) == set(ROOMS)
    for alias in [*EXACT_ALIASES, *PREFIX_ALIASES]:
        target = resolve("GET", alias)
        assert target is not None
        assert target.room in ROOMS
        assert target.path == without_alias(alias) != alias


def test_only_the_named_paths_are_public() -> None:
    assert {
        "/api/v1/auth/register",
        "/api/v1/auth/login",
        "/api/v1/auth/refresh",
        "/api/v1/auth/forgot-password",
        "/api/v1/auth/reset-password",
        "/api/v1/auth/validate-token",
        "/api/v1/users/register",
        "/api/v1/users/validate-token",
        "/api/v1/users/verify-email",
        "/api/v1/broker/postback",
        "/api/v1/notifications/callbacks/twilio",
        "/api/v1/broker/callback",
        "/.well-known/jwks.json",
    } == PUBLIC_PATHS
    for prefix in ROUTES:
        for path in (prefix, f"{prefix}/x"):
            target = resolve("POST", path)
            assert target is None or target.public == (target.path in PUBLIC_PATHS)


@pytest.mark.parametrize(
    ("method", "path", "limit"),
    [
        ("POST", "/buy", Limit.ORDERS),
        ("POST", "/api/v1/orders", Limit.ORDERS),
        ("DELETE", "/api/v1/orders/7", Limit.ORDERS),
        ("GET", "/api/v1/orders", Limit.GENERAL),
        ("GET", "/portfolio", Limit.GENERAL),
        ("POST", "/login", Limit.CREDENTIALS),
        ("POST", "/api/v1/auth/logout", Limit.GENERAL),
        ("POST", "/api/v1/broker/postback", Limit.POSTBACK),
        ("GET", "/api/v1/broker/callback", Limit.ANONYMOUS),
        ("GET", "/docs", Limit.ANONYMOUS),
        ("GET", "/health/ready", Limit.NONE),
    ],
)
def test_which_allowance_is_used(method: str, path: str, limit: Limit) -> None:
    target = resolve(method, path)
    assert target is not None
    assert target.limit is limit


def test_every_spelling_of_a_credential_path_draws_from_the_same_allowance() -> None:
    spellings = [b"/login", b"/login/", b"/auth/login", b"/api/v1/auth/login", b"/api/v1/auth/%6cogin", b"/%6Cogin"]
    targets = [resolve("POST", canonical_path(raw)) for raw in spellings]
    assert {target.path for target in targets if target} == {"/api/v1/auth/login"}
    assert all(target is not None and target.limit is Limit.CREDENTIALS for target in targets)
    assert "/api/v1/auth/login" in CREDENTIAL_PATHS
