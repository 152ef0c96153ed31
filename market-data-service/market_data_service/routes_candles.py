"""Candles: daily ones, stored; shorter intervals as the broker has them at the moment."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from common.auth import User
from common.clock import DayInput, to_ist, trading_date
from common.db import Database
from common.dependencies import ClockDep, DatabaseDep
from market_data_service.adjustment import Action, as_traded
from market_data_service.asking import MarketDep, SourceDep, key_of, listing_of
from market_data_service.candle_spans import Span
from market_data_service.candles import InvalidSpan, day_candles, wanted_span
from market_data_service.corporate_actions import actions_of
from market_data_service.instruments import Key
from market_data_service.schemas import (
    CandleAnswer,
    CandlesAnswer,
    IntradayCandleAnswer,
    IntradayCandlesAnswer,
    UndoneAnswer,
)
from market_data_service.source import INTRADAY_SPAN_DAYS_MAX, DayCandle, IntradayCandle

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
    adjusted: Annotated[
        bool, Query(description="False: as traded on the day, the splits and bonus issues known here taken out")
    ] = True,
) -> CandlesAnswer | IntradayCandlesAnswer:
    """Candles, oldest first, adjusted for splits and bonus issues as the broker does it, or as traded on the day
    (`adjusted=false`); today's daily one is of the moment.

    Days per request: 4,000 of daily candles; 60 of `minute`, 100 of 3 to 10 minutes, 200 of 15 and 30, 400 of 60.
    """
    listing = listing_of(market, key_of(exchange, symbol))
    today = trading_date(clock.now())
    end = min(last or today, today)
    if interval != "day":
        span = _intraday_span(interval, first or end, end)
        read = source.intraday_candles(listing.instrument_token, interval, span.first, span.last)
        traded = as_traded(read, [today] * len(read), _to_undo(db, listing.key, adjusted))
        return IntradayCandlesAnswer(
            exchange=listing.exchange,
            tradingsymbol=listing.tradingsymbol,
            interval=interval,
            first=span.first,
            last=span.last,
            adjusted=adjusted,
            undone=_undone(traded.undone),
            candles=[_intraday(candle) for candle in traded.candles],
        )
    answer = day_candles(db, source, clock, listing, wanted_span(first or end - DEFAULT_SPAN, end, today))
    days = as_traded(answer.candles, answer.read_on, _to_undo(db, listing.key, adjusted))
    return CandlesAnswer(
        exchange=listing.exchange,
        tradingsymbol=listing.tradingsymbol,
        interval=interval,
        first=answer.span.first,
        last=answer.span.last,
        is_complete=answer.is_complete,
        adjusted=adjusted,
        undone=_undone(days.undone),
        candles=[_daily(candle) for candle in days.candles],
    )


def _intraday_span(interval: str, first: date, last: date) -> Span:
    """The days of a request; raises InvalidSpan."""
    if first > last:
        raise InvalidSpan("`from` must not be after `to` or in the future.")
    most = INTRADAY_SPAN_DAYS_MAX[interval]
    if (last - first).days >= most:
        raise InvalidSpan(f"At most {most} days of {interval} candles at once; ask for a shorter span.", days_max=most)
    return Span(first, last)


def _to_undo(db: Database, key: Key, adjusted: bool) -> Sequence[Action]:
    if adjusted:
        return ()
    with db.session() as session:
        return actions_of(session, key)


def _undone(actions: Sequence[Action]) -> list[UndoneAnswer]:
    return [
        UndoneAnswer(
            ex_date=action.ex_date, kind=action.kind, new_shares=action.new_shares, old_shares=action.old_shares
        )
        for action in actions
    ]


def _daily(candle: DayCandle) -> CandleAnswer:
    return CandleAnswer(
        date=candle.on,
        open=candle.open_paise,
        high=candle.high_paise,
        low=candle.low_paise,
        close=candle.close_paise,
        volume=candle.volume,
    )


def _intraday(candle: IntradayCandle) -> IntradayCandleAnswer:
    return IntradayCandleAnswer(
        time=to_ist(candle.at).isoformat(),
        open=candle.open_paise,
        high=candle.high_paise,
        low=candle.low_paise,
        close=candle.close_paise,
        volume=candle.volume,
    )
