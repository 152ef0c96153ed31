"""Which room answers which path. Pure: the tables below are the whole truth about what is public.

A path is brought into one canonical spelling before anything is decided, and that spelling is what the room receives,
so the gateway and a room can never read one path in two ways.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

USER = "user-service"
PORTFOLIO = "portfolio-service"
SMALLCASE = "smallcase-service"
EXECUTOR = "trade-executor"
NOTIFICATION = "notification-service"
ANALYTICS = "analytics-service"
MARKET_DATA = "market-data-service"
ROOMS = (USER, PORTFOLIO, SMALLCASE, EXECUTOR, NOTIFICATION, ANALYTICS, MARKET_DATA)

API = "/api/v1"
JWKS_PATH = "/.well-known/jwks.json"
PATH_LENGTH_MAX = 2048
REMEMBERED_PATHS = 1024
"""Most requests go to a few paths; judging one anew costs several times a look-up."""

ROUTES: dict[str, str] = {
    JWKS_PATH: USER,
    f"{API}/auth": USER,
    f"{API}/users": USER,
    f"{API}/kyc": USER,
    f"{API}/admin/users": USER,
    **{f"{API}/admin/audit/{room}": room for room in (USER, PORTFOLIO, EXECUTOR)},
    f"{API}/security": USER,
    f"{API}/portfolios": PORTFOLIO,
    f"{API}/funds": PORTFOLIO,
    f"{API}/orders": PORTFOLIO,
    f"{API}/trades": PORTFOLIO,
    f"{API}/holdings": PORTFOLIO,
    f"{API}/positions": PORTFOLIO,
    f"{API}/transactions": PORTFOLIO,
    f"{API}/statement": PORTFOLIO,
    f"{API}/charges": PORTFOLIO,
    f"{API}/admin/funds": PORTFOLIO,
    f"{API}/admin/ledger": PORTFOLIO,
    f"{API}/admin/orders": PORTFOLIO,
    f"{API}/tokens": MARKET_DATA,
    f"{API}/market": MARKET_DATA,
    f"{API}/instruments": MARKET_DATA,
    f"{API}/candles": MARKET_DATA,
    f"{API}/calendar": MARKET_DATA,
    f"{API}/ops": EXECUTOR,
    f"{API}/broker": EXECUTOR,
    f"{API}/smallcases": SMALLCASE,
    f"{API}/investments": SMALLCASE,
    f"{API}/sips": SMALLCASE,
    f"{API}/notifications": NOTIFICATION,
    f"{API}/admin/notifications": NOTIFICATION,
    f"{API}/analytics": ANALYTICS,
}
"""Path prefix (whole segments) -> room; the longest prefix wins."""

EXACT_ALIASES: dict[str, str] = {
    "/register": f"{API}/auth/register",
    "/login": f"{API}/auth/login",
    "/me": f"{API}/auth/me",
    "/portfolio": f"{API}/portfolios",
    "/buy": f"{API}/orders/buy",
    "/sell": f"{API}/orders/sell",
}
PREFIX_ALIASES: dict[str, str] = {
    "/auth": f"{API}/auth",
    "/smallcase": f"{API}/smallcases",
    "/notifications": f"{API}/notifications",
    "/alerts": f"{API}/notifications/alerts",
    "/analytics": f"{API}/analytics",
}
"""Short names promised to clients; the room always sees the canonical path."""

CREDENTIAL_PATHS = frozenset(
    {
        f"{API}/auth/register",
        f"{API}/auth/login",
        f"{API}/auth/refresh",
        f"{API}/auth/forgot-password",
        f"{API}/auth/reset-password",
        f"{API}/auth/validate-token",
        f"{API}/users/register",
        f"{API}/users/validate-token",
        f"{API}/users/verify-email",
    }
)
"""Routes where somebody without a token shows credentials: public, with the strictest limit."""
POSTBACK_PATHS = frozenset({f"{API}/broker/postback", f"{API}/notifications/callbacks/twilio"})
PUBLIC_PATHS = CREDENTIAL_PATHS | POSTBACK_PATHS | {f"{API}/broker/callback", JWKS_PATH}

UPLOAD_PATHS = frozenset({f"{API}/analytics/imports"})
"""Routes that take a file: a larger body than elsewhere."""

OWN_PATHS = frozenset({"/", "/info", "/openapi.json"})
OWN_PREFIXES = ("/docs", "/redoc")
UNLIMITED_PREFIXES = ("/health", "/metrics")
"""Answered for probes: never limited, because an orchestrator that is refused would restart a healthy process."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
METHODS = SAFE_METHODS | {"POST", "PUT", "PATCH", "DELETE"}
_ORDERS = f"{API}/orders"
_DEPTH_MAX = max(prefix.count("/") for prefix in ROUTES)

