"""Keeps a process's memory in step with what others wrote: the database's instruments and overrides, the cache's prices.

Losing the cache costs seconds of freshness only: prices then come from the table, with their true age.
"""

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields
from datetime import datetime, timedelta
from typing import TypeVar, get_args

from sqlalchemy import func, select, text, tuple_
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from common.cache import Cache
from common.clock import Clock, trading_date
from common.db import Database
from common.logging import get_logger
from market_data_service.config import Settings
from market_data_service.instruments import Key, Listing, format_key
from market_data_service.market import FeedState, FeedStatus, LoadStatus, Market
from market_data_service.models import CalendarOverride, Instrument, InstrumentLoad, PriceInterest, StoredPrice
from market_data_service.overrides import entries_in_force
from market_data_service.prices import (
    PRICE_PREFIX,
    QUOTE_PREFIX,
    WANTED_MAX,
    LastPrice,
    price_from_entry,
    quote_from_entry,
)

log = get_logger(__name__)

REREAD_S = 300.0
"""Instruments are read again this often even without a load: their price bands change."""
DATABASE_PAUSE_S = 5.0
TABLE_PAUSE_S = 1.0
"""While the cache has no prices the table is read this often."""
FRESH_FEED_S = 15.0
"""Without word from the poller, prices younger than this tell that it works."""
QUOTES_PAUSE_S = 5.0
INTEREST_DAYS = 7
"""How long an instrument stays polled after somebody last asked for its price."""
FEED_ENTRY = "feed:market-data"
_FOREIGN_ENTRY = (ValueError, KeyError, TypeError)
_ADD_INTEREST = text("""
    INSERT INTO price_interest (exchange, tradingsymbol, asked_on)
    SELECT f.*, :today FROM unnest(CAST(:exchanges AS text[]), CAST(:symbols AS text[])) AS f
    ON CONFLICT (exchange, tradingsymbol) DO UPDATE SET asked_on = excluded.asked_on
     WHERE price_interest.asked_on < excluded.asked_on
""")

T = TypeVar("T")
Marks = tuple[int, int, int]


class DatabaseMirror:
    """Instruments, load states, overrides and stored prices from the tables, read again only when they changed."""

    def __init__(self, db: Database, market: Market) -> None:
        self._db = db
        self._market = market
        self._marks: Marks | None = None
        self._read_at = float("-inf")

    def refresh(self, now: datetime) -> None:
        """Bring the memory up to date; raises SQLAlchemyError when the database does not answer."""
        with self._market.refreshing, self._db.session() as session:
            marks = _marks(session)
            first = self._marks is None
            if marks == self._marks and time.monotonic() - self._read_at < REREAD_S:
                return
            self._market.instruments.replace(_listings(session))
            self._market.feed.loads = _load_statuses(session)
            self._market.calendar.replace_overrides(entries_in_force(session))
            self._market.prices.recall(read_interest(session, now))
            if first:
                self._market.prices.put_prices(read_prices(session))
        self._marks, self._read_at = marks, time.monotonic()
        log.info("market.memory_refreshed", instruments=len(self._market.instruments))


def refresh_overrides(db: Database, market: Market) -> None:
    """Take over the overrides in force, after a change of them was committed."""
    with market.refreshing, db.session() as session:
        market.calendar.replace_overrides(entries_in_force(session))


class CacheMirror:
    """Prices, day figures and the feed's state as the poller of another process put them into the cache."""

    def __init__(self, db: Database, cache: Cache, market: Market, settings: Settings) -> None:
        self._db = db
        self._cache = cache
        self._market = market
        self._settings = settings
        self._quotes_at = float("-inf")
        self._table_at = float("-inf")

    def refresh(self, at: datetime) -> None:
        """Take over what is newer; without answers of the cache, what the table has."""
        keys = self._market.polled_keys(self._settings)
        prices = self._read(keys, PRICE_PREFIX, price_from_entry)
        self._market.prices.put_prices(prices)
        now = time.monotonic()
        if keys and not prices and now - self._table_at >= TABLE_PAUSE_S:
            self._table_at = now
            with self._db.session() as session:
                self._market.prices.put_prices(read_prices(session, keys))
        if now - self._quotes_at >= QUOTES_PAUSE_S:
            self._quotes_at = now
            self._market.prices.put_quotes(self._read(keys, QUOTE_PREFIX, quote_from_entry))
            self._read_feed(at)

    def _read(self, keys: Sequence[Key], prefix: str, parse: Callable[[str], T]) -> dict[Key, T]:
        entries = {prefix + format_key(key): key for key in keys}
        found: dict[Key, T] = {}
        for name, entry in self._cache.get_many(entries).items():
            # The cache is shared with the release before and the one after: what does not parse is not ours.
            with suppress(*_FOREIGN_ENTRY):
                found[entries[name]] = parse(entry)
        return found

    def _read_feed(self, at: datetime) -> None:
        entry = self._cache.get_many([FEED_ENTRY]).get(FEED_ENTRY)
        if entry is not None:
            with suppress(*_FOREIGN_ENTRY):
                self._market.feed.status = feed_from_entry(entry)
                return
        newest = self._market.prices.newest_at()
        is_fresh = newest is not None and at - newest < timedelta(seconds=FRESH_FEED_S)
        self._market.feed.report("ok" if is_fresh else "unknown", at)


