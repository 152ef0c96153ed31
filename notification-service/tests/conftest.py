"""Parts that the tests of notification-service share."""

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from common.auth import Authenticator
from common.clock import FixedClock
from common.consumers import handle
from common.db import Database
from common.events import Envelope, Event
from common.testing import client_for
from notification_service.app import create_app
from notification_service.config import NAME, Settings
from notification_service.consumers import HANDLERS


@pytest.fixture
def db(service_database: Callable[..., Database]) -> Database:
    return service_database("notification_service")


@pytest.fixture
def client(db: Database, authenticator: Callable[..., Authenticator], clock: FixedClock) -> TestClient:
    settings = Settings(database_url=db.url)
    return client_for(create_app(settings, db=db, authenticator=authenticator(NAME), clock=clock))


@pytest.fixture
def consume(db: Database) -> Callable[..., UUID]:
    """Deliver one event as the bus would; answers the message id, which may be given to deliver it again."""

    def deliver(event: Event, message_id: UUID | None = None) -> UUID:
        envelope = Envelope(
            id=message_id or uuid4(),
            type=event.type_name(),
            source="portfolio-service",
            occurred_at=event.occurred_at,
            recorded_at=event.occurred_at,
            payload=event.model_dump(mode="json"),
        )
        handle(db, NAME, HANDLERS, [envelope])
        return envelope.id

    return deliver
