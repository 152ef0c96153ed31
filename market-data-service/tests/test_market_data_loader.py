"""The daily load: taken over in one transaction or refused, recorded either way."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select

from common.clock import FixedClock
from common.db import Database
from common.testing import eventually
from market_data_service import loader
from market_data_service.config import Settings
from market_data_service.kite_source import KiteQuoteSource
from market_data_service.loader import is_due, load_exchange
from market_data_service.market import Market
from market_data_service.mirror import DatabaseMirror
from market_data_service.models import Instrument, InstrumentLoad
from market_data_service.source import BrokerReadFailed, NoBrokerSession

RowFactory = Callable[..., dict[str, Any]]


def symbols(db: Database, *, active: bool = True) -> set[str]:
    with db.session() as session:
        return set(session.scalars(select(Instrument.tradingsymbol).where(Instrument.is_active.is_(active))))


def outcomes(db: Database) -> list[str]:
    with db.session() as session:
        return list(session.scalars(select(InstrumentLoad.outcome).order_by(InstrumentLoad.load_id)))


def test_the_brokers_file_is_loaded_with_the_official_client(
    db: Database, kite: KiteQuoteSource, clock: FixedClock
) -> None:
    result = load_exchange(db, kite, clock, "NSE")
    assert (result.outcome, result.rows_usable, result.rows_skipped, result.deactivated) == ("LOADED", 52, 0, 0)
    with db.session() as session:
        infy = session.get_one(Instrument, ("NSE", "INFY"))
        assert (infy.instrument_token, infy.tick_paise, infy.lot_size, infy.isin) == (408065, 10, 1, None)
        assert infy.last_seen_on == date(2026, 11, 23)
        ticks = {row.tradingsymbol: row.tick_paise for row in session.scalars(select(Instrument))}
    assert (ticks["MARUTI"], ticks["WIPRO"], ticks["BEL"], ticks["APOLLOHOSP"]) == (100, 1, 5, 50)


def test_vanished_instruments_become_inactive_and_may_return(
    db: Database, scripted: Any, clock: FixedClock, row: RowFactory
) -> None:
    scripted.rows = [row("A"), row("B"), row("C")]
    load_exchange(db, scripted, clock, "NSE")
    scripted.rows = [row("A", name="A RENAMED"), row("C")]
    clock.advance(86_400)
    assert load_exchange(db, scripted, clock, "NSE").deactivated == 1
    assert symbols(db) == {"A", "C"}
    assert symbols(db, active=False) == {"B"}
    with db.session() as session:
        assert session.get_one(Instrument, ("NSE", "A")).name == "A RENAMED"
        assert session.get_one(Instrument, ("NSE", "B")).last_seen_on == date(2026, 11, 23)
    scripted.rows = [row("A"), row("B"), row("C")]
    load_exchange(db, scripted, clock, "NSE")
    assert symbols(db) == {"A", "B", "C"}


def test_a_load_of_one_exchange_leaves_the_other_alone(
    db: Database, scripted: Any, clock: FixedClock, row: RowFactory
) -> None:
    scripted.rows = [row("A")]
    load_exchange(db, scripted, clock, "NSE")
    scripted.rows = [row("B", exchange="BSE")]
    load_exchange(db, scripted, clock, "BSE")
    assert symbols(db) == {"A", "B"}


def test_an_implausible_file_is_refused_and_the_old_one_stays(
    db: Database, scripted: Any, clock: FixedClock, row: RowFactory, market: Market
) -> None:
    scripted.rows = [row(f"S{number}") for number in range(10)]
    load_exchange(db, scripted, clock, "NSE")
    loaded_at = clock.now()
    clock.advance(86_400)
    scripted.rows = [row(f"S{number}") for number in range(4)]
    result = load_exchange(db, scripted, clock, "NSE")
    assert (result.outcome, result.rows_usable, result.active_before) == ("REFUSED", 4, 10)
    assert len(symbols(db)) == 10
    DatabaseMirror(db, market).refresh(clock.now())
    status = market.feed.loads["NSE"]
    assert (status.outcome, status.at, status.loaded_at) == ("REFUSED", clock.now(), loaded_at)
    assert "fewer than half" in (status.detail or "")
    accepted = load_exchange(db, scripted, clock, "NSE", requested_by=uuid4(), accept_fewer_rows=True)
    assert (accepted.outcome, accepted.deactivated) == ("LOADED", 6)


def test_an_empty_file_is_refused_whoever_accepts_it(db: Database, scripted: Any, clock: FixedClock) -> None:
    assert load_exchange(db, scripted, clock, "NSE", accept_fewer_rows=True).outcome == "REFUSED"
    assert symbols(db) == set()


def test_a_failed_download_is_recorded_a_missing_login_is_not(db: Database, scripted: Any, clock: FixedClock) -> None:
    scripted.failure = BrokerReadFailed("no answer")
    with pytest.raises(BrokerReadFailed):
        load_exchange(db, scripted, clock, "NSE")
    scripted.failure = NoBrokerSession("nobody is logged in")
    with pytest.raises(NoBrokerSession):
        load_exchange(db, scripted, clock, "NSE")
    assert outcomes(db) == ["FAILED"]


def test_loads_at_the_same_time_end_with_one_of_the_files(
    db: Database, scripted: Any, clock: FixedClock, row: RowFactory
) -> None:
    scripted.rows = [row(f"S{number}") for number in range(300)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: load_exchange(db, scripted, clock, "NSE"), range(4)))
    assert [result.outcome for result in results] == ["LOADED"] * 4
    assert sorted(result.active_before for result in results) == [0, 300, 300, 300]
    with db.session() as session:
        assert session.scalar(select(func.count()).select_from(Instrument)) == 300


LOAD_AT = time(8, 30)


@pytest.mark.parametrize(
    ("loaded_at", "now", "due"),
    [
        (None, "2026-11-23T03:00", True),
        ("2026-11-23T03:10", "2026-11-23T03:20", False),  # 08:40 IST, 08:50 IST
        ("2026-11-22T03:10", "2026-11-23T01:00", True),  # a start at 06:30 IST without a load of today
        ("2026-11-23T01:00", "2026-11-23T02:59", False),  # 06:30 IST loaded, 08:29 IST
        ("2026-11-23T01:00", "2026-11-23T03:00", True),  # 08:30 IST
        ("2026-11-23T03:00", "2026-11-23T18:29", False),  # 23:59 IST
        ("2026-11-23T03:00", "2026-11-23T18:30", True),  # midnight IST: another day
    ],
)
def test_when_a_load_is_due(loaded_at: str | None, now: str, due: bool) -> None:
    last = datetime.fromisoformat(loaded_at).replace(tzinfo=UTC) if loaded_at else None
    assert is_due(last, datetime.fromisoformat(now).replace(tzinfo=UTC), LOAD_AT) is due


def test_the_loop_loads_at_start_waits_for_the_login_and_loads_again_the_next_day(
    db: Database,
    scripted: Any,
    clock: FixedClock,
    row: RowFactory,
    market: Market,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loader, "LOOK_PAUSE_S", 0.05)
    monkeypatch.setattr(loader, "RETRY_PAUSE_MIN_S", 0.05)
    scripted.failure = NoBrokerSession("nobody is logged in")
    stop = threading.Event()
    arguments = {"settings": settings, "db": db, "clock": clock, "market": market, "source": scripted}
    thread = threading.Thread(target=loader.run, args=(stop,), kwargs=arguments)
    thread.start()
    try:
        eventually(lambda: len(scripted.calls) >= 2)
        assert len(market.instruments) == 0
        scripted.rows = [row("A"), row("B")]
        scripted.failure = None
        eventually(lambda: len(market.instruments) == 2)
        scripted.rows = [row("A"), row("B"), row("C")]
        clock.advance(86_400)
        eventually(lambda: len(market.instruments) == 3)
        assert outcomes(db) == ["LOADED", "LOADED"]
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()
