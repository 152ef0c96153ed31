"""Which headers cross the door, in both directions, and whose address a request counts for. Pure."""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address

from common.errors import AppError

RawHeaders = list[tuple[bytes, bytes]]

HEADER_COUNT_MAX = 100
HEADER_BYTES_MAX = 32 * 1024

HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
        b"trailer", b"trailers", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
"""RFC 9110, 7.6.1: meant for one connection only."""

# The gateway states these itself, or a proxy in front of it does; a client's word on them is worth nothing.
_SET_BY_US = frozenset(
    {b"host", b"content-length", b"expect", b"forwarded", b"via", b"cf-connecting-ip", b"true-client-ip"}
)
_CLIENT_X_HEADERS = frozenset({b"x-kite-version", b"x-requested-with"})
"""Headers named x-... that a client may send on; every other one could be mistaken for the gateway's own word."""

_NOT_FROM_UPSTREAM = HOP_BY_HOP | {b"server", b"date", b"x-request-id", b"x-process-time"}

IPV6_PREFIX = 64
"""One household or host usually owns a whole /64; counting single addresses would give it 2^64 allowances."""

SECURITY_HEADERS: RawHeaders = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
API_CSP = b"default-src 'none'; frame-ancestors 'none'"
DOCS_CSP = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"font-src 'self' data:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'"
)
HSTS = b"max-age=31536000; includeSubDomains"


class TooManyHeaders(AppError):
    """More header lines or bytes than any client of ours sends (431)."""

    status = 431


def check_size(headers: RawHeaders) -> None:
    """Raises TooManyHeaders beyond HEADER_COUNT_MAX lines or HEADER_BYTES_MAX bytes."""
    if len(headers) > HEADER_COUNT_MAX or sum(len(name) + len(value) for name, value in headers) > HEADER_BYTES_MAX:
        raise TooManyHeaders(f"Send at most {HEADER_COUNT_MAX} headers of {HEADER_BYTES_MAX} bytes together.")


def forwarded_request(headers: RawHeaders, *, room: str, client: str, scheme: str, request_id: str) -> RawHeaders:
    """The headers a room receives: the client's own ones without hop-by-hop, proxy and identity claims, plus ours."""
    named_in_connection = _connection_tokens(headers)
    kept = [(name, value) for name, value in headers if _may_cross(name) and name not in named_in_connection]
    kept += [
        (b"host", room.encode()),
        (b"x-request-id", request_id.encode()),
        (b"x-forwarded-for", client.encode()),
        (b"x-forwarded-proto", scheme.encode()),
    ]
    return kept


@lru_cache(maxsize=256)  # clients send the same few names in every request
def _may_cross(name: bytes) -> bool:
    return (
        name not in HOP_BY_HOP
        and name not in _SET_BY_US
        and b"_" not in name
        and (not name.startswith(b"x-") or name in _CLIENT_X_HEADERS)
    )


def forwarded_response(headers: Iterable[tuple[bytes, bytes]], *, room: str) -> RawHeaders:
    """The headers a client receives from a room; a redirect that names the room is made relative."""
    kept = []
    for raw_name, raw_value in headers:
        name, value = raw_name.lower(), raw_value
        if name in _NOT_FROM_UPSTREAM:
            continue
        if name == b"location" and value.startswith(internal := f"http://{room}/".encode()):
            value = value[len(internal) - 1 :]
        kept.append((name, value))
    return kept


def _connection_tokens(headers: RawHeaders) -> frozenset[bytes]:
    tokens = [value for name, value in headers if name == b"connection"]
    if not tokens or tokens == [b"keep-alive"]:
        return frozenset()
    return frozenset(token.strip().lower() for value in tokens for token in value.split(b","))


def client_address(peer: str | None, headers: RawHeaders, trusted_hops: int) -> str:
    """The address a request comes from, in text.

    Every proxy of ours appends the address it saw to X-Forwarded-For; the peer of our socket is the last of them. With
    n trusted proxies the n-th entry from the right was written by the outermost of ours; whatever stands left of it is
    the client's invention.
    """
    peer = peer or "0.0.0.0"  # noqa: S104  a name for "unknown", nothing is bound
    if not trusted_hops:
        return peer
    forwarded = b",".join(value for name, value in headers if name == b"x-forwarded-for").decode("latin-1")
    seen = [part.strip() for part in forwarded.split(",") if part.strip()] + [peer]
    candidate = seen[max(0, len(seen) - 1 - trusted_hops)]
    return candidate if _is_address(candidate) else peer


def client_scheme(scheme: str, headers: RawHeaders, trusted_hops: int) -> str:
    """http or https as the outermost trusted proxy saw it."""
    if trusted_hops:
        for name, value in headers:
            if name == b"x-forwarded-proto":
                return "https" if value.split(b",")[0].strip().lower() == b"https" else "http"
    return scheme


def address_key(address: str) -> str:
    """What an address counts as: itself, an IPv6 address as its /64 network."""
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((int(parsed) >> (128 - IPV6_PREFIX) << (128 - IPV6_PREFIX), IPV6_PREFIX)))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
