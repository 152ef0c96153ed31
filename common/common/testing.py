"""Pytest plugin of the repository: clocks, a bus, a market, signed tokens. The servers are in `common.testing_servers`."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx
import pytest
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from jose import jwk, jwt

from common.auth import (
    ACCESS_TYPE,
    ALGORITHM,
    AUDIENCE,
    ISSUER,
    AccessTokens,
    Authenticator,
    ServiceIdentity,
    StaticKeys,
)
from common.bus import LocalBus
from common.clock import FixedClock, SystemClock
from common.events import OrderUpdated
from common.market_data import History, Instrument, Key, Price, SessionInfo
from common.standing import Standing, UserNotFound

T = TypeVar("T")
TRADING_DAY = date(2026, 11, 23)
"""A Monday; `clock` starts at 10:00 IST of it."""


def eventually(probe: Callable[[], T], *, timeout: float = 10.0, interval: float = 0.02) -> T:
    """Poll until `probe` answers something truthy; fails with its last answer at the deadline."""
    deadline = time.monotonic() + timeout
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"still {answer!r} after {timeout} s")
        time.sleep(interval)


def pytest_configure() -> None:
    """Log failures of handlers in a few plain lines; tracebacks with all variables cost a third of a second each."""
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Commands run inside a test set up the logging of a process; the next test must not inherit it."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


# --- time, bus, market --------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> FixedClock:
    """10:00 IST on TRADING_DAY."""
    return FixedClock(datetime(2026, 11, 23, 4, 30, tzinfo=UTC))


@pytest.fixture
def local_bus() -> LocalBus:
    """An in-process bus."""
    return LocalBus()


@pytest.fixture
def order_updated(clock: FixedClock) -> Callable[..., OrderUpdated]:
    """Factory: a filled order of 10 RELIANCE, `minutes` after the clock; every field may be given."""

    def make(*, minutes: int = 0, **fields: Any) -> OrderUpdated:
        defaults: dict[str, Any] = {
            "order_id": uuid4(),
            "user_id": uuid4(),
            "portfolio_id": uuid4(),
            "exchange": "NSE",
            "tradingsymbol": "RELIANCE",
            "side": "BUY",
            "product": "CNC",
            "status": "FILLED",
            "order_version": 3,
            "quantity": 10,
            "filled_quantity": 10,
            "amount_paise": 1_23_456_50,
            "charges_paise": 15_20,
            "last_fill_quantity": 10,
            "last_fill_amount_paise": 1_23_456_50,
            "last_fill_charges_paise": 15_20,
            "trading_date": TRADING_DAY,
            "occurred_at": clock.now() + timedelta(minutes=minutes),
        }
        return OrderUpdated(**{**defaults, **fields})

    return make


@dataclass
class StaticMarketData:
    """MarketData with fixed answers: `shares` maps (exchange, tradingsymbol) to the last price in paise."""

    shares: dict[Key, int]
    clock: Any = field(default_factory=SystemClock)
    tick_paise: int = 5
    lot_size: int = 1
    is_open: bool = True
    price_age_s: float = 0.0
    trading_date: date = TRADING_DAY
    bands: dict[Key, tuple[int, int]] = field(default_factory=dict)
    candles: dict[Key, History] = field(default_factory=dict)
    """Daily candles; a known share without any has an incomplete history."""

    def instruments(self, keys: Iterable[Key]) -> Mapping[Key, Instrument]:
        return {key: self._instrument(key) for key in keys if key in self.shares}

    def prices(self, keys: Iterable[Key]) -> Mapping[Key, Price]:
        at = self.clock.now() - timedelta(seconds=self.price_age_s)
        return {key: Price(self.shares[key], at) for key in keys if key in self.shares}

    def session(self) -> SessionInfo:
        following = self.trading_date + timedelta(days=1)
        now = self.clock.now()
        return SessionInfo(
            is_open=self.is_open,
            phase="CONTINUOUS" if self.is_open else "CLOSED",
            trading_date=self.trading_date,
            closes_at=now + timedelta(hours=5) if self.is_open else None,
            next_open_at=None if self.is_open else now + timedelta(hours=12),
            next_trading_date=following,
        )

    def histories(self, keys: Iterable[Key], first: date, last: date) -> Mapping[Key, History]:
        found = {}
        for key in keys:
            if key in self.candles:
                whole = self.candles[key]
                inside = [index for index, day in enumerate(whole.days) if first <= day <= last]
                found[key] = History(
                    days=[whole.days[index] for index in inside],
                    closes_paise=[whole.closes_paise[index] for index in inside],
                    volumes=[whole.volumes[index] for index in inside],
                    is_complete=whole.is_complete,
                )
            elif key in self.shares:
                found[key] = History((), (), (), False)
        return found

    def _instrument(self, key: Key) -> Instrument:
        lower, upper = self.bands.get(key, (None, None))
        return Instrument(
            exchange=key[0],
            tradingsymbol=key[1],
            name=f"{key[1]} Ltd.",
            instrument_token=256 * (1 + sorted(self.shares).index(key)) + 1,
            tick_paise=self.tick_paise,
            lot_size=self.lot_size,
            segment=key[0],
            lower_band_paise=lower,
            upper_band_paise=upper,
        )


@dataclass
class StaticStandings:
    """Standings that a test sets; whoever it has not named is active and has no KYC problem. `unknown` has no account."""

    known: dict[UUID, Standing] = field(default_factory=dict)
    unknown: set[UUID] = field(default_factory=set)

    def of(self, user_id: UUID) -> Standing:
        if user_id in self.unknown:
            raise UserNotFound("There is no user with this id.")
        return self.known.get(user_id, Standing("active", "approved"))


# --- tokens -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TestKeys:
    """RSA keys of a test run: one that signs users' tokens, one that signs for every room."""

    __test__ = False
    user_pem: str
    user_kid: str
    user_jwks: dict[str, Any]
    service_pem: str

    def service_jwks(self, *names: str) -> dict[str, Any]:
        """The JWKS of rooms: every name with the same test key."""
        return {"keys": [_public_jwk(self.service_pem, name) for name in names]}


