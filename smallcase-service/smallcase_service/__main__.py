"""`python -m smallcase_service api | migrate`: one image, one command per process."""

import argparse
import sys
from collections.abc import Sequence

from common.config import InvalidSettings
from common.db import Database, run_migrations
from common.http import ServiceClient
from common.logging import configure
from common.market_data import MarketDataClient
from common.process import authenticator_from, identity_from, serve
from smallcase_service.app import create_app
from smallcase_service.config import NAME, Settings

COMMANDS = ("api", "migrate")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one process of the room; answers the exit code."""
    parser = argparse.ArgumentParser(prog="smallcase_service", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    command = parser.parse_args(arguments).command
    try:
        settings = Settings.load()
        configure(NAME, settings.log_level)
        if command == "migrate":
            run_migrations("smallcase_service", settings.required("database_url"))
        else:
            _serve(settings)
    except InvalidSettings as error:
        sys.stderr.write(f"{NAME}: {error}\n")
        return 1
    return 0


def _serve(settings: Settings) -> None:
    identity = identity_from(settings, NAME)
    peer = ServiceClient(settings.market_data_service_url, audience="market-data-service", identity=identity)
    db = Database(settings.required("database_url"), pool_size=settings.database_pool_size, application_name=NAME)
    market = MarketDataClient(peer)
    try:
        serve(create_app(settings, db=db, authenticator=authenticator_from(settings, NAME), market=market), settings)
    finally:
        db.dispose()
        peer.close()


if __name__ == "__main__":
    raise SystemExit(main())
