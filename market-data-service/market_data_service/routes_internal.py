"""What other rooms ask: `common.market_data` is the other end. Amounts in paise.

The three hot routes run on the event loop and answer from memory: they must not wait for a thread while every thread
waits for the database.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse

from common.clock import Clock, DayInput, trading_date
from common.dependencies import ClockDep, DatabaseDep
from market_data_service.asking import (
    SERVICE_KEYS_MAX,
    MarketDep,
    SourceDep,
    calling_room,
    keys_of,
    listing_of,
    require_instruments,
    want_prices,
)
from market_data_service.candle_histories import HISTORY_KEYS_MAX, CandleBacklog, final_span, stored_histories
from market_data_service.candles import day_candles, wanted_span
from market_data_service.market import Market

router = APIRouter(prefix="/internal/v1", tags=["internal"], dependencies=[Depends(calling_room)])

KeysQuery = Annotated[list[str], Query(alias="i")]


def _state(request: Request) -> tuple[Market, Clock]:
    return request.app.state.market, request.app.state.clock


@router.get("/instruments")
async def instruments(request: Request, i: KeysQuery) -> JSONResponse:
    """Tradable instruments among those asked for, with today's price bands; others are absent."""
    market, clock = _state(request)
    require_instruments(market)
    on = market.band_date(clock.now())
    rows: list[dict[str, Any]] = []
    for key in keys_of(i, SERVICE_KEYS_MAX):
        listing = market.instruments.get(key)
        if listing is None or not listing.is_tradable:
            continue
        lower, upper = market.bands(listing, on)
        rows.append(
            {
                "exchange": listing.exchange,
                "tradingsymbol": listing.tradingsymbol,
                "name": listing.name,
                "isin": listing.isin,
                "instrument_token": listing.instrument_token,
                "tick_paise": listing.tick_paise,
                "lot_size": listing.lot_size,
                "segment": listing.segment,
                "lower_band_paise": lower,
                "upper_band_paise": upper,
            }
        )
    return JSONResponse({"instruments": rows})


@router.get("/prices")
async def prices(request: Request, i: KeysQuery) -> JSONResponse:
    """Last prices with the instant they were seen; instruments without one are absent and polled from now on."""
    market, _ = _state(request)
    keys = keys_of(i, SERVICE_KEYS_MAX)
    want_prices(market, keys)
    found = [(key, market.prices.price(key)) for key in keys]
    return JSONResponse(
        {
            "prices": [
                {
                    "exchange": key[0],
                    "tradingsymbol": key[1],
                    "price_paise": price.price_paise,
                    "at": price.at.isoformat(),
                }
                for key, price in found
                if price is not None
            ]
        }
    )


@router.get("/session")
async def session(request: Request, i: Annotated[str | None, Query()] = None) -> JSONResponse:
    """The session now: of one share (`i=NSE:INFY`), or of those shares that stop trading first."""
    market, clock = _state(request)
    now = market.session(clock.now(), keys_of([i], 1)[0] if i is not None else None)
    return JSONResponse(
        {
            "is_open": now.is_open,
            "phase": now.phase,
            "opens_at": now.opens_at.isoformat(),
            "closes_at": now.closes_at.isoformat(),
            "trading_date": now.trading_date.isoformat(),
            "next_open_at": now.next_open_at.isoformat(),
            "next_trading_date": now.next_trading_date.isoformat(),
        }
    )


@router.get("/candles")
def candles(
    i: str,
    first: Annotated[DayInput, Query(alias="from")],
    last: Annotated[DayInput, Query(alias="to")],
    db: DatabaseDep,
    market: MarketDep,
    source: SourceDep,
    clock: ClockDep,
) -> dict[str, Any]:
    """Daily candles of one instrument, oldest first; on a thread, for it reads tables and may ask the broker."""
    listing = listing_of(market, keys_of([i], 1)[0])
    answer = day_candles(db, source, clock, listing, wanted_span(first, last, trading_date(clock.now())))
    return {
        "is_complete": answer.is_complete,
        "candles": [
            {
                "date": candle.on.isoformat(),
                "open_paise": candle.open_paise,
                "high_paise": candle.high_paise,
                "low_paise": candle.low_paise,
                "close_paise": candle.close_paise,
                "volume": candle.volume,
            }
            for candle in answer.candles
        ],
    }


@router.get("/histories")
def histories(
    request: Request,
    i: KeysQuery,
    first: Annotated[DayInput, Query(alias="from")],
    last: Annotated[DayInput, Query(alias="to")],
    db: DatabaseDep,
    market: MarketDep,
    clock: ClockDep,
) -> JSONResponse:
    """Stored final closes and volumes of many instruments, on common days; null where one did not trade.

    Unknown instruments are absent. What is missing is read from the broker afterwards: ask again in a moment.
    """
    require_instruments(market)
    now = clock.now()
    span = final_span(first, last, trading_date(now))
    listings = {key: listing for key in keys_of(i, HISTORY_KEYS_MAX) if (listing := market.instruments.get(key))}
    with db.session() as session:
        found = stored_histories(session, list(listings), span, now)
    backlog: CandleBacklog = request.app.state.backlog
    backlog.want({key: listings[key] for key, history in found.items() if not history.is_complete}, span)
    days = sorted({day for history in found.values() for day in history.days})
    rows = []
    for (exchange, symbol), history in found.items():
        closes = dict(zip(history.days, history.closes_paise, strict=True))
        volumes = dict(zip(history.days, history.volumes, strict=True))
        rows.append(
            {
                "exchange": exchange,
                "tradingsymbol": symbol,
                "is_complete": history.is_complete,
                "closes_paise": [closes.get(day) for day in days],
                "volumes": [volumes.get(day) for day in days],
            }
        )
    return JSONResponse({"days": [day.isoformat() for day in days], "histories": rows})
