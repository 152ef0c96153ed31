"""`python -m market_data_service api | loop | migrate`: one image, one command per process."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from common.cache import cache_from_url
from common.clock import SystemClock
from common.db import Database
from common.http import ServiceClient
from common.process import authenticator_from, identity_from, run_room, run_until_signal, serve
from market_data_service import loop, mirror
from market_data_service.app import create_app
from market_data_service.config import NAME, PACKAGE, Settings
from market_data_service.kite_source import ExecutorSessions, KiteQuoteSource
from market_data_service.market import Market

EXECUTOR = "trade-executor"


def _parts(settings: Settings, db: Database) -> dict[str, Any]:
    return {
        "settings": settings,
        "db": db,
        "clock": SystemClock(),
        "market": Market.create(settings),
        "cache": cache_from_url(settings.redis_url),
    }


def _source(settings: Settings) -> KiteQuoteSource:
    executor = ServiceClient(settings.trade_executor_url, audience=EXECUTOR, identity=identity_from(settings, NAME))
    return KiteQuoteSource(ExecutorSessions(executor), SystemClock())


def _loop(settings: Settings, db: Database) -> None:
    run_until_signal([partial(loop.run, source=_source(settings), **_parts(settings, db))])


def _api(settings: Settings, db: Database) -> None:
    parts = _parts(settings, db)
    app = create_app(
        source=_source(settings),
        authenticator=authenticator_from(settings, NAME, parts["clock"]),
        background=[partial(mirror.run, **parts)],
        **parts,
    )
    serve(app, settings)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one process of the room; answers the exit code."""
    return run_room(NAME, PACKAGE, Settings, {"api": _api, "loop": _loop}, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
