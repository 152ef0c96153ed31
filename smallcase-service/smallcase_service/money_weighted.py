"""The money-weighted yearly return (XIRR) of a user's own cash flows. Pure; amounts in paise."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import pyxirr


@dataclass(frozen=True)
class Flow:
    """Money on a day: positive was paid in, negative was taken out."""

    on: date
    amount_paise: int


def xirr(flows: Sequence[Flow], value_paise: int, on: date) -> float | None:
    """The rate r with sum of flow / (1 + r)^(days / 365) = 0, the value as last inflow; None: there is no solution.

    No solution: nothing was paid in, nothing came out or is left, or all of it happened on one day.
    """
    amounts = [-float(flow.amount_paise) for flow in flows] + [float(value_paise)]
    days = [flow.on for flow in flows] + [on]
    if min(amounts) >= 0 or max(amounts) <= 0 or len(set(days)) < 2:
        return None
    rate = pyxirr.xirr(days, amounts, silent=True)
    return None if rate is None or rate != rate or abs(rate) == float("inf") else float(rate)
