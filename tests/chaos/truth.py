"""The simulated exchange's own record of a run: what was really received, traded and injected."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

LATE = frozenset(
    {"accept_delayed", "timed_out_400_accepted", "ghost", "order_stuck", "cancel_then_filled", "trade_corrected"}
)
"""Faults with a second half that changes the books when its instant comes."""


@dataclass(frozen=True)
class TrueTrade:
    """One execution; `was` is its content before the exchange corrected it."""

    trade_id: str
    order_id: str
    quantity: int
    price_paise: int
    was: tuple[int, int] | None = None


@dataclass(frozen=True)
class TrueOrder:
    """One order as it was received."""

    order_id: str
    tag: str | None
    exchange: str
    symbol: str
    side: str
    quantity: int


@dataclass
class Truth:
    """The facts of the log, gathered."""

    orders: dict[str, TrueOrder] = field(default_factory=dict)
    trades: dict[str, TrueTrade] = field(default_factory=dict)
    self_trades: list[dict[str, Any]] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    promised: dict[int, str] = field(default_factory=dict)
    """Second halves of faults that have not come yet, by the number of their fact."""

    @classmethod
    def of(cls, facts: Sequence[dict[str, Any]]) -> "Truth":
        """Gather the facts of a whole log."""
        truth = cls()
        for fact in facts:
            truth._add(fact)
        return truth

    def _add(self, fact: dict[str, Any]) -> None:
        kind = fact["kind"]
        if kind == "order_received":
            order = fact["order"]
            self.orders[order["order_id"]] = TrueOrder(
                order["order_id"], order.get("tag"), order["exchange"], order["symbol"], order["side"],
                order["quantity"],
            )  # fmt: skip
        elif kind == "trade":
            self.trades[fact["trade_id"]] = TrueTrade(
                fact["trade_id"], fact["order_id"], fact["quantity"], fact["price_paise"]
            )
        elif kind == "trade_corrected":
            self.trades[fact["trade_id"]] = TrueTrade(
                fact["trade_id"], fact["order_id"], fact["quantity"], fact["price_paise"],
                was=(fact["was_quantity"], fact["was_price_paise"]),
            )  # fmt: skip
        elif kind == "self_trade_prevented":
            self.self_trades.append(fact)
        elif kind == "fault_injected":
            self.faults[fact["fault"]] += 1
            if fact["fault"] in LATE and "due" in fact:
                self.promised[fact["n"]] = fact["fault"]
        elif kind == "fault_followed":
            self.promised.pop(fact["cause"], None)

    def net_units(self) -> Counter[str]:
        """Shares bought less shares sold, by `EXCHANGE:SYMBOL`, of all orders whoever placed them."""
        units: Counter[str] = Counter()
        for trade in self.trades.values():
            order = self.orders[trade.order_id]
            sign = 1 if order.side == "BUY" else -1
            units[f"{order.exchange}:{order.symbol}"] += sign * trade.quantity
        return units
