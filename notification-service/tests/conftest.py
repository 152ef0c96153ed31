"""Parts that the tests of notification-service share."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from common.auth import Authenticator
from common.clock import FixedClock
from common.consumers import handle
from common.db import Database
from common.events import Envelope, Event
from common.http import PeerUnavailable
from common.market_data import MarketData
from common.sealing import Sealer
from common.testing import StaticMarketData, client_for
from notification_service.app import create_app
from notification_service.config import NAME, Settings, sealer_from
from notification_service.consumers import make_handlers
from notification_service.desk import Desk
from notification_service.kinds import Channel
from notification_service.peers import Contact
from notification_service.providers.base import Provider

SEAL_KEY = base64.b64encode(b"\x05" * 32).decode()
PRICES = {("NSE", "INFY"): 1_500_00, ("NSE", "TCS"): 3_000_00}


@dataclass
class KnownUsers:
    """A directory of users without a network; everybody has a verified address unless said otherwise."""

    people: dict[UUID, Contact] = field(default_factory=dict)
    administrators: list[UUID] = field(default_factory=list)
    tokens: dict[UUID, str] = field(default_factory=dict)
    is_away: bool = False

    def contact(self, user_id: UUID, near: Any = ()) -> Contact | None:
        self._answer()
        return self.people.get(user_id, Contact(user_id, f"{user_id}@example.com", True, "Asha Rao"))

    def admins(self) -> list[UUID]:
        self._answer()
        return list(self.administrators)

    def mail_token(self, token_id: UUID) -> str | None:
        self._answer()
        return self.tokens.get(token_id)

    def _answer(self) -> None:
        if self.is_away:
            raise PeerUnavailable("user-service does not answer at the moment; try again shortly.")


@pytest.fixture
def db(service_database: Callable[..., Database]) -> Database:
    return service_database("notification_service")


@pytest.fixture
def settings(db: Database) -> Settings:
    """Short pauses, so that a test's clock has not far to go."""
    return Settings(
        database_url=db.url,
        seal_keys={1: SEAL_KEY},
        retry_first_seconds=10,
        retry_max_seconds=600,
        circuit_failures=3,
        circuit_first_seconds=10,
        circuit_max_seconds=60,
        twilio_auth_token="twilio-test-token",
        webhook_hosts=("127.0.0.1",),
        vapid_public_key="a-public-key",
    )


@pytest.fixture
def sealer(settings: Settings) -> Sealer:
    sealer = sealer_from(settings)
    assert sealer is not None
    return sealer


@pytest.fixture
def market(clock: FixedClock) -> StaticMarketData:
    return StaticMarketData(dict(PRICES), clock=clock)


@pytest.fixture
def users() -> KnownUsers:
    return KnownUsers()


@pytest.fixture
def make_desk(
    db: Database, settings: Settings, clock: FixedClock, users: KnownUsers, market: MarketData, sealer: Sealer
) -> Callable[..., Desk]:
    """A desk with the given providers, e.g. `make_desk({Channel.EMAIL: mail})`; fields of the settings may be given."""

    def make(providers: Mapping[Channel, Provider], **changes: Any) -> Desk:
        return Desk(db, settings.model_copy(update=changes), clock, users, market, providers, sealer)

    return make


@pytest.fixture
def client(
    db: Database,
    settings: Settings,
    market: MarketData,
    authenticator: Callable[..., Authenticator],
    clock: FixedClock,
) -> TestClient:
    return client_for(create_app(settings, db=db, authenticator=authenticator(NAME), market=market, clock=clock))


@pytest.fixture
def consume(db: Database, clock: FixedClock) -> Callable[..., UUID]:
    """Deliver one event as the bus would; answers the message id, which may be given to deliver it again."""
    handlers = make_handlers(clock)

    def deliver(event: Event, message_id: UUID | None = None) -> UUID:
        envelope = Envelope(
            id=message_id or uuid4(),
            type=event.type_name(),
            source="portfolio-service",
            occurred_at=event.occurred_at,
            recorded_at=event.occurred_at,
            payload=event.model_dump(mode="json"),
        )
        handle(db, NAME, handlers, [envelope])
        return envelope.id

    return deliver
