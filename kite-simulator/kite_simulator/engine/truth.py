"""The truth log folded: every order, fill and fault there ever was, for whoever checks a client's books against it.

Pure: `fold(engine.kernel.facts)`, or the batches of a `truth.jsonl` one after the other. Orders stay here after the
broker's own book forgot them at the roll of the day.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from kite_simulator.engine.faults import FaultKind
from kite_simulator.engine.journal import Fact
from kite_simulator.engine.rendering import USER_ID


@dataclass(slots=True)
class TrueTrade:
    """One execution as it stands; `was` holds (quantity, price_paise) before each correction."""

    trade_id: str
    quantity: int
    price_paise: int
    at: str
    was: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class TrueOrder:
    """One order the broker received. `is_foreign`: nobody sent it over the wire (entered by hand, squared off)."""

    order_id: str
    tag: str | None
    tags: list[str]
    exchange: str
    symbol: str
    side: str
    product: str
    order_type: str
    quantity: int
    price_paise: int
    received_at: str
    is_foreign: bool
    status: str = "PUT ORDER REQ RECEIVED"
    filled_quantity: int = 0
    filled_value_paise: int = 0
    cancelled_quantity: int = 0
    is_purged: bool = False
    """The day rolled and the order is no longer in the broker's book."""
    trades: list[TrueTrade] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Truth:
    """What really happened. `injected` counts faults by kind, `promised` those whose second half is still to come."""

    orders: dict[str, TrueOrder] = field(default_factory=dict)
    trades: dict[str, TrueTrade] = field(default_factory=dict)
    corrections: list[Fact] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)
    promised: dict[int, Fact] = field(default_factory=dict)
    self_trades_prevented: int = 0
    refusals: int = 0

    def add(self, fact: Fact) -> None:
        """Take one fact, in the order of the log."""
        act = _FOLDS.get(fact["kind"])
        if act is not None:
            act(self, fact)

    def by_tag(self, tag: str) -> list[TrueOrder]:
        """The orders that carry a tag: for a client that never doubles at most one."""
        return [order for order in self.orders.values() if order.tag == tag or tag in order.tags]

    def _received(self, fact: Fact) -> None:
        given = fact["order"]
        names = ("order_id", "tag", "tags", "exchange", "symbol", "side", "product", "order_type", "quantity")
        foreign = given["placed_by"] != USER_ID
        plain: dict[str, Any] = {name: given[name] for name in names}
        self.orders[given["order_id"]] = TrueOrder(
            **plain, price_paise=given["price_paise"], received_at=fact["at"], is_foreign=foreign
        )

    def _moved(self, fact: Fact) -> None:
        order = self.orders[fact["order_id"]]
        order.status = fact["status"]
        for name in ("quantity", "price_paise", "order_type", "cancelled_quantity", "tags"):
            if name in fact["changes"]:
                setattr(order, name, fact["changes"][name])

    def _traded(self, fact: Fact) -> None:
        order = self.orders[fact["order_id"]]
        trade = TrueTrade(fact["trade_id"], fact["quantity"], fact["price_paise"], fact["at"])
        order.trades.append(trade)
        self.trades[trade.trade_id] = trade
        _total(order)

    def _corrected(self, fact: Fact) -> None:
        trade = self.trades[fact["trade_id"]]
        trade.was.append((trade.quantity, trade.price_paise))
        trade.quantity, trade.price_paise = fact["quantity"], fact["price_paise"]
        self.corrections.append(fact)
        _total(self.orders[fact["order_id"]])

    def _rolled(self, fact: Fact) -> None:
        for order in self.orders.values():
            order.is_purged = order.is_purged or order.status in _ENDED

    def _prevented(self, fact: Fact) -> None:
        self.self_trades_prevented += 1

    def _refused(self, fact: Fact) -> None:
        self.refusals += 1

    def _fault(self, fact: Fact) -> None:
        self.injected[fact["fault"]] += 1
        if "due" in fact:
            self.promised[fact["n"]] = fact
        order = self.orders.get(fact.get("order_id") or "")
        if order is not None:
            order.faults.append(fact["fault"])
            order.is_foreign = order.is_foreign or fact["fault"] == FaultKind.FOREIGN_ORDER

    def _followed(self, fact: Fact) -> None:
        cause = self.promised.pop(fact["cause"])
        order = self.orders.get(fact.get("order_id") or "")
        if order is not None and "order_id" not in cause:
            order.faults.append(fact["fault"])


def fold(facts: Iterable[Fact]) -> Truth:
    """The truth after these facts."""
    truth = Truth()
    for fact in facts:
        truth.add(fact)
    return truth


def _total(order: TrueOrder) -> None:
    order.filled_quantity = sum(trade.quantity for trade in order.trades)
    order.filled_value_paise = sum(trade.quantity * trade.price_paise for trade in order.trades)


_ENDED = frozenset({"COMPLETE", "CANCELLED", "CANCELLED AMO", "REJECTED"})
_FOLDS: dict[str, Callable[[Truth, Fact], None]] = {
    "order_received": Truth._received,
    "order_state": Truth._moved,
    "trade": Truth._traded,
    "trade_corrected": Truth._corrected,
    "day_rolled": Truth._rolled,
    "self_trade_prevented": Truth._prevented,
    "order_refused": Truth._refused,
    "fault_injected": Truth._fault,
    "fault_followed": Truth._followed,
}
