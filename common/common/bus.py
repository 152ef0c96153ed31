"""The message bus: at-least-once delivery of envelopes to named queues.

A queue belongs to one consuming room and is bound to event types. `publish` answers which messages are safe: only those
may be forgotten by the sender. Consumers must expect repeats and any order.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from common.events import Envelope, Event
from common.logging import get_logger

log = get_logger(__name__)

DELIVERY_LIMIT = 10
CONFIRM_TIMEOUT_S = 5.0
REDELIVERY_PAUSE_S = 0.2

BATCH_MAX = 250
"""Messages that are handled together: what a transaction costs beside its rows is shared by so many."""

Handler = Callable[[Sequence[Envelope]], None]
"""Handles one or more messages; returning acknowledges all of them, raising none of them."""


class BusUnavailable(Exception):
    """The bus cannot take or give messages now."""


class ConsumerNotReady(Exception):
    """A handler's word that it can work on nothing now (its database is away), whatever the message."""


def deliver(queue: str, handler: Handler, envelopes: Sequence[Envelope]) -> list[bool]:
    """Give messages to a handler, together and, when that fails, one by one; answers which were handled.

    Raises ConsumerNotReady when the handler does: then the messages are not to blame.
    """
    if len(envelopes) > 1 and _handled(queue, handler, envelopes):
        return [True] * len(envelopes)
    return [_handled(queue, handler, [envelope]) for envelope in envelopes]


def _handled(queue: str, handler: Handler, envelopes: Sequence[Envelope]) -> bool:
    try:
        handler(envelopes)
    except ConsumerNotReady:
        raise
    except Exception as error:  # the boundary of foreign code: any failure is delivered again, then set aside
        log.warning(
            "bus.handler_failed",
            queue=queue,
            types=sorted({envelope.type for envelope in envelopes}),
            message_ids=[str(envelope.id) for envelope in envelopes],
            error=type(error).__name__,
            exc_info=error,
        )
        return False
    return True


class Bus(Protocol):
    """What relays and consumers need of a bus."""

    def declare(self, queue: str, types: Iterable[type[Event]]) -> None:
        """Make a queue exist and bind it to event types; repeating it is harmless."""
        ...

    def publish(self, envelopes: Sequence[Envelope]) -> set[UUID]:
        """Hand over messages; answers the ids that will not be lost. Raises BusUnavailable."""
        ...

    def consume(self, queue: str, handler: Handler, stop: threading.Event) -> None:
        """Give the queue's messages to `handler`, those that wait together in one call, until told to stop.

        When a call with several messages raises, each is given again alone. A message whose own call raises comes
        again, at most DELIVERY_LIMIT times, after which it is a dead letter. A handler that raises ConsumerNotReady ends
        the call with it: messages in hand go back.
        """
        ...


@dataclass(eq=False)
class _Delivery:
    envelope: Envelope
    attempts: int = 0
    done: threading.Event = field(default_factory=threading.Event)


class _LocalQueue:
    """One queue: waiting deliveries in order, and those by id so that a repeat joins the first."""

    def __init__(self, types: Iterable[str]) -> None:
        self.types = set(types)
        self.waiting: deque[_Delivery] = deque()
        self.by_id: dict[UUID, _Delivery] = {}
        self.changed = threading.Condition()
        self.dead: list[Envelope] = []

    def put(self, envelope: Envelope) -> _Delivery:
        with self.changed:
            delivery = self.by_id.get(envelope.id)
            if delivery is None:
                # Through JSON, as on any wire: what does not survive it must not work here either.
                copy = Envelope.model_validate_json(envelope.model_dump_json())
                delivery = self.by_id[envelope.id] = _Delivery(copy)
                self.waiting.append(delivery)
                self.changed.notify()
            return delivery

    def take(self, timeout: float) -> list[_Delivery]:
        with self.changed:
            if not self.waiting:
                self.changed.wait(timeout)
            return [self.waiting.popleft() for _ in range(min(len(self.waiting), BATCH_MAX))]

    def finish(self, delivery: _Delivery) -> None:
        with self.changed:
            self.by_id.pop(delivery.envelope.id, None)
        delivery.done.set()

    def bury(self, delivery: _Delivery) -> None:
        with self.changed:
            self.dead.append(delivery.envelope)
        self.finish(delivery)

    def again(self, delivery: _Delivery) -> None:
        with self.changed:
            self.waiting.append(delivery)

    def put_back(self, deliveries: Sequence[_Delivery]) -> None:
        with self.changed:
            self.waiting.extendleft(reversed(deliveries))


class LocalBus:
    """A bus inside one process: a message is confirmed only after every bound queue's handler has returned.

    It keeps nothing itself: what was not confirmed is still unsent in the sender's outbox, so killing the process at any
    point loses nothing.
    """

    def __init__(self) -> None:
        self._queues: dict[str, _LocalQueue] = {}
        self._lock = threading.Lock()

    def declare(self, queue: str, types: Iterable[type[Event]]) -> None:
        with self._lock:
            known = self._queues.setdefault(queue, _LocalQueue(()))
            known.types.update(event.type_name() for event in types)

    def publish(self, envelopes: Sequence[Envelope]) -> set[UUID]:
        with self._lock:
            queues = list(self._queues.values())
        pending = [
            (envelope.id, [queue.put(envelope) for queue in queues if envelope.type in queue.types])
            for envelope in envelopes
        ]
        deadline = time.monotonic() + CONFIRM_TIMEOUT_S
        confirmed: set[UUID] = set()
        for message_id, deliveries in pending:
            if all(delivery.done.wait(max(0.0, deadline - time.monotonic())) for delivery in deliveries):
                confirmed.add(message_id)
        return confirmed

    def consume(self, queue: str, handler: Handler, stop: threading.Event) -> None:
        local = self._queue(queue)
        while not stop.is_set():
            batch = local.take(timeout=0.2)
            if not batch:
                continue
            try:
                handled = deliver(queue, handler, [delivery.envelope for delivery in batch])
            except ConsumerNotReady:
                local.put_back(batch)
                raise
            for delivery, done in zip(batch, handled, strict=True):
                if done:
                    local.finish(delivery)
                else:
                    self._fail(local, queue, delivery, stop)

    def dead_letters(self, queue: str) -> list[Envelope]:
        """Messages given up after DELIVERY_LIMIT attempts, oldest first."""
        return list(self._queue(queue).dead)

    def _queue(self, queue: str) -> _LocalQueue:
        with self._lock:
            if queue not in self._queues:
                raise BusUnavailable(f"queue {queue!r} was never declared")
            return self._queues[queue]

    @staticmethod
    def _fail(local: _LocalQueue, queue: str, delivery: _Delivery, stop: threading.Event) -> None:
        delivery.attempts += 1
        if delivery.attempts >= DELIVERY_LIMIT:
            local.bury(delivery)
            log.error("bus.dead_letter", queue=queue, message_id=str(delivery.envelope.id), type=delivery.envelope.type)
            return
        stop.wait(REDELIVERY_PAUSE_S)
        local.again(delivery)
