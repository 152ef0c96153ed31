"""What the routes share: the process's market, instruments named in a query, and who may ask."""

from collections.abc import Iterable, Sequence
from typing import Annotated

from fastapi import Depends, Request

from common.auth import Authenticator, bearer_token
from common.errors import Forbidden, NotFound, Unavailable, Unprocessable
from market_data_service.config import Settings
from market_data_service.instruments import EXCHANGES, Key, Listing, MalformedKey, parse_key
from market_data_service.market import Market
from market_data_service.source import QuoteSource

USER_KEYS_MAX = 50
"""Instruments in one request of a user (feature I13)."""
SERVICE_KEYS_MAX = 500
CALLERS = frozenset(
    {
        "api-gateway",
        "user-service",
        "portfolio-service",
        "smallcase-service",
        "trade-executor",
        "strategy-service",
        "notification-service",
        "analytics-service",
    }
)
"""Rooms that may ask internally: every other one, for these are facts of the market and nobody's secret."""


class UnknownInstrument(NotFound):
    """No such tradingsymbol on that exchange."""


class InstrumentKeyInvalid(Unprocessable):
    """An instrument is not named in the form EXCHANGE:TRADINGSYMBOL."""


class TooManyInstruments(Unprocessable):
    """More instruments in one request than allowed."""


class InstrumentsNotLoaded(Unavailable):
    """The instrument file has never been loaded: whether a symbol exists is not known."""


async def _market(request: Request) -> Market:
    market: Market = request.app.state.market
    return market


async def _source(request: Request) -> QuoteSource:
    source: QuoteSource = request.app.state.source
    return source


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


MarketDep = Annotated[Market, Depends(_market)]
SourceDep = Annotated[QuoteSource, Depends(_source)]
SettingsDep = Annotated[Settings, Depends(_settings)]


async def calling_room(request: Request) -> str:
    """Dependency: one of our rooms calls with its own token. On the event loop: keys are in memory, nothing waits."""
    auth: Authenticator = request.app.state.auth
    caller = auth.service(bearer_token(request))
    if caller not in CALLERS:
        raise Forbidden("This room may not call this route.")
    return caller


def keys_of(texts: Sequence[str], most: int) -> list[Key]:
    """The keys a request names, without repeats; raises InstrumentKeyInvalid or TooManyInstruments."""
    if not texts:
        raise InstrumentKeyInvalid("Name at least one instrument, such as NSE:INFY.")
    if len(texts) > most:
        raise TooManyInstruments(f"At most {most} instruments in one request, got {len(texts)}.", most=most)
    try:
        return list(dict.fromkeys(parse_key(text) for text in texts))
    except MalformedKey as error:
        raise InstrumentKeyInvalid(f"{error}.") from None


def key_of(exchange: str, tradingsymbol: str) -> Key:
    """The key a path names; raises UnknownInstrument for what cannot be one."""
    try:
        return parse_key(f"{exchange}:{tradingsymbol}")
    except MalformedKey:
        raise UnknownInstrument(
            f"{exchange}:{tradingsymbol} is no instrument; exchanges are {', '.join(sorted(EXCHANGES))}."
        ) from None


def listing_of(market: Market, key: Key) -> Listing:
    """A known instrument, active or not; raises UnknownInstrument or InstrumentsNotLoaded."""
    require_instruments(market)
    listing = market.instruments.get(key)
    if listing is None:
        raise UnknownInstrument(
            f"{key[0]}:{key[1]} is not known; search with GET /api/v1/tokens/search.", tradingsymbol=key[1]
        )
    return listing


def require_instruments(market: Market) -> None:
    """Raise InstrumentsNotLoaded while nothing is known: an empty answer would read as 'no such share'."""
    if not len(market.instruments):
        raise InstrumentsNotLoaded("The instruments are not loaded yet; try again in a moment.")


def want_prices(market: Market, keys: Iterable[Key]) -> None:
    """Have active instruments among `keys` polled from now on."""
    market.prices.want(
        key for key in keys if (listing := market.instruments.get(key)) is not None and listing.is_active
    )
