"""Daily candles: read from the broker once, stored, and never read again but for today and one control day.

A broker restates all candles before a split or bonus issue. A control day (the stored one next to the days that are
missing, read again with them) shows it; then everything stored of that share is read anew. So it is where a corporate
action that is known here says that the stored candles may be of the time before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common.clock import Clock, trading_date
from common.db import Database
from common.errors import Unprocessable
from common.logging import get_logger
from market_data_service.candle_spans import DAY, Span, joined, missing
from market_data_service.corporate_actions import outdated
from market_data_service.instruments import Key, Listing
from market_data_service.models import CandleCoverage, CandleDay
from market_data_service.source import (
    DAY_CANDLE_SPAN_DAYS_MAX,
    BrokerReadFailed,
    DayCandle,
    NoBrokerSession,
    QuoteSource,
)

log = get_logger(__name__)

SPAN_DAYS_MAX = 4_000
"""Longest span of one request of a user: two requests to the broker."""
TODAY_AGE_MAX_S = 60.0
"""Today's candle is read again when the stored one is older."""

_UPSERT = text("""
    INSERT INTO candle_day (exchange, tradingsymbol, on_date, open_paise, high_paise, low_paise, close_paise, volume,
                            fetched_at)
    SELECT :exchange, :symbol, f.*, :now
      FROM unnest(CAST(:days AS date[]), CAST(:opens AS bigint[]), CAST(:highs AS bigint[]), CAST(:lows AS bigint[]),
                  CAST(:closes AS bigint[]), CAST(:volumes AS bigint[])) AS f
    ON CONFLICT (exchange, tradingsymbol, on_date) DO UPDATE
       SET open_paise = excluded.open_paise, high_paise = excluded.high_paise, low_paise = excluded.low_paise,
           close_paise = excluded.close_paise, volume = excluded.volume, fetched_at = excluded.fetched_at
""")


class InvalidSpan(Unprocessable):
    """The dates do not name a span of candles."""


@dataclass(frozen=True, slots=True)
class CandleAnswer:
    """Stored candles of a span, oldest first; `is_complete` is false when the broker could not be asked for the rest.

    `read_on` has for each candle the day (IST) on which the broker gave it: it is adjusted to that day.
    """

    span: Span
    candles: tuple[DayCandle, ...]
    read_on: tuple[date, ...]
    is_complete: bool


def wanted_span(first: date, last: date, today: date) -> Span:
    """The span of a request, cut off at today; raises InvalidSpan."""
    last = min(last, today)
    if first > last:
        raise InvalidSpan("`from` must not be after `to` or in the future.")
    if (last - first).days >= SPAN_DAYS_MAX:
        raise InvalidSpan(f"At most {SPAN_DAYS_MAX} days at once; ask for a shorter span.")
    return Span(first, last)


def day_candles(db: Database, source: QuoteSource, clock: Clock, listing: Listing, span: Span) -> CandleAnswer:
    """Candles of a span (see wanted_span), read from the broker where they are not stored.

    Raises NoBrokerSession or BrokerReadFailed only when nothing at all is stored of the span.
    """
    trouble: NoBrokerSession | BrokerReadFailed | None = None
    try:
        complete(db, source, clock, listing, span)
    except (NoBrokerSession, BrokerReadFailed) as error:
        log.info("candles.incomplete", tradingsymbol=listing.tradingsymbol, error=type(error).__name__)
        trouble = error
    with db.session() as session:
        rows = _rows(session, listing.key, span)
    if trouble is not None and not rows:
        raise trouble
    candles = tuple(_candle(row) for row in rows)
    return CandleAnswer(span, candles, tuple(trading_date(row.fetched_at) for row in rows), trouble is None)


