"""The Celery app: one task, a wake-up for what the loop would find by itself (common.celery_app)."""

from collections.abc import Callable

from celery import Celery

from analytics_service import loop
from analytics_service.config import NAME
from analytics_service.desk import Desk
from analytics_service.wakeup import WORK_TASK
from common.celery_app import celery_app
from common.logging import bound

QUEUE = "analytics_service"


def make_celery(broker_url: str, *, desk: Callable[[], Desk] | None = None, queue: str = QUEUE) -> Celery:
    """This room's Celery app on a transport.

    `desk` gives workers their collaborators, asked for with the first task so that a forked child makes its own; a
    process that only rings needs none.
    """
    celery = celery_app(NAME, broker_url, queue=queue, works=desk is not None)

    def run(_: str) -> None:
        if desk is None:
            raise RuntimeError("this process only rings; it has no desk to work at")
        with bound(service=NAME):
            loop.work_guarded(desk())

    celery.task(name=WORK_TASK, shared=False)(run)
    return celery
