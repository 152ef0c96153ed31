"""Daily closes of every share that anybody traded, and of the benchmark, kept beside the facts.

Read from market-data-service by a loop, never in a user's request. The day before the newest stored one is read again
with it: when it differs, the broker has restated its history (split, bonus issue) and everything is read anew.
"""

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy import case, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from analytics_service.models import ImportedTrade, Trade
from analytics_service.models_derived import CloseChange, CloseCoverage, DailyClose, TradingDay
from analytics_service.valuation import Key
from common.clock import Clock, trading_date
from common.db import Database
from common.errors import AppError
from common.http import PeerRefused, ServiceClient
from common.logging import get_logger

log = get_logger(__name__)

PAUSE_S = 60.0
REFRESH_S = 600.0
"""Today's close is of the moment: read again this often while somebody holds the share."""
SPAN_DAYS_MAX = 3_900
"""Longest span of one question; market-data-service answers 4,000 days."""
SHARES_MAX = 5_000
SHARES_A_WRITE = 20
FAILURES_MAX = 3
"""After so many questions without an answer the rest waits for the next round."""
CHANGES_KEPT = timedelta(days=30)
LOCK_KEY = 0x5A4A6
BENCHMARK_BEFORE = timedelta(days=10)
"""The benchmark starts from the close before a portfolio's first day."""


@dataclass(frozen=True)
class Close:
    """A day's closing price."""

    on: date
    paise: int


@dataclass(frozen=True)
class Answer:
    """Closes, oldest first; `is_complete` is false when the broker could not be asked for what is not stored."""

    closes: list[Close]
    is_complete: bool


class CloseSource(Protocol):
    """Where closes come from."""

    def closes(self, key: Key, first: date, last: date) -> Answer:
        """Closes of [first, last]; raises AppError when there is no answer."""
        ...


class MarketCloses:
    """Closes of market-data-service."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    def closes(self, key: Key, first: date, last: date) -> Answer:
        found: list[Close] = []
        is_complete = True
        while first <= last:
            until = min(last, first + timedelta(days=SPAN_DAYS_MAX - 1))
            query = {"i": f"{key[0]}:{key[1]}", "from": first.isoformat(), "to": until.isoformat()}
            answer = self._client.get("/internal/v1/candles", query)
            found += [Close(date.fromisoformat(row["date"]), int(row["close_paise"])) for row in answer["candles"]]
            is_complete = is_complete and bool(answer["is_complete"])
            first = until + timedelta(days=1)
        return Answer(found, is_complete)


@dataclass(frozen=True)
class Wanted:
    """A share and the days whose closes somebody's portfolio needs."""

    key: Key
    first: date
    last: date


@dataclass(frozen=True)
class Read:
    """What was read of one share; `anew`: it replaces everything stored of it."""

    wanted: Wanted
    answer: Answer
    anew: bool


def run(db: Database, source: CloseSource, benchmark: Key, clock: Clock, stop: threading.Event) -> None:
    """Bring closes up to date every minute until told to stop."""
    while not stop.is_set():
        try:
            bring(db, source, benchmark, clock)
        except SQLAlchemyError as error:
            log.warning("closes.delayed", error=type(error).__name__)
        stop.wait(PAUSE_S)


def bring(db: Database, source: CloseSource, benchmark: Key, clock: Clock) -> int:
    """Read what is missing or of the moment; answers how many shares were read. A silent source delays, no more."""
    now = clock.now()
    today = trading_date(now)
    with db.session() as session:
        wanted = wanted_closes(session, benchmark, today)
        coverage = {(row.exchange, row.tradingsymbol): row for row in session.scalars(select(CloseCoverage))}
    due = [one for one in wanted if _is_due(one, coverage.get(one.key), now)]
    failures, read, done = 0, [], 0
    for one in due:
        try:
            read.append(_read(db, source, one, coverage.get(one.key)))
        except PeerRefused as error:
            # Not a listed instrument (any more): it keeps its last trade's price.
            log.info("closes.refused", tradingsymbol=one.key[1], code=error.code)
            read.append(Read(one, Answer([], True), False))
        except AppError as error:
            failures += 1
            log.info("closes.unanswered", tradingsymbol=one.key[1], code=error.code)
            if failures >= FAILURES_MAX:
                break
        if len(read) >= SHARES_A_WRITE:
            done += _write(db, read, now)
            read = []
    return done + _write(db, read, now)


def are_in(session: Session, keys: Collection[Key], on: date, after: datetime) -> bool:
    """Whether all of these shares were answered in full after an instant, up to a day at least."""
    answered = select(func.count()).where(
        sa.tuple_(CloseCoverage.exchange, CloseCoverage.tradingsymbol).in_(sorted(keys)),
        CloseCoverage.last_on >= on,
        CloseCoverage.answered_at >= after,
    )
    return session.scalar(answered) == len(keys)


def wanted_closes(session: Session, benchmark: Key, today: date) -> list[Wanted]:
    """Every share anybody traded, from its first trade to today, or to its last one when nobody holds it any more."""
    per_portfolio = sa.union_all(*(_traded(table) for table in (Trade, ImportedTrade))).subquery()
    rows = session.execute(
        select(
            per_portfolio.c.exchange,
            per_portfolio.c.tradingsymbol,
            func.min(per_portfolio.c.first),
            func.max(per_portfolio.c.last),
            func.bool_or(per_portfolio.c.units != 0),
        )
        .group_by(per_portfolio.c.exchange, per_portfolio.c.tradingsymbol)
        .order_by(per_portfolio.c.exchange, per_portfolio.c.tradingsymbol)
        .limit(SHARES_MAX)
    ).all()
    if not rows:
        return []
    shares = [
        Wanted((exchange, symbol), min(first, today), today if is_held else min(last, today))
        for exchange, symbol, first, last, is_held in rows
        if (exchange, symbol) != benchmark
    ]
    return [Wanted(benchmark, min(row[2] for row in rows) - BENCHMARK_BEFORE, today), *shares]


