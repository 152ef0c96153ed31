"""Candles: daily ones, stored; shorter intervals as the broker has them at the moment."""

from datetime import date, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from common.auth import User
from common.clock import DayInput, to_ist, trading_date
from common.dependencies import ClockDep, DatabaseDep
from market_data_service.asking import MarketDep, SourceDep, key_of, listing_of
from market_data_service.candles import InvalidSpan, day_candles, wanted_span
from market_data_service.instruments import Listing
from market_data_service.schemas import CandleAnswer, CandlesAnswer, IntradayCandleAnswer, IntradayCandlesAnswer
from market_data_service.source import INTRADAY_SPAN_DAYS_MAX, QuoteSource

router = APIRouter(prefix="/api/v1/candles", tags=["candles"])

DEFAULT_SPAN = timedelta(days=365)
Interval = Literal["minute", "3minute", "5minute", "10minute", "15minute", "30minute", "60minute", "day"]
"""The broker's own names (kite-connect.md section 4.5)."""


@router.get("/{exchange}/{symbol}")
def candles(
    exchange: str,
    symbol: str,
    user: User,
    db: DatabaseDep,
    market: MarketDep,
    source: SourceDep,
    clock: ClockDep,
    interval: Interval = "day",
    first: Annotated[
        DayInput | None,
        Query(alias="from", description="First day (IST); default a year before `to`, or `to` for shorter intervals"),
    ] = None,
    last: Annotated[DayInput | None, Query(alias="to", description="Last day (IST); default and at most today")] = None,
) -> CandlesAnswer | IntradayCandlesAnswer:
    """Candles, oldest first, adjusted for splits as the broker does it; today's daily one is of the moment.

    Days per request: 4,000 of daily candles; 60 of `minute`, 100 of 3 to 10 minutes, 200 of 15 and 30, 400 of 60.
    """
    listing = listing_of(market, key_of(exchange, symbol))
    today = trading_date(clock.now())
    end = min(last or today, today)
    if interval != "day":
        return _intraday(source, listing, interval, first or end, end)
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


def _intraday(source: QuoteSource, listing: Listing, interval: str, first: date, last: date) -> IntradayCandlesAnswer:
    """Read from the broker; raises InvalidSpan, NoBrokerSession or BrokerReadFailed."""
    if first > last:
        raise InvalidSpan("`from` must not be after `to` or in the future.")
    most = INTRADAY_SPAN_DAYS_MAX[interval]
    if (last - first).days >= most:
        raise InvalidSpan(f"At most {most} days of {interval} candles at once; ask for a shorter span.", days_max=most)
    candles = source.intraday_candles(listing.instrument_token, interval, first, last)
    return IntradayCandlesAnswer(
        exchange=listing.exchange,
        tradingsymbol=listing.tradingsymbol,
        interval=interval,
        first=first,
        last=last,
        candles=[
            IntradayCandleAnswer(
                time=to_ist(candle.at).isoformat(),
                open=candle.open_paise,
                high=candle.high_paise,
                low=candle.low_paise,
                close=candle.close_paise,
                volume=candle.volume,
            )
            for candle in candles
        ],
    )
