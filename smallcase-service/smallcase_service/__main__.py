"""`python -m smallcase_service api | migrate`: one image, one command per process."""

from collections.abc import Sequence

from common.db import Database
from common.process import authenticator_from, market_from, run_room, serve
from smallcase_service.app import create_app
from smallcase_service.config import NAME, Settings


def _api(settings: Settings, db: Database) -> None:
    market = market_from(settings, NAME)
    serve(create_app(settings, db=db, authenticator=authenticator_from(settings, NAME), market=market), settings)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one process of the room; answers the exit code."""
    return run_room(NAME, "smallcase_service", Settings, {"api": _api}, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
