"""Files sealed with AES-256-GCM in chunks, so that a database of any size passes through a megabyte of memory.

    file  = MAGIC || salt (32 bytes) || chunk 0 || chunk 1 || ... || last chunk
    chunk = AES-256-GCM(key, nonce = number (11 bytes, big-endian) || last? (1 byte), data = MAGIC || salt)
    key   = HKDF-SHA256(master key, salt, "saras backup file" || 0 || context)

Every file has a key of its own (fresh salt), so numbers may be nonces. A chunk that is moved, changed or left out does not
open; neither does a file that ends early, because its end is not marked as last; neither does a file under another name,
because its context differs. (The STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, CRYPTO 2015.)
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterator
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC: Final = b"SARASBK1"
SALT_BYTES: Final = 32
CHUNK_BYTES: Final = 1024 * 1024
TAG_BYTES: Final = 16
KEY_BYTES: Final = 32


class UnusableKey(Exception):
    """The key's text is not base64 of at least 32 bytes."""


class NotOurs(Exception):
    """The file was not sealed with this key under this name, was changed, or ends early; the text says which."""


def master_key(text: str) -> bytes:
    """The key from its text (base64, as `openssl rand -base64 32` writes it); raises UnusableKey."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < KEY_BYTES:
        raise UnusableKey(f"a backup key is base64 of at least {KEY_BYTES} random bytes")
    return key


def key_id(master: bytes) -> str:
    """A name for the key that tells nothing about it."""
    return _derive(master, b"", "key id")[:8].hex()


def mac(master: bytes, content: bytes) -> str:
    """Proof that whoever wrote this text had the key."""
    return hmac.new(_derive(master, b"", "manifest"), content, hashlib.sha256).hexdigest()


def _derive(master: bytes, salt: bytes, context: str) -> bytes:
    info = b"saras backup file\0" + context.encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(master)


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


class SealingWriter:
    """Seals what is written to it into a file. Without `close` the file is one that ends early."""

    def __init__(self, target: BinaryIO, master: bytes, context: str) -> None:
        salt = secrets.token_bytes(SALT_BYTES)
        self._target = target
        self._aead, self._header = AESGCM(_derive(master, salt, context)), MAGIC + salt
        self._digest = hashlib.sha256()
        self._pending = bytearray()
        self._number = 0
        self.plain_bytes = self.sealed_bytes = 0
        self._put(self._header)

    def write(self, data: bytes) -> None:
        """Take more of the content."""
        self._pending += data
        self.plain_bytes += len(data)
        # A whole chunk stays behind: the last one is marked, and only `close` knows which it is.
        while len(self._pending) > CHUNK_BYTES:
            self._seal(bytes(self._pending[:CHUNK_BYTES]), last=False)
            del self._pending[:CHUNK_BYTES]

    def close(self) -> str:
        """Seal the rest; answers the SHA-256 of the sealed file."""
        self._seal(bytes(self._pending), last=True)
        self._pending.clear()
        return self._digest.hexdigest()

    def _seal(self, chunk: bytes, *, last: bool) -> None:
        self._put(self._aead.encrypt(_nonce(self._number, last=last), chunk, self._header))
        self._number += 1

    def _put(self, data: bytes) -> None:
        self._target.write(data)
        self._digest.update(data)
        self.sealed_bytes += len(data)


def opened(source: BinaryIO, master: bytes, context: str) -> Iterator[bytes]:
    """The content of a sealed file, chunk by chunk, each proved before it is handed out; raises NotOurs."""
    header = source.read(len(MAGIC) + SALT_BYTES)
    if len(header) != len(MAGIC) + SALT_BYTES or not header.startswith(MAGIC):
        raise NotOurs("this is no sealed backup file")
    aead = AESGCM(_derive(master, header[len(MAGIC) :], context))
    chunk, number = source.read(CHUNK_BYTES + TAG_BYTES), 0
    while True:
        following = source.read(CHUNK_BYTES + TAG_BYTES)
        try:
            yield aead.decrypt(_nonce(number, last=not following), chunk, header)
        except InvalidTag:
            raise NotOurs(f"chunk {number} does not open: another key or name, a changed or a cut file") from None
        if not following:
            return
        chunk, number = following, number + 1


def file_digest(source: BinaryIO) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    while data := source.read(CHUNK_BYTES):
        digest.update(data)
    return digest.hexdigest()
