"""Everything the journal rebuilds: the state changes through `apply(fact)` and in no other way."""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from kite_simulator.engine.account import Account, Holding
from kite_simulator.engine.faults import FaultKind
from kite_simulator.engine.instruments import InstrumentBook
from kite_simulator.engine.journal import Fact
from kite_simulator.engine.margin import order_margin_paise
from kite_simulator.engine.orders import Order, Status, Trade
from kite_simulator.engine.rendering import history_row, trade_row

ORDER_TEXT_FIELDS = frozenset(
    {"status_message", "status_message_raw", "exchange_order_id", "order_type", "validity", "product"}
)
ORDER_NUMBER_FIELDS = frozenset(
    {
        "quantity",
        "disclosed_quantity",
        "price_paise",
        "trigger_paise",
        "protection_bps",
        "modifications",
        "cancelled_quantity",
    }
)
ORDER_TIME_FIELDS = frozenset({"order_at", "exchange_at", "exchange_update_at"})
ORDER_OTHER_FIELDS = frozenset({"tags"})


@dataclass(slots=True)
class Session:
    """One access token and its death."""

    access_token: str
    public_token: str
    login_at: datetime
    expires_at: datetime


@dataclass(slots=True)
class Gtt:
    """A stored trigger (Kite docs, GTT). Prices inside `condition` and `orders` are decimal strings."""

    trigger_id: int
    kind: str
    condition: dict[str, Any]
    orders: list[dict[str, Any]]
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    status: str = "active"
    meta: dict[str, Any] | None = None


