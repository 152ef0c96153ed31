"""A bus that keeps the contract of `common.bus.Bus` and no more: it loses, doubles, delays and reorders what it may."""

import random
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from common.bus import BATCH_MAX, DELIVERY_LIMIT, BusUnavailable, Handler, deliver
from common.events import Envelope, Event
from tests.faults.points import AFTER, BEFORE, Points
from tests.faults.schedule import Actor, Scheduler

IDLE_S = 5.0
REDELIVERY_S = 0.2


@dataclass
class BusFaults:
    """Chances per publish call or per message."""

    refused: float = 0.0
    """The call reaches nobody."""
    confirm_lost: float = 0.0
    """The bus has the messages, the publisher is not told."""
    doubled: float = 0.0
    reordered: float = 0.0
    delayed: float = 0.0
    delay_max_s: float = 3.0
    dropped: float = 0.0
    """Confirmed, then lost: a purge in small."""


@dataclass
class _Waiting:
    body: str
    ready_at: float
    attempts: int = 0


@dataclass
class FaultyBus:
    """Queues in memory. Messages travel as JSON; what a consumer has not acknowledged when it dies comes again."""

    scheduler: Scheduler
    points: Points
    faults: BusFaults
    dice: random.Random
    bindings: dict[str, set[str]] = field(default_factory=dict)
    queues: dict[str, list[_Waiting]] = field(default_factory=dict)
    consumers: dict[str, list[Actor]] = field(default_factory=dict)
    dead: dict[str, list[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    down_until: float = 0.0

    def declare(self, queue: str, types: Iterable[type[Event]]) -> None:
        self.bindings.setdefault(queue, set()).update(event.type_name() for event in types)
        self.queues.setdefault(queue, [])
        self.dead.setdefault(queue, [])

    def publish(self, envelopes: Sequence[Envelope]) -> set[UUID]:
        self.points.reach("bus", "publish", BEFORE)
        if self.scheduler.time.now_s < self.down_until or self.dice.random() < self.faults.refused:
            self.counts["publish refused"] += 1
            raise BusUnavailable("the bus is away")
        for envelope in envelopes:
            self._put(envelope)
        self.points.reach("bus", "publish", AFTER)
        if self.dice.random() < self.faults.confirm_lost:
            self.counts["confirm lost"] += 1
            confirmed = {envelope.id for envelope in envelopes[: self.dice.randint(0, len(envelopes))]}
            if not confirmed:
                raise BusUnavailable("the connection broke before the confirm")
            return confirmed
        return {envelope.id for envelope in envelopes}

    def consume(self, queue: str, handler: Handler, stop: threading.Event) -> None:
        actor = self.scheduler.current()
        assert actor is not None
        self.consumers.setdefault(queue, []).append(actor)
        taken: list[_Waiting] = []
        try:
            while not stop.is_set():
                taken = self._take(queue)
                if not taken:
                    self.scheduler.sleep(self._idle_s(queue))
                    continue
                envelopes = [Envelope.model_validate_json(waiting.body) for waiting in taken]
                handled = deliver(queue, handler, envelopes)
                self.points.reach("bus", "ack", BEFORE)
                failed = [waiting for waiting, done in zip(taken, handled, strict=True) if not done]
                taken = []
                for waiting in failed:
                    self._again(queue, waiting)
                self.points.reach("bus", "ack", AFTER)
        finally:
            self.consumers[queue].remove(actor)
            # Not acknowledged: the broker gives it to somebody else.
            self.queues[queue][:0] = taken
            self.counts["redelivered"] += len(taken)
            self._ring(queue)

    def purge(self) -> int:
        """Empty every queue, as an operator's mistake would."""
        lost = sum(len(waiting) for waiting in self.queues.values())
        for waiting in self.queues.values():
            waiting.clear()
        self.counts["purged messages"] += lost
        return lost

    def idle(self) -> bool:
        """Whether nothing waits in any queue."""
        return not any(self.queues.values())

    def _put(self, envelope: Envelope) -> None:
        body = envelope.model_dump_json()
        for queue, types in self.bindings.items():
            if envelope.type not in types:
                continue
            if self._chance(self.faults.dropped, "dropped after confirm"):
                continue
            copies = 1 + (self.dice.randint(1, 3) if self._chance(self.faults.doubled, "doubled") else 0)
            for _ in range(copies):
                delay = (
                    self.dice.uniform(0, self.faults.delay_max_s) if self._chance(self.faults.delayed, "delayed") else 0
                )
                waiting = _Waiting(body, self.scheduler.time.now_s + delay)
                line = self.queues[queue]
                if line and self._chance(self.faults.reordered, "reordered"):
                    line.insert(self.dice.randrange(len(line)), waiting)
                else:
                    line.append(waiting)
            self._ring(queue)

    def _chance(self, rate: float, name: str) -> bool:
        hit = self.dice.random() < rate
        self.counts[name] += hit
        return hit

    def _take(self, queue: str) -> list[_Waiting]:
        if self.scheduler.time.now_s < self.down_until:
            return []
        now, taken, left = self.scheduler.time.now_s, [], []
        for waiting in self.queues[queue]:
            if waiting.ready_at <= now and len(taken) < BATCH_MAX:
                taken.append(waiting)
            else:
                left.append(waiting)
        self.queues[queue] = left
        return taken

    def _again(self, queue: str, waiting: _Waiting) -> None:
        waiting.attempts += 1
        if waiting.attempts >= DELIVERY_LIMIT:
            self.dead[queue].append(waiting.body)
            self.counts["dead letters"] += 1
            return
        waiting.ready_at = self.scheduler.time.now_s + REDELIVERY_S
        self.queues[queue].insert(0, waiting)

    def _idle_s(self, queue: str) -> float:
        now = self.scheduler.time.now_s
        if now < self.down_until:
            return self.down_until - now
        return min((waiting.ready_at - now for waiting in self.queues[queue] if waiting.ready_at > now), default=IDLE_S)

    def _ring(self, queue: str) -> None:
        for actor in self.consumers.get(queue, ()):
            self.scheduler.wake(actor)
