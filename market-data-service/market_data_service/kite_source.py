"""QuoteSource over Kite Connect, spoken by the official client; instruments, quotes and candles only, never orders.

The session of the pooled account belongs to trade-executor, which logs in; it is fetched there and fetched again when
the broker refuses it. The client has no pacing of its own: the documented rates (kite-connect.md section 3) are kept here.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from kiteconnect import KiteConnect
from kiteconnect.exceptions import KiteException, TokenException
from requests.exceptions import RequestException

from common import metrics
from common.clock import Clock
from common.errors import AppError
from common.http import ServiceClient
from common.logging import get_logger
from common.money import InvalidAmount, paise_from_broker
from market_data_service.config import NAME
from market_data_service.instruments import Key, format_key, parse_key
from market_data_service.prices import DayQuote, LastPrice
from market_data_service.source import BrokerReadFailed, DayCandle, IntradayCandle, NoBrokerSession

log = get_logger(__name__)

TIMEOUT_S = 7.0
SESSION_PATH = "/internal/v1/market-data-session"
QUOTE_PAUSE_S = 1.0
CANDLE_PAUSE_S = 0.34
OTHER_PAUSE_S = 0.1
PACE_WAIT_MAX_S = 10.0
PACE_WAITING_MAX = 8
"""Longest wait for a turn and most callers in it: further ones are told to come back, for each holds a thread."""
BUSY = "Too many reads of the broker are waiting; try again shortly."
NO_SESSION_PAUSE_S = 1.0
"""After the executor had no session, callers are answered without asking it again for this long."""
NO_SESSION = "There is no broker session at the moment; prices resume after the operator has logged in."
STRAY_ERRORS = (TypeError, KeyError, AttributeError, ValueError, UnboundLocalError, InvalidAmount)
"""How the client fails on answers of an unexpected shape (kite-connect.md section 2.3)."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
T = TypeVar("T")


@dataclass(frozen=True)
class BrokerSession:
    """What a client needs to read as the pooled account; it lives until 06:00 IST of the next day."""

    api_key: str
    access_token: str = field(repr=False)
    root_url: str


class BrokerSessions(Protocol):
    """Where the broker session comes from."""

    def current(self) -> BrokerSession:
        """The session of today; raises NoBrokerSession."""
        ...


