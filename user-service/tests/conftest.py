"""One running room over a real database, and people who use it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pyotp
import pytest
from fastapi.testclient import TestClient
from httpx import Response
from passlib.context import CryptContext
from sqlalchemy import text

from common.auth import AccessTokens, Authenticator, StaticKeys
from common.clock import Clock, FixedClock
from common.db import Database
from common.testing import ROOMS, TestKeys, client_for
from user_service.admin_cli import create_admin
from user_service.app import create_app
from user_service.config import Settings
from user_service.hashing import PasswordHashing
from user_service.keys import SigningKeys
from user_service.sealing import Sealer

PASSWORD = "correct horse battery"
API = "/api/v1"


@dataclass
class Person:
    """A user with an open session."""

    user_id: UUID
    email: str
    password: str
    tokens: dict[str, Any]
    totp_secret: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens['access_token']}"}


class House:
    """The room under test and what tests do with it again and again."""

    def __init__(self, client: TestClient, db: Database, clock: Clock, keys: SigningKeys, sealer: Sealer) -> None:
        self.client = client
        self.db = db
        self.clock = clock
        self.keys = keys
        self.sealer = sealer

    def post(self, path: str, body: Any = None, **options: Any) -> Response:
        return self.client.post(API + path, json=body, **options)

    def register(self, email: str | None = None, **fields: Any) -> Response:
        body = {"email": email or f"{uuid4().hex}@example.com", "password": PASSWORD, "full_name": "Asha Rao", **fields}
        return self.post("/auth/register", body)

    def login(self, email: str, password: str = PASSWORD, *, address: str | None = None, **fields: Any) -> Response:
        headers = {"X-Forwarded-For": address} if address else {}
        return self.post("/auth/login", {"email": email, "password": password, **fields}, headers=headers)

    def person(self, email: str | None = None) -> Person:
        """A registered user, signed in."""
        registered = self.register(email)
        assert registered.status_code == 201, registered.text
        account = registered.json()
        return self.sign_in(Person(UUID(account["user_id"]), account["email"], PASSWORD, {}))

    def admin(self, *roles: str) -> Person:
        """An administrator made by the command line, signed in."""
        made = create_admin(self.db, f"{uuid4().hex}@example.com", PASSWORD, roles or ("admin",), clock=self.clock)
        return self.sign_in(Person(made.user_id, made.email, PASSWORD, {}))

    def sign_in(self, person: Person, **options: Any) -> Person:
        answer = self.login(person.email, person.password, **options)
        assert answer.status_code == 200, answer.text
        person.tokens = answer.json()
        return person

    def enable_totp(self, person: Person) -> Person:
        """Set up and confirm a second factor, then refresh, so that the token says so."""
        secret = self.post("/auth/totp/setup", headers=person.headers).json()["secret"]
        person.totp_secret = secret
        confirmed = self.post("/auth/totp/confirm", {"code": self.code(person)}, headers=person.headers)
        assert confirmed.status_code == 204, confirmed.text
        person.tokens = self.post("/auth/refresh", {"refresh_token": person.tokens["refresh_token"]}).json()
        return person

    def code(self, person: Person, *, offset: int = 0) -> str:
        """The authenticator app's code at this moment."""
        assert person.totp_secret is not None
        return pyotp.TOTP(person.totp_secret).at(int(self.clock.now().timestamp()) + 30 * offset)

    def me(self, person: Person) -> Response:
        return self.client.get(f"{API}/auth/me", headers=person.headers)

    def rows(self, statement: str, **values: Any) -> list[Any]:
        with self.db.session() as session:
            return list(session.execute(text(statement), values).mappings().all())

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [
            row["payload"] for row in self.rows("SELECT payload FROM outbox WHERE type = :kind ORDER BY id", kind=kind)
        ]


@pytest.fixture
def db(service_database: Callable[..., Database]) -> Database:
    return service_database("user_service", pool_size=20)


@pytest.fixture(scope="session")
def cheap_hashing() -> Iterator[PasswordHashing]:
    """Argon2id with little memory, for tests that are about something else."""
    context = CryptContext(
        schemes=["argon2"], argon2__type="ID", argon2__memory_cost=64, argon2__time_cost=1, argon2__parallelism=1
    )
    hashing = PasswordHashing(workers=2, waiting_max=64, context=context)
    yield hashing
    hashing.close()


@pytest.fixture(scope="session")
def signing_keys(keys: TestKeys) -> SigningKeys:
    return SigningKeys(keys.user_pem.encode())


@pytest.fixture
def build(
    db: Database, clock: FixedClock, keys: TestKeys, signing_keys: SigningKeys, cheap_hashing: PasswordHashing
) -> Callable[..., House]:
    """Factory of a running room: `build(time=SystemClock(), hashing=..., environment="production", ...)`."""

    def make(*, time: Clock | None = None, hashing: PasswordHashing | None = None, **settings: Any) -> House:
        chosen = Settings(database_url=db.url, **settings)
        now = time or clock
        authenticator = Authenticator(
            name="user-service",
            access=AccessTokens(StaticKeys(signing_keys.jwks()), now),
            service_keys=StaticKeys(keys.service_jwks(*ROOMS)),
            clock=now,
            admin_needs_mfa=chosen.admin_needs_totp,
        )
        sealer = Sealer(b"\x07" * 32)
        app = create_app(
            chosen,
            db=db,
            authenticator=authenticator,
            signing_keys=signing_keys,
            sealer=sealer,
            clock=now,
            hashing=hashing or cheap_hashing,
        )
        return House(client_for(app), db, now, signing_keys, sealer)

    return make


@pytest.fixture
def house(build: Callable[..., House]) -> House:
    return build()
