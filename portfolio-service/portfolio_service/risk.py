"""Risk checks of one user order (execution.md 3.9, user side): each failure has a stable code and a way out.

Everything here is arithmetic over facts the caller has collected; nothing reads a clock, a database or the network. A
check that lacks its fact (no price, no session) refuses: missing knowledge never passes an order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from common.money import BPS_ONE, format_rupees
from portfolio_service.orders import OrderRequest

PRODUCTS = ("CNC", "MIS")
ORDER_TYPES_WITH_PRICE = frozenset({"LIMIT", "SL"})
ORDER_TYPES_WITH_TRIGGER = frozenset({"SL", "SL-M"})
TTL_MINUTES_MAX = 375
"""Minutes of the longest continuous session (09:15 to 15:30)."""
RATE_UNITS = 60_000_000
"""Units of one token in the rate bucket: one per microsecond and order of the minute's allowance."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits in force for users; money in paise, shares of price in basis points."""

    quantity_max: int = 10_000
    order_value_max_paise: int = 5_00_000_00
    daily_value_max_paise: int = 1_00_00_000_00
    price_band_bps: int = 300
    price_age_max_s: float = 10.0
    market_protection_bps: int = 300
    submissions_per_minute: int = 30
    duplicate_window_s: float = 10.0
    allow_btst: bool = True
    kyc_required: bool = True


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an order is not taken: a stable code, a sentence the user can act on, and the facts behind it."""

    code: str
    detail: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MarketFacts:
    """What the market says about one instrument now. `tick_paise` None: the instrument is unknown."""

    tick_paise: int | None
    lot_size: int = 1
    lower_band_paise: int | None = None
    upper_band_paise: int | None = None
    price_paise: int | None = None
    price_at: datetime | None = None
    is_open: bool = True
    trading_date: date | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What an order may cost at worst. For a sale `worst_price_paise` only measures its value."""

    worst_price_paise: int
    value_paise: int
    trading_date: date


def judge(request: OrderRequest, market: MarketFacts, limits: Limits, *, now: datetime, kyc: str) -> Terms | Refusal:
    """All checks that need neither balances nor other orders; the first failure wins."""
    if limits.kyc_required and kyc != "approved":
        return Refusal(
            "kyc_required", "Complete your KYC first; orders are accepted once it is approved.", {"kyc": kyc}
        )
    refusal = _check_instrument(request, market, limits) or _check_form(request) or _check_session(request, market)
    if refusal is not None:
        return refusal
    if market.price_paise is None or market.price_at is None:
        return Refusal("stale_price", f"{request.tradingsymbol} has no last price yet; try again in a moment.")
    # A queued order is judged by the last close: the price can not be fresh while nothing trades.
    age = now - market.price_at
    if market.is_open and age > timedelta(seconds=limits.price_age_max_s):
        return Refusal(
            "stale_price",
            f"The last price of {request.tradingsymbol} is {age.total_seconds():.0f} s old; try again in a moment.",
            {"price_age_s": round(age.total_seconds(), 1)},
        )
    refusal = _check_ticks(request, market) or _check_band(request, market, limits)
    if refusal is not None:
        return refusal
    assert market.trading_date is not None  # noqa: S101  _check_session refused otherwise
    worst = worst_price(request, market.price_paise, limits)
    terms = Terms(worst, worst * request.quantity, market.trading_date)
    if terms.value_paise > limits.order_value_max_paise:
        return Refusal(
            "order_value_limit",
            f"The order is worth ₹{format_rupees(terms.value_paise)};"
            f" the limit is ₹{format_rupees(limits.order_value_max_paise)}. Split it into smaller orders.",
            {"value": format_rupees(terms.value_paise), "limit": format_rupees(limits.order_value_max_paise)},
        )
    return terms


