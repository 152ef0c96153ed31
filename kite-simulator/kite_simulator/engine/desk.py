"""The broker's order desk: place, modify, cancel (Kite docs, orders)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kite_simulator.engine.dice import FaultDice
from kite_simulator.engine.errors import (
    AMO_REFUSED,
    MARKET_CLOSED,
    MODIFICATIONS_EXCEEDED,
    NOT_CANCELLABLE,
    NOT_MODIFIABLE,
    PROTECTION_MISSING,
    SELF_TRADE,
    Refused,
    unknown_order,
)
from kite_simulator.engine.exchange import Exchange
from kite_simulator.engine.faults import FaultKind
from kite_simulator.engine.kernel import Kernel
from kite_simulator.engine.orders import RESTING, Order, Status
from kite_simulator.engine.rendering import USER_ID
from kite_simulator.engine.validation import (
    SLICES_MAX,
    OrderRequest,
    Rules,
    auto_protection_bps,
    check_band,
    check_freeze,
    check_funds,
    check_holdings,
    check_order,
    check_trigger,
    check_types,
    parse_order,
    protected_price,
    required_margin,
)

MODIFICATIONS_MAX = 25
FOREIGN_QUANTITY_MAX = 10


class Desk:
    """What the client may ask for."""

    def __init__(self, kernel: Kernel, exchange: Exchange, dice: FaultDice) -> None:
        self._kernel = kernel
        self._exchange = exchange
        self._dice = dice
        self._rules = Rules(kernel.settings.strict, kernel.settings.freeze_quantity)

    def place(self, variety: str, fields: Mapping[str, str]) -> dict[str, Any]:
        """Place an order; returns the `data` of the answer. A refusal is recorded and raised."""
        try:
            request = parse_order(variety, fields, self._kernel.instruments)
            if request.autoslice:
                return self._place_slices(request)
            order = self._place_one(request, request.tag)
            self._meddle(request)
            return {"order_id": order.order_id}
        except Refused as refusal:
            self._kernel.record(
                "order_refused",
                variety=variety,
                request=dict(fields),
                message=refusal.message,
                error_type=refusal.error_type,
                status=refusal.status,
            )
            raise

    def modify(self, variety: str, order_id: str, fields: Mapping[str, str]) -> dict[str, Any]:
        """Ask for a change; the answer says only that the request was taken."""
        kernel = self._kernel
        kernel.record("modify_requested", order_id=order_id, request=dict(fields))
        order = self._find(variety, order_id)
        if order.status not in RESTING:
            raise Refused(NOT_MODIFIABLE)
        if order.modifications >= MODIFICATIONS_MAX:
            raise Refused(MODIFICATIONS_EXCEEDED, "NetworkException", 429)
        changes = self._modification(order, fields)
        before = order.status
        kernel.record_order(
            order,
            Status.MODIFY_VALIDATION_PENDING,
            order_at=kernel.time,
            modifications=order.modifications + 1,
        )
        kernel.record_order(order, Status.MODIFY_PENDING)
        target = _status_after(before, order, changes)
        limit = int(changes.get("price_paise", order.price_paise))
        if target is Status.OPEN and limit and self._exchange.would_self_trade(order, limit):
            kernel.record("self_trade_prevented", order_id=order_id, stage="modify")
            kernel.record_order(order, before, status_message=SELF_TRADE, status_message_raw=SELF_TRADE)
            return {"order_id": order_id}
        self._exchange.forget_pieces(order)
        moved = {} if before is Status.AMO_RECEIVED else {"exchange_at": kernel.time, "exchange_update_at": kernel.time}
        kernel.record_order(order, Status.MODIFIED, **moved)
        kernel.record_order(order, target, **changes)
        kernel.emit(order, "UPDATE")
        if target is Status.OPEN:
            self._exchange.match(order, aggressor=True)
        return {"order_id": order_id}

    def cancel(self, variety: str, order_id: str) -> dict[str, Any]:
        """Ask for the end of an order; on the second leg of a cover order this is the exit."""
        self._kernel.record("cancel_requested", order_id=order_id)
        order = self._find(variety, order_id)
        if order.variety == "co" and order.parent_order_id is None and order.status is Status.COMPLETE:
            order = self._second_leg(order)
        if order.status not in RESTING:
            raise Refused(NOT_CANCELLABLE)
        if self._dice.strikes(FaultKind.CANCEL_REFUSED, order_id=order_id, tag=order.tag):
            raise Refused(NOT_CANCELLABLE)
        if order.variety == "co" and order.parent_order_id is not None:
            self._exchange.exit_leg(order)
        elif order.is_live and order.variety != "co" and self._dice.draws(FaultKind.CANCEL_THEN_FILLED):
            self._fill_instead(order)
        else:
            self._exchange.end_unfilled(order, None)
        return {"order_id": order_id}

    def release_amo(self, order: Order) -> None:
        """The session opens: an after-market order goes to the exchange."""
        self._exchange.accept(order)

    def _fill_instead(self, order: Order) -> None:
        """The answer says the cancel was taken, but a counterparty was faster: all of the rest trades, or some."""
        dice, rest = self._dice, order.pending_quantity
        rng = dice.sizes(FaultKind.CANCEL_THEN_FILLED)
        dice.note(
            FaultKind.CANCEL_THEN_FILLED,
            due_in_s=dice.seconds(FaultKind.CANCEL_THEN_FILLED, dice.rates.cancel_race_s),
            order_id=order.order_id,
            tag=order.tag,
            quantity=rest if rng.random() < 0.5 else rng.randint(1, rest),
        )

    def _meddle(self, request: OrderRequest) -> None:
        """Somebody trades the same account by hand: an order without our tag, filled at once."""
        kernel, dice, instrument = self._kernel, self._dice, request.instrument
        if not kernel.market_open() or not dice.draws(FaultKind.FOREIGN_ORDER):
            return
        rng = dice.sizes(FaultKind.FOREIGN_ORDER)
        quantity, wants_to_sell = rng.randint(1, FOREIGN_QUANTITY_MAX), rng.random() < 0.5
        sellable = kernel.state.account.sellable(instrument.isin, kernel.state.pending_delivery_sells(instrument.isin))
        value_paise = quantity * kernel.board.lines[instrument.key].last_paise
        sells = wants_to_sell and sellable >= quantity
        if not sells and value_paise > kernel.state.account.available_paise():
            return
        order = self._exchange.enter_filled(
            {
                "variety": "regular",
                "exchange": instrument.exchange,
                "symbol": instrument.symbol,
                "token": instrument.token,
                "side": "SELL" if sells else "BUY",
                "order_type": "MARKET",
                "product": "CNC",
                "validity": "DAY",
                "validity_ttl": 0,
                "quantity": quantity,
                "disclosed_quantity": 0,
                "price_paise": 0,
                "trigger_paise": 0,
                "protection_bps": 0,
                "tag": None,
                "tags": [],
                "meta": {},
                "parent_order_id": None,
                "placed_by": USER_ID,
            }
        )
        dice.note(FaultKind.FOREIGN_ORDER, order_id=order.order_id)

    def _second_leg(self, entry: Order) -> Order:
        for order in self._kernel.state.live_orders(entry.key):
            if order.parent_order_id == entry.order_id:
                return order
        raise Refused(NOT_CANCELLABLE)

    def _place_one(self, request: OrderRequest, tag: str | None, slice_of: str | None = None) -> Order:
        kernel = self._kernel
        line = kernel.board.lines[request.instrument.key]
        if kernel.market_open():
            if request.variety == "amo" and self._rules.strict and not kernel.settings.always_open:
                raise Refused(AMO_REFUSED)
        elif request.variety != "amo":
            raise Refused(MARKET_CLOSED)
        check_order(request, line, kernel.state, self._rules)
        order_type, price, bps = request.order_type, request.price_paise, request.protection_bps or 0
        if order_type == "MARKET":
            price = 0
        if order_type == "SL-M":
            price = 0
        tags = [] if tag is None else [tag]
        if order_type == "MARKET" and bps:
            bps = auto_protection_bps(line.last_paise) if bps == -1 else bps
            order_type, price = "LIMIT", protected_price(line, request.side, bps, line.last_paise)
            tags += ["mktp", f"mktp:{bps // 100}.{bps % 100:02d}"]
        if slice_of is not None:
            tags += ["autoslice", f"autoslice:{slice_of}"]
        quantity, meta = request.quantity, {}
        if request.variety == "iceberg":
            quantity = request.iceberg_quantity
            meta = {
                "iceberg": {
                    "leg": 1,
                    "legs": request.iceberg_legs,
                    "leg_quantity": quantity,
                    "total_quantity": request.quantity,
                    "remaining_quantity": request.quantity - quantity,
                }
            }
        order = kernel.receive_order(
            {
                "variety": request.variety,
                "exchange": request.instrument.exchange,
                "symbol": request.instrument.symbol,
                "token": request.instrument.token,
                "side": request.side,
                "order_type": order_type,
                "product": "CO" if request.variety == "co" else request.product,
                "validity": request.validity,
                "validity_ttl": request.validity_ttl,
                "quantity": quantity,
                "disclosed_quantity": request.disclosed_quantity,
                "price_paise": price,
                "trigger_paise": request.trigger_paise,
                "protection_bps": bps,
                "tag": tag,
                "tags": tags,
                "meta": meta,
                "parent_order_id": None,
                "placed_by": USER_ID,
            },
            counts=True,
        )
        if order.validity == "TTL":
            self._exchange.watch_expiry(order)
        self._exchange.arrive(order)
        return order

    def _place_slices(self, request: OrderRequest) -> dict[str, Any]:
        freeze = self._rules.freeze_quantity
        if request.quantity <= freeze:
            raise Refused(f"Quantity should be greater than or equal to {freeze + 1} for order slicing.")
        if -(-request.quantity // freeze) > SLICES_MAX:
            raise Refused(f"Order slicing is limited to {SLICES_MAX} orders. Please reduce the order quantity.")
        parent = self._place_one(replace(request, quantity=freeze), request.tag)
        children: list[dict[str, Any]] = []
        left = request.quantity - freeze
        while left > 0:
            piece = replace(request, quantity=min(freeze, left))
            left -= piece.quantity
            try:
                children.append({"order_id": self._place_one(piece, request.tag, parent.order_id).order_id})
            except Refused as refusal:
                error = {
                    "code": refusal.status,
                    "error_type": refusal.error_type,
                    "message": refusal.message,
                    "data": None,
                }
                children.append({"error": error})
        return {"order_id": parent.order_id, "children": children}

    def _find(self, variety: str, order_id: str) -> Order:
        order = self._kernel.state.orders.get(order_id)
        if order is None:
            raise unknown_order()
        released = order.variety == "amo" and order.exchange_order_id is not None
        if released and variety == "amo" and self._rules.strict:
            raise Refused(f"request {order.guid[-16:] * 2} timed out", "NetworkException", 504)
        if variety != order.variety and not (released and variety == "regular"):
            raise unknown_order()
        return order

    def _modification(self, order: Order, fields: Mapping[str, str]) -> dict[str, Any]:
        """The accepted changes, checked like a new order of what is still pending."""
        kernel = self._kernel
        line = kernel.board.lines[order.key]
        base = {
            "exchange": order.exchange,
            "tradingsymbol": order.symbol,
            "transaction_type": order.side,
            "product": "MIS" if order.product == "CO" else order.product,
            "order_type": order.order_type,
            "quantity": str(order.quantity),
            "price": _decimal_text(order.price_paise),
            "trigger_price": _decimal_text(order.trigger_paise),
            "validity": "DAY" if order.validity == "TTL" else order.validity,
        }
        given = {name: value for name, value in fields.items() if name in MODIFIABLE and value != ""}
        plain = parse_order("regular", {**base, **given}, kernel.instruments)
        request = replace(plain, protection_bps=plain.protection_bps or order.protection_bps or None)
        if "order_type" not in given or given["order_type"] == order.order_type:
            request = replace(request, order_type=order.order_type)
        elif self._rules.strict and request.order_type in ("MARKET", "SL-M") and request.protection_bps is None:
            raise Refused(PROTECTION_MISSING)
        if request.quantity <= order.filled_quantity:
            raise Refused("Quantity cannot be less than or equal to the filled quantity.")
        if order.order_type != "MARKET":
            check_types(request, replace(self._rules, strict=self._rules.strict and "order_type" in given))
        check_freeze(request, self._rules)
        if self._rules.strict and order.status is Status.TRIGGER_PENDING:
            check_trigger(request, line)
        for price_paise in (request.price_paise, request.trigger_paise):
            if price_paise:
                check_band(line, price_paise)
        extra = replace(request, quantity=max(1, request.quantity - order.quantity))
        if request.quantity > order.quantity:
            check_holdings(extra, kernel.state)
        pending = replace(request, quantity=request.quantity - order.filled_quantity)
        required = required_margin(pending, line, kernel.state) - order.blocked_paise
        if required > 0:
            check_funds(required, kernel.state.account.available_paise())
        changes: dict[str, Any] = {"quantity": request.quantity, "disclosed_quantity": request.disclosed_quantity}
        changes["trigger_paise"] = request.trigger_paise
        changes["validity"] = request.validity if "validity" in given else order.validity
        changes |= self._priced(order, request)
        return changes

    def _priced(self, order: Order, request: OrderRequest) -> dict[str, Any]:
        bps = request.protection_bps or 0
        if request.order_type == "MARKET" and order.order_type != "MARKET" and bps:
            line = self._kernel.board.lines[order.key]
            bps = auto_protection_bps(line.last_paise) if bps == -1 else bps
            price = protected_price(line, order.side, bps, line.last_paise)
            tags = [*order.tags, "mktp", f"mktp:{bps // 100}.{bps % 100:02d}"]
            return {"order_type": "LIMIT", "price_paise": price, "protection_bps": bps, "tags": tags}
        price = 0 if request.order_type in ("MARKET", "SL-M") else request.price_paise
        return {"order_type": request.order_type, "price_paise": price, "protection_bps": bps}


MODIFIABLE = frozenset(
    {"order_type", "quantity", "price", "trigger_price", "disclosed_quantity", "validity", "market_protection"}
)


def _decimal_text(paise: int) -> str:
    return f"{paise // 100}.{paise % 100:02d}" if paise else ""


def _status_after(before: Status, order: Order, changes: Mapping[str, Any]) -> Status:
    """Where a modified order rests: it waits for its trigger again only if the type was changed to a stop type."""
    if before is Status.AMO_RECEIVED or changes["order_type"] == order.order_type:
        return before
    return Status.TRIGGER_PENDING if changes["order_type"] in ("SL", "SL-M") else Status.OPEN
