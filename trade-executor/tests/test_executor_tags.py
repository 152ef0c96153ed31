"""Tags: unique, self-describing, not forged by accident."""

import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trade_executor import tags

KEY = b"tag key of the tests, 32 bytes.."
ids = st.integers(min_value=0, max_value=tags.ATTEMPT_ID_MAX)
envs = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=2, max_size=2)


@given(env=envs, attempt_id=ids, key=st.binary(min_size=16, max_size=64))
def test_a_tag_tells_its_attempt_to_the_holder_of_the_key(env: str, attempt_id: int, key: bytes) -> None:
    tag = tags.make(env, attempt_id, key)
    assert tags.parse(tag, key) == attempt_id
    assert tags.environment_of(tag) == env


@given(env=envs, attempt_id=ids)
def test_a_tag_has_the_form_the_broker_takes(env: str, attempt_id: int) -> None:
    tag = tags.make(env, attempt_id, KEY)
    assert len(tag) == 19
    assert set(tag) <= set(string.ascii_lowercase + string.digits)


@given(first=ids, second=ids)
def test_different_attempts_never_share_a_tag(first: int, second: int) -> None:
    assert (tags.make("d1", first, KEY) == tags.make("d1", second, KEY)) == (first == second)


@settings(derandomize=True)  # a forgery succeeds once in a million: the same examples every time
@given(attempt_id=ids, position=st.integers(0, 18), letter=st.sampled_from(string.ascii_lowercase + string.digits))
def test_an_altered_tag_is_nobodys(attempt_id: int, position: int, letter: str) -> None:
    tag = tags.make("d1", attempt_id, KEY)
    altered = tag[:position] + letter + tag[position + 1 :]
    assert tags.parse(altered, KEY) == (attempt_id if altered == tag else None)


@settings(derandomize=True)
@given(attempt_id=ids)
def test_another_key_does_not_read_it(attempt_id: int) -> None:
    assert tags.parse(tags.make("d1", attempt_id, KEY), KEY[::-1]) is None


@given(st.one_of(st.text(max_size=25), st.text(min_size=19, max_size=19)))
def test_other_texts_are_nobodys_and_do_no_harm(text: str) -> None:
    assert tags.parse(text, KEY) is None


def test_random_forgeries_fail_as_often_as_twenty_bits_promise() -> None:
    forger = random.Random(20261121)  # noqa: S311 - a repeatable forger
    alphabet = string.ascii_lowercase + "234567"
    forged = ("d1" + "".join(forger.choices(alphabet, k=17)) for _ in range(20_000))
    assert sum(tags.parse(tag, KEY) is not None for tag in forged) <= 1


def test_a_second_spelling_of_an_id_does_not_count() -> None:
    # 13 letters carry 65 bits; whoever sets the last one has not made this tag.
    tag = tags.make("d1", 0, KEY)
    body = tag[:14] + "b"
    respelled = body + tags._mac(body, KEY)
    assert tags.parse(respelled, KEY) is None


@pytest.mark.parametrize("env", ["", "d", "dev", "D1", "d-", "d\n"])
def test_an_environment_mark_of_another_form_is_refused(env: str) -> None:
    with pytest.raises(ValueError, match="environment"):
        tags.make(env, 1, KEY)


@pytest.mark.parametrize("attempt_id", [-1, 2**64])
def test_an_id_outside_sixty_four_bits_is_refused(attempt_id: int) -> None:
    with pytest.raises(ValueError, match="64 bits"):
        tags.make("d1", attempt_id, KEY)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        tags.make("d1", 1, b"short")
    with pytest.raises(ValueError, match="16 bytes"):
        tags.parse(tags.make("d1", 1, KEY), b"short")
