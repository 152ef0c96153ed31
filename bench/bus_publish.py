"""Messages a second that RabbitMQ confirms: one confirm each against windows, on a quorum queue, in one run.

Run: `python -m bench.bus_publish`. The ratio is the figure; absolute numbers belong to the machine.
"""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

import pika
import typer

from common.events import Envelope, OrderCancelRequested
from common.publishing import properties_of
from common.queues import EXCHANGE
from common.rabbit import RabbitBus
from common.testing_servers import RABBITMQ

QUEUE = "bench"


def envelopes(count: int) -> list[Envelope]:
    """Messages as the relay has them."""
    now = datetime.now(UTC)
    payload = OrderCancelRequested(order_id=uuid4(), requested_at=now).model_dump(mode="json")
    return [
        Envelope(
            type=OrderCancelRequested.type_name(), source="bench", occurred_at=now, recorded_at=now, payload=payload
        )
        for _ in range(count)
    ]


def confirm_each(url: str, prefix: str, messages: list[Envelope]) -> None:
    """The naive way: wait for every confirm before the next message."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    for message in messages:
        body = message.model_dump_json().encode()
        channel.basic_publish(prefix + EXCHANGE, message.routing_key, body, properties_of(message), mandatory=True)
    connection.close()


def rate(publish: Callable[[list[Envelope]], object], messages: list[Envelope]) -> float:
    """Messages a second."""
    started = time.perf_counter()
    publish(messages)
    return len(messages) / (time.perf_counter() - started)


def main(each: int = 1_000, windowed: int = 20_000, rounds: int = 3) -> None:
    """Print both rates, the best of some rounds, and their ratio."""
    url, prefix = RABBITMQ.url, f"bench-{uuid4().hex[:8]}-"
    bus = RabbitBus(url, prefix=prefix)
    bus.declare(QUEUE, [OrderCancelRequested])
    try:
        slow = max(rate(lambda batch: confirm_each(url, prefix, batch), envelopes(each)) for _ in range(rounds))
        bus.publish(envelopes(1))
        fast = 0.0
        for _ in range(rounds):
            messages = envelopes(windowed)
            fast = max(fast, rate(bus.publish, messages))
    finally:
        bus.close()
        bus.delete([QUEUE])
    sys.stdout.write(f"confirm each  {slow:10,.0f} messages/s\nin windows    {fast:10,.0f} messages/s\n")
    sys.stdout.write(f"ratio         {fast / slow:10.1f}\n")


if __name__ == "__main__":
    typer.run(main)
