"""The one reader of live prices: a request a second to the broker, alternating last prices and day figures.

Prices go to this process's memory at once, to the cache at once, and to a table every few seconds for the time after a
restart. A failing broker slows the reading down and shows in the feed's state; it never stops the loop.
"""

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import date

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from common.cache import Cache
from common.clock import Clock
from common.db import Database
from common.logging import get_logger
from market_data_service.bands import store_bands
from market_data_service.config import Settings
from market_data_service.instruments import Key
from market_data_service.market import FeedState, Market
from market_data_service.mirror import add_interest, feed_entry, read_interest
from market_data_service.prices import CACHE_TTL_S, DayQuote, LastPrice, price_entries, quote_entries
from market_data_service.source import LTP_KEYS_MAX, QUOTE_KEYS_MAX, BrokerReadFailed, NoBrokerSession, QuoteSource

log = get_logger(__name__)

NO_SESSION_PAUSE_MAX_S = 30.0
FAILURE_PAUSE_MAX_S = 10.0
FEED_REPORT_S = 15.0
"""The feed's state goes to the cache this often even when it is the same."""

_STORE_PRICES = text("""
    INSERT INTO last_price (exchange, tradingsymbol, price_paise, seen_at)
    SELECT * FROM unnest(CAST(:exchanges AS text[]), CAST(:symbols AS text[]), CAST(:prices AS bigint[]),
                         CAST(:instants AS timestamptz[]))
    ON CONFLICT (exchange, tradingsymbol) DO UPDATE
       SET price_paise = excluded.price_paise, seen_at = excluded.seen_at
     WHERE last_price.seen_at < excluded.seen_at
""")


class Poller:
    """Decides what to read next and spreads what was read."""

    def __init__(
        self, *, settings: Settings, db: Database, clock: Clock, market: Market, source: QuoteSource, cache: Cache
    ) -> None:
        self._settings = settings
        self._db = db
        self._clock = clock
        self._market = market
        self._source = source
        self._cache = cache
        self._price_batches: deque[Sequence[Key]] = deque()
        self._quote_batches: deque[Sequence[Key]] = deque()
        self._quotes_at = float("-inf")
        self._quote_turn = False
        self._bands_asked: tuple[date | None, set[Key]] = (None, set())
        self._feed_at = float("-inf")

    def step(self) -> bool:
        """One request to the broker; false when there was nothing to ask. Raises NoBrokerSession or BrokerReadFailed."""
        keys = self._market.polled_keys(self._settings)
        self._plan_quotes(keys)
        if not self._price_batches:
            self._price_batches.extend(_batches(keys, LTP_KEYS_MAX))
        self._quote_turn = bool(self._quote_batches) and (self._quote_turn or not self._price_batches)
        if self._quote_turn:
            self._read_quotes(self._quote_batches.popleft())
        elif self._price_batches:
            self._spread(self._source.last_prices(self._price_batches.popleft()), {})
        else:
            return False
        self._quote_turn = not self._quote_turn
        self.report("ok")
        return True

    def report(self, state: FeedState, detail: str | None = None) -> None:
        """Note how the feed is doing, for health checks here and in other processes."""
        now = self._clock.now()
        changed = self._market.feed.report(state, now, detail)
        if changed:
            log.info("feed.state", state=state, detail=detail)
        if changed or time.monotonic() - self._feed_at >= FEED_REPORT_S:
            self._feed_at = time.monotonic()
            self._cache.set_many(feed_entry(self._market.feed.status), CACHE_TTL_S)

    def store(self) -> None:
        """Write the prices seen since the last call and wishes to the database, read the wishes of other processes.

        A price that did not move is written too: its instant is what a reader without cache judges it by.
        """
        changed = self._market.prices.take_changed()
        add_interest(self._db, self._market, self._clock.now())
        with self._db.transaction() as session:
            if changed:
                # Sorted: rows are locked in one order by every writer.
                rows = [(key, changed[key]) for key in sorted(changed)]
                session.execute(
                    _STORE_PRICES,
                    {
                        "exchanges": [key[0] for key, _ in rows],
                        "symbols": [key[1] for key, _ in rows],
                        "prices": [price.price_paise for _, price in rows],
                        "instants": [price.at for _, price in rows],
                    },
                )
            wishes = read_interest(session, self._clock.now())
        self._market.prices.recall(wishes)

    def _plan_quotes(self, keys: Sequence[Key]) -> None:
        if self._quote_batches:
            return
        due: list[Key] = []
        if time.monotonic() - self._quotes_at >= self._settings.quote_interval_s:
            self._quotes_at = time.monotonic()
            due.extend(keys)
        due.extend(self._without_bands())
        self._quote_batches.extend(_batches(list(dict.fromkeys(due)), QUOTE_KEYS_MAX))

    def _without_bands(self) -> list[Key]:
        """Shares whose band of today has not been asked for yet: once a day for the whole market, at load."""
        today = self._market.shows_bands_of(self._clock.now())
        if today is None:
            return []
        if self._bands_asked[0] != today:
            self._bands_asked = (today, set())
        asked = self._bands_asked[1]
        missing = [
            listing.key
            for listing in self._market.instruments.active_equities()
            if listing.bands_on != today and listing.key not in asked
        ]
        asked.update(missing)
        return missing

    def _read_quotes(self, keys: Sequence[Key]) -> None:
        answer = self._source.quotes(keys)
        quotes = {key: quote for key, (_, quote) in answer.items()}
        self._spread({key: price for key, (price, _) in answer.items()}, quotes)
        on = self._market.shows_bands_of(self._clock.now())
        if on is not None and quotes:
            with self._db.transaction() as session:
                store_bands(session, quotes, on)

    def _spread(self, prices: Mapping[Key, LastPrice], quotes: Mapping[Key, DayQuote]) -> None:
        # The broker says 0 for what has not traded: that is no price.
        prices = {key: price for key, price in prices.items() if price.price_paise > 0}
        self._market.prices.put_prices(prices)
        self._market.prices.put_quotes(quotes)
        self._cache.set_many({**price_entries(prices), **quote_entries(quotes)}, CACHE_TTL_S)


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
    """Poll until told to stop. Failures of broker or database are reported and waited out, with bounded pauses."""
    poller = Poller(settings=settings, db=db, clock=clock, market=market, source=source, cache=cache)
    pause = settings.poll_interval_s
    stored_at = time.monotonic()
    while not stop.is_set():
        started = time.monotonic()
        try:
            poller.step()
            pause = settings.poll_interval_s
            if started - stored_at >= settings.store_interval_s:
                stored_at = started
                poller.store()
        except NoBrokerSession as error:
            poller.report("no_broker_session", error.detail)
            pause = min(pause * 2, NO_SESSION_PAUSE_MAX_S)
        except BrokerReadFailed as error:
            poller.report("broker_unavailable", error.detail)
            pause = min(pause * 2, FAILURE_PAUSE_MAX_S)
        except SQLAlchemyError as error:
            log.warning("prices.store_failed", error=type(error).__name__)
        stop.wait(max(0.0, pause - (time.monotonic() - started)))


def _batches(keys: Sequence[Key], size: int) -> list[Sequence[Key]]:
    return [keys[start : start + size] for start in range(0, len(keys), size)]
