"""Dividing a block's fills among its orders: pro rata on deficits, exact to the share and to the paisa.

Source: execution.md 3.8 and market.md section 7. Recomputing largest remainder on the running total is not monotone (the
Alabama paradox would take shares back from a user), so each round hands out only the new shares, to those furthest
behind their exact quota. Pure functions of persisted rows: the same rows give the same answer, in any input order.
"""

import hashlib
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from common.money import largest, split_by_largest_remainder


class Share(NamedTuple):
    """What one order gets in a round: shares and their cost or proceeds in paise."""

    quantity: int
    amount_paise: int


def tie_key(block_id: UUID, order_id: UUID) -> bytes:
    """A tie breaker that nobody can aim for: it depends on the block, not on who came first."""
    return hashlib.sha256(block_id.bytes + order_id.bytes).digest()


def allocate_round(
    quantities: Sequence[int], already: Sequence[int], new_fill: int, tie_keys: Sequence[Hashable]
) -> list[int]:
    """Shares of `new_fill` for each order of a block.

    `quantities` are the shares each order brought, `already` those it has got in earlier rounds. The answer sums to
    `new_fill`, is never negative, never lifts an order above its quantity, and keeps every order within one share of its
    exact pro-rata part. Raises ValueError when the fills exceed the block.
    """
    total = sum(quantities)
    filled = sum(already) + new_fill
    if new_fill < 0 or filled > total:
        raise ValueError(f"{filled} shares filled of a block of {total}")
    if any(not 0 <= got <= asked for got, asked in zip(already, quantities, strict=True)):
        raise ValueError("an order has more than it asked for")
    # Deficits times `total`, so that they stay whole numbers.
    deficits = [filled * asked - got * total for asked, got in zip(quantities, already, strict=True)]
    open_shares = [asked - got for asked, got in zip(quantities, already, strict=True)]
    gives = [
        min(max(0, deficit) // total, space) if total else 0
        for deficit, space in zip(deficits, open_shares, strict=True)
    ]
    rest = new_fill - sum(gives)
    ties: Sequence[Any] = tie_keys
    while rest:
        # Behind most first when giving, behind least first when the floors alone were more than there is.
        step = 1 if rest > 0 else -1
        able = [i for i, give in enumerate(gives) if (give < open_shares[i] if step > 0 else give > 0)]
        behind = [step * (deficits[i] - gives[i] * total) for i in able]
        for place in largest(behind, min(abs(rest), len(able)), [ties[i] for i in able]):
            gives[able[place]] += step
            rest -= step
    return gives


def divide(
    quantities: Sequence[int],
    already: Sequence[int],
    new_fill: int,
    amount_paise: int,
    tie_keys: Sequence[Hashable],
) -> list[Share]:
    """One round: shares by deficits, and the round's money by largest remainder on those shares.

    The money sums to `amount_paise` exactly and everyone is within one paisa of the round's average price.
    """
    gives = allocate_round(quantities, already, new_fill, tie_keys)
    amounts = split_by_largest_remainder(amount_paise, gives, tie_keys)
    return list(map(Share, gives, amounts))
