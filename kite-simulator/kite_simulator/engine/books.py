"""The order and trade book as a reader gets them, with what a reader must not trust (execution design 4.2)."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from kite_simulator.engine.account import Account
from kite_simulator.engine.dice import FaultDice
from kite_simulator.engine.faults import FaultKind
from kite_simulator.engine.journal import Fact
from kite_simulator.engine.kernel import Kernel
from kite_simulator.engine.orders import Order
from kite_simulator.engine.rendering import book_bytes
from kite_simulator.engine.state import State


class Books:
    """JSON arrays, kept until something in them changes: clients read the whole day's book every second."""

    def __init__(self, kernel: Kernel, dice: FaultDice) -> None:
        self._kernel = kernel
        self._dice = dice
        self._orders: tuple[int, bytes] = (-1, b"")
        self._trades: tuple[int, bytes] = (-1, b"")
        self._sorted: tuple[tuple[int, int], list[Order]] = ((-1, -1), [])

    def orders(self) -> bytes:
        """GET /orders: today's book in no order a client could rely on (forum 51372); maybe stale, maybe cut short."""
        dice = self._dice
        if dice.draws(FaultKind.BOOK_STALE):
            lag_s = dice.seconds(FaultKind.BOOK_STALE, dice.rates.book_stale_s)
            dice.note(FaultKind.BOOK_STALE, seconds=lag_s)
            return _array(self._rows_as_of(self._kernel.time - timedelta(seconds=lag_s)))
        if self._kernel.state.orders and dice.draws(FaultKind.BOOK_TRUNCATED):
            rows = [book_bytes(order) for order in self._in_order()]
            shown = dice.sizes(FaultKind.BOOK_TRUNCATED).randrange(len(rows))
            dice.note(FaultKind.BOOK_TRUNCATED, shown=shown, rows=len(rows))
            return _array(rows[:shown])
        version = self._kernel.state.version
        if self._orders[0] != version:
            self._orders = (version, _array(book_bytes(order) for order in self._in_order()))
        return self._orders[1]

    def trades(self) -> bytes:
        """GET /trades: today's executions but those that lag behind the order book."""
        state = self._kernel.state
        if self._trades[0] != state.version:
            rows = [trade.row for trade in state.trades.values() if trade.trade_id not in state.hidden_trades]
            self._trades = (state.version, _array(rows))
        return self._trades[1]

    def trades_of(self, order: Order) -> bytes:
        """GET /orders/{order_id}/trades."""
        hidden = self._kernel.state.hidden_trades
        return _array(trade.row for trade in order.trades if trade.trade_id not in hidden)

    def _in_order(self) -> list[Order]:
        state = self._kernel.state
        members = (state.orders_ever, len(state.orders))
        if self._sorted[0] != members:
            self._sorted = (members, sorted(state.orders.values(), key=lambda order: order.shuffle_rank))
        return self._sorted[1]

    def _rows_as_of(self, moment: datetime) -> list[bytes]:
        """The book of an earlier instant of the same day, rebuilt from the facts."""
        changed = self._changed_since(moment)
        rows = (
            self._row_as_of(order, moment) if order.order_id in changed else book_bytes(order)
            for order in self._in_order()
        )
        return [row for row in rows if row is not None]

    def _changed_since(self, moment: datetime) -> set[str]:
        changed: set[str] = set()
        for fact in reversed(self._kernel.facts):
            if datetime.fromisoformat(fact["at"]) <= moment:
                break
            if "order_id" in fact or fact["kind"] == "order_received":
                changed.add(_order_of(fact))
        return changed

    def _row_as_of(self, order: Order, moment: datetime) -> bytes | None:
        past = State(self._kernel.instruments, Account(0))
        for fact in self._kernel.order_facts[order.order_id]:
            if datetime.fromisoformat(fact["at"]) > moment:
                break
            past.apply(fact)
        then = past.orders.get(order.order_id)
        return None if then is None else book_bytes(then)


def _array(rows: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(rows) + b"]"


def _order_of(fact: Fact) -> str:
    order_id: str = fact["order_id"] if "order_id" in fact else fact["order"]["order_id"]
    return order_id
