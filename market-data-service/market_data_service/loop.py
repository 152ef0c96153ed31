"""The feed of the platform in one call: instruments daily, prices every second. Exactly one process runs it."""

import threading
from functools import partial

from common.cache import Cache
from common.clock import Clock
from common.db import Database
from common.logging import bound, get_logger
from market_data_service import loader, poller
from market_data_service.config import NAME, Settings
from market_data_service.market import Market
from market_data_service.source import QuoteSource

log = get_logger(__name__)

WATCH_S = 0.5
JOIN_TIMEOUT_S = 15.0
"""Longer than a broker call may take, so that a stopped loop has really ended."""


class LoopDied(RuntimeError):
    """A thread of the feed ended although nobody told it to; the process must be started again."""


def run(
    stop: threading.Event,
    *,
    settings: Settings,
    db: Database,
    clock: Clock,
    market: Market,
    source: QuoteSource,
    cache: Cache,
) -> None:
    """Load instruments and poll prices into `market`, the cache and the tables until told to stop; raises LoopDied."""
    halt = threading.Event()
    common = {"settings": settings, "db": db, "clock": clock, "market": market, "source": source}
    works = {
        "loader": partial(loader.run, halt, **common),  # type: ignore[arg-type]
        "poller": partial(poller.run, halt, cache=cache, **common),  # type: ignore[arg-type]
    }
    threads = [
        threading.Thread(target=_named, args=(work,), name=f"market-data-{name}") for name, work in works.items()
    ]
    for thread in threads:
        thread.start()
    try:
        while not stop.wait(WATCH_S):
            dead = [thread.name for thread in threads if not thread.is_alive()]
            if dead:
                log.error("feed.thread_died", threads=dead)
                raise LoopDied(f"ended unexpectedly: {', '.join(dead)}")
    finally:
        halt.set()
        for thread in threads:
            thread.join(JOIN_TIMEOUT_S)


def _named(work: "partial[None]") -> None:
    with bound(service=NAME):
        work()
