"""Last prices, quotes, and the state of the market."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query

from common.auth import User
from common.dependencies import ClockDep
from common.errors import Unavailable
from market_data_service.asking import (
    USER_KEYS_MAX,
    MarketDep,
    SettingsDep,
    key_of,
    keys_of,
    listing_of,
    require_instruments,
    want_prices,
)
from market_data_service.config import Settings
from market_data_service.instruments import Key, format_key
from market_data_service.market import Market
from market_data_service.prices import LastPrice
from market_data_service.schemas import PriceAnswer, PricesAnswer, QuoteAnswer, QuotesAnswer, StatusAnswer

router = APIRouter(prefix="/api/v1/market", tags=["market"])

KeysQuery = Annotated[list[str], Query(alias="i", examples=[["NSE:INFY", "NSE:TCS"]])]


class PriceMissing(Unavailable):
    """The instrument is known and has no price yet; it is polled from now on."""


@router.get("/ltp/{symbol}")
def last_price(
    symbol: str,
    user: User,
    market: MarketDep,
    clock: ClockDep,
    settings: SettingsDep,
    exchange: Annotated[str, Query(max_length=8)] = "NSE",
) -> PriceAnswer:
    """The last price of one instrument: a symbol of the NSE, or `EXCHANGE:SYMBOL`."""
    named, colon, rest = symbol.partition(":")
    listing = listing_of(market, key_of(named, rest) if colon else key_of(exchange, symbol))
    want_prices(market, [listing.key])
    price = market.prices.price(listing.key)
    if price is None:
        raise PriceMissing(f"{listing.tradingsymbol} has no price yet; try again in a moment.")
    return _price(listing.key, price, clock.now(), settings)


@router.get("/ltp")
def last_prices(i: KeysQuery, user: User, market: MarketDep, clock: ClockDep, settings: SettingsDep) -> PricesAnswer:
    """Last prices of at most 50 instruments."""
    priced, missing, unknown = _priced(market, i)
    now = clock.now()
    return PricesAnswer(
        prices=[_price(key, price, now, settings) for key, price in priced.items()], missing=missing, unknown=unknown
    )


@router.get("/quotes")
def quotes(i: KeysQuery, user: User, market: MarketDep, clock: ClockDep, settings: SettingsDep) -> QuotesAnswer:
    """Last prices with the day's figures and price bands of at most 50 instruments."""
    priced, missing, unknown = _priced(market, i)
    now = clock.now()
    return QuotesAnswer(
        quotes=[_quote(market, key, price, now, settings) for key, price in priced.items()],
        missing=missing,
        unknown=unknown,
    )


@router.get("/status")
def status(user: User, market: MarketDep, clock: ClockDep, i: Annotated[str | None, Query()] = None) -> StatusAnswer:
    """Whether the market is open now. `i=NSE:INFY` asks for one share: the day's end differs by share since Aug 2026."""
    now = clock.now()
    key = listing_of(market, keys_of([i], 1)[0]).key if i is not None else None
    session = market.session(now, key)
    return StatusAnswer(
        is_open=session.is_open,
        phase=session.phase,
        share_class=session.share_class,
        trading_date=session.trading_date,
        opens_at=session.opens_at,
        closes_at=session.closes_at,
        next_open_at=session.next_open_at,
        next_trading_date=session.next_trading_date,
        calendar=market.calendar.mode,
        feed=market.feed.status.state,
        now=now,
    )


def _priced(market: Market, texts: list[str]) -> tuple[dict[Key, LastPrice], list[str], list[str]]:
    """Prices by key, known instruments without one, unknown ones."""
    keys = keys_of(texts, USER_KEYS_MAX)
    require_instruments(market)
    known = [key for key in keys if market.instruments.get(key) is not None]
    want_prices(market, known)
    priced = {key: price for key in known if (price := market.prices.price(key)) is not None}
    missing = [format_key(key) for key in known if key not in priced]
    return priced, missing, [format_key(key) for key in keys if key not in known]


def _price(key: Key, price: LastPrice, now: datetime, settings: Settings) -> PriceAnswer:
    return PriceAnswer(
        exchange=key[0],
        tradingsymbol=key[1],
        last_price=price.price_paise,
        at=price.at,
        is_stale=now - price.at > timedelta(seconds=settings.stale_after_s),
    )


def _quote(market: Market, key: Key, price: LastPrice, now: datetime, settings: Settings) -> QuoteAnswer:
    day = market.prices.quote(key)
    listing = listing_of(market, key)
    lower, upper = market.bands(listing, market.band_date(now))
    return QuoteAnswer(
        **_price(key, price, now, settings).model_dump(mode="python"),
        open=day.open_paise if day else None,
        high=day.high_paise if day else None,
        low=day.low_paise if day else None,
        previous_close=day.close_paise if day else None,
        change=price.price_paise - day.close_paise if day else None,
        volume=day.volume if day else None,
        lower_circuit_limit=lower,
        upper_circuit_limit=upper,
        day_at=day.at if day else None,
    )
