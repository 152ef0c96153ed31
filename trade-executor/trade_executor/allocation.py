"""Dividing a block's fills among its orders: pro rata on deficits, exact to the share and to the paisa.

Source: execution.md 3.8 and market.md section 7. Recomputing largest remainder on the running total is not monotone (the
Alabama paradox would take shares back from a user), so each round hands out only the new shares, to those furthest
behind their exact quota. Pure functions of persisted rows: the same rows give the same answer, in any input order.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from itertools import count
from uuid import UUID

from common.money import first_in_line, first_of, split_by_largest_remainder


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
    # Orders that brought the same and have got the same are one class: a block has few of them, however many its orders.
    numbers: defaultdict[tuple[int, int], int] = defaultdict(count().__next__)
    classes = list(map(numbers.__getitem__, zip(quantities, already, strict=True)))
    members = Counter(classes)
    kinds = list(numbers)
    total = sum(asked * members[one] for one, (asked, _) in enumerate(kinds))
    filled = sum(got * members[one] for one, (_, got) in enumerate(kinds)) + new_fill
    if new_fill < 0 or filled > total:
        raise ValueError(f"{filled} shares filled of a block of {total}")
    if any(not 0 <= got <= asked for asked, got in kinds):
        raise ValueError("an order has more than it asked for")
    # Deficits times `total`, so that they stay whole numbers.
    deficits = [filled * asked - got * total for asked, got in kinds]
    spaces = [asked - got for asked, got in kinds]
    gives = [
        min(max(0, deficit) // total, space) if total else 0 for deficit, space in zip(deficits, spaces, strict=True)
    ]
    rest = new_fill - sum(give * members[one] for one, give in enumerate(gives))
    level: set[int] = set()
    step = free = 0
    while rest:
        # Behind most first when giving, behind least first when the floors alone were more than there is.
        step = 1 if rest > 0 else -1
        behind = {
            one: step * (deficits[one] - give * total)
            for one, give in enumerate(gives)
            if (give < spaces[one] if step > 0 else give > 0)
        }
        whole, level, free = first_in_line(behind, members, abs(rest))
        for one in whole:
            gives[one] += step
        rest -= step * (sum(members[one] for one in whole) + free)
    shares = list(map(gives.__getitem__, classes))
    for place in first_of(level, classes, free, tie_keys):
        shares[place] += step
    return shares


def divide(
    quantities: Sequence[int],
    already: Sequence[int],
    new_fill: int,
    amount_paise: int,
    tie_keys: Sequence[Hashable],
) -> tuple[list[int], list[int]]:
    """One round: each order's shares by deficits, and its paise of the round's money by largest remainder on those shares.

    The money sums to `amount_paise` exactly and everyone is within one paisa of the round's average price.
    """
    gives = allocate_round(quantities, already, new_fill, tie_keys)
    return gives, split_by_largest_remainder(amount_paise, gives, tie_keys)
