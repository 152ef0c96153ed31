"""The bus on RabbitMQ: one topic exchange, a quorum queue per consuming room, dead letters kept beside it.

A message is confirmed when RabbitMQ has it on the disks of a majority; a consumer acknowledges after its commit. What no
room is bound to goes to a bounded queue of its own, so that a confirm never hides a lost message. pika's blocking
connection belongs to one thread: publishing and every consumer have a connection each.
"""

import threading
from collections.abc import Iterable, Sequence
from uuid import UUID

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError, NackError, UnroutableError
from pydantic import ValidationError

from common.bus import BATCH_MAX, DELIVERY_LIMIT, BusUnavailable, Handler, deliver
from common.events import Envelope, Event
from common.logging import get_logger

log = get_logger(__name__)

EXCHANGE = "saras.events"
HEARTBEAT_S = 60
BLOCKED_TIMEOUT_S = 5
CONNECT_TIMEOUT_S = 5
PREFETCH = BATCH_MAX
IDLE_WAIT_S = 0.5
RECONNECT_PAUSE_S = 1.0
UNROUTED_LENGTH_MAX = 10_000


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

    def declare(self, queue: str, types: Iterable[type[Event]]) -> None:
        channel = self._open()
        try:
            self._declare_exchanges(channel)
            self._declare_queue(channel, queue)
            for event in types:
                channel.queue_bind(self._prefix + queue, self._exchange, routing_key=f"*.{event.type_name()}")
        except AMQPError as error:
            raise BusUnavailable(str(error)) from error
        finally:
            _close(channel)

    def publish(self, envelopes: Sequence[Envelope]) -> set[UUID]:
        confirmed: set[UUID] = set()
        try:
            channel = self._publisher()
            for envelope in envelopes:
                if self._publish_one(channel, envelope):
                    confirmed.add(envelope.id)
        except AMQPError as error:
            self._drop_publisher()
            log.warning("bus.publish_interrupted", error=type(error).__name__, confirmed=len(confirmed))
            if not confirmed:
                raise BusUnavailable(f"{type(error).__name__}: {error}") from error
        return confirmed

    def consume(self, queue: str, handler: Handler, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._consume_until_broken(queue, handler, stop)
            except (AMQPError, BusUnavailable) as error:
                log.warning("bus.consumer_reconnects", queue=queue, error=type(error).__name__)
                stop.wait(RECONNECT_PAUSE_S)

    def dead_letters(self, queue: str) -> list[Envelope]:
        """Messages given up after DELIVERY_LIMIT attempts; they stay in the dead-letter queue."""
        channel = self._open()
        try:
            found: list[Envelope] = []
            while True:
                method, _, body = channel.basic_get(f"{self._prefix}{queue}.dead")
                if method is None:
                    return found
                found.append(Envelope.model_validate_json(body))
        finally:
            # Closing without acknowledging puts them all back.
            _close(channel)

    def delete(self, queues: Iterable[str]) -> None:
        """Remove everything under this prefix (tests)."""
        channel = self._open()
        try:
            for queue in queues:
                channel.queue_delete(self._prefix + queue)
                channel.queue_delete(f"{self._prefix}{queue}.dead")
            channel.queue_delete(f"{self._exchange}.unrouted")
            for exchange in (self._exchange, f"{self._exchange}.dead", f"{self._exchange}.unrouted"):
                channel.exchange_delete(exchange)
        finally:
            _close(channel)

    def close(self) -> None:
        """Close this thread's publishing connection."""
        self._drop_publisher()

    def _consume_until_broken(self, queue: str, handler: Handler, stop: threading.Event) -> None:
        channel = self._open()
        try:
            channel.basic_qos(prefetch_count=PREFETCH)
            waiting: list[tuple[int, Envelope]] = []
            for method, _, body in channel.consume(self._prefix + queue, inactivity_timeout=IDLE_WAIT_S):
                if stop.is_set():
                    return
                if method is not None and (envelope := self._read(channel, queue, method.delivery_tag, body)):
                    waiting.append((method.delivery_tag, envelope))
                # Whatever has arrived already goes into one call; nothing waits for company.
                if waiting and (channel.get_waiting_message_count() == 0 or len(waiting) == BATCH_MAX):
                    self._deliver(channel, queue, handler, waiting)
                    waiting = []
        finally:
            _close(channel)

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
    ) -> None:
        handled = deliver(queue, handler, [envelope for _, envelope in waiting])
        for (delivery_tag, _), done in zip(waiting, handled, strict=True):
            if done:
                channel.basic_ack(delivery_tag)
            else:
                # A reject counts towards the delivery limit in every RabbitMQ release; a nack does not in the newest.
                channel.basic_reject(delivery_tag, requeue=True)

    def _publish_one(self, channel: BlockingChannel, envelope: Envelope) -> bool:
        properties = pika.BasicProperties(
            content_type="application/json",
            delivery_mode=pika.DeliveryMode.Persistent.value,
            message_id=str(envelope.id),
            type=envelope.type,
            correlation_id=envelope.correlation_id,
            app_id=envelope.source,
        )
        try:
            channel.basic_publish(
                self._exchange, envelope.routing_key, envelope.model_dump_json().encode(), properties, mandatory=True
            )
        except (NackError, UnroutableError) as error:
            log.warning(
                "bus.not_confirmed", message_id=str(envelope.id), type=envelope.type, error=type(error).__name__
            )
            return False
        return True

    def _publisher(self) -> BlockingChannel:
        channel: BlockingChannel | None = getattr(self._publishing, "channel", None)
        if channel is None or channel.is_closed:
            channel = self._open()
            self._declare_exchanges(channel)
            channel.confirm_delivery()
            self._publishing.channel = channel
        return channel

    def _drop_publisher(self) -> None:
        channel = getattr(self._publishing, "channel", None)
        self._publishing.channel = None
        if channel is not None:
            _close(channel)

    def _open(self) -> BlockingChannel:
        try:
            return pika.BlockingConnection(self._parameters).channel()
        except (AMQPError, OSError) as error:
            raise BusUnavailable(f"{type(error).__name__}: {error}") from error

    def _declare_exchanges(self, channel: BlockingChannel) -> None:
        unrouted = f"{self._exchange}.unrouted"
        channel.exchange_declare(unrouted, "fanout", durable=True)
        channel.queue_declare(unrouted, durable=True, arguments={"x-max-length": UNROUTED_LENGTH_MAX})
        channel.queue_bind(unrouted, unrouted)
        channel.exchange_declare(f"{self._exchange}.dead", "direct", durable=True)
        channel.exchange_declare(self._exchange, "topic", durable=True, arguments={"alternate-exchange": unrouted})

    def _declare_queue(self, channel: BlockingChannel, queue: str) -> None:
        name, dead, dead_exchange = self._prefix + queue, f"{self._prefix}{queue}.dead", f"{self._exchange}.dead"
        channel.queue_declare(dead, durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind(dead, dead_exchange, routing_key=name)
        channel.queue_declare(
            name,
            durable=True,
            arguments={
                "x-queue-type": "quorum",
                "x-delivery-limit": DELIVERY_LIMIT - 1,
                "x-dead-letter-exchange": dead_exchange,
                "x-dead-letter-routing-key": name,
                "x-dead-letter-strategy": "at-least-once",
                # At-least-once dead lettering needs it: the default would drop the oldest message instead.
                "x-overflow": "reject-publish",
            },
        )


def _close(channel: BlockingChannel) -> None:
    try:
        channel.connection.close()
    except AMQPError as error:
        log.debug("bus.close_failed", error=type(error).__name__)