def _traded(table: type[Trade] | type[ImportedTrade]) -> Any:
    units = func.sum(case((table.side == "BUY", table.quantity), else_=-table.quantity))
    return select(
        table.exchange,
        table.tradingsymbol,
        func.min(table.trading_date).label("first"),
        func.max(table.trading_date).label("last"),
        units.label("units"),
    ).group_by(table.portfolio_id, table.exchange, table.tradingsymbol)


def _is_due(wanted: Wanted, covered: CloseCoverage | None, now: datetime) -> bool:
    if covered is None or wanted.first < covered.first_on or wanted.last > covered.last_on:
        return covered is None or (now - covered.asked_at).total_seconds() >= PAUSE_S / 2
    is_of_the_moment = wanted.last >= trading_date(covered.asked_at)
    return is_of_the_moment and (now - covered.asked_at).total_seconds() >= REFRESH_S


def _read(db: Database, source: CloseSource, wanted: Wanted, covered: CloseCoverage | None) -> Read:
    if covered is None or wanted.first < covered.first_on:
        return Read(wanted, source.closes(wanted.key, wanted.first, wanted.last), True)
    with db.session() as session:
        control = _control(session, wanted.key, covered.last_on)
    if control is None:
        return Read(wanted, source.closes(wanted.key, covered.first_on, wanted.last), True)
    answer = source.closes(wanted.key, control.on, wanted.last)
    if answer.closes and answer.closes[0] != control:
        log.warning("closes.restated", tradingsymbol=wanted.key[1], on=control.on.isoformat())
        return Read(wanted, source.closes(wanted.key, covered.first_on, wanted.last), True)
    return Read(wanted, answer, False)


def _control(session: Session, key: Key, last: date) -> Close | None:
    """The newest stored close before the newest day: that one may have been of the moment, this one is final."""
    row = session.execute(
        select(DailyClose.on_date, DailyClose.close_paise)
        .where(DailyClose.exchange == key[0], DailyClose.tradingsymbol == key[1], DailyClose.on_date < last)
        .order_by(DailyClose.on_date.desc())
        .limit(1)
    ).one_or_none()
    return Close(row[0], row[1]) if row is not None else None


def _write(db: Database, read: Sequence[Read], now: datetime) -> int:
    if not read:
        return 0
    with db.transaction() as session:
        # Changes are numbered in the order they become visible.
        session.execute(select(func.pg_advisory_xact_lock(LOCK_KEY)))
        changed: list[date] = []
        for one in read:
            changed += _store(session, one)
            _cover(session, one, now)
        if changed:
            session.execute(insert(CloseChange).values(from_date=min(changed), changed_at=now))
        session.execute(delete(CloseChange).where(CloseChange.changed_at < now - CHANGES_KEPT))
    return len(read)


def _store(session: Session, read: Read) -> list[date]:
    """Store closes; answers the days that changed."""
    exchange, symbol = read.wanted.key
    closes = read.answer.closes
    changed: list[date] = []
    if read.anew:
        gone = delete(DailyClose).where(
            DailyClose.exchange == exchange,
            DailyClose.tradingsymbol == symbol,
            DailyClose.on_date.not_in([close.on for close in closes]),
        )
        changed += session.scalars(gone.returning(DailyClose.on_date)).all()
    if not closes:
        return changed
    days, paise = [close.on for close in closes], [close.paise for close in closes]
    changed += session.scalars(
        sa.text(
            "INSERT INTO daily_close (exchange, tradingsymbol, on_date, close_paise)"
            " SELECT :exchange, :symbol, f.* FROM unnest(CAST(:days AS date[]), CAST(:paise AS bigint[])) AS f"
            " ON CONFLICT (exchange, tradingsymbol, on_date) DO UPDATE SET close_paise = excluded.close_paise"
            " WHERE daily_close.close_paise <> excluded.close_paise RETURNING on_date"
        ),
        {"exchange": exchange, "symbol": symbol, "days": days, "paise": paise},
    ).all()
    session.execute(insert(TradingDay).values([{"on_date": on} for on in days]).on_conflict_do_nothing())
    return changed


def _cover(session: Session, read: Read, now: datetime) -> None:
    wanted = read.wanted
    statement = insert(CloseCoverage).values(
        exchange=wanted.key[0],
        tradingsymbol=wanted.key[1],
        first_on=wanted.first,
        last_on=wanted.last,
        asked_at=now,
        answered_at=now if read.answer.is_complete else None,
    )
    new = statement.excluded
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[CloseCoverage.exchange, CloseCoverage.tradingsymbol],
            set_={
                "first_on": func.least(CloseCoverage.first_on, new.first_on),
                "last_on": func.greatest(CloseCoverage.last_on, new.last_on),
                "asked_at": new.asked_at,
                "answered_at": func.coalesce(new.answered_at, CloseCoverage.answered_at),
            },
        )
    )
