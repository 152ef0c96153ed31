"""Secrets at rest that must be read again: AES-256-GCM bound to the place they are stored in (ASVS 5.0, 11.3).

A sealed text is `<key version>:<nonce>:<ciphertext>` (base64url without padding). Table, row, column and key version are
authenticated with it, so a value copied into another row or column does not open there.
"""

import base64
import os
import re
from collections.abc import Mapping
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
SECRET_BYTES_MAX: Final = 4096
"""Longest secret taken: tokens and API secrets have some dozens of characters."""

_SEALED = re.compile(r"([1-9][0-9]{0,8}):([A-Za-z0-9_-]{16}):([A-Za-z0-9_-]{22,8192})\Z")
_PLACE_PART = re.compile(r"[A-Za-z0-9_.:-]{1,128}\Z")


class SealBroken(Exception):
    """The text was altered, belongs to another place, or its key is not the one it was sealed with."""


class UnknownKeyVersion(SealBroken):
    """Sealed with a key this process does not have."""


class Sealer:
    """Seals with the current key, opens with any key it has. Keys are 32 bytes by positive version number."""

    def __init__(self, keys: Mapping[int, bytes], current: int) -> None:
        if current not in keys:
            raise ValueError(f"there is no key of the current version {current}")
        for version, key in keys.items():
            if not 1 <= version <= 999_999_999:
                raise ValueError(f"a key version is a positive number of at most nine digits: {version}")
            if len(key) != KEY_BYTES:
                raise ValueError(f"key version {version} must have {KEY_BYTES} bytes")
        self._ciphers = {version: AESGCM(key) for version, key in keys.items()}
        self._current_key = keys[current]
        self.current = current

    @classmethod
    def from_base64(cls, keys: Mapping[int, str], current: int) -> Self:
        """From settings: standard or URL-safe base64 of 32 bytes per version; raises ValueError naming the version."""
        return cls({version: _decode_key(version, text) for version, text in keys.items()}, current)

    def seal(self, plaintext: str, *, table: str, row: str, column: str) -> str:
        """Seal a secret for one place under the current key; raises ValueError for an absurdly long one."""
        secret = plaintext.encode()
        if len(secret) > SECRET_BYTES_MAX:
            raise ValueError(f"a secret has at most {SECRET_BYTES_MAX} bytes")
        nonce = os.urandom(NONCE_BYTES)
        place = _place(table, row, column, self.current)
        ciphertext = self._ciphers[self.current].encrypt(nonce, secret, place)
        return f"{self.current}:{_encode(nonce)}:{_encode(ciphertext)}"

    def open(self, sealed: str, *, table: str, row: str, column: str) -> str:
        """The secret of this place; raises SealBroken (or UnknownKeyVersion)."""
        match = _SEALED.match(sealed)
        if match is None:
            raise SealBroken("not a sealed text")
        version, nonce, ciphertext = int(match[1]), _decode(match[2]), _decode(match[3])
        cipher = self._ciphers.get(version)
        if cipher is None:
            raise UnknownKeyVersion(f"there is no key of version {version}")
        try:
            return cipher.decrypt(nonce, ciphertext, _place(table, row, column, version)).decode()
        except InvalidTag:
            raise SealBroken("the sealed text does not open here") from None

    def derived(self, purpose: bytes) -> bytes:
        """A key for one other purpose, from the current one (HKDF-SHA256, RFC 5869); another one after a rotation."""
        return HKDF(SHA256(), KEY_BYTES, salt=None, info=purpose).derive(self._current_key)

    def needs_reseal(self, sealed: str) -> bool:
        """Whether a text is sealed under another key than the current one."""
        return sealed.partition(":")[0] != str(self.current)

    def reseal(self, sealed: str, *, table: str, row: str, column: str) -> str:
        """The same secret under the current key and a new nonce (key rotation); raises SealBroken."""
        secret = self.open(sealed, table=table, row=row, column=column)
        return self.seal(secret, table=table, row=row, column=column)


def _place(table: str, row: str, column: str, version: int) -> bytes:
    for part in (table, row, column):
        # The separator must not occur inside a part, or two places could share one name.
        if not _PLACE_PART.match(part):
            raise ValueError(f"not a table, row or column name: {part!r}")
    return f"{table}|{row}|{column}|{version}".encode()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise SealBroken("not a sealed text") from None
    # Unused bits of the last character: a second spelling of the same bytes is an alteration too.
    if _encode(data) != text:
        raise SealBroken("not a sealed text")
    return data


def _decode_key(version: int, text: str) -> bytes:
    try:
        key = base64.b64decode(text.strip().replace("-", "+").replace("_", "/"), validate=True)
    except ValueError:
        raise ValueError(f"key version {version} is not base64") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"key version {version} must be base64 of {KEY_BYTES} bytes")
    return key