_PLAIN = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+\Z")
_ENCODED = re.compile(rb"(?:[!$&-.0-9:=@A-Z_a-z~]|%[0-9A-Fa-f]{2})+\Z")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f/\\%;]")
_SEGMENT_SAFE = "-._~!$&'()*+,:=@"


class Limit(StrEnum):
    """Which allowance a request draws from."""

    GENERAL = "general"
    ORDERS = "orders"
    CREDENTIALS = "credentials"
    ANONYMOUS = "anonymous"
    POSTBACK = "postback"
    NONE = "none"


class InvalidPath(Exception):
    """The path has no single meaning (dot segments, encoded slashes, double encoding, control characters)."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: `room` is None for the gateway's own routes; `prefix` names the route in logs."""

    room: str | None
    path: str
    prefix: str
    public: bool
    limit: Limit


@lru_cache(REMEMBERED_PATHS)
def canonical_path(raw: bytes) -> str:
    """The one spelling of a request path: percent-encoded ASCII, no trailing slash; raises InvalidPath.

    Segments are decoded once (RFC 3986, 2.4) and encoded again; whatever a second decoder could read differently is
    refused instead of repaired.
    """
    if len(raw) > PATH_LENGTH_MAX:
        raise InvalidPath("the path is too long")
    if not raw.isascii() or not raw.startswith(b"/"):
        raise InvalidPath("the path must be percent-encoded ASCII and start with a slash")
    text = raw.decode("ascii")
    if _PLAIN.match(text):
        return text
    segments = raw[1:].split(b"/")
    if segments[-1] == b"":
        segments.pop()
    return "/" + "/".join(quote(_segment(part), safe=_SEGMENT_SAFE) for part in segments)


def _segment(raw: bytes) -> str:
    if not _ENCODED.match(raw):
        raise InvalidPath("a path segment is empty or holds a character that must be encoded")
    try:
        segment = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidPath("a path segment is not UTF-8") from None
    if segment in (".", "..") or _FORBIDDEN.search(segment):
        raise InvalidPath("dot segments, semicolons, encoded slashes and control characters are not accepted")
    return segment


def without_alias(path: str) -> str:
    """The canonical path of a short name; other paths unchanged."""
    exact = EXACT_ALIASES.get(path)
    if exact is not None:
        return exact
    head, slash, rest = path[1:].partition("/")
    full = PREFIX_ALIASES.get("/" + head)
    return path if full is None else full + slash + rest


@lru_cache(REMEMBERED_PATHS)
def resolve(method: str, path: str) -> Target | None:
    """Who answers a canonical path; None when nobody does (rooms' internal routes are in no table)."""
    if _within(path, UNLIMITED_PREFIXES):
        return Target(None, path, "/" + path.split("/", 2)[1], public=True, limit=Limit.NONE)
    if path in OWN_PATHS or _within(path, OWN_PREFIXES):
        return Target(None, path, "/" + path.split("/", 2)[1], public=True, limit=Limit.ANONYMOUS)
    full = without_alias(path)
    prefix = _longest_prefix(full)
    if prefix is None:
        return None
    return Target(ROUTES[prefix], full, prefix, public=full in PUBLIC_PATHS, limit=_limit(method, full, prefix))


def _within(path: str, prefixes: tuple[str, ...]) -> bool:
    return path.startswith(prefixes) and any(path == prefix or path.startswith(prefix + "/") for prefix in prefixes)


def _longest_prefix(path: str) -> str | None:
    candidate = path
    while candidate.count("/") > _DEPTH_MAX:
        candidate = candidate.rpartition("/")[0]
    while candidate:
        if candidate in ROUTES:
            return None if candidate == JWKS_PATH != path else candidate
        candidate = candidate.rpartition("/")[0]
    return None


def _limit(method: str, path: str, prefix: str) -> Limit:
    if path in CREDENTIAL_PATHS:
        return Limit.CREDENTIALS
    if path in POSTBACK_PATHS:
        return Limit.POSTBACK
    if path in PUBLIC_PATHS:
        return Limit.ANONYMOUS
    return Limit.ORDERS if prefix == _ORDERS and method not in SAFE_METHODS else Limit.GENERAL
