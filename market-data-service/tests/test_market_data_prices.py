"""Prices: from the broker to memory, cache and table, with their age, through failures and restarts."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from common.cache import MemoryCache
from common.clock import FixedClock, SystemClock
from common.db import Database
from common.testing import eventually
from kite_simulator.config import Settings as SimulatorSettings
from kite_simulator.server import SimulatorServer
from market_data_service import loop
from market_data_service.config import Settings
from market_data_service.kite_source import PACE_WAITING_MAX, BrokerSession, KiteQuoteSource, Pace
from market_data_service.loader import load_exchange
from market_data_service.market import Market
from market_data_service.mirror import DatabaseMirror
from market_data_service.models import Instrument, PriceInterest, StoredPrice
from market_data_service.poller import Poller
from market_data_service.prices import WANTED_MAX, LastPrice, PriceBook
from market_data_service.source import BrokerReadFailed, NoBrokerSession

INFY, TCS = ("NSE", "INFY"), ("NSE", "TCS")
AT = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
RowFactory = Callable[..., dict[str, Any]]


@pytest.fixture
def cache() -> MemoryCache:
    return MemoryCache()


@pytest.fixture
def poller(
    db: Database, settings: Settings, clock: FixedClock, loaded: Market, kite: KiteQuoteSource, cache: MemoryCache
) -> Poller:
    return Poller(settings=settings, db=db, clock=clock, market=loaded, source=kite, cache=cache)


def set_price(simulator: SimulatorServer, key: str, paise: int) -> None:
    simulator.call(lambda engine: engine.control.set_price(key, paise))


def test_a_price_is_never_replaced_by_an_older_one() -> None:
    book = PriceBook()
    book.put_prices({INFY: LastPrice(100, AT)})
    book.put_prices({INFY: LastPrice(90, AT - timedelta(seconds=1))})
    assert book.price(INFY) == LastPrice(100, AT)
    assert book.take_changed() == {INFY: LastPrice(100, AT)}
    assert book.take_changed() == {}
    assert book.newest_at() == AT


def test_wishes_are_bounded_and_told_once_a_day() -> None:
    book = PriceBook()
    today, tomorrow = AT.date(), AT.date() + timedelta(days=1)
    book.want([INFY])
    book.want([INFY, TCS])
    assert book.take_asked(today) == {INFY, TCS}
    book.want([INFY])
    assert book.take_asked(today) == set()
    book.want([INFY])
    assert book.take_asked(tomorrow) == {INFY}
    book.want([("NSE", f"S{number}") for number in range(WANTED_MAX - 1)])
    assert len(book.wanted()) == WANTED_MAX
    # INFY was asked for after TCS, so TCS made room.
    assert INFY in book.wanted()
    assert TCS not in book.wanted()


def test_recalled_wishes_are_not_taken_for_new_ones() -> None:
    book = PriceBook()
    book.recall([INFY])
    assert book.wanted() == {INFY}
    assert book.take_asked(AT.date()) == set()


def test_a_price_of_zero_is_no_price(
    scripted: Any, db: Database, settings: Settings, clock: FixedClock, loaded: Market, cache: MemoryCache
) -> None:
    scripted.prices = {INFY: LastPrice(0, clock.now()), TCS: LastPrice(2_396_90, clock.now())}
    poller = Poller(settings=settings, db=db, clock=clock, market=loaded, source=scripted, cache=cache)
    poller.step()
    poller.store()
    assert loaded.prices.price(INFY) is None
    assert cache.get_many(["price:NSE:INFY"]) == {}
    with db.session() as session:
        assert [row.tradingsymbol for row in session.scalars(select(StoredPrice))] == ["TCS"]


def test_a_moved_price_reaches_memory_cache_and_table(
    simulator: SimulatorServer, poller: Poller, loaded: Market, cache: MemoryCache, clock: FixedClock, db: Database
) -> None:
    set_price(simulator, "NSE:INFY", 1_199_90)
    poller.step()
    poller.step()
    assert loaded.prices.price(INFY) == LastPrice(1_199_90, clock.now())
    assert '"price_paise": 119990' in cache.get_many(["price:NSE:INFY"])["price:NSE:INFY"]
    poller.store()
    with db.session() as session:
        stored = session.get_one(StoredPrice, INFY)
        assert (stored.price_paise, stored.seen_at) == (1_199_90, clock.now())
        assert len(session.scalars(select(StoredPrice)).all()) == 50
    assert loaded.feed.status.state == "ok"


def test_last_prices_and_day_figures_take_turns(
    scripted: Any, db: Database, settings: Settings, clock: FixedClock, loaded: Market
) -> None:
    poller = Poller(settings=settings, db=db, clock=clock, market=loaded, source=scripted, cache=MemoryCache())
    for _ in range(5):
        poller.step()
    # One round of day figures, then last prices only until the next is due.
    assert [call[0] for call in scripted.calls] == ["ltp", "quote", "ltp", "ltp", "ltp"]
    assert len(scripted.calls[1][1]) == 50


def test_day_figures_carry_the_price_band_of_the_day(
    poller: Poller, loaded: Market, clock: FixedClock, db: Database
) -> None:
    poller.step()
    poller.step()
    quote = loaded.prices.quote(INFY)
    assert quote is not None
    assert (quote.lower_band_paise, quote.upper_band_paise) == (1_039_20, 1_270_00)
    listing = loaded.instruments.get(INFY)
    assert listing is not None
    assert loaded.bands(listing, loaded.band_date(clock.now())) == (1_039_20, 1_270_00)
    with db.session() as session:
        row = session.get_one(Instrument, INFY)
        assert (row.lower_band_paise, row.upper_band_paise, row.bands_on) == (1_039_20, 1_270_00, clock.now().date())
    # After the close the next order is for another day, whose band nobody knows yet.
    clock.set(datetime(2026, 11, 23, 11, 0, tzinfo=UTC))
    assert loaded.bands(listing, loaded.band_date(clock.now())) == (None, None)


def test_a_band_seen_before_the_load_time_is_not_of_today(
    db: Database, settings: Settings, clock: FixedClock, loaded: Market, kite: KiteQuoteSource
) -> None:
    clock.set(datetime(2026, 11, 25, 2, 0, tzinfo=UTC))  # 07:30 IST
    early = Poller(settings=settings, db=db, clock=clock, market=loaded, source=kite, cache=MemoryCache())
    early.step()
    early.step()
    listing = loaded.instruments.get(INFY)
    assert listing is not None
    assert loaded.bands(listing, loaded.band_date(clock.now())) == (None, None)
    with db.session() as session:
        assert session.get_one(Instrument, INFY).bands_on is None


def test_a_price_that_stands_still_is_stored_with_its_newest_instant(
    poller: Poller, clock: FixedClock, db: Database
) -> None:
    for _ in range(2):
        clock.advance(2)
        for _ in range(3):
            poller.step()
        poller.store()
        with db.session() as session:
            assert session.get_one(StoredPrice, INFY).seen_at == clock.now()


def test_after_a_restart_prices_come_from_the_table_with_their_true_age(
    poller: Poller, db: Database, settings: Settings, clock: FixedClock
) -> None:
    poller.step()
    poller.store()
    seen_at = clock.now()
    clock.advance(3_600)
    restarted = Market.create(settings)
    DatabaseMirror(db, restarted).refresh(clock.now())
    price = restarted.prices.price(INFY)
    assert price is not None
    assert price.at == seen_at


def test_of_many_shares_only_those_wanted_are_polled(
    scripted: Any, db: Database, clock: FixedClock, loaded: Market
) -> None:
    few = Settings(market_calendar="nse", watch_all_max=10, watch_list="NSE:NIFTY 50, NSE:NOSUCH")  # type: ignore[arg-type]
    assert loaded.polled_keys(few) == [("NSE", "NIFTY 50")]
    loaded.prices.want([TCS])
    poller = Poller(settings=few, db=db, clock=clock, market=loaded, source=scripted, cache=MemoryCache())
    poller.store()
    with db.session() as session:
        assert session.get_one(PriceInterest, TCS).asked_on == clock.now().date()
    poller.step()
    assert scripted.calls[0] == ("ltp", (("NSE", "NIFTY 50"), TCS))
    # A wish of another process arrives by way of the table and is forgotten a week after it was last repeated.
    with db.transaction() as session:
        session.add(PriceInterest(exchange="NSE", tradingsymbol="INFY", asked_on=clock.now().date()))
        session.add(
            PriceInterest(exchange="NSE", tradingsymbol="WIPRO", asked_on=clock.now().date() - timedelta(days=8))
        )
    poller.store()
    assert loaded.polled_keys(few) == [("NSE", "NIFTY 50"), INFY, TCS]


def test_a_refused_token_is_fetched_again_once(
    simulator: SimulatorServer, sessions: Any, kite: KiteQuoteSource
) -> None:
    assert kite.last_prices([INFY])
    assert sessions.asked == 1
    simulator.call(lambda engine: engine.sessions.close(sessions.session.access_token))
    with pytest.raises(NoBrokerSession):
        kite.last_prices([INFY])
    assert sessions.asked == 2
    simulator.call(lambda engine: engine.sessions.adopt("token-of-tomorrow"))
    sessions.session = BrokerSession("saras-dev", "token-of-tomorrow", simulator.url)
    assert kite.last_prices([INFY])[INFY].price_paise > 0


def test_without_a_login_the_executor_is_not_asked_again_at_once(sessions: Any, kite: KiteQuoteSource) -> None:
    sessions.session = None
    for _ in range(5):
        with pytest.raises(NoBrokerSession):
            kite.last_prices([INFY])
    assert sessions.asked == 1


def test_a_broker_that_does_not_answer_is_a_failed_read(clock: FixedClock, sessions: Any) -> None:
    sessions.session = BrokerSession("saras-dev", "token", "http://127.0.0.1:9")
    with pytest.raises(BrokerReadFailed) as caught:
        KiteQuoteSource(sessions, clock).last_prices([INFY])
    assert caught.value.facts == {"cause": "ConnectionError"}


def test_only_so_many_callers_wait_for_the_broker() -> None:
    pace = Pace(0.0)
    entered, leave = threading.Semaphore(0), threading.Event()

    def work() -> None:
        entered.release()
        with pace.turn():
            leave.wait(10)

    threads = [threading.Thread(target=work) for _ in range(PACE_WAITING_MAX)]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            assert entered.acquire(timeout=10)

        eventually(lambda: pace._places._value == 0)
        with pytest.raises(BrokerReadFailed, match="Too many reads"), pace.turn():
            pass
    finally:
        leave.set()
        for thread in threads:
            thread.join(10)
    with pace.turn():
        assert not any(thread.is_alive() for thread in threads)


def test_unknown_instruments_are_left_out(kite: KiteQuoteSource) -> None:
    assert set(kite.last_prices([INFY, ("NSE", "NOSUCH")])) == {INFY}


def test_a_broker_session_does_not_show_its_token() -> None:
    assert "secret-token" not in repr(BrokerSession("key", "secret-token", "http://127.0.0.1"))


def test_the_poll_rate_keeps_within_the_brokers_limit(db: Database, market: Market) -> None:
    clock = SystemClock()
    strict = SimulatorSettings(access_token="strict", rate_limits=True)
    with SimulatorServer(strict) as server:
        source = KiteQuoteSource(_Held(BrokerSession("saras-dev", "strict", server.url)), clock)
        load_exchange(db, source, clock, "NSE")
        DatabaseMirror(db, market).refresh(clock.now())
        settings = Settings(market_calendar="nse")
        poller = Poller(settings=settings, db=db, clock=clock, market=market, source=source, cache=MemoryCache())
        # Four requests in a row, each as soon as the source lets it: one too many would be a 429 and raise.
        for _ in range(4):
            assert poller.step()
    assert market.prices.price(INFY) is not None


class _Held:
    def __init__(self, session: BrokerSession) -> None:
        self._session = session

    def current(self) -> BrokerSession:
        return self._session


def test_the_feed_runs_loads_polls_reports_and_stops(
    simulator: SimulatorServer, sessions: Any, db: Database, settings: Settings, market: Market, cache: MemoryCache
) -> None:
    clock = SystemClock()
    quick = settings.model_copy(update={"store_interval_s": 0.1})
    session, sessions.session = sessions.session, None
    source = KiteQuoteSource(sessions, clock, quote_pause_s=0.0)
    stop = threading.Event()
    arguments = {"settings": quick, "db": db, "clock": clock, "market": market, "source": source, "cache": cache}
    thread = threading.Thread(target=loop.run, args=(stop,), kwargs=arguments)
    thread.start()
    try:
        eventually(lambda: sessions.asked >= 1)
        sessions.session = session
        eventually(lambda: market.prices.price(INFY) is not None, timeout=20)
        eventually(lambda: market.feed.status.state == "ok")
        set_price(simulator, "NSE:INFY", 1_201_10)
        eventually(lambda: _paise(market) == 1_201_10)
        sessions.session = None
        simulator.call(lambda engine: engine.sessions.close(session.access_token))
        eventually(lambda: market.feed.status.state == "no_broker_session")
        assert '"no_broker_session"' in cache.get_many(["feed:market-data"])["feed:market-data"]
        assert _paise(market) == 1_201_10
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()


def _paise(market: Market) -> int | None:
    price = market.prices.price(INFY)
    return price.price_paise if price else None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_ends_the_feed(db: Database, settings: Settings, clock: FixedClock, market: Market) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise ZeroDivisionError(name)

    arguments: dict[str, Any] = {"settings": settings, "db": db, "clock": clock, "market": market}
    with pytest.raises(loop.LoopDied, match="market-data-"):
        loop.run(threading.Event(), source=Broken(), cache=MemoryCache(), **arguments)
