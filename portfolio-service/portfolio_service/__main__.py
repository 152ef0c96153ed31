"""`python -m portfolio_service api | consume | relay | sweep | migrate`: one image, one command per process."""

import argparse
import threading

from common.bus import Bus
from common.clock import SystemClock
from common.config import InvalidSettings
from common.consumers import run_consumer
from common.db import Database, run_migrations
from common.http import ServiceClient
from common.logging import configure
from common.market_data import MarketDataClient
from common.outbox import Relay
from common.process import authenticator_from, identity_from, run_until_signal, serve
from portfolio_service import sweeper
from portfolio_service.app import create_app
from portfolio_service.config import NAME, Settings
from portfolio_service.consumers import HANDLERS

COMMANDS = ("api", "consume", "relay", "sweep", "migrate")


def main() -> None:
    """Run one process of the service."""
    parser = argparse.ArgumentParser(prog="portfolio_service", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    command = parser.parse_args().command
    try:
        settings = Settings.load()
        url = settings.required("database_url")
    except InvalidSettings as error:
        raise SystemExit(f"{NAME}: {error}") from None
    configure(NAME, settings.log_level)
    if command == "migrate":
        run_migrations("portfolio_service", url)
        return
    db = Database(url, pool_size=settings.database_pool_size, application_name=f"{NAME}-{command}")
    try:
        _run(command, settings, db)
    finally:
        db.dispose()


def _run(command: str, settings: Settings, db: Database) -> None:
    if command == "api":
        serve(
            create_app(settings, db=db, authenticator=authenticator_from(settings, NAME), market=_market(settings)),
            settings,
        )
        return
    if command == "sweep":
        market = _market(settings)
        run_until_signal([lambda stop: sweeper.run(db, market, SystemClock(), settings, stop)])
        return
    bus = _bus(settings)
    if command == "relay":
        run_until_signal([Relay(db, bus, name=NAME).run])
        return

    def consume(stop: threading.Event) -> None:
        run_consumer(bus, db, consumer=NAME, handlers=HANDLERS, stop=stop)

    run_until_signal([consume])


def _market(settings: Settings) -> MarketDataClient:
    identity = identity_from(settings, NAME)
    return MarketDataClient(
        ServiceClient(settings.market_data_service_url, audience="market-data-service", identity=identity)
    )


def _bus(settings: Settings) -> Bus:
    from common.rabbit import RabbitBus  # only the processes that need it import pika

    return RabbitBus(settings.required("bus_url"))


if __name__ == "__main__":
    main()
