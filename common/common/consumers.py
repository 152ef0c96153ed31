"""Consuming events: inbox rows, effects and outgoing events in one transaction, acknowledged after its commit.

Messages that arrive together share a transaction; if it fails, each gets one of its own, so that one bad message never
fails its neighbours.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from common import metrics
from common.backlog import Backlog
from common.bus import Bus, BusUnavailable, ConsumerNotReady, Handler
from common.db import Database, run_in_transaction
from common.events import REGISTRY, Envelope, Event
from common.logging import bound, get_logger
from common.outbox import claim

log = get_logger(__name__)

RETRY_PAUSE_S = 1.0

EventHandler = Callable[[Session, Any, Envelope], None]
"""fn(session, event, envelope): must not commit; raising gives the message back."""


@dataclass(frozen=True)
class Together:
    """A handler of all new messages of one type in a batch: for facts that come by the thousand.

    `apply(session, [(event, envelope), ...])` gets them in the order they came and leaves what one after the other would
    leave, with statements whose number does not grow with theirs. The same fact may be among them under two message ids.
    No correlation id is bound: what it tells and logs names the envelope's.
    """

    apply: Callable[[Session, Sequence[tuple[Any, Envelope]]], None]


Handlers = Mapping[type[Event], EventHandler | Together]
"""What to do with each type. No handler minds the order, so those of one type may be applied before others came."""


def handle(db: Database, consumer: str, handlers: Handlers, envelopes: Sequence[Envelope]) -> int:
    """Apply messages, each once, in one transaction; answers how many effects were new."""
    started = time.monotonic()

    def work(session: Session) -> list[bool]:
        # One statement for the whole batch: what one message costs in round trips counts under load.
        new = claim(session, consumer, (one.id for one in envelopes if REGISTRY.get(one.type) in handlers))
        applied = []
        fresh = []
        for envelope in envelopes:
            applied.append(envelope.id in new)
            if envelope.id in new:
                # The same message may be in a batch twice.
                new.discard(envelope.id)
                fresh.append(envelope)
            elif REGISTRY.get(envelope.type) not in handlers:
                log.warning("consumer.unknown_event", type=envelope.type, message_id=str(envelope.id))
        apply(session, consumer, handlers, fresh)
        return applied

    applied = run_in_transaction(db, work)
    ms = round((time.monotonic() - started) * 1000, 1)
    for envelope, new in zip(envelopes, applied, strict=True):
        with bound(correlation_id=envelope.correlation_id, service=consumer):
            log.info(
                "consumer.handled" if new else "consumer.repeat",
                type=envelope.type,
                message_id=str(envelope.id),
                aggregate_id=envelope.aggregate_id,
                together=len(envelopes),
                ms=ms,
            )
        metrics.messages_consumed.labels(consumer, envelope.type, "applied" if new else "repeat").inc()
        if new:
            metrics.message_lag.labels(consumer).observe(max(0.0, time.time() - envelope.recorded_at.timestamp()))
    return sum(applied)


def apply(session: Session, consumer: str, handlers: Handlers, envelopes: Iterable[Envelope]) -> None:
    """The effects of new messages, each once among them, in the caller's transaction."""
    by_type: dict[str, list[Envelope]] = {}
    for envelope in envelopes:
        by_type.setdefault(envelope.type, []).append(envelope)
    # One order of types for every batch: two consumers never touch tables in opposite orders.
    for event_type, handler in handlers.items():
        group = by_type.get(event_type.type_name(), ())
        if not isinstance(handler, Together):
            for envelope in group:
                with bound(correlation_id=envelope.correlation_id, service=consumer):
                    handler(session, envelope.event(), envelope)
                forget_loaded(session)
        elif group:
            with bound(service=consumer):
                handler.apply(session, [(envelope.event(), envelope) for envelope in group])
            forget_loaded(session)


def forget_loaded(session: Session) -> None:
    """The next handler reads rows as they are now, never objects that one before it has loaded."""
    session.flush()
    session.expunge_all()


def handler_of(
    db: Database, consumer: str, handlers: Handlers, after_commit: Callable[[], None] | None = None
) -> Handler:
    """A room's handlers as what a bus calls. `after_commit` runs after new effects, outside their transaction."""

    def on_messages(envelopes: Sequence[Envelope]) -> None:
        try:
            applied = handle(db, consumer, handlers, envelopes)
        except SQLAlchemyError as error:
            if not answers(db):
                raise ConsumerNotReady(str(error)) from error
            raise
        if applied and after_commit is not None:
            after_commit()

    return on_messages


def run_consumer(
    bus: Bus,
    db: Database,
    *,
    consumer: str,
    handlers: Handlers,
    stop: threading.Event,
    after_commit: Callable[[], None] | None = None,
    backlog: Backlog | None = None,
) -> None:
    """Consume the room's queue (`consumer` names both queue and inbox) until told to stop.

    `after_commit` runs after new effects were committed, outside their transaction: the place for a wake-up. While the
    database does not answer nothing is taken: its outage must not use up the messages' attempts. `backlog` is told what came.
    """
    handler = handler_of(db, consumer, handlers, after_commit)

    def on_messages(envelopes: Sequence[Envelope]) -> None:
        if backlog is not None:
            backlog.note(envelopes)
        handler(envelopes)

    while not stop.is_set():
        try:
            bus.declare(consumer, handlers)
            bus.consume(consumer, on_messages, stop)
        except (BusUnavailable, ConsumerNotReady) as error:
            log.warning("consumer.paused", consumer=consumer, error=type(error).__name__, detail=str(error))
            stop.wait(RETRY_PAUSE_S)
            while not (stop.is_set() or answers(db)):
                stop.wait(RETRY_PAUSE_S)


def answers(db: Database) -> bool:
    """Whether the database takes statements now."""
    try:
        db.ping()
    except SQLAlchemyError:
        return False
    return True