class ExecutorSessions:
    """The session as trade-executor holds it, over its internal route."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    def current(self) -> BrokerSession:
        try:
            answer = self._client.get(SESSION_PATH)
            return BrokerSession(answer["api_key"], answer["access_token"], answer["root_url"])
        except (AppError, KeyError, TypeError) as error:
            raise NoBrokerSession(NO_SESSION) from error


class Pace:
    """At most one call at a time, with a pause after each: a server that counts arrivals never sees two too close."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(PACE_WAITING_MAX)
        self._free_at = 0.0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn; raises BrokerReadFailed when too many wait already or it takes PACE_WAIT_MAX_S."""
        if not self._places.acquire(blocking=False):
            raise BrokerReadFailed(BUSY)
        try:
            if not self._lock.acquire(timeout=PACE_WAIT_MAX_S):
                raise BrokerReadFailed(BUSY)
            try:
                time.sleep(max(0.0, self._free_at - time.monotonic()))
                yield
            finally:
                self._free_at = time.monotonic() + self._pause_s
                self._lock.release()
        finally:
            self._places.release()


class KiteQuoteSource:
    """Thread-safe; one HTTP session, replaced together with the broker session."""

    def __init__(self, sessions: BrokerSessions, clock: Clock, *, quote_pause_s: float = QUOTE_PAUSE_S) -> None:
        self._sessions = sessions
        self._clock = clock
        self._lock = threading.Lock()
        self._kite: KiteConnect | None = None
        self._no_session_until = 0.0
        self._quote_pace = Pace(quote_pause_s)
        self._candle_pace = Pace(CANDLE_PAUSE_S)
        self._other_pace = Pace(OTHER_PAUSE_S)

    def instruments(self, exchange: str) -> Sequence[Mapping[str, Any]]:
        def read(kite: KiteConnect) -> list[dict[str, Any]]:
            rows: list[dict[str, Any]] = kite.instruments(exchange)
            return rows

        return self._call("instruments", self._other_pace, read)

    def last_prices(self, keys: Sequence[Key]) -> Mapping[Key, LastPrice]:
        def read(kite: KiteConnect) -> dict[Key, LastPrice]:
            asked_at = self._clock.now()
            answer = kite.ltp([format_key(key) for key in keys])
            return {
                parse_key(text): LastPrice(paise_from_broker(row["last_price"]), asked_at)
                for text, row in answer.items()
            }

        return self._call("ltp", self._quote_pace, read)

    def quotes(self, keys: Sequence[Key]) -> Mapping[Key, tuple[LastPrice, DayQuote]]:
        def read(kite: KiteConnect) -> dict[Key, tuple[LastPrice, DayQuote]]:
            asked_at = self._clock.now()
            answer = kite.quote([format_key(key) for key in keys])
            return {
                parse_key(text): (LastPrice(paise_from_broker(row["last_price"]), asked_at), _day_quote(row, asked_at))
                for text, row in answer.items()
            }

        return self._call("quote", self._quote_pace, read)

    def day_candles(self, instrument_token: int, first: date, last: date) -> Sequence[DayCandle]:
        def read(kite: KiteConnect) -> list[DayCandle]:
            rows = kite.historical_data(instrument_token, first.isoformat(), last.isoformat(), "day")
            return [
                DayCandle(
                    on=row["date"].date(),
                    open_paise=paise_from_broker(row["open"]),
                    high_paise=paise_from_broker(row["high"]),
                    low_paise=paise_from_broker(row["low"]),
                    close_paise=paise_from_broker(row["close"]),
                    volume=int(row["volume"]),
                )
                for row in rows
            ]

        return self._call("candles", self._candle_pace, read)

    def intraday_candles(
        self, instrument_token: int, interval: str, first: date, last: date
    ) -> Sequence[IntradayCandle]:
        def read(kite: KiteConnect) -> list[IntradayCandle]:
            begin, end = f"{first.isoformat()} 00:00:00", f"{last.isoformat()} 23:59:59"
            return [
                IntradayCandle(
                    at=row["date"].astimezone(UTC),
                    open_paise=paise_from_broker(row["open"]),
                    high_paise=paise_from_broker(row["high"]),
                    low_paise=paise_from_broker(row["low"]),
                    close_paise=paise_from_broker(row["close"]),
                    volume=int(row["volume"]),
                )
                for row in kite.historical_data(instrument_token, begin, end, interval)
            ]

        return self._call("candles", self._candle_pace, read)

    def _call(self, name: str, pace: Pace, work: Callable[[KiteConnect], T]) -> T:
        kite = self._client()
        try:
            return self._once(name, pace, kite, work)
        except TokenException:
            self._forget(kite)
        # The executor may have logged in again since: one more try with what it holds now.
        fresh = self._client()
        try:
            return self._once(name, pace, fresh, work)
        except TokenException as error:
            self._forget(fresh)
            raise NoBrokerSession("The broker refuses the session; the operator has to log in again.") from error

    def _once(self, name: str, pace: Pace, kite: KiteConnect, work: Callable[[KiteConnect], T]) -> T:
        with pace.turn():
            outcome = "error"
            try:
                with metrics.broker_seconds.labels(NAME, name).time():
                    answer = work(kite)
                outcome = "ok"
                return answer
            except TokenException:
                outcome = "token_refused"
                raise
            except (KiteException, RequestException, *STRAY_ERRORS) as error:
                raise BrokerReadFailed(
                    f"The broker did not answer the read of {name}; try again shortly.", cause=type(error).__name__
                ) from error
            finally:
                metrics.broker_calls.labels(NAME, name, outcome).inc()

    def _client(self) -> KiteConnect:
        with self._lock:
            if self._kite is None:
                if time.monotonic() < self._no_session_until:
                    raise NoBrokerSession(NO_SESSION)
                try:
                    session = self._sessions.current()
                except NoBrokerSession:
                    self._no_session_until = time.monotonic() + NO_SESSION_PAUSE_S
                    raise
                self._kite = KiteConnect(
                    session.api_key, session.access_token, root=session.root_url, timeout=TIMEOUT_S
                )
                # A proxy from the environment must not stand between us and a broker on this machine.
                self._kite.reqsession.trust_env = urlsplit(session.root_url).hostname not in LOOPBACK
                log.info("broker.session_taken", root=session.root_url)
            return self._kite

    def _forget(self, refused: KiteConnect) -> None:
        with self._lock:
            if self._kite is refused:
                self._kite = None
        log.warning("broker.session_refused")


def _day_quote(row: Mapping[str, Any], at: Any) -> DayQuote:
    ohlc = row["ohlc"]
    # Index rows carry neither volume nor limits.
    lower, upper = row.get("lower_circuit_limit"), row.get("upper_circuit_limit")
    has_band = bool(lower) and bool(upper)
    return DayQuote(
        open_paise=paise_from_broker(ohlc["open"]),
        high_paise=paise_from_broker(ohlc["high"]),
        low_paise=paise_from_broker(ohlc["low"]),
        close_paise=paise_from_broker(ohlc["close"]),
        volume=int(row.get("volume") or 0),
        lower_band_paise=paise_from_broker(lower) if has_band and lower is not None else None,
        upper_band_paise=paise_from_broker(upper) if has_band and upper is not None else None,
        at=at,
    )