def run(stop: threading.Event, *, settings: Settings, db: Database, clock: Clock, market: Market, cache: Cache) -> None:
    """Keep the memory of a process without poller up to date until told to stop."""
    from_database = DatabaseMirror(db, market)
    from_cache = CacheMirror(db, cache, market, settings)
    database_at = float("-inf")
    while not stop.is_set():
        try:
            if time.monotonic() - database_at >= DATABASE_PAUSE_S:
                database_at = time.monotonic()
                from_database.refresh(clock.now())
            add_interest(db, market, clock.now())
            from_cache.refresh(clock.now())
        except SQLAlchemyError as error:
            log.warning("market.refresh_failed", error=type(error).__name__)
        stop.wait(settings.mirror_interval_s)


def add_interest(db: Database, market: Market, now: datetime) -> None:
    """Write down which instruments were asked for today, for the poller and for the next start."""
    fresh = sorted(market.prices.take_asked(trading_date(now)))
    if not fresh:
        return
    with db.transaction() as session:
        session.execute(
            _ADD_INTEREST,
            {
                "today": trading_date(now),
                "exchanges": [key[0] for key in fresh],
                "symbols": [key[1] for key in fresh],
            },
        )


def read_interest(session: Session, now: datetime) -> list[Key]:
    """Instruments asked for within INTEREST_DAYS, the latest first, at most WANTED_MAX."""
    since = trading_date(now) - timedelta(days=INTEREST_DAYS)
    rows = session.execute(
        select(PriceInterest.exchange, PriceInterest.tradingsymbol)
        .where(PriceInterest.asked_on >= since)
        .order_by(PriceInterest.asked_on.desc(), PriceInterest.exchange, PriceInterest.tradingsymbol)
        .limit(WANTED_MAX)
    )
    return [(exchange, symbol) for exchange, symbol in rows]


def read_prices(session: Session, keys: Sequence[Key] | None = None) -> dict[Key, LastPrice]:
    """Stored prices, of all instruments or of `keys`."""
    query = select(StoredPrice)
    if keys is not None:
        query = query.where(tuple_(StoredPrice.exchange, StoredPrice.tradingsymbol).in_(keys))
    rows = session.scalars(query)
    return {(row.exchange, row.tradingsymbol): LastPrice(row.price_paise, row.seen_at) for row in rows}


def feed_entry(status: FeedStatus) -> dict[str, str]:
    """The cache entry of the feed's state."""
    since = status.since.isoformat() if status.since else None
    return {FEED_ENTRY: json.dumps({"state": status.state, "since": since, "detail": status.detail})}


def feed_from_entry(entry: str) -> FeedStatus:
    """The feed's state of a cache entry; raises ValueError, KeyError or TypeError for foreign content."""
    row = json.loads(entry)
    if row["state"] not in get_args(FeedState):
        raise ValueError(f"unknown feed state {row['state']!r}")
    return FeedStatus(row["state"], datetime.fromisoformat(row["since"]) if row["since"] else None, row["detail"])


def _marks(session: Session) -> Marks:
    # Rows of both tables are never deleted, so these numbers only grow.
    newest_load = session.scalar(select(func.max(InstrumentLoad.load_id)))
    declared = select(func.count(), func.count(CalendarOverride.withdrawn_at)).select_from(CalendarOverride)
    rows, withdrawn = session.execute(declared).one()
    return newest_load or 0, rows, withdrawn


def _listings(session: Session) -> list[Listing]:
    names = [field.name for field in fields(Listing)]
    rows = session.execute(select(*(getattr(Instrument, name) for name in names)))
    return [Listing(**row._mapping) for row in rows]


def _load_statuses(session: Session) -> dict[str, LoadStatus]:
    newest_ids = select(func.max(InstrumentLoad.load_id)).group_by(InstrumentLoad.exchange)
    newest = select(InstrumentLoad).where(InstrumentLoad.load_id.in_(newest_ids))
    succeeded = (
        select(InstrumentLoad.exchange, func.max(InstrumentLoad.loaded_at))
        .where(InstrumentLoad.outcome == "LOADED")
        .group_by(InstrumentLoad.exchange)
    )
    loaded_at: dict[str, datetime] = {row[0]: row[1] for row in session.execute(succeeded)}
    return {
        row.exchange: LoadStatus(row.outcome, row.loaded_at, row.detail, loaded_at.get(row.exchange))
        for row in session.scalars(newest)
    }
