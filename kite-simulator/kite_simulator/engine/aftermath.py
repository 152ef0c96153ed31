"""The second half of faults: what a promise of the truth log brings when its instant comes."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kite_simulator.engine.desk import Desk
from kite_simulator.engine.dice import FaultDice
from kite_simulator.engine.errors import Refused
from kite_simulator.engine.exchange import Exchange
from kite_simulator.engine.faults import FaultKind
from kite_simulator.engine.journal import Fact
from kite_simulator.engine.kernel import Kernel
from kite_simulator.engine.orders import ARRIVING, Trade

ANSWERS_KEPT_MAX = 1_000
CORRECTION_TICKS_MAX = 10


class Aftermath:
    """Keeps promises, in order of time, also after a restart."""

    def __init__(self, kernel: Kernel, exchange: Exchange, desk: Desk, dice: FaultDice) -> None:
        self._kernel = kernel
        self._exchange = exchange
        self._desk = desk
        self._dice = dice
        self._answers: dict[int, dict[str, Any] | Refused] = {}
        self._acts = {
            FaultKind.ACCEPT_DELAYED: self._deliver,
            FaultKind.TIMED_OUT_400_ACCEPTED: self._deliver,
            FaultKind.GHOST: self._deliver,
            FaultKind.ORDER_STUCK: self._release_stuck,
            FaultKind.CANCEL_THEN_FILLED: self._fill_cancelled,
            FaultKind.TRADE_CORRECTED: self._correct,
            FaultKind.TRADES_LAG: self._show_trade,
        }

    def resume(self) -> None:
        """After a restart: schedule what was promised before; what is overdue comes at once."""
        kernel = self._kernel
        for number, fact in kernel.state.promises.items():
            left_s = (datetime.fromisoformat(fact["due"]) - kernel.time).total_seconds()
            kernel.schedule(max(0.0, left_s), "fault", "", number)

    def hold(self, kind: FaultKind, variety: str, fields: Mapping[str, str], **where: Any) -> tuple[int, float]:
        """Put an order request aside; it reaches the desk later. Returns the number of the fact and the seconds."""
        rates = self._dice.rates
        delay_s = self._dice.seconds(kind, rates.ghost_delay_s if kind is FaultKind.GHOST else rates.accept_delay_s)
        number = self._dice.note(kind, due_in_s=delay_s, variety=variety, request=dict(fields), **where)
        return number, delay_s

    def answer_of(self, number: int) -> dict[str, Any] | Refused | None:
        """What the desk said to a request that was put aside, once; None while it has not come."""
        return self._answers.pop(number, None)

    def keep(self, number: int) -> None:
        """The instant of a promise has come."""
        fact = self._kernel.state.promises.get(number)
        if fact is not None:
            self._acts[FaultKind(fact["fault"])](fact)

    def _deliver(self, fact: Fact) -> None:
        kernel = self._kernel
        if kernel.calendar.day_of(datetime.fromisoformat(fact["at"])) != kernel.state.day:
            # Nothing that waited before the desk lives on into another trading day.
            self._follow(fact, order_id=None)
            return
        answer: dict[str, Any] | Refused
        try:
            answer = self._desk.place(fact["variety"], fact["request"])
        except Refused as refusal:
            answer = refusal
        order_id = None if isinstance(answer, Refused) else answer["order_id"]
        self._follow(fact, order_id=order_id)
        if fact["fault"] == FaultKind.ACCEPT_DELAYED:
            while len(self._answers) >= ANSWERS_KEPT_MAX:
                del self._answers[next(iter(self._answers))]
            self._answers[fact["n"]] = answer

    def _release_stuck(self, fact: Fact) -> None:
        self._follow(fact, order_id=fact["order_id"])
        order = self._kernel.state.orders.get(fact["order_id"])
        if order is not None and order.status in ARRIVING:
            self._exchange.accept(order)

    def _fill_cancelled(self, fact: Fact) -> None:
        self._follow(fact, order_id=fact["order_id"])
        order = self._kernel.state.orders.get(fact["order_id"])
        if order is not None and order.is_live:
            self._exchange.fill_and_end(order, fact["quantity"])

    def _correct(self, fact: Fact) -> None:
        kernel = self._kernel
        trade = kernel.state.trades.get(fact["trade_id"])
        self._follow(fact, order_id=fact["order_id"], trade_id=fact["trade_id"])
        if trade is not None:
            quantity, price_paise = self._corrected(trade)
            kernel.record(
                "trade_corrected",
                trade_id=trade.trade_id,
                order_id=trade.order_id,
                quantity=quantity,
                price_paise=price_paise,
                was_quantity=trade.quantity,
                was_price_paise=trade.price_paise,
                at_ist=trade.at_ist,
            )

    def _corrected(self, trade: Trade) -> tuple[int, int]:
        """Other numbers under the same id: fewer shares of a delivery trade, or a price some ticks away."""
        kernel, rng = self._kernel, self._dice.sizes(FaultKind.TRADE_CORRECTED)
        order = kernel.state.orders[trade.order_id]
        line = kernel.board.lines[order.key]
        wants_quantity, ticks = rng.random() < 0.5, rng.randint(1, CORRECTION_TICKS_MAX)
        if wants_quantity and trade.quantity > 1 and order.product == "CNC":
            fewer, isin = rng.randint(1, trade.quantity - 1), line.instrument.isin
            sellable = kernel.state.account.sellable(isin, kernel.state.pending_delivery_sells(isin))
            # Shares that were sold on meanwhile can not be taken back out of the account.
            if not order.is_buy or sellable >= fewer:
                return trade.quantity - fewer, trade.price_paise
        away = ticks * line.instrument.tick_paise
        return trade.quantity, trade.price_paise + (away if trade.price_paise <= away else -away)

    def _show_trade(self, fact: Fact) -> None:
        self._follow(fact, order_id=fact["order_id"], trade_id=fact["trade_id"])

    def _follow(self, fact: Fact, **what: Any) -> None:
        self._kernel.record("fault_followed", cause=fact["n"], fault=fact["fault"], **what)
