"""Charges of a trade in integer paise: the estimate at order time, the charge of each partial fill, the pool's sharing.

The broker's contract note is the truth; what stands here is an estimate by the dated schedule (`charge_schedule`).

Rounding, written down once. STT is rounded per side to the nearest rupee, 50 paise up (support.zerodha.com). Everything
else (brokerage, exchange fee, SEBI fee, stamp duty, GST, depository charge) is computed unrounded, summed, and the SUM is
rounded to the paisa by `common.money.round_paise`. The components shown are the unrounded ones cut to whole paise, the
paise left over given to the largest fractions, so that they add up to the total.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import date
from decimal import Decimal
from fractions import Fraction
from operator import attrgetter
from uuid import UUID

from common.money import round_paise, split_by_largest_remainder
from portfolio_service.charge_schedule import rates_in_force

MAX_VALUE_PAISE = 10**15
"""Largest value of one trade: keeps every product of rates inside the 28 exact digits of the decimal context."""


class InvalidTrade(ValueError):
    """Quantity and value are not a possible trade."""


class ChargesWentBack(ValueError):
    """The later cumulative charges are below the earlier ones: they are not of the same order and day."""


class ChargesNotShareable(ValueError):
    """A charge can not be split: it is negative, or no part traded anything it could be split by."""


@dataclass(frozen=True, slots=True)
class Charges:
    """Charges in whole paise. `exchange_fee_paise` includes the investor protection fund, `dp_paise` its own GST.

    `total_paise` is derived, so that the parts always add up to it. Only the total is an amount to post: of an
    `incremental` charge single parts may be -1 or so (see there), its total never.
    """

    brokerage_paise: int = 0
    stt_paise: int = 0
    exchange_fee_paise: int = 0
    sebi_fee_paise: int = 0
    stamp_paise: int = 0
    gst_paise: int = 0
    dp_paise: int = 0

    @property
    def total_paise(self) -> int:
        """Sum of all parts."""
        return sum(self.parts())

    def parts(self) -> tuple[int, ...]:
        """The single amounts in the order of the fields."""
        return _parts_of(self)

    def __add__(self, other: "Charges") -> "Charges":
        return Charges(*(mine + theirs for mine, theirs in zip(self.parts(), other.parts(), strict=True)))

    def __sub__(self, other: "Charges") -> "Charges":
        return Charges(*(mine - theirs for mine, theirs in zip(self.parts(), other.parts(), strict=True)))


_parts_of: Callable[[Charges], tuple[int, ...]] = attrgetter(*(field.name for field in fields(Charges)))
NO_CHARGES = Charges()


@dataclass(frozen=True, slots=True)
class Trade:
    """One executed order: `value_paise` is quantity times price (premium for options), units include the lot size."""

    exchange: str
    side: str
    product: str
    quantity: int
    value_paise: int
    trade_date: date
    segment: str = "EQ"
    dp_charged: bool = False

    def __post_init__(self) -> None:
        if self.quantity <= 0 or not 0 < self.value_paise <= MAX_VALUE_PAISE:
            raise InvalidTrade(f"no trade: {self.quantity} units for {self.value_paise} paise")


def estimate(
    *,
    exchange: str,
    side: str,
    product: str,
    quantity: int,
    value_paise: int,
    trade_date: date,
    segment: str = "EQ",
    dp_charged: bool = False,
) -> Charges:
    """Charges of one executed order, or of the part of it executed so far on `trade_date`.

    exchange NSE or BSE; side BUY or SELL; product CNC or MIS (EQ), any for segments FUT and OPT. With `dp_charged` the
    depository charge of this scrip and day was already taken. Zero units for zero paise cost nothing. The total never
    falls when the value rises: no rate is negative and both roundings are monotone.

    Raises ChargeRowMissing when the schedule does not cover the trade or the day, InvalidTrade for impossible figures.
    """
    if quantity == 0 and value_paise == 0:
        return NO_CHARGES
    trade = Trade(exchange, side, product, quantity, value_paise, trade_date, segment, dp_charged)
    return estimate_together([trade])


def estimate_together(trades: Sequence[Trade]) -> Charges:
    """Charges of several executed orders (a round trip, a contract note), rounded once for all of them.

    May differ by a paisa or so from the sum of the single estimates, which are rounded one by one.
    Raises ChargeRowMissing.
    """
    stt_paise = 0
    unrounded = [Decimal(0)] * 6
    for trade in trades:
        rates = rates_in_force(
            segment=trade.segment,
            exchange=trade.exchange,
            product=trade.product,
            side=trade.side,
            trade_date=trade.trade_date,
        )
        value = trade.value_paise
        brokerage = rates["brokerage"].on(value)
        exchange_fee = rates["exchange_fee"].on(value) + rates["investor_protection"].on(value)
        sebi_fee = rates["sebi_fee"].on(value)
        gst = rates["gst"].on(brokerage + exchange_fee + sebi_fee)
        dp = Decimal(0) if trade.dp_charged else rates["dp"].on(value)
        dp += rates["gst"].on(dp)
        stt_paise += _to_rupee(rates["stt"].on(value))
        parts = (brokerage, exchange_fee, sebi_fee, rates["stamp"].on(value), gst, dp)
        unrounded = [so_far + part for so_far, part in zip(unrounded, parts, strict=True)]
    brokerage_paise, *others = _cut_to_paise(unrounded)
    return Charges(brokerage_paise, stt_paise, *others)


def incremental(before: Charges, after: Charges) -> Charges:
    """Charge of a new fill: cumulative estimate with it minus cumulative estimate without it, of one order and day.

    The charges of all fills therefore add up to the estimate of the whole, and the total is never negative. A single
    part may be -1 paisa or so where the paisa left over by rounding moves to another part; no way of rounding parts
    to whole paise can be monotone in every part and in their sum at once.
    Raises ChargesWentBack when `after` is below `before`.
    """
    if after.total_paise < before.total_paise:
        raise ChargesWentBack(f"cumulative charges fell from {before.total_paise} to {after.total_paise} paise")
    return after - before


def hold_estimate(
    *,
    exchange: str,
    side: str,
    product: str,
    quantity: int,
    worst_value_paise: int,
    trade_date: date,
    dp_charged: bool = False,
) -> int:
    """Paise to hold for the charges of an order worth at most `worst_value_paise`, however it is filled.

    Fills charged by `incremental` telescope to the estimate of what was executed, and that never exceeds the estimate
    at the worst value. After some fills the hold still needed is this figure minus what was charged.
    Raises as `estimate`.
    """
    return estimate(
        exchange=exchange,
        side=side,
        product=product,
        quantity=quantity,
        value_paise=worst_value_paise,
        trade_date=trade_date,
        dp_charged=dp_charged,
    ).total_paise


@dataclass(frozen=True, slots=True)
class DayStt:
    """STT of one share and day by the exchange's rule; the average price is an exact fraction of paise."""

    average_price_paise: Fraction
    intraday_paise: int
    delivery_paise: int


