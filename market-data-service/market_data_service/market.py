"""What one process knows of the market: instruments, prices, calendar, sessions, and how the feed is doing.

One object, shared by the app and the loops of a process; all of it lives in memory, so questions never wait.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Literal

from common.clock import to_ist, trading_date
from market_data_service.calendar import TradingCalendar
from market_data_service.calendar_files import load_calendar_table, load_session_rules
from market_data_service.config import Settings
from market_data_service.exchange_holidays import XbomHolidays
from market_data_service.instruments import InstrumentBook, Key, Listing, parse_key
from market_data_service.prices import WANTED_MAX, PriceBook
from market_data_service.sessions import MarketSession, SessionRules, session_at

FeedState = Literal["starting", "ok", "no_broker_session", "broker_unavailable", "unknown"]
MIDNIGHT = time(0, 0)


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """How reading from the broker went last."""

    state: FeedState = "starting"
    since: datetime | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class LoadStatus:
    """The newest attempt to load an exchange's instrument file, and when one last succeeded."""

    outcome: str
    at: datetime
    detail: str | None
    loaded_at: datetime | None


@dataclass(slots=True)
class Feed:
    """The state of the feed; its members are replaced as a whole."""

    status: FeedStatus = field(default_factory=FeedStatus)
    loads: Mapping[str, LoadStatus] = field(default_factory=dict)

    def report(self, state: FeedState, at: datetime, detail: str | None = None) -> bool:
        """Note the outcome of a read; true when the state is another than before."""
        if self.status.state == state:
            return False
        self.status = FeedStatus(state, at, detail)
        return True


@dataclass(frozen=True)
class Market:
    """The shared memory of a process. `bands_from` is the IST time from which the broker shows today's price bands."""

    instruments: InstrumentBook
    prices: PriceBook
    calendar: TradingCalendar
    rules: SessionRules
    feed: Feed
    bands_from: time
    refreshing: threading.Lock = field(default_factory=threading.Lock)
    """Held while tables are read into this memory, so that the later read is the one that stays."""

    @classmethod
    def create(cls, settings: Settings) -> "Market":
        """An empty market with the packaged calendar; reads data files, connects to nothing."""
        always_open = settings.market_calendar == "always_open"
        return cls(
            instruments=InstrumentBook(),
            prices=PriceBook(),
            calendar=TradingCalendar(settings.market_calendar, load_calendar_table(), XbomHolidays()),
            rules=load_session_rules(),
            feed=Feed(),
            # A market that never closes begins its day, and with it its bands, at midnight.
            bands_from=MIDNIGHT if always_open else settings.load_at,
        )

    def session(self, at: datetime, key: Key | None = None) -> MarketSession:
        """The session at `at`, for one share or for the market (then: of the shares that stop trading first)."""
        exchange, symbol = key if key is not None else (None, None)
        return session_at(self.calendar, self.rules, at, exchange=exchange, tradingsymbol=symbol)

    def band_date(self, now: datetime) -> date | None:
        """The date whose price bands bind an order given now; None while they are not known yet (market closed)."""
        today = trading_date(now)
        return today if self.session(now).trading_date == today else None

    def bands(self, listing: Listing, on: date | None) -> tuple[int | None, int | None]:
        """The price band (lower, upper) in paise of the date `on` (see band_date); (None, None): not known."""
        if on is None:
            return None, None
        quote = self.prices.quote(listing.key)
        if quote is not None and quote.lower_band_paise is not None and self.shows_bands_of(quote.at) == on:
            return quote.lower_band_paise, quote.upper_band_paise
        if listing.bands_on == on:
            return listing.lower_band_paise, listing.upper_band_paise
        return None, None

    def shows_bands_of(self, at: datetime) -> date | None:
        """The date whose bands a quote taken at `at` carries; None early in the morning, when it is unclear."""
        local = to_ist(at)
        return local.date() if local.time() >= self.bands_from else None

    def polled_keys(self, settings: Settings) -> list[Key]:
        """The instruments to keep priced: the watch list, all shares if they are few, otherwise those asked for."""
        keys = dict.fromkeys(parse_key(text) for text in settings.watch_list)
        equities = self.instruments.active_equities()
        if len(equities) <= settings.watch_all_max:
            keys.update(dict.fromkeys(listing.key for listing in equities))
        keys.update(dict.fromkeys(sorted(self.prices.wanted())))
        return [key for key in keys if self._is_listed(key)][:WANTED_MAX]

    def calendar_warnings(self, now: datetime) -> list[str]:
        """What an operator should know about the calendar; imports the library, so not for hot paths."""
        if self.calendar.mode == "always_open":
            return []
        year = trading_date(now).year + 1
        if self.calendar.is_published(year):
            return []
        return [f"The exchange's holiday list of {year} is not known yet; only provisional rows are in force."]

    def _is_listed(self, key: Key) -> bool:
        listing = self.instruments.get(key)
        return listing is not None and listing.is_active
