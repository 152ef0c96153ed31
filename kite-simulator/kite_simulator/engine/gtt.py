"""Good-till-triggered orders (Kite docs, GTT; fact sheet 4.3)."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from kite_simulator.engine.clock import ist_text
from kite_simulator.engine.desk import Desk
from kite_simulator.engine.errors import Refused
from kite_simulator.engine.instruments import to_paise
from kite_simulator.engine.kernel import Kernel
from kite_simulator.engine.rendering import USER_ID, rupee_number
from kite_simulator.engine.state import Gtt

VALUES_NEEDED = {"single": 1, "two-leg": 2}
LIFETIME = timedelta(days=365)
ENDED_SHOWN_FOR = timedelta(days=7)
FIRST_TRIGGER_ID = 100_000
ORDER_FIELDS = ("exchange", "tradingsymbol", "transaction_type", "quantity", "order_type", "product", "price")


class GttDesk:
    """Stores triggers and places their orders when the price comes."""

    def __init__(self, kernel: Kernel, desk: Desk) -> None:
        self._kernel = kernel
        self._desk = desk

    def place(self, fields: Mapping[str, str]) -> int:
        """Store a trigger; returns its id."""
        kind, condition, orders = self._parse(fields)
        trigger_id = FIRST_TRIGGER_ID + self._kernel.state.gtts_ever + 1
        self._kernel.record(
            "gtt_placed",
            trigger_id=trigger_id,
            type=kind,
            condition=condition,
            orders=orders,
            expires_at=(self._kernel.time + LIFETIME).isoformat(),
        )
        return trigger_id

    def modify(self, trigger_id: int, fields: Mapping[str, str]) -> int:
        """Replace type, condition and orders of an active trigger."""
        self._active(trigger_id)
        kind, condition, orders = self._parse(fields)
        self._kernel.record(
            "gtt_changed", trigger_id=trigger_id, status="active", type=kind, condition=condition, orders=orders
        )
        return trigger_id

    def delete(self, trigger_id: int) -> int:
        """End an active trigger."""
        self._active(trigger_id)
        self._kernel.record("gtt_changed", trigger_id=trigger_id, status="deleted")
        return trigger_id

    def find(self, trigger_id: int) -> Gtt:
        """A trigger of any age and state."""
        gtt = self._kernel.state.gtts.get(trigger_id)
        if gtt is None:
            raise Refused("Trigger does not exist.", "GeneralException", 404)
        return gtt

    def shown(self) -> list[Gtt]:
        """Active ones and those that ended in the last seven days."""
        since = self._kernel.clock.now() - ENDED_SHOWN_FOR
        return [g for g in self._kernel.state.gtts.values() if g.status == "active" or g.updated_at >= since]

    def watch(self) -> None:
        """Fire what the present prices reach; expire what is too old."""
        kernel = self._kernel
        for gtt in list(kernel.state.gtts.values()):
            if gtt.status != "active":
                continue
            if gtt.expires_at <= kernel.time:
                kernel.record("gtt_changed", trigger_id=gtt.trigger_id, status="expired")
                continue
            index = self._reached(gtt)
            if index is not None:
                self._fire(gtt, index)

    def render(self, gtt: Gtt) -> dict[str, Any]:
        """The object of GET /gtt/triggers/{id}."""
        condition = {
            **gtt.condition,
            "last_price": float(gtt.condition["last_price"]),
            "trigger_values": [float(value) for value in gtt.condition["trigger_values"]],
        }
        return {
            "id": gtt.trigger_id,
            "user_id": USER_ID,
            "parent_trigger": None,
            "type": gtt.kind,
            "created_at": ist_text(gtt.created_at),
            "updated_at": ist_text(gtt.updated_at),
            "expires_at": ist_text(gtt.expires_at),
            "status": gtt.status,
            "condition": condition,
            "orders": [{**order, "price": float(order["price"])} for order in gtt.orders],
            "meta": gtt.meta,
        }

    def _active(self, trigger_id: int) -> Gtt:
        gtt = self.find(trigger_id)
        if gtt.status != "active":
            raise Refused("Trigger is not active.", "InputException")
        return gtt

    def _reached(self, gtt: Gtt) -> int | None:
        last = self._kernel.board.lines[f"{gtt.condition['exchange']}:{gtt.condition['tradingsymbol']}"].last_paise
        values = [to_paise(value) for value in gtt.condition["trigger_values"]]
        if gtt.kind == "two-leg":
            if last <= values[0]:
                return 0
            return 1 if last >= values[1] else None
        rising = values[0] > to_paise(gtt.condition["last_price"])
        return 0 if (last >= values[0] if rising else last <= values[0]) else None

    def _fire(self, gtt: Gtt, index: int) -> None:
        kernel = self._kernel
        order = gtt.orders[index]
        fields = {name: str(order[name]) for name in ORDER_FIELDS}
        if order.get("market_protection") is not None:
            fields["market_protection"] = str(order["market_protection"])
        try:
            placed = {"status": "success", "rejection_reason": "", **self._desk.place("regular", fields)}
        except Refused as refusal:
            placed = {"status": "failed", "order_id": "", "rejection_reason": refusal.message}
        result = {
            "account_id": USER_ID,
            "exchange": order["exchange"],
            "tradingsymbol": order["tradingsymbol"],
            "validity": "DAY",
            "product": order["product"],
            "order_type": order["order_type"],
            "transaction_type": order["transaction_type"],
            "quantity": order["quantity"],
            "price": float(order["price"]),
            "meta": orjson.dumps({"app_id": 1, "gtt": gtt.trigger_id}).decode(),
            "timestamp": ist_text(kernel.time),
            "triggered_at": float(gtt.condition["trigger_values"][index]),
            "order_result": placed,
        }
        orders = [{**row, "result": result} if number == index else row for number, row in enumerate(gtt.orders)]
        kernel.record("gtt_changed", trigger_id=gtt.trigger_id, status="triggered", orders=orders)

    def _parse(self, fields: Mapping[str, str]) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
        kind = fields.get("type", "")
        if kind not in VALUES_NEEDED:
            raise Refused("Invalid `type`.")
        try:
            condition, orders = orjson.loads(fields["condition"]), orjson.loads(fields["orders"])
            needed = VALUES_NEEDED[kind]
            values = [Decimal(str(value)) for value in condition["trigger_values"]]
            if len(values) != needed or len(orders) != needed:
                raise Refused(f"Trigger type {kind} needs {needed} trigger values and {needed} orders.")
            instrument = self._kernel.instruments.find(f"{condition['exchange']}:{condition['tradingsymbol']}")
            if instrument is None or not instrument.tradable:
                raise Refused("Invalid `tradingsymbol` in the condition.")
            parsed = {
                "exchange": instrument.exchange,
                "tradingsymbol": instrument.symbol,
                "instrument_token": instrument.token,
                "last_price": str(Decimal(str(condition["last_price"]))),
                "trigger_values": [_grid_text(value, instrument.tick_paise) for value in values],
            }
            rows = [_order_row(order) for order in orders]
        except (KeyError, TypeError, orjson.JSONDecodeError, InvalidOperation, ValueError) as error:
            raise Refused(f"Invalid `condition` or `orders`: {error}") from error
        self._check_apart(kind, parsed)
        return kind, parsed, rows

    def _check_apart(self, kind: str, condition: Mapping[str, Any]) -> None:
        last = self._kernel.board.lines[f"{condition['exchange']}:{condition['tradingsymbol']}"].last_paise
        values = [to_paise(value) for value in condition["trigger_values"]]
        if kind == "two-leg" and not values[0] < last < values[1]:
            raise Refused("Trigger values of a two-leg trigger should be below and above the last price.")
        if kind == "single" and values[0] == last:
            raise Refused(f"Trigger already met: the last price is {rupee_number(last)}.")


def _grid_text(value: Decimal, tick_paise: int) -> str:
    paise = to_paise(value)
    if paise <= 0 or paise % tick_paise:
        raise Refused("Trigger price is not a multiple of tick size.")
    return str(value)


def _order_row(order: Mapping[str, Any]) -> dict[str, Any]:
    row = {name: order[name] for name in ORDER_FIELDS}
    row["price"] = str(Decimal(str(order["price"])))
    row["quantity"] = int(order["quantity"])
    if "market_protection" in order:
        row["market_protection"] = str(Decimal(str(order["market_protection"])))
    return {**row, "result": None}
