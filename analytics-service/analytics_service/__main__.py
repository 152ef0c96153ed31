"""`python -m analytics_service api|migrate`: one process of the room."""

import sys

from analytics_service.app import create_app
from analytics_service.config import NAME, Settings
from common.config import InvalidSettings
from common.db import Database, run_migrations
from common.logging import configure
from common.process import authenticator_from, serve

USAGE = "usage: python -m analytics_service api|migrate"


def run_api(settings: Settings) -> None:
    """Serve the HTTP routes until told to stop."""
    db = Database(settings.required("database_url"), pool_size=settings.database_pool_size, application_name=NAME)
    serve(create_app(settings, db=db, authenticator=authenticator_from(settings, NAME)), settings)
    db.dispose()


def run_migrate(settings: Settings) -> None:
    """Bring the room's database to the newest revision."""
    run_migrations("analytics_service", settings.required("database_url"))


COMMANDS = {"api": run_api, "migrate": run_migrate}


def main(arguments: list[str]) -> int:
    """Run one process of the room; answers the exit code."""
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        sys.stderr.write(USAGE + "\n")
        return 2
    try:
        settings = Settings.load()
        configure(NAME, settings.log_level)
        COMMANDS[arguments[0]](settings)
    except InvalidSettings as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