def complete(db: Database, source: QuoteSource, clock: Clock, listing: Listing, span: Span) -> None:
    """Read and store what is missing of a span; raises NoBrokerSession or BrokerReadFailed."""
    now = clock.now()
    today = trading_date(now)
    with db.session() as session:
        stored = _coverage(session, listing.key)
        controls = _controls(session, listing.key, stored) if stored is not None else []
        is_outdated = stored is not None and bool(outdated(session, [listing.key], now))
        with_today = span.last == today and not _is_fresh(session, listing.key, today, now)
    gaps: list[Span] = []
    if span.first < today:
        final = Span(span.first, min(span.last, today - DAY))
        gaps = missing(stored, final, Span(controls[0].on, controls[-1].on) if controls else None)
    # What is read anew as a whole is not read in parts first.
    read = {} if is_outdated else _read(source, listing, _with_today(gaps, today) if with_today else gaps)
    restated = is_outdated or any(read.get(control.on, control) != control for control in controls)
    if restated and stored is not None:
        log.warning("candles.restated", tradingsymbol=listing.tradingsymbol, by_action=is_outdated)
        for gap in gaps:
            stored = joined(stored, gap)
        gaps = [stored]
        # Today's stored candle is forgotten with the others, however fresh it is.
        read = _read(source, listing, _with_today(gaps, today) if span.last == today else gaps)
    if not read and not gaps:
        return
    with db.transaction() as session:
        if restated:
            _forget(session, listing.key)
        _store(session, listing.key, list(read.values()), now)
        for gap in gaps:
            _cover(session, listing.key, gap)


def _with_today(gaps: Sequence[Span], today: date) -> list[Span]:
    """The gaps and today: in one request where they touch."""
    if gaps and gaps[-1].last == today - DAY:
        return [*gaps[:-1], Span(gaps[-1].first, today)]
    return [*gaps, Span(today, today)]


def _read(source: QuoteSource, listing: Listing, gaps: Sequence[Span]) -> dict[date, DayCandle]:
    candles: dict[date, DayCandle] = {}
    for gap in gaps:
        for piece in gap.pieces(DAY_CANDLE_SPAN_DAYS_MAX):
            rows = source.day_candles(listing.instrument_token, piece.first, piece.last)
            candles.update({row.on: row for row in rows})
    return candles


def _store(session: Session, key: Key, candles: Sequence[DayCandle], now: datetime) -> None:
    if not candles:
        return
    rows = sorted(candles, key=lambda candle: candle.on)
    session.execute(
        _UPSERT,
        {
            "exchange": key[0],
            "symbol": key[1],
            "now": now,
            "days": [row.on for row in rows],
            "opens": [row.open_paise for row in rows],
            "highs": [row.high_paise for row in rows],
            "lows": [row.low_paise for row in rows],
            "closes": [row.close_paise for row in rows],
            "volumes": [row.volume for row in rows],
        },
    )


def _cover(session: Session, key: Key, added: Span) -> None:
    names = {"exchange": key[0], "tradingsymbol": key[1]}
    first = insert(CandleCoverage).values(**names, first_on=added.first, last_on=added.last)
    session.execute(first.on_conflict_do_nothing())
    # Locked from here: of two requests for one share the second joins its span to the first's.
    row = session.get_one(CandleCoverage, key, with_for_update=True, populate_existing=True)
    span = joined(Span(row.first_on, row.last_on), added)
    row.first_on, row.last_on = span.first, span.last
    session.flush()


def _forget(session: Session, key: Key) -> None:
    for table in (CandleDay, CandleCoverage):
        session.execute(delete(table).where(table.exchange == key[0], table.tradingsymbol == key[1]))


def _coverage(session: Session, key: Key) -> Span | None:
    row = session.get(CandleCoverage, key)
    return Span(row.first_on, row.last_on) if row is not None else None


def _is_fresh(session: Session, key: Key, today: date, now: datetime) -> bool:
    row = session.get(CandleDay, (*key, today))
    return row is not None and now - row.fetched_at < timedelta(seconds=TODAY_AGE_MAX_S)


def _controls(session: Session, key: Key, stored: Span) -> list[DayCandle]:
    """The first and the last stored candle that is final."""
    final = select(func.min(CandleDay.on_date), func.max(CandleDay.on_date)).where(
        CandleDay.exchange == key[0],
        CandleDay.tradingsymbol == key[1],
        CandleDay.on_date.between(stored.first, stored.last),
    )
    days = session.execute(final).one()
    return [_candle(row) for on in days if on is not None for row in _rows(session, key, Span(on, on))]


def _rows(session: Session, key: Key, span: Span) -> Sequence[CandleDay]:
    query = (
        select(CandleDay)
        .where(CandleDay.exchange == key[0], CandleDay.tradingsymbol == key[1])
        .where(CandleDay.on_date.between(span.first, span.last))
        .order_by(CandleDay.on_date)
    )
    return session.scalars(query).all()


def _candle(row: CandleDay) -> DayCandle:
    return DayCandle(row.on_date, row.open_paise, row.high_paise, row.low_paise, row.close_paise, row.volume)
