"""What holdings and today's positions are worth, from lots, trades and last prices.

Integers in paise, percentages in basis points, ratios rounded to the nearest whole, halves to even. An amount that needs
a price nobody has is None, never zero, and so is every sum over it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Literal

from common.money import BPS_ONE
from portfolio_service.lots import Lot

InstrumentKey = tuple[str, str]
"""(exchange, tradingsymbol)"""


@dataclass(frozen=True, slots=True)
class Quote:
    """Prices of one share; None where nobody knows one."""

    last_price_paise: int | None = None
    previous_close_paise: int | None = None


UNQUOTED = Quote()


@dataclass(frozen=True, slots=True)
class HoldingRow:
    """One share held.

    `quantity` is everything held, `t1_quantity` the part of it not yet delivered, `free_quantity` what may be sold now
    (the ledger's figure). `average_price_paise` is for display; `invested_paise` is the exact cost.
    """

    exchange: str
    tradingsymbol: str
    quantity: int
    t1_quantity: int
    free_quantity: int
    average_price_paise: int
    invested_paise: int
    last_price_paise: int | None
    value_paise: int | None
    pnl_paise: int | None
    pnl_bps: int | None
    day_change_paise: int | None
    day_change_bps: int | None


@dataclass(frozen=True, slots=True)
class HoldingsTotal:
    """Sums over holdings; `unpriced` rows make every figure that needs a price None."""

    invested_paise: int
    value_paise: int | None
    pnl_paise: int | None
    pnl_bps: int | None
    day_change_paise: int | None
    unpriced: int


def holding_rows(
    lots: Mapping[InstrumentKey, Sequence[Lot]],
    *,
    free_quantities: Mapping[InstrumentKey, int],
    quotes: Mapping[InstrumentKey, Quote],
    unsettled_since: date,
) -> list[HoldingRow]:
    """One row per share with lots, by symbol.

    Lots acquired on or after `unsettled_since` are T1: on a trading day that is the last trading day before it (T+1
    settlement pays out in the course of the day). Bought today they are T1 as well; leave them out of `lots` where
    today's buys are shown as positions. A share without an entry in `free_quantities` has nothing free.
    """
    return [
        _holding_row(key, lots[key], free_quantities.get(key, 0), quotes.get(key, UNQUOTED), unsettled_since)
        for key in sorted(lots, key=lambda key: (key[1], key[0]))
        if lots[key]
    ]


def _holding_row(
    key: InstrumentKey, lots: Sequence[Lot], free_quantity: int, quote: Quote, unsettled_since: date
) -> HoldingRow:
    quantity = sum(lot.quantity for lot in lots)
    invested_paise = sum(lot.cost_paise for lot in lots)
    last, close = quote.last_price_paise, quote.previous_close_paise
    value_paise = _times(quantity, last)
    pnl_paise = None if value_paise is None else value_paise - invested_paise
    change_each = None if last is None or close is None else last - close
    return HoldingRow(
        exchange=key[0],
        tradingsymbol=key[1],
        quantity=quantity,
        t1_quantity=sum(lot.quantity for lot in lots if lot.acquired_on >= unsettled_since),
        free_quantity=free_quantity,
        average_price_paise=round(Fraction(invested_paise, quantity)),
        invested_paise=invested_paise,
        last_price_paise=last,
        value_paise=value_paise,
        pnl_paise=pnl_paise,
        pnl_bps=_bps(pnl_paise, invested_paise),
        day_change_paise=_times(quantity, change_each),
        day_change_bps=_bps(change_each, close or 0),
    )


def holdings_total(rows: Sequence[HoldingRow]) -> HoldingsTotal:
    """Sums over `rows`; no holdings are worth zero."""
    invested_paise = sum(row.invested_paise for row in rows)
    pnl_paise = _sum_known(row.pnl_paise for row in rows)
    return HoldingsTotal(
        invested_paise=invested_paise,
        value_paise=_sum_known(row.value_paise for row in rows),
        pnl_paise=pnl_paise,
        pnl_bps=_bps(pnl_paise, invested_paise),
        day_change_paise=_sum_known(row.day_change_paise for row in rows),
        unpriced=sum(row.last_price_paise is None for row in rows),
    )


@dataclass(frozen=True, slots=True)
class DayTrade:
    """Shares of one instrument and product bought or sold today for `value_paise`."""

    exchange: str
    tradingsymbol: str
    product: str
    side: Literal["BUY", "SELL"]
    quantity: int
    value_paise: int


@dataclass(frozen=True, slots=True)
class PositionRow:
    """Today's flow in one instrument and product, with Kite's arithmetic.

    `quantity` = bought - sold (negative: short, or delivered shares sold today), `value_paise` = sell value - buy
    value, `pnl_paise` = value + quantity * last price. Kite reports realised 0 and unrealised = pnl; here what was
    bought and sold again is realised at average prices, and both add up to the pnl. Prices per share are for display.
    """

    exchange: str
    tradingsymbol: str
    product: str
    quantity: int
    buy_quantity: int
    buy_value_paise: int
    buy_price_paise: int | None
    sell_quantity: int
    sell_value_paise: int
    sell_price_paise: int | None
    average_price_paise: int | None
    last_price_paise: int | None
    value_paise: int
    pnl_paise: int | None
    realised_paise: int
    unrealised_paise: int | None


def position_rows(trades: Iterable[DayTrade], quotes: Mapping[InstrumentKey, Quote]) -> list[PositionRow]:
    """One row per instrument and product traded today, by symbol; closed positions stay with quantity 0."""
    by_position: dict[tuple[str, str, str], list[DayTrade]] = {}
    for trade in trades:
        by_position.setdefault((trade.tradingsymbol, trade.exchange, trade.product), []).append(trade)
    return [
        _position_row(of_one, quotes.get((exchange, tradingsymbol), UNQUOTED).last_price_paise)
        for (tradingsymbol, exchange, _product), of_one in sorted(by_position.items())
    ]


def _position_row(trades: Sequence[DayTrade], last_price_paise: int | None) -> PositionRow:
    buy_quantity, buy_value = _flow(trades, "BUY")
    sell_quantity, sell_value = _flow(trades, "SELL")
    net = buy_quantity - sell_quantity
    value_paise = sell_value - buy_value
    closed = min(buy_quantity, sell_quantity)
    realised_paise = _portion(sell_value, closed, sell_quantity) - _portion(buy_value, closed, buy_quantity)
    open_value = 0 if net == 0 else _times(net, last_price_paise)
    pnl_paise = None if open_value is None else value_paise + open_value
    buy_price, sell_price = _price(buy_value, buy_quantity), _price(sell_value, sell_quantity)
    return PositionRow(
        exchange=trades[0].exchange,
        tradingsymbol=trades[0].tradingsymbol,
        product=trades[0].product,
        quantity=net,
        buy_quantity=buy_quantity,
        buy_value_paise=buy_value,
        buy_price_paise=buy_price,
        sell_quantity=sell_quantity,
        sell_value_paise=sell_value,
        sell_price_paise=sell_price,
        average_price_paise=None if net == 0 else (buy_price if net > 0 else sell_price),
        last_price_paise=last_price_paise,
        value_paise=value_paise,
        pnl_paise=pnl_paise,
        realised_paise=realised_paise,
        unrealised_paise=None if pnl_paise is None else pnl_paise - realised_paise,
    )


def _flow(trades: Sequence[DayTrade], side: str) -> tuple[int, int]:
    of_side = [trade for trade in trades if trade.side == side]
    return sum(trade.quantity for trade in of_side), sum(trade.value_paise for trade in of_side)


def _portion(value_paise: int, part: int, quantity: int) -> int:
    return round(Fraction(value_paise * part, quantity)) if part else 0


def _price(value_paise: int, quantity: int) -> int | None:
    return round(Fraction(value_paise, quantity)) if quantity else None


def _times(quantity: int, each_paise: int | None) -> int | None:
    return None if each_paise is None else quantity * each_paise


def _bps(part: int | None, base: int) -> int | None:
    return None if part is None or base == 0 else round(Fraction(part * BPS_ONE, base))


def _sum_known(amounts: Iterable[int | None]) -> int | None:
    total = 0
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total
