"""The only verifier of tokens: users' access tokens and rooms' service tokens, RS256 and nothing else.

python-jose believes the algorithm named in a token's header unless told otherwise, and accepts a public key as an HMAC
secret in some encodings; here the algorithm is pinned, the key is chosen by `kid` from a JWKS of RSA keys, and every
other header parameter is ignored.
"""

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Annotated, Any, Protocol
from uuid import UUID

import httpx
from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from jose import jwk, jwt
from jose.exceptions import JOSEError

from common.clock import Clock, SystemClock
from common.errors import Forbidden, Unauthorized, Unavailable
from common.logging import get_logger

log = get_logger(__name__)

ALGORITHM = "RS256"
ISSUER = "saras-user-service"
AUDIENCE = "saras"
ACCESS_TYPE = "at+jwt"
SERVICE_TYPE = "service+jwt"
SERVICE_TOKEN_LIFETIME = timedelta(minutes=5)
TOKEN_LENGTH_MAX = 4096
VERIFIED_TOKENS_MAX = 20_000
JWKS_REFRESH_PAUSE_S = 10.0
JWKS_TIMEOUT_S = 2.0
CLOCK_LEEWAY_S = 5

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")
"""A signed token as RFC 7515, 7.1 writes it. python-jose skips other characters inside the signature."""

Jwk = Mapping[str, Any]


class InvalidToken(Unauthorized):
    """The token is not one of ours."""


class ExpiredToken(Unauthorized):
    """The token was ours; its time is over."""


class MfaRequired(Forbidden):
    """The role may act only with a second factor."""


class KeySource(Protocol):
    """Where public keys come from."""

    def key(self, kid: str) -> Jwk | None:
        """The RSA public key with this id, or None."""
        ...


class StaticKeys:
    """A fixed JWKS."""

    def __init__(self, jwks: Mapping[str, Any]) -> None:
        self._keys = {key["kid"]: key for key in jwks["keys"]}

    def key(self, kid: str) -> Jwk | None:
        return self._keys.get(kid)


class JwksKeys:
    """A JWKS behind a URL; fetched again for an unknown key, but not more often than every JWKS_REFRESH_PAUSE_S."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str, Jwk] = {}
        self._fetched_at: float | None = None
        self._lock = threading.Lock()

    def key(self, kid: str) -> Jwk | None:
        known = self._keys.get(kid)
        if known is not None:
            return known
        with self._lock:
            if self._fetched_at is None or time.monotonic() - self._fetched_at > JWKS_REFRESH_PAUSE_S:
                self._fetch()
        return self._keys.get(kid)

    def _fetch(self) -> None:
        try:
            response = httpx.get(self._url, timeout=JWKS_TIMEOUT_S, follow_redirects=False, trust_env=False)
            response.raise_for_status()
            self._keys = {key["kid"]: key for key in response.json()["keys"]}
            self._fetched_at = time.monotonic()
        except (httpx.HTTPError, ValueError, KeyError) as error:
            log.warning("auth.jwks_unavailable", error=type(error).__name__)
            if not self._keys:
                raise Unavailable("Sign-in keys cannot be read at the moment; try again shortly.") from None


@dataclass(frozen=True)
class CurrentUser:
    """Who is calling, as the access token says."""

    user_id: UUID
    roles: frozenset[str]
    session_id: UUID
    email: str | None
    mfa: bool
    kyc: str


class AccessTokens:
    """Verifies users' access tokens; a verified token is remembered until it expires."""

    def __init__(self, keys: KeySource, clock: Clock | None = None) -> None:
        self._keys = keys
        self._clock = clock or SystemClock()
        self._verified: OrderedDict[bytes, tuple[float, CurrentUser]] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, token: str) -> CurrentUser | None:
        """The user of a token that was verified before, without work; raises ExpiredToken."""
        with self._lock:
            known = self._verified.get(_digest(token))
        if known is None:
            return None
        expires_at, user = known
        if self._clock.now().timestamp() >= expires_at:
            raise ExpiredToken("The access token has expired; refresh it.")
        return user

    def verify(self, token: str) -> CurrentUser:
        """The user a token speaks for; raises InvalidToken or ExpiredToken."""
        known = self.known(token)
        if known is not None:
            return known
        now = self._clock.now().timestamp()
        claims = decode(token, self._keys, audience=AUDIENCE, issuer=ISSUER, token_type=ACCESS_TYPE, now=now)
        user = _user_of(claims)
        with self._lock:
            self._verified[_digest(token)] = (float(claims["exp"]), user)
            while len(self._verified) > VERIFIED_TOKENS_MAX:
                self._verified.popitem(last=False)
        return user


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def decode(
    token: str, keys: KeySource, *, audience: str, issuer: str | None, token_type: str, now: float
) -> dict[str, Any]:
    """The claims of a token signed by a key of ours; raises InvalidToken or ExpiredToken."""
    invalid = InvalidToken("The access token is not valid.")
    if len(token) > TOKEN_LENGTH_MAX or not _COMPACT.match(token):
        raise invalid
    try:
        header = jwt.get_unverified_header(token)
        kid = header.get("kid")
        if header.get("alg") != ALGORITHM or header.get("typ") != token_type or not isinstance(kid, str):
            raise invalid
        # RFC 7515, 4.1.11: extensions that must be understood are not.
        if "crit" in header:
            raise invalid
        public = keys.key(kid)
        if public is None or public.get("kty") != "RSA":
            raise invalid
        claims = jwt.decode(
            token,
            jwk.construct(dict(public), ALGORITHM),
            algorithms=[ALGORITHM],
            audience=audience,
            issuer=issuer,
            # Times are checked below against the injected clock.
            options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "require_aud": True},
        )
    except (JOSEError, ValueError, TypeError, AttributeError):
        raise invalid from None
    # python-jose is content with a list that holds the audience; our issuers write for one reader.
    if claims["aud"] != audience:
        raise invalid
    _check_times(claims, now)
    return dict(claims)


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    expires, issued, not_before = claims.get("exp"), claims.get("iat"), claims.get("nbf", 0)
    if not all(type(instant) is int for instant in (expires, issued, not_before)):
        raise InvalidToken("The access token is not valid.")
    if now >= claims["exp"]:
        raise ExpiredToken("The access token has expired; refresh it.")
    if max(claims["iat"], not_before) > now + CLOCK_LEEWAY_S:
        raise InvalidToken("The access token is not valid.")


