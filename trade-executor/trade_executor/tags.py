"""Tags by which an attempt is found in the broker's order book (execution design 3.6).

`<env 2><attempt id 13><mac 4>`, 19 lowercase letters and digits of the 20 the broker allows. The attempt id is 64 bits
in RFC 4648 base32; the last part is a truncated HMAC-SHA256 over what precedes it. So a tag is unique, tells its
attempt even after the database was restored from an older copy, and cannot be met by chance by a human's order: 20 bits
sort out accidents and crude forgeries, while a match also needs the same instrument, side and quantity.
"""

import base64
import hmac
import re
from typing import Final

ENV_LENGTH: Final = 2
ID_LENGTH: Final = 13
MAC_LENGTH: Final = 4
TAG_LENGTH: Final = ENV_LENGTH + ID_LENGTH + MAC_LENGTH
ATTEMPT_ID_MAX: Final = 2**64 - 1
KEY_BYTES_MIN: Final = 16

_ENV = re.compile(r"[a-z0-9]{2}\Z")


def make(env: str, attempt_id: int, key: bytes) -> str:
    """The tag of an attempt.

    `env` is two lowercase letters or digits naming environment and tag version; raises ValueError for another form, an
    id outside 64 bits or a key shorter than 16 bytes.
    """
    if not _ENV.match(env):
        raise ValueError(f"the environment mark must be two lowercase letters or digits: {env!r}")
    if not 0 <= attempt_id <= ATTEMPT_ID_MAX:
        raise ValueError("an attempt id has 64 bits")
    _check_key(key)
    body = env + _base32(attempt_id.to_bytes(8, "big"))[:ID_LENGTH]
    return body + _mac(body, key)


def parse(tag: str, key: bytes) -> int | None:
    """The attempt id of a tag made with this key, None for every other text (humans' tags, other keys, altered ones)."""
    _check_key(key)
    if len(tag) != TAG_LENGTH or not tag.isascii():
        return None
    env, id_text = tag[:ENV_LENGTH], tag[ENV_LENGTH:-MAC_LENGTH]
    try:
        attempt_id = int.from_bytes(base64.b32decode(id_text.upper() + "==="), "big")
        # Made again rather than checked part by part: the 65th bit and upper case have no place in a tag of ours.
        expected = make(env, attempt_id, key)
    except ValueError:
        return None
    return attempt_id if hmac.compare_digest(expected, tag) else None


def environment_of(tag: str) -> str:
    """The two characters that name environment and version."""
    return tag[:ENV_LENGTH]


def _check_key(key: bytes) -> None:
    if len(key) < KEY_BYTES_MIN:
        raise ValueError(f"the tag key needs at least {KEY_BYTES_MIN} bytes")


def _mac(body: str, key: bytes) -> str:
    return _base32(hmac.digest(key, body.encode(), "sha256"))[:MAC_LENGTH]


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().lower()
