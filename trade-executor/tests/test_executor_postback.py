"""Postbacks: checked, bounded, and worth no more than an order id."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trade_executor.postback import POSTBACK_BYTES_MAX, PostbackMalformed, checksum, is_authentic, read_postback

ORDER_ID, TIMESTAMP, SECRET = "220303000308932", "2022-03-03 09:24:25", "test_secret"
CHECKSUM = "ad3df4dedf453d66b2307aa1847f0026f912346f75a28ea9089514ece6a6b652"


def body(**changes: Any) -> bytes:
    fields = {
        "user_id": "AB1234",
        "order_id": ORDER_ID,
        "order_timestamp": TIMESTAMP,
        "checksum": CHECKSUM,
        "status": "COMPLETE",
        "filled_quantity": 1,
    }
    return json.dumps(fields | changes).encode()


def test_the_documented_vector_checks() -> None:
    assert checksum(ORDER_ID, TIMESTAMP, SECRET) == CHECKSUM
    assert is_authentic(read_postback(body()), SECRET)


def test_only_the_order_and_its_account_leave_the_body() -> None:
    postback = read_postback(body())
    assert (postback.broker_order_id, postback.broker_user_id) == (ORDER_ID, "AB1234")
    assert not hasattr(postback, "filled_quantity")
    assert not hasattr(postback, "status")


@given(st.text("0123456789", min_size=1, max_size=19), st.datetimes(), st.text(min_size=1, max_size=40))
def test_what_the_broker_signs_is_accepted(order_id: str, at: Any, secret: str) -> None:
    timestamp = at.strftime("%Y-%m-%d %H:%M:%S").zfill(19)
    signed = body(order_id=order_id, order_timestamp=timestamp, checksum=checksum(order_id, timestamp, secret))
    assert is_authentic(read_postback(signed), secret)
    assert not is_authentic(read_postback(signed), secret + "x")


@given(position=st.integers(0, 63), digit=st.sampled_from("0123456789abcdef"))
def test_an_altered_checksum_is_refused(position: int, digit: str) -> None:
    altered = CHECKSUM[:position] + digit + CHECKSUM[position + 1 :]
    assert is_authentic(read_postback(body(checksum=altered)), SECRET) == (altered == CHECKSUM)


@pytest.mark.parametrize(
    "changes",
    [{"order_id": "220303000308933"}, {"order_timestamp": "2022-03-03 09:24:26"}, {"order_id": "22030300030893"}],
)
def test_a_checksum_does_not_fit_another_order_or_time(changes: dict[str, str]) -> None:
    assert not is_authentic(read_postback(body(**changes)), SECRET)


def test_an_account_without_a_secret_authenticates_nobody() -> None:
    forged = checksum(ORDER_ID, TIMESTAMP, "")
    assert not is_authentic(read_postback(body(checksum=forged)), "")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe\xfd",
        b"{" * 2000,
        b"[" * 16_000,
        b'{"order_id": ' + b"9" * 5000 + b"}",
        body(order_id=220303000308932),
        body(order_id=None),
        body(order_id=""),
        body(order_id="../session/token"),
        body(order_id="1" * 65),
        body(order_id="\ud800"),
        body(order_timestamp="now"),
        body(order_timestamp="2022-03-03 09:24:25\n"),
        body(order_timestamp=1646279665),
        body(checksum=""),
        body(checksum=None),
        body(checksum=CHECKSUM.upper()),
        body(checksum="é" * 64),
        body(padding="x" * POSTBACK_BYTES_MAX),
    ],
)
def test_a_body_of_another_form_is_refused(raw: bytes) -> None:
    with pytest.raises(PostbackMalformed):
        read_postback(raw)


@given(st.binary(max_size=300))
def test_noise_is_refused_and_breaks_nothing(raw: bytes) -> None:
    with pytest.raises(PostbackMalformed):
        read_postback(raw)


def test_a_strange_account_name_is_ignored() -> None:
    assert read_postback(body(user_id={"a": 1})).broker_user_id is None
    assert read_postback(body(user_id="x" * 33)).broker_user_id is None
