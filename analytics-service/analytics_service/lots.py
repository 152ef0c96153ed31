"""Tax lots by FIFO: which purchase a sale took, what it cost and what is left. Pure; paise and units.

First in, first out per account (CBDT circular 768, 24 Jun 1998), by share and product. A sale of what is not there opens
a short lot (an intraday sale before its purchase, or a fact that came before the one it follows); a purchase closes the
oldest short lots first. The parts of a lot add up to it exactly, however it is cut.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class Fill:
    """A traded part of an order: `quantity` is negative for a sale; charges without shares have quantity 0."""

    order_id: str
    on: date
    quantity: int
    amount_paise: int
    charges_paise: int


@dataclass(frozen=True, slots=True)
class OpenLot:
    """Shares still held (negative: owed) of one fill, with their part of its value and charges."""

    acquired_on: date
    quantity: int
    cost_paise: int
    charges_paise: int


@dataclass(frozen=True, slots=True)
class Disposal:
    """A part of a lot that was closed by `order_id`: bought for `cost_paise`, sold for `proceeds_paise`.

    Of a short lot the sale came first: `acquired_on` is then the later day.
    """

    order_id: str
    acquired_on: date
    disposed_on: date
    quantity: int
    cost_paise: int
    proceeds_paise: int
    charges_paise: int

    @property
    def gain_paise(self) -> int:
        """Sold minus bought, before charges."""
        return self.proceeds_paise - self.cost_paise

    @property
    def net_paise(self) -> int:
        """After the charges of both sides."""
        return self.gain_paise - self.charges_paise


class _Part:
    """What is left of a fill; taking parts of it one after the other takes its cumulative floors."""

    __slots__ = ("amount", "charges", "on", "quantity", "rest")

    def __init__(self, on: date, quantity: int, amount: int, charges: int) -> None:
        self.on = on
        self.quantity = quantity
        self.amount = amount
        self.charges = charges
        self.rest = quantity

    def take(self, units: int) -> tuple[int, int]:
        """Amount and charges of the next `units`."""
        gone = self.quantity - self.rest
        self.rest -= units
        after = gone + units
        return (
            self.amount * after // self.quantity - self.amount * gone // self.quantity,
            self.charges * after // self.quantity - self.charges * gone // self.quantity,
        )


def fifo(fills: Iterable[Fill]) -> tuple[list[Disposal], list[OpenLot]]:
    """What the fills of one share (in the order they happened) closed, and what they left open."""
    held: deque[_Part] = deque()
    sign = 1
    disposals: list[Disposal] = []
    for fill in with_charges_on_fills(fills):
        side = 1 if fill.quantity > 0 else -1
        part = _Part(fill.on, abs(fill.quantity), fill.amount_paise, fill.charges_paise)
        while part.rest and held and sign != side:
            lot = held[0]
            units = min(lot.rest, part.rest)
            opened, opened_charges = lot.take(units)
            closed, closed_charges = part.take(units)
            bought, sold = (opened, closed) if sign > 0 else (closed, opened)
            acquired = lot.on if sign > 0 else fill.on
            disposals.append(
                Disposal(fill.order_id, acquired, fill.on, units, bought, sold, opened_charges + closed_charges)
            )
            if not lot.rest:
                held.popleft()
        if part.rest:
            if not held:
                sign = side
            held.append(part)
    return disposals, [_open(part, sign) for part in held]


def with_charges_on_fills(fills: Iterable[Fill]) -> list[Fill]:
    """Charges that came without shares, added to the fill of their order before them, else to the one after."""
    kept: list[Fill] = []
    place: dict[str, int] = {}
    waiting: dict[str, int] = {}
    for fill in fills:
        extra = waiting.pop(fill.order_id, 0)
        if fill.quantity:
            place[fill.order_id] = len(kept)
            kept.append(_plus(fill, extra) if extra else fill)
        elif fill.order_id in place:
            at = place[fill.order_id]
            kept[at] = _plus(kept[at], fill.charges_paise)
        else:
            waiting[fill.order_id] = extra + fill.charges_paise
    return kept


def _plus(fill: Fill, charges_paise: int) -> Fill:
    return Fill(fill.order_id, fill.on, fill.quantity, fill.amount_paise, fill.charges_paise + charges_paise)


def _open(part: _Part, sign: int) -> OpenLot:
    units = part.rest
    amount, charges = part.take(units)
    return OpenLot(part.on, sign * units, amount, charges)