def new_rsa_pem() -> str:
    """A fresh RSA 2048 private key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@cache  # reading a private key costs 50 ms, and every authenticator of a test asks for nine
def _public_jwk(pem: str, kid: str) -> dict[str, Any]:
    public = jwk.construct(pem, ALGORITHM).public_key().to_dict()
    return {**public, "kid": kid, "use": "sig", "alg": ALGORITHM}


@pytest.fixture(scope="session")
def keys() -> TestKeys:
    """The run's signing keys."""
    user_pem = new_rsa_pem()
    return TestKeys(user_pem, "test-user-key", {"keys": [_public_jwk(user_pem, "test-user-key")]}, new_rsa_pem())


ROOMS = (
    "api-gateway", "user-service", "portfolio-service", "smallcase-service", "trade-executor", "notification-service",
    "analytics-service", "market-data-service", "strategy-service",
)  # fmt: skip


@pytest.fixture
def authenticator(keys: TestKeys, clock: FixedClock) -> Callable[[str], Authenticator]:
    """Factory: the verifier of a room, e.g. `authenticator("portfolio-service")`, on the `clock` fixture's time."""

    def make(name: str, *, admin_needs_mfa: bool = False) -> Authenticator:
        return Authenticator(
            name=name,
            access=AccessTokens(StaticKeys(keys.user_jwks), clock),
            service_keys=StaticKeys(keys.service_jwks(*ROOMS)),
            clock=clock,
            admin_needs_mfa=admin_needs_mfa,
        )

    return make


@pytest.fixture
def user_token(keys: TestKeys, clock: FixedClock) -> Callable[..., str]:
    """Factory of access tokens: `user_token(user_id=..., roles=("user",), kyc="approved", mfa=False, **claims)`."""

    def make(
        user_id: UUID | None = None,
        *,
        roles: Iterable[str] = ("user",),
        kyc: str = "approved",
        mfa: bool = False,
        session_id: UUID | None = None,
        lifetime_s: int = 900,
        headers: Mapping[str, Any] | None = None,
        pem: str | None = None,
        **claims: Any,
    ) -> str:
        now = int(clock.now().timestamp())
        payload = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(user_id or uuid4()),
            "sid": str(session_id or uuid4()),
            "roles": list(roles),
            "email": "user@example.com",
            "mfa": mfa,
            "kyc": kyc,
            "iat": now,
            "exp": now + lifetime_s,
            "jti": uuid4().hex,
            **claims,
        }
        header = {"kid": keys.user_kid, "typ": ACCESS_TYPE, **(headers or {})}
        return jwt.encode(payload, pem or keys.user_pem, algorithm=ALGORITHM, headers=header)

    return make


@pytest.fixture
def auth_headers(user_token: Callable[..., str]) -> Callable[..., dict[str, str]]:
    """Factory of Authorization headers; takes the arguments of `user_token`."""
    return lambda *args, **kwargs: {"Authorization": f"Bearer {user_token(*args, **kwargs)}"}


@pytest.fixture
def service_identity(keys: TestKeys, clock: FixedClock) -> Callable[[str], ServiceIdentity]:
    """Factory of a room's identity for internal calls."""
    return lambda name: ServiceIdentity(name, keys.service_pem, clock)


class AppTransport(httpx.BaseTransport):
    """Calls of a ServiceClient that end in an app of this process: `ServiceClient(..., transport=AppTransport(app))`."""

    def __init__(self, app: FastAPI) -> None:
        self._client = client_for(app)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._client.request(
            request.method, str(request.url), content=request.read(), headers=dict(request.headers)
        )
        return httpx.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)


def client_for(app: FastAPI) -> TestClient:
    """A client of an app in this process; server errors come back as answers, not exceptions."""
    return TestClient(app, raise_server_exceptions=False)
