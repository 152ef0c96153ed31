"""The bus on RabbitMQ: one topic exchange, a quorum queue per consuming room, dead letters kept beside it.

A message is confirmed when RabbitMQ has it on the disks of a majority; a consumer acknowledges after its commit. What no
room is bound to goes to a bounded queue of its own, so that a confirm never hides a lost message. A connection belongs to
one thread: publishing and every consumer have one each. Names and arguments of all queues are in `common.queues`.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError, NackError, UnroutableError
from pydantic import ValidationError

from common import bus
from common.bus import BATCH_MAX, BusUnavailable, Handler, deliver
from common.events import Envelope, Event
from common.logging import get_logger
from common.publishing import Publisher
from common.queues import EXCHANGE, UNROUTED_LENGTH_MAX, dead_arguments, dead_queue, work_arguments

log = get_logger(__name__)

HEARTBEAT_S = 60
BLOCKED_TIMEOUT_S = 5
CONNECT_TIMEOUT_S = 5
PREFETCH = 2 * BATCH_MAX
"""The next batch comes while one is handled."""
IDLE_WAIT_S = 0.5
RECONNECT_PAUSE_S = 1.0
BROKEN = (AMQPError, AMQPConnectorException, OSError)
"""What pika raises when a connection can not be made or breaks."""


class RabbitBus:
    """`common.bus.Bus` over AMQP. `prefix` names exchange and queues (tests use their own)."""

    def __init__(self, url: str, *, prefix: str = "") -> None:
        parameters = pika.URLParameters(url)
        parameters.heartbeat = HEARTBEAT_S
        parameters.blocked_connection_timeout = BLOCKED_TIMEOUT_S
        parameters.socket_timeout = CONNECT_TIMEOUT_S
        self._parameters = parameters
        self._prefix = prefix
        self._exchange = prefix + EXCHANGE
        self._publishing = threading.local()
        self._declared: dict[str, set[str]] = {}

    def declare(self, queue: str, types: Iterable[type[Event]]) -> None:
        self._declared.setdefault(queue, set()).update(event.type_name() for event in types)
        with self._channel() as channel:
            self._declare(channel, queue)

    def publish(self, envelopes: Sequence[Envelope]) -> set[UUID]:
        confirmed: set[UUID] = set()
        rest: Sequence[Envelope] = envelopes
        reason = ""
        # This thread's connection and, when it fails, one new one: a connection may have died unnoticed while idle.
        for make in (self._kept_publisher, self._new_publisher):
            try:
                publisher = make()
            except BusUnavailable as error:
                reason = str(error)
                break
            if publisher is None:
                continue
            confirmed |= publisher.publish(rest)
            if publisher.failure is None:
                return confirmed
            reason = publisher.failure
            log.warning("bus.publish_interrupted", reason=reason, confirmed=len(confirmed))
            self.close()
            rest = [envelope for envelope in rest if envelope.id not in confirmed | publisher.refused]
        if not confirmed:
            raise BusUnavailable(reason)
        return confirmed

    def consume(self, queue: str, handler: Handler, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._consume_until_broken(queue, handler, stop)
            except (*BROKEN, BusUnavailable) as error:
                log.warning("bus.consumer_reconnects", queue=queue, error=type(error).__name__, detail=str(error))
                stop.wait(RECONNECT_PAUSE_S)

    def ping(self) -> None:
        """Raise BusUnavailable when the broker does not answer."""
        with self._channel():
            pass

    def dead_letters(self, queue: str) -> list[Envelope]:
        """Messages given up after DELIVERY_LIMIT attempts; they stay in the dead-letter queue."""
        with self._channel() as channel:
            # Closing without acknowledging puts them all back.
            return [Envelope.model_validate_json(body) for _, body in self._take_dead(channel, queue)]

    def requeue_dead_letters(self, queue: str) -> int:
        """Give every dead letter to its queue again, with a full count of attempts; answers how many."""
        moved = 0
        with self._channel() as channel:
            channel.confirm_delivery()
            persistent = pika.BasicProperties(
                content_type="application/json", delivery_mode=pika.DeliveryMode.Persistent.value
            )
            for tag, body in self._take_dead(channel, queue):
                try:
                    channel.basic_publish("", self._prefix + queue, body, persistent, mandatory=True)
                except (NackError, UnroutableError) as error:
                    raise BusUnavailable(f"{queue} takes nothing: {type(error).__name__}") from error
                # Only what the queue has is taken from the dead letters; dying in between repeats a message.
                channel.basic_ack(tag)
                moved += 1
        return moved

    def purge_dead_letters(self, queue: str) -> int:
        """Forget every dead letter of a queue; answers how many."""
        with self._channel() as channel:
            return int(channel.queue_purge(dead_queue(self._prefix + queue)).method.message_count)

    def delete(self, queues: Iterable[str]) -> None:
        """Remove everything under this prefix (tests)."""
        with self._channel() as channel:
            for queue in queues:
                channel.queue_delete(self._prefix + queue)
                channel.queue_delete(dead_queue(self._prefix + queue))
            channel.queue_delete(f"{self._exchange}.unrouted")
            for exchange in (self._exchange, f"{self._exchange}.dead", f"{self._exchange}.unrouted"):
                channel.exchange_delete(exchange)

    def close(self) -> None:
        """Close this thread's publishing connection."""
        publisher = self._kept_publisher()
        self._publishing.publisher = None
        if publisher is not None:
            publisher.close()

    def _kept_publisher(self) -> Publisher | None:
        return getattr(self._publishing, "publisher", None)

    def _new_publisher(self) -> Publisher:
        with self._channel() as channel:
            self._declare_exchanges(channel)
        self._publishing.publisher = publisher = Publisher(self._parameters, self._exchange)
        return publisher

    def _consume_until_broken(self, queue: str, handler: Handler, stop: threading.Event) -> None:
        with self._channel() as channel:
            if queue in self._declared:
                # A broker that came back without its disk knows no queue; messages lost with it are caught up.
                self._declare(channel, queue)
            channel.basic_qos(prefetch_count=PREFETCH)
            waiting: list[tuple[int, Envelope]] = []
            for method, _, body in channel.consume(self._prefix + queue, inactivity_timeout=IDLE_WAIT_S):
                if stop.is_set():
                    return
                if method is not None and (envelope := self._read(channel, queue, method.delivery_tag, body)):
                    waiting.append((method.delivery_tag, envelope))
                # Whatever has arrived already goes into one call; nothing waits for company.
                if waiting and (channel.get_waiting_message_count() == 0 or len(waiting) == BATCH_MAX):
                    if not self._deliver(channel, queue, handler, waiting):
                        stop.wait(bus.REDELIVERY_PAUSE_S)
                    waiting = []
            if not stop.is_set():
                raise BusUnavailable("the broker ended the subscription")

    @staticmethod
    def _read(channel: BlockingChannel, queue: str, delivery_tag: int, body: bytes) -> Envelope | None:
        try:
            return Envelope.model_validate_json(body)
        except ValidationError:
            log.exception("bus.unreadable_message", queue=queue)
            channel.basic_reject(delivery_tag, requeue=False)
            return None

    @staticmethod
    def _deliver(
        channel: BlockingChannel, queue: str, handler: Handler, waiting: Sequence[tuple[int, Envelope]]
    ) -> bool:
        """Handle messages, acknowledge or give back; answers whether all were handled."""
        handled = deliver(queue, handler, [envelope for _, envelope in waiting])
        if all(handled):
            # Everything up to the last: what came before was rejected, or is among these.
            channel.basic_ack(waiting[-1][0], multiple=True)
            return True
        for (delivery_tag, _), done in zip(waiting, handled, strict=True):
            if done:
                channel.basic_ack(delivery_tag)
            else:
                # A reject counts towards the delivery limit in every RabbitMQ release; a nack does not in the newest.
                channel.basic_reject(delivery_tag, requeue=True)
        return False

    def _take_dead(self, channel: BlockingChannel, queue: str) -> Iterator[tuple[int, bytes]]:
        """Take what is in the dead-letter queue now; what is not acknowledged goes back when the channel closes."""
        name = dead_queue(self._prefix + queue)
        for _ in range(channel.queue_declare(name, passive=True).method.message_count):
            method, _, body = channel.basic_get(name)
            if method is None:
                return
            yield method.delivery_tag, body

    @contextmanager
    def _channel(self) -> Iterator[BlockingChannel]:
        """A connection for one job; whatever AMQP complains about is BusUnavailable."""
        try:
            connection = self._connect()
            try:
                yield connection.channel()
            finally:
                _close(connection.close)
        except BROKEN as error:
            raise BusUnavailable(f"{type(error).__name__}: {error}") from error

    def _connect(self) -> pika.BlockingConnection:
        try:
            return pika.BlockingConnection(self._parameters)
        except ValueError as error:
            # pika's word for a connection that was reset before it had a look at it.
            raise BusUnavailable(str(error)) from error

    def _declare_exchanges(self, channel: BlockingChannel) -> None:
        unrouted = f"{self._exchange}.unrouted"
        channel.exchange_declare(unrouted, "fanout", durable=True)
        channel.queue_declare(unrouted, durable=True, arguments={"x-max-length": UNROUTED_LENGTH_MAX})
        channel.queue_bind(unrouted, unrouted)
        channel.exchange_declare(f"{self._exchange}.dead", "direct", durable=True)
        channel.exchange_declare(self._exchange, "topic", durable=True, arguments={"alternate-exchange": unrouted})

    def _declare(self, channel: BlockingChannel, queue: str) -> None:
        self._declare_exchanges(channel)
        name, dead_exchange = self._prefix + queue, f"{self._exchange}.dead"
        dead = dead_queue(name)
        channel.queue_declare(dead, durable=True, arguments=dict(dead_arguments()))
        channel.queue_bind(dead, dead_exchange, routing_key=name)
        arguments = dict(work_arguments(dead_exchange=dead_exchange, dead_key=name))
        channel.queue_declare(name, durable=True, arguments=arguments)
        for type_name in sorted(self._declared[queue]):
            channel.queue_bind(name, self._exchange, routing_key=f"*.{type_name}")


def _close(close: Callable[[], None]) -> None:
    try:
        close()
    except BROKEN as error:
        log.debug("bus.close_failed", error=type(error).__name__)
