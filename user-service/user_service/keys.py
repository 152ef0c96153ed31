"""The signing key of access tokens and the master secret: made once with mode 0600, read at start, never logged."""

import base64
import json
import os
import secrets
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jose import jwk, jwt

from common.auth import ALGORITHM
from common.config import InvalidSettings
from user_service.config import Settings
from user_service.sealing import FIRST_VERSION, Sealer

KEY_BITS = 2048
SECRET_BYTES = 32
PRIVATE_MODE = 0o600


class UnusableKey(Exception):
    """A key file is missing or does not hold what it should; the text names the file."""


def ensure_signing_key(path: Path) -> None:
    """Write a new RSA 2048 private key (PEM, mode 0600) unless the file is there; concurrent calls make one key."""
    if not path.exists():
        key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _write_once(path, pem)


def ensure_master_secret(path: Path) -> None:
    """Write 32 random bytes as hex (mode 0600) unless the file is there. Losing it disables every TOTP factor."""
    if not path.exists():
        _write_once(path, secrets.token_hex(SECRET_BYTES).encode())


def _write_once(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Complete before it is visible under its name, and whoever comes second keeps the first one's file.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def read_master_secret(path: Path) -> bytes:
    """The 32 bytes of the master secret; raises UnusableKey."""
    try:
        secret = bytes.fromhex(path.read_text("ascii").strip())
    except (OSError, ValueError) as error:
        raise UnusableKey(f"{path}: not a readable hex secret ({type(error).__name__})") from None
    if len(secret) != SECRET_BYTES:
        raise UnusableKey(f"{path}: a master secret has {SECRET_BYTES} bytes")
    return secret


def load_sealer(settings: Settings) -> Sealer:
    """The sealer of a process; raises UnusableKey, InvalidSettings."""
    files = settings.seal_secret_files
    if settings.seal_current not in (files or {FIRST_VERSION}):
        raise InvalidSettings(f"USER_SEAL_SECRET_FILES has no file of version {settings.seal_current}")
    return Sealer(
        read_master_secret(Path(settings.required("secret_file"))),
        seal_secrets={version: read_master_secret(path) for version, path in files.items()},
        current=settings.seal_current,
    )


def thumbprint(public: rsa.RSAPublicKey) -> str:
    """RFC 7638 thumbprint: SHA-256 of the key's required members in lexicographic order."""
    members = json.dumps(_members(public), separators=(",", ":"), sort_keys=True)
    return _base64url(sha256(members.encode()).digest())


def public_jwk(public: rsa.RSAPublicKey) -> dict[str, str]:
    """The key as published in the JWKS."""
    return {**_members(public), "kid": thumbprint(public), "use": "sig", "alg": ALGORITHM}


def _members(public: rsa.RSAPublicKey) -> dict[str, str]:
    numbers = public.public_numbers()
    return {"e": _base64url(_unsigned(numbers.e)), "kty": "RSA", "n": _base64url(_unsigned(numbers.n))}


def _unsigned(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class SigningKeys:
    """The key that signs and the public keys that verifiers accept."""

    def __init__(self, private_pem: bytes, retired_pem: bytes | None = None, *, source: str = "signing key") -> None:
        private = _load_private(private_pem, source)
        self._signer = jwk.construct(private_pem.decode("ascii"), ALGORITHM)
        self._public = [public_jwk(private.public_key())]
        if retired_pem is not None:
            retired = public_jwk(_load_public(retired_pem, "retired key"))
            if retired["kid"] != self.kid:
                self._public.append(retired)

    @classmethod
    def load(cls, signing: Path, retired: Path | None = None) -> "SigningKeys":
        """From PEM files; raises UnusableKey."""
        try:
            return cls(signing.read_bytes(), retired.read_bytes() if retired else None, source=str(signing))
        except OSError as error:
            raise UnusableKey(f"{error.filename}: cannot be read ({type(error).__name__})") from None

    @property
    def kid(self) -> str:
        """Id of the key that signs now."""
        return self._public[0]["kid"]

    def jwks(self) -> dict[str, Any]:
        """The JWKS document: the key in use first, then the retired one."""
        return {"keys": [dict(key) for key in self._public]}

    def sign(self, claims: Mapping[str, Any], *, token_type: str) -> str:
        """A compact JWS over the claims."""
        headers = {"kid": self.kid, "typ": token_type}
        return str(jwt.encode(dict(claims), self._signer, algorithm=ALGORITHM, headers=headers))


def _load_private(pem: bytes, source: str) -> rsa.RSAPrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise UnusableKey(f"{source}: not a PEM private key ({type(error).__name__})") from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < KEY_BITS:
        raise UnusableKey(f"{source}: an RSA key of at least {KEY_BITS} bits is needed")
    return key


def _load_public(pem: bytes, source: str) -> rsa.RSAPublicKey:
    if b"PRIVATE" in pem:
        return _load_private(pem, source).public_key()
    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError as error:
        raise UnusableKey(f"{source}: not a PEM public key ({type(error).__name__})") from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise UnusableKey(f"{source}: an RSA key is needed")
    return key
