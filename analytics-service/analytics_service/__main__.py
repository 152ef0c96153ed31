"""`python -m analytics_service api | consume | relay | worker | loop | rebuild | migrate`: one command per process."""

import sys
from collections.abc import Sequence
from functools import cache
from uuid import uuid4

from analytics_service import loop, tasks
from analytics_service.app import create_app
from analytics_service.config import NAME, Settings
from analytics_service.consumers import HANDLERS
from analytics_service.desk import Desk, desk_from
from analytics_service.rebuilding import EVENTS, rebuild
from analytics_service.wakeup import CeleryWakeup
from common.celery_app import declare_dead_letters, is_rabbitmq
from common.collector import spare_what_stays
from common.db import Database
from common.events import sources_of
from common.http import ServiceClient
from common.outbox_reading import RemoteOutbox
from common.process import (
    authenticator_from,
    consume_command,
    identity_from,
    relay_command,
    run_room,
    run_until_signal,
    serve,
)

WORKER_CHILDREN = 1
"""Reports are computed: more children would only take the processor from each other."""


def _api(settings: Settings, db: Database) -> None:
    wakeup = CeleryWakeup(tasks.make_celery(settings.celery_broker_url, queue=settings.celery_queue))
    serve(create_app(settings, db=db, authenticator=authenticator_from(settings, NAME), wakeup=wakeup), settings)
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


def _rebuild(settings: Settings, db: Database) -> None:
    identity = identity_from(settings, NAME)
    outboxes = {
        room: RemoteOutbox(ServiceClient(settings.peer_url(room), audience=room, identity=identity))
        for room in sources_of(EVENTS)
    }
    done = rebuild(db, outboxes)
    sys.stdout.write(f"{done.facts} facts read again, {done.portfolios} portfolios valued\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one process of the room; answers the exit code."""
    commands = {
        "api": _api,
        "consume": consume_command(NAME, HANDLERS),
        "relay": relay_command(NAME),
        "worker": _worker,
        "loop": _loop,
        "rebuild": _rebuild,
    }
    return run_room(NAME, "analytics_service", Settings, commands, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
