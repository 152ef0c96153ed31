"""Header hygiene and client addresses, without any server."""

import pytest

from api_gateway.headers import (
    HEADER_BYTES_MAX,
    HEADER_COUNT_MAX,
    RawHeaders,
    TooManyHeaders,
    address_key,
    check_size,
    client_address,
    client_scheme,
    forwarded_request,
    forwarded_response,
)


def _xff(value: str) -> RawHeaders:
    return [(b"x-forwarded-for", value.encode())]


@pytest.mark.parametrize(
    ("hops", "forwarded", "expected"),
    [
        (0, None, "10.0.0.9"),
        (0, "6.6.6.6", "10.0.0.9"),
        (1, None, "10.0.0.9"),
        (1, "1.2.3.4", "1.2.3.4"),
        (1, "6.6.6.6, 1.2.3.4", "1.2.3.4"),
        (1, "6.6.6.6, 7.7.7.7, 1.2.3.4", "1.2.3.4"),
        (2, "6.6.6.6, 1.2.3.4, 10.0.0.1", "1.2.3.4"),
        (2, "1.2.3.4, 10.0.0.1", "1.2.3.4"),
        (1, "nonsense", "10.0.0.9"),
        (1, "1.2.3.4, ", "1.2.3.4"),
        (1, "2001:db8::1", "2001:db8::1"),
        (1, "1.2.3.4:5555", "10.0.0.9"),
    ],
)
def test_only_entries_of_trusted_proxies_count(hops: int, forwarded: str | None, expected: str) -> None:
    assert client_address("10.0.0.9", _xff(forwarded) if forwarded else [], hops) == expected


def test_repeated_forwarded_lines_are_one_list() -> None:
    assert client_address("10.0.0.9", [*_xff("6.6.6.6"), *_xff("1.2.3.4")], 1) == "1.2.3.4"


def test_scheme_is_believed_from_a_trusted_proxy_only() -> None:
    headers = [(b"x-forwarded-proto", b"https")]
    assert client_scheme("http", headers, 0) == "http"
    assert client_scheme("http", headers, 1) == "https"
    assert client_scheme("https", [], 1) == "https"


def test_ipv6_counts_as_its_network() -> None:
    assert address_key("2001:db8:1:2:aaaa::1") == address_key("2001:db8:1:2:bbbb::9") == "2001:db8:1:2::/64"
    assert address_key("2001:db8:1:3::1") != address_key("2001:db8:1:2::1")
    assert address_key("::ffff:1.2.3.4") == "1.2.3.4"
    assert address_key("1.2.3.4") == "1.2.3.4"
    assert address_key("no:address") == "no:address"


def test_a_room_gets_no_claim_that_the_client_made_about_itself() -> None:
    given = [
        (b"host", b"evil.example"),
        (b"authorization", b"Bearer t"),
        (b"content-type", b"application/json"),
        (b"idempotency-key", b"k1"),
        (b"x-forwarded-for", b"6.6.6.6"),
        (b"x-forwarded-host", b"evil.example"),
        (b"x-forwarded-proto", b"https"),
        (b"forwarded", b"for=6.6.6.6"),
        (b"x-real-ip", b"6.6.6.6"),
        (b"x-user-id", b"1"),
        (b"x-user-roles", b"admin"),
        (b"x-service", b"portfolio-service"),
        (b"x_user_id", b"1"),
        (b"x-request-id", b"forged-by-client"),
        (b"x-http-method-override", b"DELETE"),
        (b"x-original-url", b"/internal"),
        (b"connection", b"keep-alive, X-Secret, Cookie"),
        (b"cookie", b"named in connection"),
        (b"te", b"trailers"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"h2c"),
        (b"proxy-authorization", b"Basic x"),
        (b"content-length", b"5"),
    ]
    headers = forwarded_request(given, room="user-service", client="1.2.3.4", scheme="http", request_id="rid-12345")
    assert sorted(headers) == sorted(
        [
            (b"authorization", b"Bearer t"),
            (b"content-type", b"application/json"),
            (b"idempotency-key", b"k1"),
            (b"host", b"user-service"),
            (b"x-request-id", b"rid-12345"),
            (b"x-forwarded-for", b"1.2.3.4"),
            (b"x-forwarded-proto", b"http"),
        ]
    )


def test_an_answer_loses_connection_headers_and_internal_addresses() -> None:
    given = [
        (b"Content-Type", b"text/plain"),
        (b"Set-Cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"Server", b"uvicorn"),
        (b"Date", b"now"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Keep-Alive", b"timeout=5"),
        (b"X-Request-ID", b"other"),
        (b"Location", b"http://user-service/api/v1/users"),
    ]
    assert forwarded_response(given, room="user-service") == [
        (b"content-type", b"text/plain"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"location", b"/api/v1/users"),
    ]


def test_a_foreign_redirect_is_left_alone() -> None:
    given = [(b"location", b"https://kite.example/connect/login")]
    assert forwarded_response(given, room="trade-executor") == given


def test_header_lines_and_bytes_are_bounded() -> None:
    check_size([(b"a", b"b")] * HEADER_COUNT_MAX)
    with pytest.raises(TooManyHeaders):
        check_size([(b"a", b"b")] * (HEADER_COUNT_MAX + 1))
    with pytest.raises(TooManyHeaders):
        check_size([(b"a", b"b" * HEADER_BYTES_MAX)])
