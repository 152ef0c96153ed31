"""Daily candles."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from common.auth import User
from common.clock import DayInput, trading_date
from common.dependencies import ClockDep, DatabaseDep
from market_data_service.asking import MarketDep, SourceDep, key_of, listing_of
from market_data_service.candles import day_candles, wanted_span
from market_data_service.schemas import CandleAnswer, CandlesAnswer

router = APIRouter(prefix="/api/v1/candles", tags=["candles"])

DEFAULT_SPAN = timedelta(days=365)


@router.get("/{exchange}/{symbol}")
def candles(
    exchange: str,
    symbol: str,
    user: User,
    db: DatabaseDep,
    market: MarketDep,
    source: SourceDep,
    clock: ClockDep,
    interval: Literal["day"] = "day",
    first: Annotated[
        DayInput | None, Query(alias="from", description="First day (IST); default a year before `to`")
    ] = None,
    last: Annotated[DayInput | None, Query(alias="to", description="Last day (IST); default and at most today")] = None,
) -> CandlesAnswer:
    """Daily candles, oldest first, adjusted for splits as the broker does it; today's is of the moment."""
    listing = listing_of(market, key_of(exchange, symbol))
    today = trading_date(clock.now())
    end = min(last or today, today)
    answer = day_candles(db, source, clock, listing, wanted_span(first or end - DEFAULT_SPAN, end, today))
    return CandlesAnswer(
        exchange=listing.exchange,
        tradingsymbol=listing.tradingsymbol,
        interval=interval,
        first=answer.span.first,
        last=answer.span.last,
        is_complete=answer.is_complete,
        candles=[
            CandleAnswer(
                date=candle.on,
                open=candle.open_paise,
                high=candle.high_paise,
                low=candle.low_paise,
                close=candle.close_paise,
                volume=candle.volume,
            )
            for candle in answer.candles
        ],
    )
