"""The Celery app: three tasks, each only a wake-up for what the loop would find by itself.

No ETA, no countdown, no retry, no result: what must happen again is a row that the sweep finds. Settings after
execution.md section 2; JSON only.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery
from kombu.entity import Exchange, Queue

from common.logging import bound, get_logger
from common.queues import DEAD_WAKEUPS_MAX, dead_arguments, dead_queue, work_arguments
from trade_executor import loop, polling
from trade_executor.config import SERVICE
from trade_executor.desk import Desk
from trade_executor.pump import pump
from trade_executor.wakeup import OBSERVE_TASK, PUMP_TASK, SWEEP_TASK

log = get_logger(__name__)

QUEUE = "trade_executor"
RING_TIMEOUT_S = 2.0
"""How long one step of handing a wake-up to RabbitMQ may take: connecting, writing, being confirmed."""
MEMORY_POLLING_S = 0.02
WORKER_STOP_TIMEOUT_S = 10.0
WORKER_LOST_WAIT_S = 1.0
"""How long after a child's death its wake-up is given back."""
_STEPS: Mapping[str, Callable[[Desk, str], object]] = {
    PUMP_TASK: pump,
    OBSERVE_TASK: polling.observe,
    SWEEP_TASK: loop.sweep,
}


def make_celery(
    broker_url: str,
    *,
    desk: Callable[[], Desk] | None = None,
    transport_options: Mapping[str, Any] | None = None,
    queue: str = QUEUE,
) -> Celery:
    """A Celery app on a transport: RabbitMQ (quorum queue, confirms) or in memory.

    `desk` gives workers their collaborators, asked for with the first task so that a forked child makes its own; a
    process that only rings needs none.
    """
    celery = Celery(SERVICE, broker=broker_url, set_as_current=False)
    on_rabbit = is_rabbitmq(broker_url)
    if not on_rabbit:
        options: dict[str, Any] = {"polling_interval": MEMORY_POLLING_S}
    elif desk is not None:
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
        task_time_limit=120,
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
    for name, work in _STEPS.items():
        celery.task(name=name, shared=False)(_task_of(work, desk))
    return celery


def is_rabbitmq(broker_url: str) -> bool:
    """Whether a transport is RabbitMQ."""
    return broker_url.startswith(("amqp", "pyamqp"))


def _queue(name: str, *, quorum: bool) -> Queue:
    exchange = Exchange(name, type="direct", durable=True)
    if not quorum:
        return Queue(name, exchange, routing_key=name)
    arguments = dict(work_arguments(dead_exchange=dead_queue(name)))
    return Queue(name, exchange, routing_key=name, durable=True, queue_arguments=arguments)


def declare_dead_letters(celery: Celery) -> None:
    """Make the queue exist that poisoned wake-ups end in (RabbitMQ only). An operator may purge it at any time."""
    name = dead_queue(celery.conf.task_default_queue)
    dead = Queue(
        name,
        Exchange(name, type="fanout", durable=True),
        durable=True,
        queue_arguments=dict(dead_arguments(length_max=DEAD_WAKEUPS_MAX)),
    )
    with celery.connection_for_write() as connection:
        dead(connection.default_channel).declare()


def _task_of(work: Callable[[Desk, str], object], desk: Callable[[], Desk] | None) -> Callable[[str], None]:
    def run(account: str) -> None:
        if desk is None:
            raise RuntimeError("this process only rings; it has no desk to work at")
        with bound(service=SERVICE):
            loop.guarded(work, desk(), account)

    return run


def start_worker_thread(celery: Celery, stop: threading.Event) -> threading.Thread:
    """Run a worker of this app (pool solo) on a thread until `stop` is set; for processes that hold the whole room."""
    ready = threading.Event()
    worker = celery.WorkController(
        pool="solo",
        concurrency=1,
        hostname=f"embedded@{SERVICE}",
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
