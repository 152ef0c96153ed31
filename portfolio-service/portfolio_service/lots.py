"""Tax lots: first in, first out, with exact costs.

Order: FIFO per demat account (CBDT circular 768, 24 Jun 1998). In the pooled account the tax law sees one owner, the
account holder; lots of a single user are notional and every report built on them says so.
"""

import calendar
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal
from uuid import UUID

from common.money import split_by_largest_remainder

Term = Literal["SHORT", "LONG"]


class InvalidLot(ValueError):
    """Quantity and cost of a lot, or the quantity to sell, are impossible."""


class InsufficientLots(ValueError):
    """More shares are to be sold than all lots hold; nothing is consumed."""

    def __init__(self, requested: int, available: int) -> None:
        super().__init__(f"{requested} shares to sell, the lots hold {available}")
        self.requested = requested
        self.available = available


@dataclass(frozen=True, slots=True)
class Lot:
    """Shares bought together: `quantity` still held and their part of the cost.

    `opened_quantity` and `opened_cost_paise` are the figures of the purchase. Kept with a partly sold lot, they make
    the cost of the next sale independent of how the earlier ones were cut; a lot without them counts as unsold.
    Raises InvalidLot when quantity and cost do not belong to the opened figures.
    """

    lot_id: UUID
    acquired_on: date
    quantity: int
    cost_paise: int
    opened_quantity: int | None = None
    opened_cost_paise: int | None = None

    def __post_init__(self) -> None:
        if self.quantity <= 0 or self.cost_paise < 0:
            raise InvalidLot(f"a lot holds shares for a cost: {self.quantity} for {self.cost_paise} paise")
        if (self.opened_quantity is None) != (self.opened_cost_paise is None):
            raise InvalidLot("opened_quantity and opened_cost_paise come together")
        opened_quantity, _ = self.opened
        if self.quantity > opened_quantity or self.cost_paise != self.cost_of_rest(self.quantity):
            raise InvalidLot(f"{self.quantity} shares for {self.cost_paise} paise are no rest of {self.opened}")

    @property
    def opened(self) -> tuple[int, int]:
        """Quantity and cost of the purchase."""
        if self.opened_quantity is None or self.opened_cost_paise is None:
            return self.quantity, self.cost_paise
        return self.opened_quantity, self.opened_cost_paise

    def cost_of_rest(self, quantity: int) -> int:
        """Paise of cost left with the last `quantity` shares: what is sold has taken its cumulative floor."""
        opened_quantity, opened_cost = self.opened
        return opened_cost - opened_cost * (opened_quantity - quantity) // opened_quantity


@dataclass(frozen=True, slots=True)
class Disposal:
    """The part of one lot that a sale took, with its share of the lot's cost."""

    lot_id: UUID
    acquired_on: date
    quantity: int
    cost_paise: int


def consume(lots: Sequence[Lot], quantity: int) -> tuple[list[Disposal], list[Lot]]:
    """Sell `quantity` shares from the oldest lots first; answers what was taken and the lots that remain.

    Lots of one day go in the order given. Costs are conserved to the paisa: repeated sales of a lot take together
    exactly its cost. Raises InsufficientLots, InvalidLot for a quantity that is not positive.
    """
    if quantity <= 0:
        raise InvalidLot(f"a sale takes at least one share, not {quantity}")
    available = sum(lot.quantity for lot in lots)
    if quantity > available:
        raise InsufficientLots(quantity, available)
    disposals: list[Disposal] = []
    remaining: list[Lot] = []
    wanted = quantity
    for lot in sorted(lots, key=lambda lot: lot.acquired_on):
        taken = min(wanted, lot.quantity)
        wanted -= taken
        if taken == 0:
            remaining.append(lot)
            continue
        rest = lot.quantity - taken
        cost_of_rest = lot.cost_of_rest(rest)
        disposals.append(Disposal(lot.lot_id, lot.acquired_on, taken, lot.cost_paise - cost_of_rest))
        if rest:
            opened_quantity, opened_cost = lot.opened
            remaining.append(
                replace(
                    lot,
                    quantity=rest,
                    cost_paise=cost_of_rest,
                    opened_quantity=opened_quantity,
                    opened_cost_paise=opened_cost,
                )
            )
    return disposals, remaining


def split_proceeds(disposals: Sequence[Disposal], proceeds_paise: int) -> list[int]:
    """The proceeds of one sale per disposal, by quantity; they add up exactly, ties go to the older lot."""
    parts: list[int] = split_by_largest_remainder(proceeds_paise, [disposal.quantity for disposal in disposals])
    return parts


def gain(disposal: Disposal, proceeds_paise: int) -> int:
    """Paise gained (negative: lost) on a disposal sold for `proceeds_paise`."""
    return proceeds_paise - disposal.cost_paise


def holding_term(acquired_on: date, sold_on: date) -> Term:
    """SHORT for listed shares held 12 months or less, LONG for more (s. 196 and s. 198, Income-tax Act 2025).

    The day of the sale does not count as held: sold on the anniversary is 12 months exactly, so still SHORT; the day
    after is LONG. Bought on 29 Feb, twelve calendar months end on 28 Feb. Raises ValueError when sold before bought.
    """
    if sold_on < acquired_on:
        raise ValueError(f"sold on {sold_on.isoformat()}, before the purchase on {acquired_on.isoformat()}")
    next_year = acquired_on.year + 1
    last_day = calendar.monthrange(next_year, acquired_on.month)[1]
    anniversary = date(next_year, acquired_on.month, min(acquired_on.day, last_day))
    return "LONG" if sold_on > anniversary else "SHORT"
