"""`python -m portfolio_service api | consume | relay | sweep | migrate`: one image, one command per process."""

from collections.abc import Sequence

from common import audit_chain
from common.clock import SystemClock
from common.db import Database
from common.process import (
    authenticator_from,
    consume_command,
    market_from,
    relay_command,
    run_room,
    run_until_signal,
    serve,
    standings_from,
)
from portfolio_service import gauges, sweeper
from portfolio_service.app import create_app
from portfolio_service.config import NAME, Settings
from portfolio_service.consumers import HANDLERS


def _api(settings: Settings, db: Database) -> None:
    market = market_from(settings, NAME)
    app = create_app(
        settings,
        db=db,
        authenticator=authenticator_from(settings, NAME),
        market=market,
        standings=standings_from(settings, NAME),
    )
    serve(app, settings)


def _sweep(settings: Settings, db: Database) -> None:
    market = market_from(settings, NAME)
    run_until_signal(
        [
            lambda stop: sweeper.run(db, market, SystemClock(), settings, stop),
            lambda stop: audit_chain.run(db, NAME, stop),
            lambda stop: gauges.run(db, settings, stop),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one process of the room; answers the exit code."""
    commands = {
        "api": _api,
        "consume": consume_command(NAME, HANDLERS),
        "relay": relay_command(NAME),
        "sweep": _sweep,
    }
    return run_room(NAME, "portfolio_service", Settings, commands, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
