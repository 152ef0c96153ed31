"""The daily load of the instrument file: one transaction an exchange, or nothing changes.

Loaded when a process starts on a day without load, then daily at the configured IST time. A file that cannot be whole
is refused and yesterday's instruments stay in force; every attempt is a row of `instrument_load`.
"""

import threading
import time as time_module
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from common.clock import Clock, to_ist
from common.db import Database
from common.errors import AppError
from common.logging import get_logger
from market_data_service.config import Settings
from market_data_service.instrument_file import InstrumentFile, implausible, parse_rows
from market_data_service.market import Market
from market_data_service.mirror import DatabaseMirror
from market_data_service.models import Instrument, InstrumentLoad
from market_data_service.source import BrokerReadFailed, NoBrokerSession, QuoteSource

log = get_logger(__name__)

LOADED, REFUSED, FAILED = "LOADED", "REFUSED", "FAILED"
LOOK_PAUSE_S = 5.0
RETRY_PAUSE_MIN_S = 1.0
RETRY_PAUSE_MAX_S = 900.0
"""After a failed or refused load the pause doubles up to this; a missing broker session is asked for more often."""
NO_SESSION_PAUSE_MAX_S = 30.0
LOCK_NAMESPACE = 0x1457
"""First key of the advisory lock that keeps two loads of one exchange apart."""

