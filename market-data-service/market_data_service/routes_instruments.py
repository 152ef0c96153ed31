"""Instruments: search, look up, load again."""

from dataclasses import asdict
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query

from common.auth import AdminUser, User
from common.dependencies import ClockDep, DatabaseDep
from common.errors import Conflict
from market_data_service.asking import (
    USER_KEYS_MAX,
    MarketDep,
    SettingsDep,
    SourceDep,
    key_of,
    keys_of,
    listing_of,
    require_instruments,
)
from market_data_service.instruments import Listing, format_key
from market_data_service.loader import LOADED, load_exchange
from market_data_service.market import Market
from market_data_service.mirror import DatabaseMirror
from market_data_service.schemas import InstrumentAnswer, InstrumentsAnswer, LoadAnswer, LoadsAnswer, ReloadRequest

router = APIRouter(prefix="/api/v1", tags=["instruments"])

SEARCH_LIMIT_MAX = 50


class InstrumentFileImplausible(Conflict):
    """The broker's file cannot be whole; the instruments known so far stay in force."""


@router.get("/tokens/search")
def search(
    user: User,
    market: MarketDep,
    clock: ClockDep,
    q: Annotated[str, Query(min_length=1, max_length=64, pattern=r"\S")],
    limit: Annotated[int, Query(ge=1, le=SEARCH_LIMIT_MAX)] = 20,
) -> InstrumentsAnswer:
    """Find instruments by the beginning of the symbol or a part of the name; the best match comes first."""
    require_instruments(market)
    on = market.band_date(clock.now())
    found = market.instruments.search(q, limit)
    return InstrumentsAnswer(instruments=[_answer(market, listing, on) for listing in found])


@router.get("/instruments")
def instruments(
    user: User,
    market: MarketDep,
    clock: ClockDep,
    symbols: Annotated[str, Query(min_length=1, max_length=4_000, examples=["NSE:INFY,NSE:TCS"])],
) -> InstrumentsAnswer:
    """Look up at most 50 instruments, separated by commas."""
    require_instruments(market)
    on = market.band_date(clock.now())
    keys = keys_of(symbols.split(","), USER_KEYS_MAX)
    found = {key: market.instruments.get(key) for key in keys}
    return InstrumentsAnswer(
        instruments=[_answer(market, listing, on) for listing in found.values() if listing is not None],
        unknown=[format_key(key) for key, listing in found.items() if listing is None],
    )


@router.get("/instruments/{exchange}/{tradingsymbol}")
def instrument(exchange: str, tradingsymbol: str, user: User, market: MarketDep, clock: ClockDep) -> InstrumentAnswer:
    """One instrument; one that is no longer listed answers with `is_active` false."""
    listing = listing_of(market, key_of(exchange, tradingsymbol))
    return _answer(market, listing, market.band_date(clock.now()))


@router.post("/market/instruments/reload")
def reload(
    admin: AdminUser,
    db: DatabaseDep,
    market: MarketDep,
    source: SourceDep,
    clock: ClockDep,
    settings: SettingsDep,
    body: ReloadRequest | None = None,
) -> LoadsAnswer:
    """Load the broker's instrument files now. A file that cannot be whole is refused with 409 and changes nothing."""
    accept = body is not None and body.accept_fewer_rows
    loads = [
        load_exchange(db, source, clock, exchange, requested_by=admin.user_id, accept_fewer_rows=accept)
        for exchange in settings.exchanges
    ]
    DatabaseMirror(db, market).refresh(clock.now())
    refused = [load for load in loads if load.outcome != LOADED]
    if refused:
        raise InstrumentFileImplausible(
            " ".join(load.detail or "" for load in refused)
            + " Check the broker's file; accept_fewer_rows takes it all the same.",
            exchanges=[load.exchange for load in refused],
        )
    return LoadsAnswer(loads=[LoadAnswer(**asdict(load)) for load in loads])


def _answer(market: Market, listing: Listing, on: date | None) -> InstrumentAnswer:
    lower, upper = market.bands(listing, on)
    return InstrumentAnswer(
        exchange=listing.exchange,
        tradingsymbol=listing.tradingsymbol,
        name=listing.name,
        isin=listing.isin,
        instrument_token=listing.instrument_token,
        exchange_token=listing.exchange_token,
        tick_size=listing.tick_paise,
        lot_size=listing.lot_size,
        segment=listing.segment,
        instrument_type=listing.instrument_type,
        is_active=listing.is_active,
        is_tradable=listing.is_tradable,
        lower_circuit_limit=lower,
        upper_circuit_limit=upper,
    )
