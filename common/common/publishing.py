"""Publishing to RabbitMQ with confirms in windows: many messages under way, each counted only when it is safe.

A confirm costs a round trip and a write to disk. Waiting for each alone gives about a thousand messages a second; with a
window of a thousand under way the broker writes and confirms them together. One connection, used by one thread: pika's
loop runs inside `publish` and nowhere else.
"""

import time
from collections import deque
from collections.abc import Sequence
from itertools import takewhile
from uuid import UUID

import pika
from pika.adapters.select_connection import IOLoop, SelectConnection
from pika.channel import Channel
from pika.exceptions import AMQPError, ConnectionWrongStateError
from pika.frame import Method
from pika.spec import Basic

from common.bus import BusUnavailable
from common.events import Envelope
from common.logging import get_logger

log = get_logger(__name__)

WINDOW = 1000
CONFIRM_TIMEOUT_S = 5.0
"""Without any confirm for this long the connection is given up."""
OPEN_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 2.0


class Publisher:
    """A connection that publishes to one exchange with confirms. Use it from the thread that made it.

    A connection that failed stays failed (`failure` says why); its owner makes a new one.
    """

    def __init__(self, parameters: pika.ConnectionParameters, exchange: str, *, window: int = WINDOW) -> None:
        """Connect; raises BusUnavailable."""
        self.failure: str | None = None
        self.refused: set[UUID] = set()
        """Messages the broker had and would not keep: no queue, or a full one."""
        self._exchange = exchange
        self._window = window
        self._waiting: deque[Envelope] = deque()
        self._under_way: dict[int, Envelope] = {}
        self._returned: set[str] = set()
        self._confirmed: set[UUID] = set()
        self._tag = 0
        self._progress_at = 0.0
        self._running = False
        self._timer: object = None
        self._channel: Channel | None = None
        self._loop = IOLoop()
        self._connection = SelectConnection(
            parameters,
            on_open_callback=lambda connection: connection.channel(on_open_callback=self._on_channel),
            on_open_error_callback=lambda _, error: self._fail(error),
            on_close_callback=lambda _, error: self._fail(error),
            custom_ioloop=self._loop,
        )
        try:
            self._run(OPEN_TIMEOUT_S)
        except ValueError as error:
            # pika's word for a connection that was reset before it had a look at it.
            self.failure = str(error)
        if self._channel is None or self.failure is not None:
            reason = self.failure or "the connection did not open in time"
            self.close()
            raise BusUnavailable(reason)

    def publish(self, envelopes: Sequence[Envelope]) -> set[UUID]:
        """Publish in the given order; answers the ids that are safe. Look at `failure` when some are missing."""
        self._waiting = deque(envelopes)
        self._under_way, self._confirmed, self.refused = {}, set(), set()
        self._returned.clear()
        if self._waiting and self.failure is None:
            self._send_more()
            self._run(CONFIRM_TIMEOUT_S)
            if self._waiting or self._under_way:
                # A late confirm on this channel would be taken for one of the next call.
                self._fail(f"{len(self._waiting) + len(self._under_way)} messages unconfirmed")
        return self._confirmed

    def close(self) -> None:
        """Close the connection, waiting shortly for the broker's agreement."""
        if not self._connection.is_closed:
            try:
                self._connection.close()
                self._run(CLOSE_TIMEOUT_S)
            except ConnectionWrongStateError as error:
                log.debug("bus.close_failed", error=type(error).__name__)
        self._loop.close()

    def _run(self, patience_s: float) -> None:
        """Run pika's loop until something stops it or nothing has moved for `patience_s`."""
        self._progress_at = time.monotonic()
        self._watch(patience_s, patience_s)
        self._running = True
        try:
            self._loop.start()
        finally:
            self._running = False
            self._loop.remove_timeout(self._timer)

    def _watch(self, delay_s: float, patience_s: float) -> None:
        def look() -> None:
            left_s = self._progress_at + patience_s - time.monotonic()
            if left_s > 0:
                self._watch(left_s, patience_s)
            else:
                self._loop.stop()

        self._timer = self._loop.call_later(delay_s, look)

    def _stop(self) -> None:
        # Stopping a loop that is not running would make the next run end at once.
        if self._running:
            self._loop.stop()

    def _on_channel(self, channel: Channel) -> None:
        channel.add_on_close_callback(lambda _, error: self._fail(error))
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_confirm, callback=lambda _: self._on_ready(channel))

    def _on_ready(self, channel: Channel) -> None:
        self._channel = channel
        self._stop()

    def _on_return(self, _: Channel, method: Basic.Return, properties: pika.BasicProperties, __: bytes) -> None:
        log.warning("bus.returned", message_id=properties.message_id, type=properties.type, reason=method.reply_text)
        self._returned.add(str(properties.message_id))

    def _on_confirm(self, frame: "Method[Basic.Ack | Basic.Nack]") -> None:
        answer = frame.method
        tag = answer.delivery_tag
        # Tags rise, so the oldest stand first; a confirm may be for all up to its tag.
        tags = list(takewhile(lambda known: known <= tag, self._under_way)) if answer.multiple else [tag]
        for settled in tags:
            envelope = self._under_way.pop(settled)
            if isinstance(answer, Basic.Ack) and str(envelope.id) not in self._returned:
                self._confirmed.add(envelope.id)
            else:
                self.refused.add(envelope.id)
                log.warning("bus.not_confirmed", message_id=str(envelope.id), type=envelope.type)
        self._progress_at = time.monotonic()
        self._send_more()
        if not self._under_way and not self._waiting:
            self._stop()

    def _send_more(self) -> None:
        channel = self._channel
        try:
            while channel is not None and self._waiting and len(self._under_way) < self._window:
                envelope = self._waiting[0]
                channel.basic_publish(
                    self._exchange,
                    envelope.routing_key,
                    envelope.model_dump_json().encode(),
                    properties_of(envelope),
                    mandatory=True,
                )
                self._tag += 1
                self._under_way[self._tag] = self._waiting.popleft()
        except AMQPError as error:
            self._fail(error)

    def _fail(self, error: BaseException | str) -> None:
        # The first reason is the cause, later ones its echo.
        self.failure = self.failure or (error if isinstance(error, str) else f"{type(error).__name__}: {error}")
        self._channel = None
        self._stop()


def properties_of(envelope: Envelope) -> pika.BasicProperties:
    """What AMQP says about a message beside its body."""
    return pika.BasicProperties(
        content_type="application/json",
        delivery_mode=pika.DeliveryMode.Persistent.value,
        message_id=str(envelope.id),
        type=envelope.type,
        correlation_id=envelope.correlation_id,
        app_id=envelope.source,
    )
