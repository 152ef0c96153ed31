"""Sealed credentials: open in their place only, and not at all once altered."""

import base64
import os
from itertools import combinations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from common.sealing import SealBroken, Sealer, UnknownKeyVersion

KEY_1, KEY_2 = bytes(range(32)), bytes(range(32, 64))
SEALER = Sealer({1: KEY_1}, current=1)
PLACE = {"table": "broker_account", "row": "7f1e3a52-0000-4000-8000-000000000001", "column": "api_secret"}
secrets = st.text(max_size=200)


@given(secrets)
def test_a_secret_opens_in_its_place(secret: str) -> None:
    assert SEALER.open(SEALER.seal(secret, **PLACE), **PLACE) == secret


@given(secret=secrets, position=st.integers(min_value=0), bit=st.integers(0, 7))
def test_no_altered_text_opens(secret: str, position: int, bit: int) -> None:
    sealed = SEALER.seal(secret, **PLACE)
    raw = bytearray(sealed.encode())
    raw[position % len(raw)] ^= 1 << bit
    altered = raw.decode("latin-1")
    with pytest.raises(SealBroken):
        SEALER.open(altered, **PLACE)


@given(secret=secrets, column=st.sampled_from(["api_secret", "access_token"]), row=st.uuids(), other=st.uuids())
def test_a_secret_moved_to_another_place_does_not_open(secret: str, column: str, row: object, other: object) -> None:
    assume(row != other)
    sealed = SEALER.seal(secret, table="broker_account", row=str(row), column=column)
    for table, place, name in (
        ("broker_account", str(other), column),
        ("broker_account", str(row), "totp_seed"),
        ("broker_session", str(row), column),
    ):
        with pytest.raises(SealBroken):
            SEALER.open(sealed, table=table, row=place, column=name)


def test_places_cannot_be_confused_by_the_separator() -> None:
    with pytest.raises(ValueError, match="not a table"):
        SEALER.seal("x", table="broker|account", row="1", column="api_secret")


@given(secrets)
def test_a_rotated_key_reseals_and_the_old_key_may_go(secret: str) -> None:
    old = Sealer({1: KEY_1}, current=1).seal(secret, **PLACE)
    both = Sealer({1: KEY_1, 2: KEY_2}, current=2)
    assert both.needs_reseal(old)
    new = both.reseal(old, **PLACE)
    assert not both.needs_reseal(new)
    only_new = Sealer({2: KEY_2}, current=2)
    assert only_new.open(new, **PLACE) == secret
    with pytest.raises(UnknownKeyVersion):
        only_new.open(old, **PLACE)


def test_a_text_does_not_open_under_another_version_number() -> None:
    sealed = SEALER.seal("secret", **PLACE)
    same_key_twice = Sealer({1: KEY_1, 2: KEY_1}, current=1)
    with pytest.raises(SealBroken):
        same_key_twice.open("2" + sealed[1:], **PLACE)


def test_the_same_secret_never_seals_to_the_same_text() -> None:
    nonces = {SEALER.seal("secret", **PLACE).split(":")[1] for _ in range(10_000)}
    assert len(nonces) == 10_000


def test_every_single_bit_flip_of_one_text_is_rejected() -> None:
    sealed = SEALER.seal("access-token-canary", **PLACE)
    rejected = 0
    for position in range(len(sealed)):
        for bit in range(8):
            raw = bytearray(sealed.encode())
            raw[position] ^= 1 << bit
            with pytest.raises(SealBroken):
                SEALER.open(raw.decode("latin-1"), **PLACE)
            rejected += 1
    assert rejected == len(sealed) * 8


def test_sealed_parts_of_two_texts_cannot_be_mixed() -> None:
    texts = [SEALER.seal(f"secret {number}", **PLACE).split(":") for number in range(20)]
    for one, two in combinations(texts, 2):
        with pytest.raises(SealBroken):
            SEALER.open(":".join((one[0], one[1], two[2])), **PLACE)


@pytest.mark.parametrize("text", ["", "1", "1::", "secret", "1:AAAA:BBBB", "0:" + "A" * 16 + ":" + "A" * 22])
def test_a_text_that_was_never_sealed_is_told_apart(text: str) -> None:
    with pytest.raises(SealBroken):
        SEALER.open(text, **PLACE)


def test_keys_come_from_settings_as_base64() -> None:
    key = os.urandom(32)
    standard = Sealer.from_base64({3: base64.b64encode(key).decode()}, current=3)
    url_safe = Sealer.from_base64({3: base64.urlsafe_b64encode(key).decode()}, current=3)
    assert url_safe.open(standard.seal("secret", **PLACE), **PLACE) == "secret"


@pytest.mark.parametrize(
    ("keys", "current", "match"),
    [
        ({1: "not base64!"}, 1, "version 1 is not base64"),
        ({1: base64.b64encode(b"short").decode()}, 1, "base64 of 32 bytes"),
        ({1: base64.b64encode(KEY_1).decode()}, 2, "current version 2"),
        ({}, 1, "current version 1"),
        ({0: base64.b64encode(KEY_1).decode()}, 0, "positive"),
    ],
)
def test_bad_key_settings_are_named(keys: dict[int, str], current: int, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Sealer.from_base64(keys, current=current)


def test_an_absurdly_long_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="4096"):
        SEALER.seal("x" * 4097, **PLACE)
