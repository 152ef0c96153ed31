"""`python -m smallcase_service api | consume | relay | drive | migrate`: one image, one command per process."""

from collections.abc import Sequence

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
from smallcase_service import driver
from smallcase_service.app import create_app
from smallcase_service.config import NAME, Settings
from smallcase_service.consumers import HANDLERS
from smallcase_service.desk import Desk
from smallcase_service.portfolio_orders import portfolio_from


def _api(settings: Settings, db: Database) -> None:
    app = create_app(
        settings,
        db=db,
        authenticator=authenticator_from(settings, NAME),
        market=market_from(settings, NAME),
        portfolio=portfolio_from(settings, NAME),
    )
    serve(app, settings)


def _drive(settings: Settings, db: Database) -> None:
    desk = Desk(db, market_from(settings, NAME), portfolio_from(settings, NAME), SystemClock(), settings.allowance())
    standings = standings_from(settings, NAME)
    run_until_signal([lambda stop: driver.run(desk, standings, stop)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one process of the room; answers the exit code."""
    commands = {
        "api": _api,
        "consume": consume_command(NAME, HANDLERS),
        "relay": relay_command(NAME),
        "drive": _drive,
    }
    return run_room(NAME, "smallcase_service", Settings, commands, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
