"""`python -m analytics_service api | consume | migrate`: one image, one command per process."""

import argparse
import sys
import threading
from collections.abc import Sequence

from analytics_service.app import create_app
from analytics_service.config import NAME, Settings
from analytics_service.consumers import HANDLERS
from common.config import InvalidSettings
from common.consumers import run_consumer
from common.db import Database, run_migrations
from common.logging import configure
from common.process import authenticator_from, run_until_signal, serve

COMMANDS = ("api", "consume", "migrate")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one process of the room; answers the exit code."""
    parser = argparse.ArgumentParser(prog="analytics_service", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    command = parser.parse_args(arguments).command
    try:
        settings = Settings.load()
        configure(NAME, settings.log_level)
        _run(command, settings)
    except InvalidSettings as error:
        sys.stderr.write(f"{NAME}: {error}\n")
        return 1
    return 0


def _run(command: str, settings: Settings) -> None:
    url = settings.required("database_url")
    if command == "migrate":
        run_migrations("analytics_service", url)
        return
    db = Database(url, pool_size=settings.database_pool_size, application_name=f"{NAME}-{command}")
    try:
        if command == "api":
            serve(create_app(settings, db=db, authenticator=authenticator_from(settings, NAME)), settings)
        else:
            _consume(settings, db)
    finally:
        db.dispose()


def _consume(settings: Settings, db: Database) -> None:
    """Book what other rooms publish."""
    from common.rabbit import RabbitBus  # only the process that needs it imports pika

    bus = RabbitBus(settings.required("bus_url"))

    def consume(stop: threading.Event) -> None:
        run_consumer(bus, db, consumer=NAME, handlers=HANDLERS, stop=stop)

    run_until_signal([consume])


if __name__ == "__main__":
    raise SystemExit(main())
