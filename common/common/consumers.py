"""Consuming events: inbox row, effect and outgoing events in one transaction, acknowledged after its commit."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.orm import Session

from common import metrics
from common.bus import Bus
from common.db import Database, run_in_transaction
from common.events import REGISTRY, Envelope, Event
from common.logging import bound, get_logger
from common.outbox import claim

log = get_logger(__name__)

EventHandler = Callable[[Session, Any, Envelope], None]
"""fn(session, event, envelope): must not commit; raising gives the message back."""
Handlers = Mapping[type[Event], EventHandler]


def handle(db: Database, consumer: str, handlers: Handlers, envelope: Envelope) -> bool:
    """Apply one message once; answers False when its effect was already there."""
    event_type = REGISTRY.get(envelope.type)
    if event_type is None or event_type not in handlers:
        log.warning("consumer.unknown_event", consumer=consumer, type=envelope.type, message_id=str(envelope.id))
        return False

    def work(session: Session) -> bool:
        if not claim(session, consumer, envelope.id):
            return False
        handlers[event_type](session, envelope.event(), envelope)
        return True

    started = time.monotonic()
    with bound(correlation_id=envelope.correlation_id, service=consumer):
        applied = run_in_transaction(db, work)
        log.info(
            "consumer.handled" if applied else "consumer.repeat",
            type=envelope.type,
            message_id=str(envelope.id),
            aggregate_id=envelope.aggregate_id,
            ms=round((time.monotonic() - started) * 1000, 1),
        )
    metrics.messages_consumed.labels(consumer, envelope.type, "applied" if applied else "repeat").inc()
    return applied


def run_consumer(
    bus: Bus,
    db: Database,
    *,
    consumer: str,
    handlers: Handlers,
    stop: threading.Event,
    after_commit: Callable[[], None] | None = None,
) -> None:
    """Consume the room's queue (`consumer` names both queue and inbox) until told to stop.

    `after_commit` runs after each applied message, outside its transaction: the place for a wake-up.
    """
    bus.declare(consumer, handlers)

    def on_message(envelope: Envelope) -> None:
        if handle(db, consumer, handlers, envelope) and after_commit is not None:
            after_commit()

    bus.consume(consumer, on_message, stop)
