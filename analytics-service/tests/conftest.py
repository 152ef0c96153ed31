"""Parts that the tests of analytics-service share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from analytics_service.app import create_app
from analytics_service.closes import Answer, Close
from analytics_service.config import NAME, Settings
from analytics_service.consumers import HANDLERS
from analytics_service.desk import Desk
from common.auth import Authenticator
from common.clock import FixedClock
from common.consumers import handle
from common.db import Database
from common.errors import AppError
from common.events import Envelope, Event
from common.http import PeerRefused
from common.testing import client_for


@pytest.fixture
def db(service_database: Callable[..., Database]) -> Database:
    return service_database("analytics_service")


@pytest.fixture
def client(db: Database, authenticator: Callable[..., Authenticator], clock: FixedClock) -> TestClient:
    settings = Settings(database_url=db.url)
    return client_for(create_app(settings, db=db, authenticator=authenticator(NAME), clock=clock))


@dataclass
class ScriptedCloses:
    """Closes as a test says; a share that is not there is refused, `trouble` is raised instead of an answer.

    `incomplete` shares are answered as by a market-data-service whose broker is away.
    """

    known: dict[tuple[str, str], dict[date, int]] = field(default_factory=dict)
    asked: list[tuple[tuple[str, str], date, date]] = field(default_factory=list)
    trouble: AppError | None = None
    incomplete: set[tuple[str, str]] = field(default_factory=set)

    def closes(self, key: tuple[str, str], first: date, last: date) -> Answer:
        self.asked.append((key, first, last))
        if self.trouble is not None:
            raise self.trouble
        if key not in self.known:
            raise PeerRefused("not known", status=404, code="unknown_instrument")
        found = [Close(on, paise) for on, paise in sorted(self.known[key].items()) if first <= on <= last]
        return Answer(found, key not in self.incomplete)


@pytest.fixture
def closes() -> ScriptedCloses:
    return ScriptedCloses()


@pytest.fixture
def desk(db: Database, clock: FixedClock, closes: ScriptedCloses) -> Desk:
    return Desk(db, Settings(database_url=db.url), clock, closes)


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