def _user_of(claims: Mapping[str, Any]) -> CurrentUser:
    try:
        return CurrentUser(
            user_id=UUID(claims["sub"]),
            roles=frozenset(str(role) for role in claims["roles"]),
            session_id=UUID(claims["sid"]),
            email=claims.get("email"),
            mfa=claims.get("mfa") is True,
            kyc=str(claims.get("kyc", "none")),
        )
    except (KeyError, ValueError, TypeError, AttributeError):
        raise InvalidToken("The access token is not valid.") from None


class ServiceIdentity:
    """One room's own key: signs short tokens for calls to other rooms' internal routes; its `kid` is its name."""

    def __init__(self, name: str, private_key_pem: str, clock: Clock | None = None) -> None:
        self.name = name
        # Parsed once: reading the PEM costs far more than a signature.
        self._key = jwk.construct(private_key_pem, ALGORITHM)
        self._clock = clock or SystemClock()
        self._tokens: dict[str, tuple[float, str]] = {}

    def token(self, audience: str) -> str:
        """A token for one called room, good for a few minutes; kept until shortly before its end."""
        now = self._clock.now().timestamp()
        known = self._tokens.get(audience)
        if known is not None and known[0] - now > SERVICE_TOKEN_LIFETIME.total_seconds() / 2:
            return known[1]
        expires = int(now + SERVICE_TOKEN_LIFETIME.total_seconds())
        claims = {"iss": self.name, "sub": self.name, "aud": audience, "iat": int(now), "exp": expires}
        token = jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"kid": self.name, "typ": SERVICE_TYPE})
        self._tokens[audience] = (float(expires), token)
        return token


@dataclass(frozen=True)
class Authenticator:
    """What an app needs to know who is calling; lives on `app.state.auth`.

    `name` is the room's own name: the audience of service tokens it accepts.
    """

    name: str
    access: AccessTokens
    service_keys: KeySource
    clock: Clock
    admin_needs_mfa: bool = False
    """True outside development: admin and ops routes refuse a login without second factor."""

    def service(self, token: str) -> str:
        """The name of the calling room; raises InvalidToken or ExpiredToken."""
        claims = decode(
            token,
            self.service_keys,
            audience=self.name,
            issuer=None,
            token_type=SERVICE_TYPE,
            now=self.clock.now().timestamp(),
        )
        caller = str(claims.get("sub"))
        # A room may speak only for itself: the key that signed must be its own.
        if not caller == claims.get("iss") == jwt.get_unverified_header(token).get("kid"):
            raise InvalidToken("The service token is not valid.")
        # A stolen token must not outlive the few minutes that ServiceIdentity gives one.
        if claims["exp"] - claims["iat"] > SERVICE_TOKEN_LIFETIME.total_seconds():
            raise InvalidToken("The service token is not valid.")
        return caller


def _authenticator(request: Request) -> Authenticator:
    auth: Authenticator = request.app.state.auth
    return auth


def bearer_token(request: Request) -> str:
    """The bearer token of a request; raises Unauthorized when there is none, or several that could be told apart."""
    given = request.headers.getlist("authorization")
    scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized("Send an access token: Authorization: Bearer <token>.")
    return token.strip()


async def current_user(request: Request) -> CurrentUser:
    """Dependency: the authenticated user."""
    access = _authenticator(request).access
    token = bearer_token(request)
    known = access.known(token)
    # A token that is new here costs a signature, or a call for the key.
    return known if known is not None else await run_in_threadpool(access.verify, token)


User = Annotated[CurrentUser, Depends(current_user)]


def admit(request: Request, user: CurrentUser, *roles: str) -> CurrentUser:
    """A user with at least one of the roles, and the second factor where it is mandatory; raises Forbidden."""
    if not user.roles.intersection(roles):
        raise Forbidden(f"This needs the role {' or '.join(roles)}.")
    if _authenticator(request).admin_needs_mfa and not user.mfa:
        raise MfaRequired("Sign in with your second factor to use this.")
    return user


def require_role(*roles: str) -> Callable[[Request, CurrentUser], Awaitable[CurrentUser]]:
    """Dependency factory: `admit`."""

    async def check(request: Request, user: User) -> CurrentUser:
        return admit(request, user, *roles)

    return check


AdminUser = Annotated[CurrentUser, Depends(require_role("admin"))]
OpsUser = Annotated[CurrentUser, Depends(require_role("ops", "admin"))]


def require_service(*names: str) -> Callable[[Request], str]:
    """Dependency factory: one of the named rooms calls with its own service token."""

    def check(request: Request) -> str:
        caller = _authenticator(request).service(bearer_token(request))
        if caller not in names:
            raise Forbidden("This room may not call this route.")
        return caller

    return check
