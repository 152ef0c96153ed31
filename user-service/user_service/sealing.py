"""Secrets at rest: AES-256-GCM for what must be read again, keyed hashes for what is only compared.

Every use has a key of its own, derived from a secret (HKDF-SHA256, RFC 5869). The additional data of a sealed value
names its table, row, column and key version, so a value copied to another row, or said to be of another version, does
not open (ASVS 5.0 11.3.4).

Sealing secrets have versions and can be replaced (key_rotation.py). The master secret behind the hashes cannot: a hash
can only be made again from a PAN, which is not kept.
"""

import base64
import hmac
import os
from collections.abc import Mapping
from hashlib import sha256
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NONCE_BYTES = 12
FIRST_VERSION = 1
VERSION_MAX = 255
"""A sealed value begins with one byte that tells its version."""


class Unsealable(Exception):
    """The value was changed, moved, or sealed with a secret that this process does not have."""


class Sealer:
    """All uses of the master secret and of the sealing secrets."""

    def __init__(
        self,
        master_secret: bytes,
        *,
        seal_secrets: Mapping[int, bytes] | None = None,
        current: int = FIRST_VERSION,
    ) -> None:
        """Without sealing secrets of its own an installation seals with the master secret, as version 1."""
        secrets = seal_secrets or {FIRST_VERSION: master_secret}
        if current not in secrets:
            raise ValueError(f"there is no sealing secret of the current version {current}")
        if not all(1 <= version <= VERSION_MAX for version in secrets):
            raise ValueError(f"the version of a sealing secret is between 1 and {VERSION_MAX}")
        self._totp = {version: AESGCM(_derive(secret, b"totp")) for version, secret in secrets.items()}
        self._pan = _derive(master_secret, b"pan")
        self._mail = _derive(master_secret, b"mail-token")
        self.current = current

    def seal_totp(self, user_id: UUID, secret: str) -> bytes:
        """Version byte, nonce and ciphertext of a user's TOTP secret, under the current version."""
        nonce, version = os.urandom(NONCE_BYTES), bytes([self.current])
        return version + nonce + self._totp[self.current].encrypt(nonce, secret.encode(), _place(user_id, version))

    def open_totp(self, user_id: UUID, sealed: bytes) -> str:
        """The TOTP secret; raises Unsealable."""
        version, nonce, ciphertext = sealed[:1], sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        cipher = self._totp.get(version[0]) if version else None
        if cipher is None or len(nonce) < NONCE_BYTES:
            raise Unsealable(f"the TOTP secret of user {user_id} is of no known version")
        try:
            return cipher.decrypt(nonce, ciphertext, _place(user_id, version)).decode()
        except InvalidTag:
            raise Unsealable(f"the TOTP secret of user {user_id} does not open") from None

    def reseal_totp(self, user_id: UUID, sealed: bytes) -> bytes:
        """The same secret under the current version and a new nonce; raises Unsealable."""
        return self.seal_totp(user_id, self.open_totp(user_id, sealed))

    def pan_hash(self, pan: str) -> bytes:
        """Keyed hash of a PAN: equal for equal PANs, useless without the master secret (a bare hash is guessable)."""
        return hmac.digest(self._pan, pan.encode(), sha256)

    def mail_token(self, token_id: UUID) -> str:
        """The token that a mail carries; derived, so that neither the database nor the bus ever holds it."""
        return base64.urlsafe_b64encode(hmac.digest(self._mail, token_id.bytes, sha256)).rstrip(b"=").decode()


def _derive(master_secret: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"saras-user-service/" + purpose).derive(master_secret)


def _place(user_id: UUID, version: bytes) -> bytes:
    return b"totp_factors|sealed_secret|" + user_id.bytes + version
