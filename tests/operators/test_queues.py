"""After a restore the rooms' queues are empty: their messages belong to a later time than the databases."""

from uuid import uuid4

import pika
import pytest

from common.bus import BusUnavailable
from common.queues import dead_queue
from scripts.backup.restoring import purge_queues


def test_queues_and_dead_letters_go_and_missing_queues_do_not_matter(rabbitmq_url: str) -> None:
    room, other = f"test-{uuid4().hex[:10]}", f"test-{uuid4().hex[:10]}"
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq_url))
    channel = connection.channel()
    channel.confirm_delivery()
    try:
        for queue, messages in ((room, 3), (dead_queue(room), 2)):
            channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
            for _ in range(messages):
                channel.basic_publish("", queue, b"of a later time", mandatory=True)
        assert purge_queues(rabbitmq_url, [other, room]) == 5
        assert purge_queues(rabbitmq_url, [other, room]) == 0
    finally:
        for queue in (room, dead_queue(room)):
            channel.queue_delete(queue)
        connection.close()


def test_a_broker_that_is_away_is_said_so() -> None:
    with pytest.raises(BusUnavailable):
        purge_queues("amqp://guest:guest@127.0.0.1:1/%2F?connection_attempts=1&socket_timeout=1", ["portfolio-service"])
