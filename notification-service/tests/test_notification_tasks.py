"""Celery carries wake-ups and nothing else: with it mails are quick, without it they still go out."""

import threading
from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from common.celery_app import start_worker_thread
from common.clock import SystemClock
from common.events import OrderUpdated
from common.queues import dead_queue
from common.testing import eventually
from notification_service import loop, tasks
from notification_service.desk import Desk
from notification_service.kinds import OUTSIDE, Channel
from notification_service.models import Delivery
from notification_service.providers.mail import SmtpMail, SmtpServer
from notification_service.testing import MailServer
from notification_service.wakeup import DELIVER_TASK, CeleryWakeup


@pytest.fixture
def mails() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture
def desk(make_desk: Callable[..., Desk], mails: MailServer) -> Desk:
    server = SmtpServer("127.0.0.1", mails.port, "none", None, None, 1.0)
    return make_desk({Channel.EMAIL: SmtpMail(server, sender="no-reply@saras.example", clock=SystemClock())})


@pytest.mark.parametrize("broker", ["memory", "rabbitmq"])
def test_a_ring_sends_what_is_due(
    request: pytest.FixtureRequest, broker: str, desk: Desk, mails: MailServer, consume: Callable[..., UUID],
    order_updated: Callable[..., OrderUpdated],
) -> None:  # fmt: skip
    url = "memory://" if broker == "memory" else request.getfixturevalue("rabbitmq_url")
    queue, stop = f"test-{uuid4().hex[:10]}", threading.Event()
    app = tasks.make_celery(url, desk=lambda: desk, queue=queue)
    thread = start_worker_thread(app, stop)
    bell = CeleryWakeup(tasks.make_celery(url, queue=queue))
    try:
        consume(order_updated())
        bell.deliver()
        eventually(lambda: len(mails.taken) == 1, timeout=20)
        for _ in range(3):
            bell.deliver()
    finally:
        bell.close()
        stop.set()
        thread.join(15)
        if broker == "rabbitmq":
            import pika

            connection = pika.BlockingConnection(pika.URLParameters(url))
            channel = connection.channel()
            for one in (queue, dead_queue(queue)):
                channel.queue_delete(one)
                channel.exchange_delete(one)
            connection.close()
    assert len(mails.taken) == 1


def test_without_any_ring_the_loop_finds_everything(
    desk: Desk, mails: MailServer, consume: Callable[..., UUID], order_updated: Callable[..., OrderUpdated]
) -> None:
    stop = threading.Event()
    threads = [threading.Thread(target=run, args=(stop,)) for run in loop.loops(desk)]
    for thread in threads:
        thread.start()
    try:
        consume(order_updated())
        eventually(lambda: len(mails.taken) == 1)
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    with desk.db.session() as session:
        assert session.scalars(sa.select(Delivery.status)).all() == ["sent"]


def test_a_ring_names_every_channel_once() -> None:
    rung: list[tuple[str, str]] = []

    class Bell(CeleryWakeup):
        def __init__(self) -> None:
            """Without a broker."""

        def ring(self, task: str, subject: str) -> None:
            rung.append((task, subject))

    Bell().deliver()
    assert rung == [(DELIVER_TASK, channel.value) for channel in OUTSIDE]


def test_a_process_without_a_desk_cannot_run_tasks() -> None:
    with pytest.raises(RuntimeError, match="only rings"):
        tasks.make_celery("memory://").tasks[DELIVER_TASK]("email")
