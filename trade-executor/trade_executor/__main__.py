"""Processes of the executor: `python -m trade_executor api | consume | relay | worker | loop | migrate`."""

import argparse
from functools import cache, partial
from uuid import uuid4

from common import audit_chain
from common.catching_up import consuming
from common.celery_app import declare_dead_letters, is_rabbitmq
from common.clock import SystemClock
from common.collector import spare_what_stays
from common.config import InvalidSettings
from common.db import Database, run_migrations
from common.logging import configure
from common.outbox import Relay
from common.process import (
    authenticator_from,
    bus_from,
    identity_from,
    market_from,
    run_until_signal,
    serve,
    serve_status,
)
from trade_executor import consumers, loop, tasks
from trade_executor.app import create_app
from trade_executor.config import SERVICE, Settings
from trade_executor.desk import Desk
from trade_executor.sessions import KiteAccess, sealer_from
from trade_executor.wakeup import CeleryWakeup

COMMANDS = ("api", "consume", "relay", "worker", "loop", "migrate")
WORKER_CHILDREN = 2
"""One may wait for a send token while the other reads the book."""


def main() -> None:
    """Run one process of the service."""
    parser = argparse.ArgumentParser(prog="trade_executor", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    command = parser.parse_args().command
    try:
        settings = Settings.load()
        url = settings.required("database_url")
        configure(SERVICE, settings.log_level)
        if command == "migrate":
            run_migrations("trade_executor", url)
            return
        serve_status(settings, command)
        if command == "worker":
            _work(settings, url)
        else:
            _run(command, settings, url)
    except InvalidSettings as error:
        raise SystemExit(f"{SERVICE}: {error}") from None


def _run(command: str, settings: Settings, url: str) -> None:
    db = _database(settings, url, command)
    try:
        if command == "relay":
            run_until_signal([Relay(db, bus_from(settings), name=SERVICE).run])
        elif command == "loop":
            desk = _desk(settings, db)
            run_until_signal([partial(loop.run, desk), partial(audit_chain.run, db, SERVICE)])
        else:
            wakeup = CeleryWakeup(tasks.make_celery(settings.celery_broker_url, queue=settings.celery_queue))
            if command == "consume":
                _consume(settings, db, wakeup)
            else:
                _serve(settings, db, wakeup)
            wakeup.close()
    finally:
        db.dispose()


def _consume(settings: Settings, db: Database, wakeup: CeleryWakeup) -> None:
    bus, identity = bus_from(settings), identity_from(settings, SERVICE)
    pump = partial(wakeup.pump, settings.account)
    run_until_signal(consuming(settings, bus, db, identity, handlers=consumers.HANDLERS, after_commit=pump))


def _serve(settings: Settings, db: Database, wakeup: CeleryWakeup) -> None:
    clock = SystemClock()
    access = KiteAccess(db, settings, sealer_from(settings), clock)
    app = create_app(
        settings,
        db=db,
        authenticator=authenticator_from(settings, SERVICE, clock),
        access=access,
        market=market_from(settings, SERVICE),
        wakeup=wakeup,
        clock=clock,
    )
    serve(app, settings)


def _work(settings: Settings, url: str) -> None:
    @cache
    def desk() -> Desk:
        # Asked for in the child with its first task: connections do not survive a fork.
        return _desk(settings, _database(settings, url, "worker"))

    celery = tasks.make_celery(settings.celery_broker_url, desk=desk, queue=settings.celery_queue)
    if is_rabbitmq(settings.celery_broker_url):
        declare_dead_letters(celery)
    spare_what_stays()
    celery.worker_main(
        ["worker", "--loglevel=WARNING", f"--concurrency={WORKER_CHILDREN}", "--without-gossip", "--without-mingle",
         f"--hostname={SERVICE}-{uuid4().hex[:8]}@%h"]
    )  # fmt: skip


def _desk(settings: Settings, db: Database) -> Desk:
    clock = SystemClock()
    access = KiteAccess(db, settings, sealer_from(settings), clock)
    access.ensure_account()
    return Desk(db, settings, market_from(settings, SERVICE), access, clock)


def _database(settings: Settings, url: str, command: str) -> Database:
    return Database(url, pool_size=settings.database_pool_size, application_name=f"{SERVICE}-{command}")


if __name__ == "__main__":
    main()
