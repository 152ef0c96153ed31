"""`python -m notification_service api | consume | migrate`: one image, one command per process."""

from collections.abc import Sequence

from common.db import Database
from common.process import authenticator_from, consume_command, run_room, serve
from notification_service.app import create_app
from notification_service.config import NAME, Settings
from notification_service.consumers import HANDLERS


def _api(settings: Settings, db: Database) -> None:
    serve(create_app(settings, db=db, authenticator=authenticator_from(settings, NAME)), settings)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one process of the room; answers the exit code."""
    commands = {"api": _api, "consume": consume_command(NAME, HANDLERS)}
    return run_room(NAME, "notification_service", Settings, commands, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
