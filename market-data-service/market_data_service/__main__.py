"""Entry point: `python -m market_data_service api | loop | migrate`."""

import argparse
from functools import partial

from common.cache import cache_from_url
from common.clock import SystemClock
from common.db import Database, run_migrations
from common.http import ServiceClient
from common.logging import configure
from common.process import authenticator_from, identity_from, run_until_signal, serve
from market_data_service import loop, mirror
from market_data_service.app import create_app
from market_data_service.config import NAME, PACKAGE, Settings
from market_data_service.kite_source import ExecutorSessions, KiteQuoteSource
from market_data_service.market import Market

EXECUTOR = "trade-executor"


def main() -> None:
    """Run one process of the room until told to stop."""
    parser = argparse.ArgumentParser(prog=PACKAGE, description="Instruments, prices, candles, trading calendar")
    parser.add_argument("role", choices=["api", "loop", "migrate"])
    role = parser.parse_args().role
    settings = Settings.load()
    configure(NAME, settings.log_level)
    url = settings.required("database_url")
    if role == "migrate":
        run_migrations(PACKAGE, url)
        return
    clock = SystemClock()
    db = Database(url, pool_size=settings.database_pool_size, application_name=f"{NAME}-{role}")
    cache = cache_from_url(settings.redis_url)
    market = Market.create(settings)
    executor = ServiceClient(settings.trade_executor_url, audience=EXECUTOR, identity=identity_from(settings, NAME))
    source = KiteQuoteSource(ExecutorSessions(executor), clock)
    common = {"settings": settings, "db": db, "clock": clock, "market": market, "cache": cache}
    try:
        if role == "loop":
            run_until_signal([partial(loop.run, source=source, **common)])  # type: ignore[arg-type]
        else:
            app = create_app(
                source=source,
                authenticator=authenticator_from(settings, NAME, clock),
                background=[partial(mirror.run, **common)],  # type: ignore[arg-type]
                **common,  # type: ignore[arg-type]
            )
            serve(app, settings)
    finally:
        executor.close()
        db.dispose()


if __name__ == "__main__":
    main()
