"""Celery as a doorbell, one shape for every room: a task only wakes somebody for what a loop would find by itself.

No ETA, no countdown, no retry, no result: what must happen again is a row that a sweep finds. JSON only. A message is
acknowledged after its work, and a child that dies gives it back. Only rooms that ring import Celery.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any

from amqp.exceptions import AMQPError
from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import KombuError

from common.logging import get_logger
from common.queues import DEAD_WAKEUPS_MAX, dead_arguments, dead_queue, work_arguments

log = get_logger(__name__)

RING_TIMEOUT_S = 2.0
"""How long one step of handing a wake-up to RabbitMQ may take: connecting, writing, being confirmed."""
RING_PAUSE_S = 0.02
"""Rings within this time become one: a burst of work needs one look, not one each."""
TASK_TIME_LIMIT_S = 120
MEMORY_POLLING_S = 0.02
WORKER_STOP_TIMEOUT_S = 10.0
WORKER_LOST_WAIT_S = 1.0
"""How long after a child's death its wake-up is given back."""


def celery_app(
    service: str,
    broker_url: str,
    *,
    queue: str,
    works: bool,
    transport_options: Mapping[str, Any] | None = None,
    task_time_limit_s: int = TASK_TIME_LIMIT_S,
) -> Celery:
    """A room's Celery app, without its tasks, on RabbitMQ (quorum queue, confirms) or in memory.

    `works`: this process runs tasks; one that only rings gets waits with an end.
    """
    celery = Celery(service, broker=broker_url, set_as_current=False)
    on_rabbit = is_rabbitmq(broker_url)
    if not on_rabbit:
        options: dict[str, Any] = {"polling_interval": MEMORY_POLLING_S}
    elif works:
        options = {"confirm_publish": True}
    else:
        # Without limits of its own a wait for a confirm or for the broker's greeting never ends. A worker may not have
        # them: its connection is silent for as long as there is nothing to do.
        options = {
            "confirm_publish": True,
            "read_timeout": RING_TIMEOUT_S,
            "write_timeout": RING_TIMEOUT_S,
            "max_retries": 0,
        }
    celery.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        task_default_queue=queue,
        task_queues=[_queue(queue, quorum=on_rabbit)],
        task_time_limit=task_time_limit_s,
        worker_prefetch_multiplier=1,
        worker_lost_wait=WORKER_LOST_WAIT_S,
        worker_cancel_long_running_tasks_on_connection_loss=True,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=RING_TIMEOUT_S,
        broker_transport_options={**options, **(transport_options or {})},
    )
    return celery


def is_rabbitmq(broker_url: str) -> bool:
    """Whether a transport is RabbitMQ."""
    return broker_url.startswith(("amqp", "pyamqp"))


def _queue(name: str, *, quorum: bool) -> Queue:
    exchange = Exchange(name, type="direct", durable=True)  # type: ignore[no-untyped-call]
    if not quorum:
        return Queue(name, exchange, routing_key=name)  # type: ignore[no-untyped-call]
    arguments = dict(work_arguments(dead_exchange=dead_queue(name)))
    return Queue(  # type: ignore[no-untyped-call]
        name, exchange, routing_key=name, durable=True, queue_arguments=arguments
    )


def declare_dead_letters(celery: Celery) -> None:
    """Make the queue exist that poisoned wake-ups end in (RabbitMQ only). An operator may purge it at any time."""
    name = dead_queue(celery.conf.task_default_queue)
    dead = Queue(  # type: ignore[no-untyped-call]
        name,
        Exchange(name, type="fanout", durable=True),  # type: ignore[no-untyped-call]
        durable=True,
        queue_arguments=dict(dead_arguments(length_max=DEAD_WAKEUPS_MAX)),
    )
    with celery.connection_for_write() as connection:
        dead(connection.default_channel).declare()  # type: ignore[no-untyped-call]


def start_worker_thread(celery: Celery, stop: threading.Event) -> threading.Thread:
    """Run a worker of this app (pool solo) on a thread until `stop` is set; for processes that hold the whole room."""
    ready = threading.Event()
    worker = celery.WorkController(
        pool="solo",
        concurrency=1,
        hostname=f"embedded@{celery.main}",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        loglevel="WARNING",
        ready_callback=lambda _: ready.set(),
    )

    def consume() -> None:
        # Celery looks tasks up in the current app, which is a fact of a thread; other rooms' threads keep theirs.
        celery.set_current()
        worker.start()

    def run() -> None:
        consuming = threading.Thread(target=consume, name="celery-worker", daemon=True)
        consuming.start()
        stop.wait()
        worker.stop()
        consuming.join(WORKER_STOP_TIMEOUT_S)

    thread = threading.Thread(target=run, name="celery-worker-keeper", daemon=True)
    thread.start()
    ready.wait(WORKER_STOP_TIMEOUT_S)
    return thread


class Bell:
    """Rings through Celery from a thread of its own: whoever rings never waits for the message broker, never fails."""

    def __init__(self, celery: Celery) -> None:
        self._celery = celery
        self._wanted: set[tuple[str, str]] = set()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="wakeup", daemon=True)
        self._thread.start()

    def ring(self, task: str, subject: str) -> None:
        """Ask for a task with one argument, the name of what to look at."""
        with self._changed:
            self._wanted.add((task, subject))
            self._changed.notify()

    def close(self) -> None:
        """Send what is wanted and end the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._wanted and not self._stopped:
                    self._changed.wait()
                if not self._wanted:
                    return
                wanted, self._wanted = self._wanted, set()
            for task, subject in sorted(wanted):
                self._send(task, subject)
            time.sleep(RING_PAUSE_S)

    def _send(self, task: str, subject: str) -> None:
        try:
            # Without the timeouts the wait for a confirm has no end; see also `celery_app`.
            self._celery.send_task(
                task, args=[subject], retry=False, timeout=RING_TIMEOUT_S, confirm_timeout=RING_TIMEOUT_S
            )
        except (KombuError, AMQPError, OSError) as error:
            log.warning("wakeup.not_sent", task=task, error=type(error).__name__)
