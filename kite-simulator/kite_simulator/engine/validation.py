"""Checks before an order gets an id: what Kite refuses at once with HTTP 4xx (Kite docs, orders; fact sheet section 6)."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from kite_simulator.engine.errors import (
    HOLDINGS_SHORT,
    PROTECTION_MISSING,
    TTL_INVALID,
    UNKNOWN_INSTRUMENT,
    Refused,
    insufficient_funds,
    rupees,
)
from kite_simulator.engine.instruments import Instrument, InstrumentBook
from kite_simulator.engine.margin import margin_paise, reducible_quantity
from kite_simulator.engine.prices import Line
from kite_simulator.engine.state import State

VARIETIES = ("regular", "amo", "co", "iceberg", "auction")
TAG_LENGTH_MAX = 20
ICEBERG_LEGS = (2, 50)
TTL_MINUTES = (1, 1440)
SLICES_MAX = 10
AUTO_PROTECTION_BPS = ((10_000, 200), (50_000, 100))
"""market_protection=-1: 2 % below 100 rupees, 1 % up to 500, else 0.5 % (Zerodha support; subject to change)."""
AUTO_PROTECTION_ELSE_BPS = 50


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """A parsed order. Prices in paise; 0 where not given. `protection_bps` is None when absent, -1 when automatic."""

    variety: str
    instrument: Instrument
    side: str
    order_type: str
    product: str
    quantity: int
    price_paise: int = 0
    trigger_paise: int = 0
    validity: str = "DAY"
    validity_ttl: int = 0
    disclosed_quantity: int = 0
    iceberg_legs: int = 0
    iceberg_quantity: int = 0
    protection_bps: int | None = None
    tag: str | None = None
    auction_number: str | None = None
    autoslice: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """What differs between the profiles and what the operator may set."""

    strict: bool
    freeze_quantity: int


def refuse_missing(name: str) -> Refused:
    """A required parameter is absent."""
    return Refused(f"Missing or empty field `{name}`")


def read_choice(fields: Mapping[str, str], name: str, choices: tuple[str, ...], default: str | None = None) -> str:
    """A parameter with a closed list of values."""
    value = fields.get(name) or default
    if value is None:
        raise refuse_missing(name)
    if value not in choices:
        raise Refused(f"Invalid `{name}`.")
    return value


def read_int(fields: Mapping[str, str], name: str, default: int | None = None) -> int:
    """A whole number."""
    text = fields.get(name)
    if text is None or text == "":
        if default is None:
            raise refuse_missing(name)
        return default
    try:
        return int(text)
    except ValueError:
        raise Refused(f"Invalid request (failed to decode {name}, got: {text} (expected integer))") from None


def read_decimal(fields: Mapping[str, str], name: str) -> Decimal | None:
    """A decimal number or None when absent."""
    text = fields.get(name)
    if text is None or text == "":
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise Refused(f"Invalid request (failed to decode {name}, got: {text} (expected decimal))") from None
    if not number.is_finite():
        raise Refused(f"Invalid request (failed to decode {name}, got: {text} (expected decimal))")
    return number


def read_price(fields: Mapping[str, str], name: str, instrument: Instrument) -> int:
    """A price in paise, 0 when absent; refused when it is negative or off the tick grid.

    Binary dust of the client's float text (`1314.6000000000001`) is rounded off at a hundredth of a paisa.
    """
    number = read_decimal(fields, name)
    if number is None:
        return 0
    exact = (number * 100).quantize(Decimal("0.01"))
    if number < 0:
        raise Refused(f"Invalid `{name}`.")
    if exact % instrument.tick_paise:
        what = "trigger price" if name == "trigger_price" else "price"
        tick = rupees(instrument.tick_paise)
        raise Refused(
            f"Tick size for this script is {tick}. Kindly enter {what} in the multiple of tick size for this script"
        )
    return int(exact)


def find_instrument(fields: Mapping[str, str], instruments: InstrumentBook) -> Instrument:
    """The tradable instrument the order names."""
    exchange = read_choice(fields, "exchange", ("NSE", "BSE", "NFO", "BFO", "CDS", "BCD", "MCX", "NCO"))
    symbol = fields.get("tradingsymbol")
    if not symbol:
        raise refuse_missing("tradingsymbol")
    instrument = instruments.find(f"{exchange}:{symbol}")
    if instrument is None or not instrument.tradable:
        raise Refused(UNKNOWN_INSTRUMENT)
    return instrument


def read_protection(fields: Mapping[str, str]) -> int | None:
    """market_protection as basis points; -1 for automatic; None when absent or 0."""
    number = read_decimal(fields, "market_protection")
    if number is None or number == 0:
        return None
    if number == -1:
        return -1
    if not 0 < number <= 100:
        raise Refused("Invalid `market_protection`.")
    return int(number * 100)


def parse_order(variety: str, fields: Mapping[str, str], instruments: InstrumentBook) -> OrderRequest:
    """Form fields to an OrderRequest; unknown fields are ignored as Kite does. Raises Refused."""
    if variety not in VARIETIES:
        raise Refused("Invalid `variety`.")
    instrument = find_instrument(fields, instruments)
    validity = read_choice(fields, "validity", ("DAY", "IOC", "TTL"), "DAY")
    ttl = read_int(fields, "validity_ttl", 0) if validity == "TTL" else 0
    if validity == "TTL" and not TTL_MINUTES[0] <= ttl <= TTL_MINUTES[1]:
        raise Refused(TTL_INVALID)
    tag = fields.get("tag") or None
    if tag is not None and len(tag) > TAG_LENGTH_MAX:
        raise Refused(f"Invalid `tag`. It should be alphanumeric and at most {TAG_LENGTH_MAX} characters long.")
    quantity = read_int(fields, "quantity")
    if quantity <= 0:
        raise Refused("Invalid `quantity`. It has to be greater than 0.")
    if quantity % instrument.lot_size:
        raise Refused(f"Invalid `quantity`. Quantity should be a multiple of lot size {instrument.lot_size}.")
    disclosed = read_int(fields, "disclosed_quantity", 0)
    if not 0 <= disclosed <= quantity:
        raise Refused("Invalid `disclosed_quantity`. It cannot be higher than the quantity.")
    iceberg = variety == "iceberg"
    return OrderRequest(
        variety=variety,
        instrument=instrument,
        side=read_choice(fields, "transaction_type", ("BUY", "SELL")),
        order_type=read_choice(fields, "order_type", ("MARKET", "LIMIT", "SL", "SL-M")),
        product=read_choice(fields, "product", ("CNC", "MIS", "MTF", "NRML")),
        quantity=quantity,
        price_paise=read_price(fields, "price", instrument),
        trigger_paise=read_price(fields, "trigger_price", instrument),
        validity=validity,
        validity_ttl=ttl,
        disclosed_quantity=disclosed,
        iceberg_legs=read_int(fields, "iceberg_legs") if iceberg else 0,
        iceberg_quantity=read_int(fields, "iceberg_quantity") if iceberg else 0,
        protection_bps=read_protection(fields),
        tag=tag,
        auction_number=fields.get("auction_number"),
        autoslice=(fields.get("autoslice") or "").lower() in ("true", "1"),
    )


def auto_protection_bps(last_paise: int) -> int:
    """The percentage Kite chooses for market_protection=-1."""
    for below_paise, bps in AUTO_PROTECTION_BPS:
        if last_paise < below_paise:
            return bps
    return AUTO_PROTECTION_ELSE_BPS


def protected_price(line: Line, side: str, bps: int, base_paise: int) -> int:
    """The limit price a protected market order goes out with: base +/- bps, on the grid, inside the band."""
    tick = line.instrument.tick_paise
    if side == "BUY":
        return min(line.upper_paise, base_paise * (10_000 + bps) // 10_000 // tick * tick)
    return max(line.lower_paise, -(-base_paise * (10_000 - bps) // 10_000 // tick) * tick)


def check_types(request: OrderRequest, rules: Rules) -> None:
    """Which parameters the order type, product and variety demand."""
    if request.product == "NRML":
        raise Refused(f"Trading in {request.instrument.exchange} is not allowed using NRML product type.")
    if request.variety == "auction":
        raise Refused("Auction session is not open for this instrument.")
    if request.variety == "co" and request.product != "MIS":
        raise Refused("Invalid `product` for cover orders. Use MIS.")
    if request.variety == "co" and request.order_type not in ("MARKET", "LIMIT"):
        raise Refused("Invalid `order_type` for cover orders.")
    if (request.order_type in ("SL", "SL-M") or request.variety == "co") and not request.trigger_paise:
        raise refuse_missing("trigger_price")
    if request.order_type in ("LIMIT", "SL") and not request.price_paise and rules.strict:
        raise refuse_missing("price")
    if rules.strict and request.order_type in ("MARKET", "SL-M") and request.protection_bps is None:
        raise Refused(PROTECTION_MISSING)
    if request.variety == "iceberg":
        check_iceberg(request)


def check_iceberg(request: OrderRequest) -> None:
    """Legs 2 to 50; the leg size must give that number of legs (fact sheet 5.7)."""
    low, high = ICEBERG_LEGS
    if not low <= request.iceberg_legs <= high:
        raise Refused(f"Invalid `iceberg_legs`. It has to be between {low} and {high}.")
    if request.iceberg_quantity <= 0 or -(-request.quantity // request.iceberg_quantity) != request.iceberg_legs:
        raise Refused("Invalid `iceberg_quantity`. It has to be quantity divided by `iceberg_legs`.")
    if request.order_type != "LIMIT":
        raise Refused("Iceberg orders have to be LIMIT orders.")


def check_freeze(request: OrderRequest, rules: Rules) -> None:
    """Exchange maximum per order (fact sheet 5.7); an iceberg is measured by its leg."""
    quantity = request.iceberg_quantity or request.quantity
    if quantity > rules.freeze_quantity:
        raise Refused(
            f"The order quantity {quantity} ({quantity} lots) is higher than the maximum quantity of "
            f"{rules.freeze_quantity} ({rules.freeze_quantity} lots) allowed by the exchanges. Please reduce the "
            "order quantity or use iceberg orders. [Read more.](https://support.zerodha.com)"
        )


def check_band(line: Line, price_paise: int) -> None:
    """Price inside the daily circuit limits."""
    if price_paise > line.upper_paise:
        raise Refused(
            "Your order price is higher than the current [upper circuit limit](https://support.zerodha.com) of "
            f"{rupees(line.upper_paise)}. You can place an order within the range or [use GTT](https://kite.trade)"
        )
    if price_paise and price_paise < line.lower_paise:
        raise Refused(
            f"Your order price is lower than the current lower circuit limit of {rupees(line.lower_paise)}. "
            "Place an order within the daily range."
        )


def check_trigger(request: OrderRequest, line: Line) -> None:
    """A stop order must wait: BUY triggers at or above the last price, SELL at or below, price beyond the trigger."""
    if request.order_type not in ("SL", "SL-M"):
        return
    buy = request.side == "BUY"
    if (request.trigger_paise < line.last_paise) if buy else (request.trigger_paise > line.last_paise):
        word = "higher" if buy else "lower"
        raise Refused(
            f"Trigger price for stoploss {request.side.lower()} orders should be {word} than the last traded price "
            f"{rupees(line.last_paise)}. Use a limit order instead."
        )
    missed_by = request.trigger_paise - request.price_paise if buy else request.price_paise - request.trigger_paise
    if request.order_type == "SL" and missed_by > 0:
        word = "lower" if buy else "higher"
        raise Refused(f"Trigger price for stoploss {request.side.lower()} orders should be {word} than the price.")


def worst_price(request: OrderRequest, line: Line) -> int:
    """The price that funds are measured with."""
    if request.order_type in ("LIMIT", "SL"):
        return request.price_paise
    if request.order_type == "SL-M":
        return request.trigger_paise
    bps = request.protection_bps or 0
    return protected_price(
        line, request.side, auto_protection_bps(line.last_paise) if bps == -1 else bps, line.last_paise
    )


def required_margin(request: OrderRequest, line: Line, state: State) -> int:
    """Money the order would block."""
    product = "CO" if request.variety == "co" else request.product
    instrument = request.instrument
    reducible = reducible_quantity(state.account, instrument.exchange, instrument.symbol, product, request.side)
    return margin_paise(request.side, product, request.quantity, worst_price(request, line), reducible)


def check_funds(required_paise: int, available_paise: int) -> None:
    """Enough free money (kiteconnect-mocks text)."""
    if required_paise > available_paise:
        raise insufficient_funds(required_paise, available_paise)


def check_holdings(request: OrderRequest, state: State) -> None:
    """Delivery sales need shares that are not on offer already."""
    if request.side == "SELL" and request.product in ("CNC", "MTF"):
        isin = request.instrument.isin
        if request.quantity > state.account.sellable(isin, state.pending_delivery_sells(isin)):
            raise Refused(HOLDINGS_SHORT, "HoldingException")


def check_order(request: OrderRequest, line: Line, state: State, rules: Rules) -> None:
    """All synchronous checks in Kite's order; raises Refused."""
    check_types(request, rules)
    check_freeze(request, rules)
    if rules.strict:
        check_trigger(request, line)
    for price_paise in (request.price_paise, request.trigger_paise):
        if price_paise:
            check_band(line, price_paise)
    check_holdings(request, state)
    required = required_margin(request, line, state)
    if required:
        check_funds(required, state.account.available_paise())
