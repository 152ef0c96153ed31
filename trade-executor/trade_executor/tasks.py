"""The Celery app: three tasks, each only a wake-up for what the loop would find by itself (common.celery_app)."""

from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery

from common.celery_app import celery_app
from common.logging import bound
from trade_executor import loop, polling
from trade_executor.config import SERVICE
from trade_executor.desk import Desk
from trade_executor.pump import pump
from trade_executor.wakeup import OBSERVE_TASK, PUMP_TASK, SWEEP_TASK

QUEUE = "trade_executor"
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
    """The executor's Celery app on a transport.

    `desk` gives workers their collaborators, asked for with the first task so that a forked child makes its own; a
    process that only rings needs none.
    """
    celery = celery_app(SERVICE, broker_url, queue=queue, works=desk is not None, transport_options=transport_options)
    for name, work in _STEPS.items():
        celery.task(name=name, shared=False)(_task_of(work, desk))
    return celery


def _task_of(work: Callable[[Desk, str], object], desk: Callable[[], Desk] | None) -> Callable[[str], None]:
    def run(account: str) -> None:
        if desk is None:
            raise RuntimeError("this process only rings; it has no desk to work at")
        with bound(service=SERVICE):
            loop.guarded(work, desk(), account)

    return run
