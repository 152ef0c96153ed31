"""`python -m notification_service api | consume | worker | loop | migrate`: one image, one command per process."""

from collections.abc import Sequence
from functools import cache
from uuid import uuid4

from common.catching_up import consuming
from common.celery_app import declare_dead_letters, is_rabbitmq
from common.collector import spare_what_stays
from common.db import Database
from common.process import authenticator_from, bus_from, identity_from, market_from, run_room, run_until_signal, serve
from notification_service import loop, tasks
from notification_service.app import create_app
from notification_service.config import NAME, Settings
from notification_service.consumers import HANDLERS
from notification_service.desk import Desk, desk_from
from notification_service.wakeup import CeleryWakeup

WORKER_CHILDREN = 2
"""One may wait for a slow provider while the other sends through another channel; the loop has a thread for each."""


def _wakeup(settings: Settings) -> CeleryWakeup:
    return CeleryWakeup(tasks.make_celery(settings.celery_broker_url, queue=settings.celery_queue))


def _api(settings: Settings, db: Database) -> None:
    wakeup = _wakeup(settings)
    app = create_app(
        settings,
        db=db,
        authenticator=authenticator_from(settings, NAME),
        market=market_from(settings, NAME),
        wakeup=wakeup,
    )
    serve(app, settings)
    wakeup.close()


def _consume(settings: Settings, db: Database) -> None:
    bus, wakeup = bus_from(settings), _wakeup(settings)
    identity = identity_from(settings, NAME)
    run_until_signal(consuming(settings, bus, db, identity, handlers=HANDLERS, after_commit=wakeup.deliver))
    wakeup.close()


def _worker(settings: Settings, _: Database) -> None:
    @cache
    def desk() -> Desk:
        # Asked for in the child with its first task: connections do not survive a fork.
        db = Database(
            settings.required("database_url"), pool_size=settings.database_pool_size, application_name=f"{NAME}-worker"
        )
        return desk_from(settings, db, identity_from(settings, NAME))

    celery = tasks.make_celery(settings.celery_broker_url, desk=desk, queue=settings.celery_queue)
    if is_rabbitmq(settings.celery_broker_url):
        declare_dead_letters(celery)
    spare_what_stays()
    celery.worker_main(
        ["worker", "--loglevel=WARNING", f"--concurrency={WORKER_CHILDREN}", "--without-gossip", "--without-mingle",
         f"--hostname={NAME}-{uuid4().hex[:8]}@%h"]
    )  # fmt: skip


def _loop(settings: Settings, db: Database) -> None:
    run_until_signal(loop.loops(desk_from(settings, db, identity_from(settings, NAME))))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one process of the room; answers the exit code."""
    commands = {"api": _api, "consume": _consume, "worker": _worker, "loop": _loop}
    return run_room(NAME, "notification_service", Settings, commands, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
