"""Celery carries wake-ups and nothing else: with it things are quick, without it they still happen."""

import threading
import time
from functools import partial
from uuid import uuid4

import pytest

from common.bus import DELIVERY_LIMIT
from common.celery_app import start_worker_thread
from common.consumers import handle, run_consumer
from common.events import Envelope
from common.testing import eventually
from trade_executor import consumers, loop, tasks
from trade_executor.testing import ACCOUNT, order
from trade_executor.wakeup import OBSERVE_TASK, PUMP_TASK, SWEEP_TASK, CeleryWakeup


@pytest.fixture
def celery(room):
    """A Celery app in memory with a queue of its own, and a worker of it on a thread."""
    stop = threading.Event()
    app = tasks.make_celery("memory://", desk=lambda: room.desk, queue=f"test-{uuid4().hex}")
    thread = start_worker_thread(app, stop)
    yield app
    stop.set()
    thread.join(15)
    assert not thread.is_alive()


def envelope_of(event):
    return Envelope(
        type=event.type_name(), source="portfolio-service", occurred_at=event.occurred_at,
        recorded_at=event.occurred_at, payload=event.model_dump(mode="json"), aggregate_id=str(event.order_id),
    )  # fmt: skip


def test_an_accepted_order_is_at_the_broker_by_its_wake_up_alone(room, celery, local_bus):
    stop = threading.Event()
    wakeup = CeleryWakeup(celery)
    local_bus.declare(consumers.CONSUMER, consumers.HANDLERS)
    listening = threading.Thread(
        target=partial(
            run_consumer, local_bus, room.db, consumer=consumers.CONSUMER, handlers=consumers.HANDLERS, stop=stop,
            after_commit=partial(wakeup.pump, ACCOUNT),
        )
    )  # fmt: skip
    listening.start()
    event = order(quantity=10)
    started = time.monotonic()
    assert len(local_bus.publish([envelope_of(event)])) == 1
    eventually(lambda: room.broker.requests, interval=0.005)
    took = time.monotonic() - started
    room.broker.fill(room.broker.id_of(), 10)
    wakeup.observe(ACCOUNT)
    eventually(lambda: room.child(event.order_id).state == "FILLED")
    stop.set()
    listening.join(10)
    wakeup.close()
    assert took < 5


def test_every_task_does_what_the_loop_does(room, celery):
    order_id = room.accept(quantity=3)
    celery.send_task(PUMP_TASK, args=[ACCOUNT])
    eventually(lambda: room.broker.requests)
    room.broker.fill(room.broker.id_of(), 3)
    celery.send_task(OBSERVE_TASK, args=[ACCOUNT])
    eventually(lambda: room.child(order_id).state == "FILLED")
    room.market.is_open = False
    stale = room.accept(trading_date=room.market.day.replace(year=2020))
    celery.send_task(SWEEP_TASK, args=[ACCOUNT])
    eventually(lambda: room.child(stale).state == "EXPIRED")


def test_everything_works_when_every_wake_up_is_lost(room):
    stop = threading.Event()
    looping = threading.Thread(target=loop.run, args=(room.desk, stop))
    looping.start()
    room.broker.auto_fill = True
    orders = [room.accept(tradingsymbol=f"SHARE{number}") for number in range(5)]
    eventually(lambda: {room.child(order_id).state for order_id in orders} == {"FILLED"}, timeout=20)
    stop.set()
    looping.join(15)
    assert not looping.is_alive()


def test_a_burst_of_rings_becomes_few_tasks(room, celery):
    sent = []
    original = celery.send_task
    celery.send_task = lambda name, **more: (sent.append(name), original(name, **more))
    wakeup = CeleryWakeup(celery)
    for _ in range(500):
        wakeup.pump(ACCOUNT)
    wakeup.close()
    assert 1 <= len(sent) < 50


def test_a_message_handled_twice_takes_the_order_once(room):
    envelope = envelope_of(order())
    assert handle(room.db, consumers.CONSUMER, consumers.HANDLERS, [envelope]) == 1
    assert handle(room.db, consumers.CONSUMER, consumers.HANDLERS, [envelope]) == 0
    assert room.pump() == 1


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("accept_content", ["json"]),
        ("task_acks_late", True),
        ("task_reject_on_worker_lost", True),
        ("worker_prefetch_multiplier", 1),
        ("task_ignore_result", True),
        ("result_backend", None),
    ],
)
def test_the_settings_that_keep_messages_safe(setting, value):
    assert tasks.make_celery("memory://").conf[setting] == value


def test_queues_at_rabbitmq_are_quorum_queues_with_dead_letters():
    [queue] = tasks.make_celery("amqp://127.0.0.1//").conf.task_queues
    assert queue.queue_arguments["x-queue-type"] == "quorum"
    assert queue.queue_arguments["x-delivery-limit"] == DELIVERY_LIMIT - 1
    assert queue.queue_arguments["x-overflow"] == "reject-publish"
    assert queue.queue_arguments["x-dead-letter-exchange"] == "trade_executor.dead"
    [plain] = tasks.make_celery("memory://").conf.task_queues
    assert plain.queue_arguments is None


def test_a_process_without_a_desk_cannot_run_tasks():
    app = tasks.make_celery("memory://")
    with pytest.raises(RuntimeError, match="only rings"):
        app.tasks[PUMP_TASK](ACCOUNT)
