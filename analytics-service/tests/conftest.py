"""Parts that the tests of analytics-service share."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from analytics_service.app import create_app
from analytics_service.config import NAME, Settings
from analytics_service.consumers import HANDLERS
from common.auth import Authenticator
from common.clock import FixedClock
from common.consumers import handle
from common.db import Database
from common.events import Envelope, Event, OrderUpdated
from common.testing import TRADING_DAY, client_for


@pytest.fixture
def db(service_database: Callable[..., Database]) -> Database:
    return service_database("analytics_service")


@pytest.fixture
def client(db: Database, authenticator: Callable[..., Authenticator], clock: FixedClock) -> TestClient:
    settings = Settings(database_url=db.url)
    return client_for(create_app(settings, db=db, authenticator=authenticator(NAME), clock=clock))


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