def worst_price(request: OrderRequest, last_price_paise: int, limits: Limits) -> int:
    """The highest price a buy can be filled at (a sale: the price that measures its value), in paise.

    Market orders go out with market protection, so that percentage above the last price (SL-M: the trigger) is the worst.
    """
    if request.price_paise is not None:
        return request.price_paise
    base = request.trigger_price_paise or last_price_paise
    if request.side == "SELL":
        return base
    return base + -(-base * limits.market_protection_bps // BPS_ONE)


def _check_instrument(request: OrderRequest, market: MarketFacts, limits: Limits) -> Refusal | None:
    if market.tick_paise is None:
        return Refusal(
            "unknown_instrument",
            f"{request.exchange}:{request.tradingsymbol} is not a tradable instrument;"
            " search with GET /api/v1/tokens/search.",
            {"tradingsymbol": request.tradingsymbol},
        )
    if request.product not in PRODUCTS:
        return Refusal(
            "product_not_supported", f"{request.product} is not offered; use CNC (delivery) or MIS (intraday)."
        )
    if request.quantity <= 0:
        return Refusal("quantity_invalid", f"The quantity must be at least 1, was {request.quantity}.")
    if request.quantity > limits.quantity_max:
        return Refusal(
            "quantity_limit",
            f"One order may have at most {limits.quantity_max} units, was {request.quantity}.",
            {"limit": limits.quantity_max},
        )
    if request.quantity % market.lot_size:
        return Refusal(
            "lot_multiple",
            f"{request.tradingsymbol} trades in lots of {market.lot_size}; {request.quantity} is no multiple of it.",
            {"lot_size": market.lot_size},
        )
    return None


def _check_form(request: OrderRequest) -> Refusal | None:
    with_price = request.order_type in ORDER_TYPES_WITH_PRICE
    with_trigger = request.order_type in ORDER_TYPES_WITH_TRIGGER
    kind = request.order_type
    if with_price and request.price_paise is None:
        return Refusal("price_required", f"A {kind} order needs a price.")
    if not with_price and request.price_paise is not None:
        return Refusal("price_not_allowed", f"A {kind} order takes no price; leave it out or use LIMIT.")
    if with_trigger and request.trigger_price_paise is None:
        return Refusal("trigger_price_required", f"A {kind} order needs a trigger price.")
    if not with_trigger and request.trigger_price_paise is not None:
        return Refusal("trigger_price_not_allowed", f"A {kind} order takes no trigger price; use SL or SL-M.")
    if request.validity == "TTL" and not 1 <= (request.ttl_minutes or 0) <= TTL_MINUTES_MAX:
        return Refusal("ttl_invalid", f"Validity TTL needs ttl_minutes from 1 to {TTL_MINUTES_MAX}.")
    if request.validity != "TTL" and request.ttl_minutes is not None:
        return Refusal("ttl_invalid", "ttl_minutes belongs to validity TTL only.")
    return None


def _check_session(request: OrderRequest, market: MarketFacts) -> Refusal | None:
    if market.trading_date is not None and (market.is_open or request.queue_when_closed):
        return None
    return Refusal(
        "market_closed",
        "The market is closed. Send the order again with queue_when_closed to have it wait for the next session.",
    )


def _check_ticks(request: OrderRequest, market: MarketFacts) -> Refusal | None:
    tick = market.tick_paise or 1
    for name, price in (("price", request.price_paise), ("trigger price", request.trigger_price_paise)):
        if price is None:
            continue
        if price <= 0 or price % tick:
            below = max(tick, price - price % tick)
            above = max(tick, below + (tick if price > below else 0))
            nearest = " or ".join(dict.fromkeys((f"₹{format_rupees(below)}", f"₹{format_rupees(above)}")))
            return Refusal(
                "tick_size",
                f"The {name} ₹{format_rupees(price)} is no multiple of the tick ₹{format_rupees(tick)};"
                f" the nearest valid prices are {nearest}.",
                {"tick": format_rupees(tick), "nearest": [format_rupees(below), format_rupees(above)]},
            )
    return None


def _check_band(request: OrderRequest, market: MarketFacts, limits: Limits) -> Refusal | None:
    lower, upper = market.lower_band_paise, market.upper_band_paise
    for price in (request.price_paise, request.trigger_price_paise):
        if price is not None and ((lower is not None and price < lower) or (upper is not None and price > upper)):
            return _outside("the exchange's price band", lower or 0, upper, market.tick_paise or 1)
    trigger, price = request.trigger_price_paise, request.price_paise
    last = market.price_paise or 0
    buying = request.side == "BUY"
    if trigger is not None and (trigger <= last if buying else trigger >= last):
        return Refusal(
            "trigger_price_invalid",
            f"A stop to {'buy' if buying else 'sell'} must trigger {'above' if buying else 'below'}"
            f" the last price ₹{format_rupees(last)}.",
            {"last_price": format_rupees(last)},
        )
    if trigger is not None and price is not None and (price < trigger if buying else price > trigger):
        return Refusal(
            "trigger_price_invalid",
            f"The limit price of a stop to {'buy' if buying else 'sell'} may not be"
            f" {'below' if buying else 'above'} its trigger price.",
        )
    if price is None:
        return None
    # A stop is meant to be away from the market; its limit is measured from its trigger.
    anchor = trigger if trigger is not None else last
    distance = anchor * limits.price_band_bps // BPS_ONE
    if abs(price - anchor) > distance:
        name = "the trigger price" if trigger is not None else "the last price"
        percent = f"{limits.price_band_bps / 100:g} % of {name}"
        return _outside(percent, anchor - distance, anchor + distance, market.tick_paise or 1)
    return None


def _outside(what: str, lower: int, upper: int | None, tick: int) -> Refusal:
    lowest = -(-lower // tick) * tick
    facts: dict[str, Any] = {"lowest": format_rupees(lowest)}
    text = f"at least ₹{format_rupees(lowest)}"
    if upper is not None:
        highest = upper // tick * tick
        facts["highest"] = format_rupees(highest)
        text = f"from ₹{format_rupees(lowest)} to ₹{format_rupees(highest)}"
    return Refusal("price_band", f"The price is outside {what}: it may be {text}.", facts)


# --- checks against balances and the user's other orders ------------------------------------------------------------


def check_funds(needed_paise: int, available_paise: int) -> Refusal | None:
    """Money for the worst price and all charges must be free."""
    if needed_paise <= available_paise:
        return None
    return Refusal(
        "insufficient_funds",
        f"The order needs ₹{format_rupees(needed_paise)} including charges; ₹{format_rupees(available_paise)} is available.",
        {"needed": format_rupees(needed_paise), "available": format_rupees(available_paise)},
    )


def check_shares(request: OrderRequest, available: int) -> Refusal | None:
    """Only shares that are owned and not promised to another order may be sold."""
    if request.quantity <= available:
        return None
    return Refusal(
        "insufficient_shares",
        f"The order sells {request.quantity} {request.tradingsymbol}; {available} can be sold from this portfolio"
        f" as {request.product}.",
        {"needed": request.quantity, "available": available},
    )


def check_daily_value(value_paise: int, so_far_paise: int, limits: Limits) -> Refusal | None:
    """Gross value of all orders a user had accepted for one trading day."""
    if so_far_paise + value_paise <= limits.daily_value_max_paise:
        return None
    return Refusal(
        "daily_value_limit",
        f"Today's orders would be worth ₹{format_rupees(so_far_paise + value_paise)} together;"
        f" the daily limit is ₹{format_rupees(limits.daily_value_max_paise)}.",
        {"so_far": format_rupees(so_far_paise), "limit": format_rupees(limits.daily_value_max_paise)},
    )


def duplicate_refusal(request: OrderRequest, limits: Limits) -> Refusal:
    """The same order was accepted a moment ago."""
    return Refusal(
        "duplicate_order",
        f"You placed the same order ({request.side} {request.quantity} {request.tradingsymbol}) within the last"
        f" {limits.duplicate_window_s:g} s. Send it with confirm_duplicate if you want both.",
        {"window_s": limits.duplicate_window_s},
    )


@dataclass(frozen=True, slots=True)
class RateBucket:
    """Tokens left for submissions of one user, in RATE_UNITS, as of an instant."""

    level: int
    at: datetime


def take_submission(bucket: RateBucket | None, now: datetime, limits: Limits) -> RateBucket | Refusal:
    """Take one token of the minute's allowance; a list of orders is one submission. None is a full bucket.

    Token bucket: capacity is the minute's allowance, refilled evenly; exact integers, so the result does not depend on
    how often it was asked.
    """
    capacity = limits.submissions_per_minute * RATE_UNITS
    level = capacity
    if bucket is not None:
        elapsed = max(timedelta(0), now - bucket.at) // timedelta(microseconds=1)
        level = min(capacity, bucket.level + elapsed * limits.submissions_per_minute)
    if level < RATE_UNITS:
        wait_s = -(-(RATE_UNITS - level) // (limits.submissions_per_minute * 1_000_000)) if capacity else 60
        return Refusal(
            "order_rate",
            f"More than {limits.submissions_per_minute} submissions a minute; try again in {wait_s} s.",
            {"retry_after": wait_s},
        )
    return RateBucket(level - RATE_UNITS, now)