_UPSERT = text("""
    INSERT INTO instrument (exchange, tradingsymbol, instrument_token, exchange_token, name, tick_paise, lot_size,
                            segment, instrument_type, last_seen_on, is_active)
    SELECT :exchange, f.*, :seen_on, true
      FROM unnest(CAST(:symbols AS text[]), CAST(:tokens AS bigint[]), CAST(:exchange_tokens AS text[]),
                  CAST(:names AS text[]), CAST(:ticks AS bigint[]), CAST(:lots AS int[]),
                  CAST(:segments AS text[]), CAST(:types AS text[])) AS f
    ON CONFLICT (exchange, tradingsymbol) DO UPDATE
       SET instrument_token = excluded.instrument_token, exchange_token = excluded.exchange_token, name = excluded.name,
           tick_paise = excluded.tick_paise, lot_size = excluded.lot_size, segment = excluded.segment,
           instrument_type = excluded.instrument_type, last_seen_on = excluded.last_seen_on, is_active = true
""")
_DEACTIVATE = text("""
    UPDATE instrument SET is_active = false
     WHERE exchange = :exchange AND is_active
       AND NOT EXISTS (SELECT FROM unnest(CAST(:symbols AS text[])) AS f(symbol) WHERE f.symbol = tradingsymbol)
""")


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What became of one load. `detail` says why a file was refused."""

    exchange: str
    outcome: str
    loaded_at: datetime
    rows_usable: int
    rows_skipped: int
    active_before: int
    deactivated: int
    detail: str | None = None


def load_exchange(
    db: Database,
    source: QuoteSource,
    clock: Clock,
    exchange: str,
    *,
    requested_by: UUID | None = None,
    accept_fewer_rows: bool = False,
) -> LoadResult:
    """Read one exchange's file and take it over, or refuse it; both are recorded.

    `accept_fewer_rows` takes a file that lost more than half of the instruments (an operator checked it); an empty file
    is refused always. Raises NoBrokerSession (not recorded) or BrokerReadFailed (recorded as FAILED).
    """
    now = clock.now()
    try:
        rows = source.instruments(exchange)
    except BrokerReadFailed as error:
        failed = LoadResult(exchange, FAILED, now, 0, 0, 0, 0, error.detail)
        with db.transaction() as session:
            _record(session, failed, requested_by)
        raise
    file = parse_rows(exchange, rows, to_ist(now).date())
    with db.transaction() as session:
        session.execute(text("SELECT pg_advisory_xact_lock(:space, hashtext(:name))"), _lock(exchange))
        result = _take_over(session, file, now, accept_fewer_rows)
        _record(session, result, requested_by)
    level = log.info if result.outcome == LOADED else log.error
    level("instruments.load", exchange=exchange, outcome=result.outcome, rows=result.rows_usable, detail=result.detail)
    return result


def _lock(exchange: str) -> dict[str, object]:
    return {"space": LOCK_NAMESPACE, "name": exchange}


def _take_over(session: Session, file: InstrumentFile, now: datetime, accept_fewer_rows: bool) -> LoadResult:
    active = session.scalar(
        select(func.count()).where(Instrument.exchange == file.exchange, Instrument.is_active.is_(True))
    )
    active_before = int(active or 0)
    counts = (len(file.listings), file.skipped, active_before)
    reason = implausible(file, 0 if accept_fewer_rows else active_before)
    if reason is not None:
        return LoadResult(file.exchange, REFUSED, now, *counts, 0, reason)
    symbols = [listing.tradingsymbol for listing in file.listings]
    session.execute(
        _UPSERT,
        {
            "exchange": file.exchange,
            "seen_on": to_ist(now).date(),
            "symbols": symbols,
            "tokens": [listing.instrument_token for listing in file.listings],
            "exchange_tokens": [listing.exchange_token for listing in file.listings],
            "names": [listing.name for listing in file.listings],
            "ticks": [listing.tick_paise for listing in file.listings],
            "lots": [listing.lot_size for listing in file.listings],
            "segments": [listing.segment for listing in file.listings],
            "types": [listing.instrument_type for listing in file.listings],
        },
    )
    gone = session.execute(_DEACTIVATE, {"exchange": file.exchange, "symbols": symbols})
    return LoadResult(file.exchange, LOADED, now, *counts, gone.rowcount)  # type: ignore[attr-defined]


def _record(session: Session, result: LoadResult, requested_by: UUID | None) -> None:
    session.add(
        InstrumentLoad(
            exchange=result.exchange,
            outcome=result.outcome,
            loaded_at=result.loaded_at,
            requested_by=requested_by,
            rows_usable=result.rows_usable,
            rows_skipped=result.rows_skipped,
            active_before=result.active_before,
            deactivated=result.deactivated,
            detail=result.detail,
        )
    )


def is_due(loaded_at: datetime | None, now: datetime, load_at: time) -> bool:
    """Whether an exchange's file has to be loaded: none today yet, or none since today's load time (IST)."""
    if loaded_at is None:
        return True
    last, local = to_ist(loaded_at), to_ist(now)
    if last.date() < local.date():
        return True
    return last.time() < load_at <= local.time()


def run(
    stop: threading.Event,
    *,
    settings: Settings,
    db: Database,
    clock: Clock,
    market: Market,
    source: QuoteSource,
) -> None:
    """Keep the instruments of this process up to date until told to stop; failures are logged and tried again."""
    mirror = DatabaseMirror(db, market)
    pause, next_try = RETRY_PAUSE_MIN_S, 0.0
    while not stop.is_set():
        longest = RETRY_PAUSE_MAX_S
        try:
            mirror.refresh(clock.now())
            if time_module.monotonic() >= next_try:
                results = load_due(settings.exchanges, settings.load_at, db, clock, market, source)
                mirror.refresh(clock.now())
                if all(result.outcome == LOADED for result in results):
                    pause = RETRY_PAUSE_MIN_S
                    stop.wait(LOOK_PAUSE_S)
                    continue
        except NoBrokerSession:
            longest = NO_SESSION_PAUSE_MAX_S
        except (AppError, SQLAlchemyError) as error:
            log.warning("instruments.load_failed", error=type(error).__name__, pause_s=pause)
        if time_module.monotonic() >= next_try:
            next_try = time_module.monotonic() + pause
            pause = min(pause * 2, longest)
        # Between tries the database is still looked at: another process may have loaded.
        stop.wait(min(LOOK_PAUSE_S, pause))


def load_due(
    exchanges: Sequence[str], load_at: time, db: Database, clock: Clock, market: Market, source: QuoteSource
) -> list[LoadResult]:
    """Load every exchange whose load is due; raises what load_exchange raises."""
    results = []
    for exchange in exchanges:
        status = market.feed.loads.get(exchange)
        if is_due(status.loaded_at if status else None, clock.now(), load_at):
            results.append(load_exchange(db, source, clock, exchange))
    return results