@dataclass
class State:
    """The broker's books."""

    instruments: InstrumentBook = field(compare=False)
    account: Account
    day: date | None = None
    anchor: date | None = None
    session_closed: bool = False
    orders: dict[str, Order] = field(default_factory=dict)
    live: dict[str, dict[str, Order]] = field(default_factory=dict)
    trades: dict[str, Trade] = field(default_factory=dict)
    hidden_trades: set[str] = field(default_factory=set)
    sessions: dict[str, Session] = field(default_factory=dict)
    request_tokens: dict[str, datetime] = field(default_factory=dict)
    gtts: dict[int, Gtt] = field(default_factory=dict)
    closes: dict[str, int] = field(default_factory=dict)
    bars: dict[str, list[list[Any]]] = field(default_factory=dict)
    prices_set: dict[str, int] = field(default_factory=dict)
    refused_symbols: dict[str, str] = field(default_factory=dict)
    market_override: bool | None = None
    frozen: bool = False
    order_requests: int = 0
    orders_ever: int = 0
    trades_ever: int = 0
    tokens_ever: int = 0
    gtts_ever: int = 0
    exchange_ids_ever: int = 0
    self_trades_prevented: int = 0
    fault_rates: dict[str, Any] | None = None
    faults_forced: dict[str, int] = field(default_factory=dict)
    faults_injected: dict[str, int] = field(default_factory=dict)
    promises: dict[int, Fact] = field(default_factory=dict)
    """Faults whose second half is still to come, by the number of their fact."""
    version: int = field(default=0, compare=False)
    """Grows with everything the order or trade book shows."""

    def apply(self, fact: Fact) -> None:
        """Change the books by one fact."""
        APPLIERS[fact["kind"]](self, fact)

    def live_orders(self, key: str) -> list[Order]:
        """Non-terminal orders of one instrument, oldest first."""
        return list(self.live.get(key, {}).values())

    def pending_delivery_sells(self, isin: str) -> int:
        """Delivery shares on offer in all non-terminal sell orders."""
        return sum(
            order.exposed_quantity
            for orders in self.live.values()
            for order in orders.values()
            if not order.is_buy
            and order.product in ("CNC", "MTF")
            and self.instruments.by_token[order.token].isin == isin
        )

    def _touch(self, order: Order) -> None:
        self.version += 1
        order.row = None
        blocked = 0 if order.is_terminal else order_margin_paise(order, self.account)
        self.account.blocked_paise += blocked - order.blocked_paise
        order.blocked_paise = blocked
        if order.is_terminal:
            self.live.get(order.key, {}).pop(order.order_id, None)

    def _order_received(self, fact: Fact) -> None:
        at = datetime.fromisoformat(fact["at"])
        order = Order(**fact["order"], placed_at=at, order_at=at)
        self.orders[order.order_id] = order
        self.live.setdefault(order.key, {})[order.order_id] = order
        self.orders_ever += 1
        self.order_requests += 1 if fact["counts"] else 0
        self._touch(order)
        order.history.append(history_row(order, enriched=False))

    def _order_refused(self, fact: Fact) -> None:
        self.order_requests += 1

    def _order_state(self, fact: Fact) -> None:
        order = self.orders[fact["order_id"]]
        for name, value in fact["changes"].items():
            if name in ORDER_TIME_FIELDS:
                setattr(order, name, datetime.fromisoformat(value))
            elif name in ORDER_TEXT_FIELDS or name in ORDER_NUMBER_FIELDS or name in ORDER_OTHER_FIELDS:
                setattr(order, name, value)
            else:
                raise KeyError(f"order field {name} cannot change")
        if "exchange_order_id" in fact["changes"]:
            self.exchange_ids_ever += 1
        order.move_to(Status(fact["status"]))
        self._touch(order)
        order.history.append(history_row(order, enriched=True))

    def _modify_requested(self, fact: Fact) -> None:
        self.order_requests += 1

    def _cancel_requested(self, fact: Fact) -> None:
        """Cancels are not counted (fact sheet section 3); the fact stands for the reader of the log."""

    def _trade(self, fact: Fact) -> None:
        order = self.orders[fact["order_id"]]
        value = fact["quantity"] * fact["price_paise"]
        order.filled_quantity += fact["quantity"]
        order.filled_value_paise += value
        instrument = self.instruments.by_token[order.token]
        position = self.account.position(order.exchange, order.symbol, order.token, instrument.isin, order.product)
        position.add(order.side, fact["quantity"], value)
        self.trades_ever += 1
        trade = Trade(
            fact["trade_id"],
            order.order_id,
            fact["quantity"],
            fact["price_paise"],
            fact["at_ist"],
            trade_row(order, fact),
        )
        order.trades.append(trade)
        self.trades[trade.trade_id] = trade
        self._touch(order)

    def _trade_corrected(self, fact: Fact) -> None:
        trade = self.trades[fact["trade_id"]]
        order = self.orders[trade.order_id]
        quantity = fact["quantity"] - trade.quantity
        value = fact["quantity"] * fact["price_paise"] - trade.quantity * trade.price_paise
        order.filled_quantity += quantity
        order.filled_value_paise += value
        isin = self.instruments.by_token[order.token].isin
        position = self.account.position(order.exchange, order.symbol, order.token, isin, order.product)
        position.add(order.side, quantity, value)
        trade.quantity, trade.price_paise = fact["quantity"], fact["price_paise"]
        trade.row = trade_row(order, fact)
        self._touch(order)

    def _self_trade_prevented(self, fact: Fact) -> None:
        self.self_trades_prevented += 1

    def _position_converted(self, fact: Fact) -> None:
        old = self.account.position(fact["exchange"], fact["symbol"], fact["token"], fact["isin"], fact["old_product"])
        new = self.account.position(fact["exchange"], fact["symbol"], fact["token"], fact["isin"], fact["new_product"])
        old.add(fact["side"], -fact["quantity"], -fact["value_paise"])
        new.add(fact["side"], fact["quantity"], fact["value_paise"])

    def _request_token_issued(self, fact: Fact) -> None:
        self.request_tokens[fact["request_token"]] = datetime.fromisoformat(fact["expires_at"])
        self.tokens_ever += 1

    def _session_opened(self, fact: Fact) -> None:
        self.request_tokens.pop(fact["request_token"], None)
        self.sessions[fact["access_token"]] = Session(
            fact["access_token"],
            fact["public_token"],
            datetime.fromisoformat(fact["at"]),
            datetime.fromisoformat(fact["expires_at"]),
        )
        self.tokens_ever += 1

    def _session_closed(self, fact: Fact) -> None:
        self.sessions.pop(fact["access_token"], None)

    def _gtt_placed(self, fact: Fact) -> None:
        at = datetime.fromisoformat(fact["at"])
        self.gtts_ever += 1
        self.gtts[fact["trigger_id"]] = Gtt(
            fact["trigger_id"],
            fact["type"],
            fact["condition"],
            fact["orders"],
            at,
            at,
            datetime.fromisoformat(fact["expires_at"]),
        )

    def _gtt_changed(self, fact: Fact) -> None:
        gtt = self.gtts[fact["trigger_id"]]
        gtt.updated_at = datetime.fromisoformat(fact["at"])
        gtt.kind = fact.get("type", gtt.kind)
        gtt.condition = fact.get("condition", gtt.condition)
        gtt.orders = fact.get("orders", gtt.orders)
        gtt.status = fact["status"]
        gtt.meta = fact.get("meta", gtt.meta)

    def _day_started(self, fact: Fact) -> None:
        self.day = date.fromisoformat(fact["day"])
        self.anchor = date.fromisoformat(fact["anchor"])

    def _day_closed(self, fact: Fact) -> None:
        self.session_closed = True

    def _day_rolled(self, fact: Fact) -> None:
        account = self.account
        cash = account.cash_paise + account.payin_paise + account.net_flow_paise() - fact["charges_paise"]
        for isin in sorted({p.isin for p in account.positions.values()} | set(account.holdings)):
            account.settle(isin)
        account.cash_paise = cash
        account.payin_paise = 0
        account.positions.clear()
        self.day = date.fromisoformat(fact["day"])
        self.session_closed = False
        self.order_requests = 0
        self.trades.clear()
        self.hidden_trades.clear()
        self.version += 1
        self.orders = {order_id: order for order_id, order in self.orders.items() if not order.is_terminal}
        self.closes.update(fact["closes"])
        self.prices_set.clear()
        for key, bar in fact["bars"].items():
            self.bars.setdefault(key, []).append([fact["ended"], *bar])

    def _cash_paid_in(self, fact: Fact) -> None:
        self.account.payin_paise += fact["amount_paise"]

    def _holding_given(self, fact: Fact) -> None:
        holding = self.account.holdings.setdefault(fact["isin"], Holding(fact["isin"]))
        holding.quantity += fact["quantity"]
        holding.cost_paise += fact["quantity"] * fact["price_paise"]

    def _market_switched(self, fact: Fact) -> None:
        self.market_override = fact["open"]

    def _prices_frozen(self, fact: Fact) -> None:
        self.frozen = fact["frozen"]

    def _price_set(self, fact: Fact) -> None:
        self.prices_set[fact["key"]] = fact["price_paise"]

    def _symbol_refused(self, fact: Fact) -> None:
        if fact["message"] is None:
            self.refused_symbols.pop(fact["key"], None)
        else:
            self.refused_symbols[fact["key"]] = fact["message"]

    def _faults_set(self, fact: Fact) -> None:
        self.fault_rates = fact["rates"]

    def _fault_forced(self, fact: Fact) -> None:
        if fact["count"]:
            self.faults_forced[fact["fault"]] = self.faults_forced.get(fact["fault"], 0) + fact["count"]
        else:
            self.faults_forced.pop(fact["fault"], None)

    def _fault_injected(self, fact: Fact) -> None:
        fault = fact["fault"]
        self.faults_injected[fault] = self.faults_injected.get(fault, 0) + 1
        if fact["forced"]:
            left = self.faults_forced.pop(fault) - 1
            if left:
                self.faults_forced[fault] = left
        if "due" in fact:
            self.promises[fact["n"]] = fact
        if fault == FaultKind.TRADES_LAG:
            self.hidden_trades.add(fact["trade_id"])
            self.version += 1

    def _fault_followed(self, fact: Fact) -> None:
        cause = self.promises.pop(fact["cause"])
        if cause["fault"] == FaultKind.TRADES_LAG:
            self.hidden_trades.discard(cause["trade_id"])
            self.version += 1


APPLIERS = {
    "order_received": State._order_received,
    "order_refused": State._order_refused,
    "modify_requested": State._modify_requested,
    "cancel_requested": State._cancel_requested,
    "order_state": State._order_state,
    "trade": State._trade,
    "self_trade_prevented": State._self_trade_prevented,
    "position_converted": State._position_converted,
    "request_token_issued": State._request_token_issued,
    "session_opened": State._session_opened,
    "session_closed": State._session_closed,
    "gtt_placed": State._gtt_placed,
    "gtt_changed": State._gtt_changed,
    "day_started": State._day_started,
    "day_closed": State._day_closed,
    "day_rolled": State._day_rolled,
    "cash_paid_in": State._cash_paid_in,
    "holding_given": State._holding_given,
    "market_switched": State._market_switched,
    "prices_frozen": State._prices_frozen,
    "price_set": State._price_set,
    "symbol_refused": State._symbol_refused,
    "trade_corrected": State._trade_corrected,
    "faults_set": State._faults_set,
    "fault_forced": State._fault_forced,
    "fault_injected": State._fault_injected,
    "fault_followed": State._fault_followed,
}
