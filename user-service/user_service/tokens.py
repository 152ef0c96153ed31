"""What a signed-in client holds: a short access token (JWT) and an opaque refresh token."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID, uuid4

from common.auth import ACCESS_TYPE, AUDIENCE, ISSUER
from user_service.keys import SigningKeys

REFRESH_TOKEN_BYTES = 32


@dataclass(frozen=True)
class Identity:
    """What an access token says about its bearer."""

    user_id: UUID
    session_id: UUID
    roles: tuple[str, ...]
    email: str
    mfa: bool
    kyc: str


@dataclass(frozen=True)
class TokenPair:
    """The answer to a sign-in or a refresh; `expires_in` in seconds is that of the access token."""

    access_token: str
    refresh_token: str
    expires_in: int
    totp_setup_required: bool


def issue_access_token(keys: SigningKeys, identity: Identity, *, now: datetime, lifetime: timedelta) -> str:
    """A signed `at+jwt` (RFC 9068) for one session, good for `lifetime`."""
    issued = int(now.timestamp())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(identity.user_id),
        "sid": str(identity.session_id),
        "roles": list(identity.roles),
        "email": identity.email,
        "mfa": identity.mfa,
        "kyc": identity.kyc,
        "iat": issued,
        "exp": issued + int(lifetime.total_seconds()),
        "jti": uuid4().hex,
    }
    return keys.sign(claims, token_type=ACCESS_TYPE)


def new_refresh_token() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(REFRESH_TOKEN_BYTES)


def token_hash(token: str) -> bytes:
    """What is stored of a random token: it has too much entropy to need a slow hash."""
    return sha256(token.encode("utf-8", "replace")).digest()
