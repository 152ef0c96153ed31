"""Secrets at rest: AES-256-GCM for what must be read again, keyed hashes for what is only compared.

Every use has a key of its own, derived from the master secret (HKDF-SHA256, RFC 5869). The additional data of a sealed
value names its table, row and column, so a value copied to another row does not open (ASVS 5.0 11.3.4).
"""

import base64
import hmac
import os
from hashlib import sha256
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NONCE_BYTES = 12
KEY_VERSION = b"\x01"


class Unsealable(Exception):
    """The value was changed, moved, or sealed under another master secret."""


class Sealer:
    """All uses of the master secret."""

    def __init__(self, master_secret: bytes) -> None:
        self._totp = AESGCM(_derive(master_secret, b"totp"))
        self._pan = _derive(master_secret, b"pan")
        self._mail = _derive(master_secret, b"mail-token")

    def seal_totp(self, user_id: UUID, secret: str) -> bytes:
        """Version byte, nonce and ciphertext of a user's TOTP secret."""
        nonce = os.urandom(NONCE_BYTES)
        return KEY_VERSION + nonce + self._totp.encrypt(nonce, secret.encode(), _place(user_id))

    def open_totp(self, user_id: UUID, sealed: bytes) -> str:
        """The TOTP secret; raises Unsealable."""
        nonce, ciphertext = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            return self._totp.decrypt(nonce, ciphertext, _place(user_id)).decode()
        except InvalidTag:
            raise Unsealable(f"the TOTP secret of user {user_id} does not open") from None

    def pan_hash(self, pan: str) -> bytes:
        """Keyed hash of a PAN: equal for equal PANs, useless without the master secret (a bare hash is guessable)."""
        return hmac.digest(self._pan, pan.encode(), sha256)

    def mail_token(self, token_id: UUID) -> str:
        """The token that a mail carries; derived, so that neither the database nor the bus ever holds it."""
        return base64.urlsafe_b64encode(hmac.digest(self._mail, token_id.bytes, sha256)).rstrip(b"=").decode()


def _derive(master_secret: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"saras-user-service/" + purpose).derive(master_secret)


def _place(user_id: UUID) -> bytes:
    return b"totp_factors|sealed_secret|" + user_id.bytes + KEY_VERSION
