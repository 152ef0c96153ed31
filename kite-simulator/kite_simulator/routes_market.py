"""Instruments, quotes, candles, cover-order ranges (Kite docs, market quotes and instruments, historical data)."""

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kite_simulator.access import authorised
from kite_simulator.engine import Engine, Refused
from kite_simulator.engine.clock import IST, ist_text
from kite_simulator.engine.instruments import Instrument
from kite_simulator.engine.prices import Line
from kite_simulator.engine.rendering import rupee_number
from kite_simulator.wire import engine_of, success

COLUMNS = [
    "instrument_token",
    "exchange_token",
    "tradingsymbol",
    "name",
    "last_price",
    "expiry",
    "strike",
    "tick_size",
    "lot_size",
    "instrument_type",
    "segment",
    "exchange",
]
MF_COLUMNS = (
    "tradingsymbol,amc,name,purchase_allowed,redemption_allowed,minimum_purchase_amount,purchase_amount_multiplier,"
    "minimum_additional_purchase_amount,minimum_redemption_quantity,redemption_quantity_multiplier,dividend_type,"
    "scheme_type,plan,settlement_type,last_price,last_price_date"
)
QUOTE_KEYS_MAX = 500
LTP_KEYS_MAX = 1000
TRIGGER_RANGE_BPS = 400


async def instruments(request: Request) -> Response:
    """GET /instruments and /instruments/{exchange}: CSV; numeric columns are never empty (fact sheet 4.5)."""
    engine = engine_of(request)
    exchange = request.path_params.get("exchange")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in engine.kernel.instruments.all:
        if exchange in (None, row.exchange):
            writer.writerow(
                [
                    row.token,
                    row.exchange_token,
                    row.symbol,
                    row.name,
                    "0",
                    "",
                    "0",
                    f"{row.tick_paise / 100:g}",
                    row.lot_size,
                    row.instrument_type,
                    row.segment,
                    row.exchange,
                ]
            )
    return Response(out.getvalue(), media_type="text/csv")


async def mf_instruments(request: Request) -> Response:
    """GET /mf/instruments: the header alone, no fund is offered."""
    return Response(MF_COLUMNS + "\n", media_type="text/csv")


async def quote(request: Request) -> Response:
    """GET /quote."""
    engine = engine_of(request)
    return _answer(request, QUOTE_KEYS_MAX, lambda line: _quote(engine, line))


async def ohlc(request: Request) -> Response:
    """GET /quote/ohlc."""
    return _answer(request, LTP_KEYS_MAX, lambda line: {**_ltp(line), "ohlc": _ohlc(line)})


async def ltp(request: Request) -> Response:
    """GET /quote/ltp."""
    return _answer(request, LTP_KEYS_MAX, _ltp)


async def trigger_range(request: Request) -> Response:
    """GET /instruments/trigger_range/{side}: where a cover order's trigger may lie."""
    buy = request.path_params["side"].lower() == "buy"

    def span(line: Line) -> dict[str, Any]:
        far = line.last_paise * (10_000 - TRIGGER_RANGE_BPS if buy else 10_000 + TRIGGER_RANGE_BPS) // 10_000
        low, high = sorted((line.instrument.on_tick(far), line.last_paise))
        return {"instrument_token": 0, "lower": rupee_number(low), "upper": rupee_number(high)}

    return _answer(request, LTP_KEYS_MAX, span)


async def historical(request: Request) -> Response:
    """GET /instruments/historical/{token}/{interval}."""
    engine = engine_of(request)
    engine.advance()
    token = request.path_params["token"]
    instrument = engine.kernel.instruments.find(token) if token.isdigit() else None
    if instrument is None:
        raise Refused("invalid token")
    query = request.query_params
    start, end = _moment(query.get("from", ""), False), _moment(query.get("to", ""), True)
    with_oi = query.get("oi", "0").lower() in ("1", "true")
    candles = engine.candles.read(instrument, request.path_params["interval"], start, end, with_oi)
    return success({"candles": candles})


def _moment(text: str, end_of_day: bool) -> datetime:
    for pattern in ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d"):
        try:
            moment = datetime.strptime(text, pattern).replace(tzinfo=IST)
        except ValueError:
            continue
        if end_of_day and pattern == "%Y-%m-%d":
            moment = moment.replace(hour=23, minute=59, second=59)
        return moment.astimezone(UTC)
    raise Refused("invalid from or to date")


def _answer(request: Request, keys_max: int, render: Callable[[Line], dict[str, Any]]) -> Response:
    engine = engine_of(request)
    engine.advance()
    keys = request.query_params.getlist("i")
    if len(keys) > keys_max:
        raise Refused(f"Maximum of {keys_max} instruments allowed.")
    found: dict[str, Instrument] = {}
    for key in keys:
        instrument = engine.kernel.instruments.find(key)
        if instrument is not None:
            found[key] = instrument
    return success({key: render(engine.kernel.board.lines[item.key]) for key, item in found.items()})


def _ltp(line: Line) -> dict[str, Any]:
    return {"instrument_token": line.instrument.token, "last_price": rupee_number(line.last_paise)}


def _ohlc(line: Line) -> dict[str, float]:
    return {
        "open": rupee_number(line.open_paise),
        "high": rupee_number(line.high_paise),
        "low": rupee_number(line.low_paise),
        "close": rupee_number(line.close_paise),
    }


def _quote(engine: Engine, line: Line) -> dict[str, Any]:
    bids, offers = engine.kernel.board.depth(line.instrument.key, engine.settings.seed)
    tradable = line.instrument.tradable
    now = ist_text(engine.kernel.time)
    basic = {
        **_ltp(line),
        "timestamp": now,
        "last_trade_time": ist_text(line.traded_at),
        "oi": 0,
        "oi_day_high": 0,
        "oi_day_low": 0,
        "net_change": rupee_number(line.last_paise - line.close_paise),
        "ohlc": _ohlc(line),
    }
    if not tradable:
        return basic
    return {
        **basic,
        "last_quantity": line.last_quantity,
        "buy_quantity": sum(row[1] for row in bids),
        "sell_quantity": sum(row[1] for row in offers),
        "volume": line.volume,
        "average_price": rupee_number(line.average_paise),
        "lower_circuit_limit": rupee_number(line.lower_paise),
        "upper_circuit_limit": rupee_number(line.upper_paise),
        "depth": {"buy": _levels(bids), "sell": _levels(offers)},
    }


def _levels(rows: list[tuple[int, int, int]]) -> list[dict[str, Any]]:
    return [{"price": rupee_number(price), "quantity": quantity, "orders": count} for price, quantity, count in rows]


ROUTES = [
    Route("/instruments", authorised(instruments)),
    Route("/instruments/historical/{token}/{interval}", authorised(historical)),
    Route("/instruments/trigger_range/{side}", authorised(trigger_range)),
    Route("/instruments/{exchange}", authorised(instruments)),
    Route("/mf/instruments", authorised(mf_instruments)),
    Route("/quote", authorised(quote)),
    Route("/quote/ohlc", authorised(ohlc)),
    Route("/quote/ltp", authorised(ltp)),
]