def day_stt(
    *,
    exchange: str,
    buy_quantity: int,
    buy_value_paise: int,
    sell_quantity: int,
    sell_value_paise: int,
    trade_date: date,
) -> DayStt:
    """STT of a day with buys and sells of one share, at the day's weighted average price of all of them.

    The smaller of the two quantities is intraday and pays the seller's rate, the rest is delivery; each is rounded to
    the rupee (support.zerodha.com: buy 500 at 100, sell 500 at 105, buy 200 at 110 -> 103.75, Rs 13 and Rs 21).
    Raises InvalidTrade, ChargeRowMissing.
    """
    for quantity, value_paise in ((buy_quantity, buy_value_paise), (sell_quantity, sell_value_paise)):
        if quantity < 0 or value_paise < 0 or (quantity == 0) != (value_paise == 0):
            raise InvalidTrade(f"no trade: {quantity} units for {value_paise} paise")
    total_quantity = buy_quantity + sell_quantity
    if total_quantity == 0:
        raise InvalidTrade("a day without trades has no average price")
    average = Fraction(buy_value_paise + sell_value_paise, total_quantity)
    net_side = "BUY" if buy_quantity >= sell_quantity else "SELL"
    intraday, delivery = (
        rates_in_force(segment="EQ", exchange=exchange, product=product, side=side, trade_date=trade_date)["stt"].rate
        for product, side in (("MIS", "SELL"), ("CNC", net_side))
    )
    return DayStt(
        average_price_paise=average,
        intraday_paise=_to_rupee(min(buy_quantity, sell_quantity) * average * Fraction(intraday)),
        delivery_paise=_to_rupee(abs(buy_quantity - sell_quantity) * average * Fraction(delivery)),
    )


@dataclass(frozen=True, slots=True)
class SharePart:
    """One participant of a pooled charge.

    `key` breaks ties (take the allocation's id: it favours no user over time); `traded_paise` is the value this
    participant traded under the charge, `sold_paise` the delivered shares sold of the scrip on the day.
    """

    key: UUID
    traded_paise: int
    sold_paise: int = 0


def share(total: Charges, parts: Sequence[SharePart]) -> list[Charges]:
    """Split the broker's charges of one scrip and day over those who took part; sums equal the note to the paisa.

    Percentage items and the capped brokerage go by traded value, the depository charge by sold value, each item's
    remaining paise to the largest remainders, ties by key: the order of the parts does not matter. Buyers pay stamp
    duty and sellers of MIS pay STT, so call it once per side and product, as blocks are cut.

    Raises ChargesNotShareable for a negative item, or a positive one nobody has a base for.
    """
    if any(amount < 0 for amount in total.parts()):
        raise ChargesNotShareable(f"a charge to share is never negative: {total}")
    keys = [part.key for part in parts]
    bases = {field.name: [part.traded_paise for part in parts] for field in fields(Charges)}
    bases["dp_paise"] = [part.sold_paise for part in parts]
    columns: list[list[int]] = []
    for field, amount in zip(fields(Charges), total.parts(), strict=True):
        base = bases[field.name]
        if amount and not any(base):
            raise ChargesNotShareable(f"nobody traded anything to share {field.name} of {amount} by")
        columns.append(split_by_largest_remainder(amount, base, tie_break=keys))
    return [Charges(*row) for row in zip(*columns, strict=True)]


def _to_rupee(paise: Decimal | Fraction) -> int:
    """Whole rupees in paise, 50 paise up; for amounts that are not negative."""
    return int((paise + 50) // 100) * 100


def _cut_to_paise(amounts: Sequence[Decimal]) -> list[int]:
    """Whole paise that add up to the rounded sum, each amount cut down or up to the next paisa."""
    whole = [int(amount) for amount in amounts]
    left_over = round_paise(sum(amounts, Decimal(0))) - sum(whole)
    by_fraction = sorted(range(len(amounts)), key=lambda i: (whole[i] - amounts[i], i))
    for index in by_fraction[:left_over]:
        whole[index] += 1
    return whole
