"""Stored closes of many shares at once, and the backlog of those that are not stored yet.

A request never waits for the broker: it answers what is stored and says of which shares something is missing. A thread
of the process then reads the missing days, one share after the other, at the broker's pace.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from common.clock import Clock
from common.db import Database
from common.errors import Unprocessable
from common.logging import get_logger
from market_data_service.candle_spans import DAY, Span
from market_data_service.candles import complete
from market_data_service.corporate_actions import outdated
from market_data_service.instruments import Key, Listing
from market_data_service.models import CandleCoverage, CandleDay
from market_data_service.source import BrokerReadFailed, NoBrokerSession, QuoteSource

log = get_logger(__name__)

HISTORY_KEYS_MAX = 60
HISTORY_DAYS_MAX = 2_200
"""Six years: 60 shares of 1,500 trading days are about two megabytes of JSON."""
BACKLOG_MAX = 1_000
READS_MAX = 3
"""A share whose days the broker does not answer so often leaves the backlog; whoever asks again puts it back."""
IDLE_S = 0.5
NO_SESSION_PAUSE_S = 5.0


class HistoryTooLong(Unprocessable):
    """The dates do not name a span of past days, or one that is too long."""


@dataclass(frozen=True, slots=True)
class History:
    """Final candles of one share on ascending days: closes in paise, volumes in shares."""

    days: Sequence[date]
    closes_paise: Sequence[int]
    volumes: Sequence[int]
    is_complete: bool


def final_span(first: date, last: date, today: date) -> Span:
    """The span of a request, cut off at yesterday: today's candle is not final. Raises HistoryTooLong."""
    last = min(last, today - DAY)
    if first > last:
        raise HistoryTooLong("`from` must lie before today and not after `to`.")
    if (last - first).days >= HISTORY_DAYS_MAX:
        raise HistoryTooLong(f"At most {HISTORY_DAYS_MAX} days at once; ask for a shorter span.")
    return Span(first, last)


def stored_histories(session: Session, keys: Sequence[Key], span: Span, now: datetime) -> dict[Key, History]:
    """What is stored of these shares in the span; complete where all days of it have been read from the broker, and
    read again since a corporate action that is known here.
    """
    symbols = sorted({symbol for _, symbol in keys})
    exchanges = sorted({exchange for exchange, _ in keys})
    old = outdated(session, keys, now)
    coverage = session.scalars(
        select(CandleCoverage).where(CandleCoverage.tradingsymbol.in_(symbols), CandleCoverage.exchange.in_(exchanges))
    )
    covered = {
        key: row.first_on <= span.first and row.last_on >= span.last and key not in old
        for row in coverage
        for key in [(row.exchange, row.tradingsymbol)]
    }
    rows = session.execute(
        select(
            CandleDay.exchange,
            CandleDay.tradingsymbol,
            func.array_agg(aggregate_order_by(CandleDay.on_date, CandleDay.on_date)),
            func.array_agg(aggregate_order_by(CandleDay.close_paise, CandleDay.on_date)),
            func.array_agg(aggregate_order_by(CandleDay.volume, CandleDay.on_date)),
        )
        .where(
            CandleDay.tradingsymbol.in_(symbols),
            CandleDay.exchange.in_(exchanges),
            CandleDay.on_date.between(span.first, span.last),
        )
        .group_by(CandleDay.exchange, CandleDay.tradingsymbol)
    )
    found = {
        (exchange, symbol): History(days, closes, volumes, covered.get((exchange, symbol), False))
        for exchange, symbol, days, closes, volumes in rows
    }
    return {key: found.get(key, History((), (), (), covered.get(key, False))) for key in keys}


class CandleBacklog:
    """Shares with days to be read, oldest wish first. Thread-safe and bounded."""

    def __init__(self, db: Database, source: QuoteSource, clock: Clock) -> None:
        self._db = db
        self._source = source
        self._clock = clock
        self._lock = threading.Lock()
        self._wanted: OrderedDict[Key, tuple[Listing, Span, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._wanted)

    def want(self, listings: Mapping[Key, Listing], span: Span) -> None:
        """Have these days read; of one share the wishes are joined. What does not fit is dropped and asked for again."""
        with self._lock:
            for key, listing in listings.items():
                known = self._wanted.get(key)
                if known is None and len(self._wanted) >= BACKLOG_MAX:
                    continue
                wide = span if known is None else Span(min(known[1].first, span.first), max(known[1].last, span.last))
                self._wanted[key] = (listing, wide, known[2] if known else 0)

    def step(self) -> bool:
        """Read one share's days; false when nothing waits. Raises NoBrokerSession; other failures count against it."""
        with self._lock:
            if not self._wanted:
                return False
            key, (listing, span, reads) = next(iter(self._wanted.items()))
        try:
            complete(self._db, self._source, self._clock, listing, span)
        except BrokerReadFailed as error:
            log.info("candles.unanswered", tradingsymbol=listing.tradingsymbol, detail=error.detail)
            self._done(key, span, again=reads + 1)
        else:
            self._done(key, span, again=None)
        return True

    def run(self, stop: threading.Event) -> None:
        """Read until told to stop."""
        while not stop.is_set():
            try:
                if not self.step():
                    stop.wait(IDLE_S)
            except NoBrokerSession:
                stop.wait(NO_SESSION_PAUSE_S)
            except SQLAlchemyError as error:
                log.warning("candles.delayed", error=type(error).__name__)
                stop.wait(NO_SESSION_PAUSE_S)

    def _done(self, key: Key, span: Span, *, again: int | None) -> None:
        with self._lock:
            entry = self._wanted.pop(key, None)
            if entry is None:
                return
            if again is not None and again < READS_MAX:
                self._wanted[key] = (entry[0], entry[1], again)
            elif again is None and entry[1] != span:
                # Wanted longer while it was read.
                self._wanted[key] = (entry[0], entry[1], 0)
