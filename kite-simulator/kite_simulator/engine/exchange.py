"""The matching side: orders arrive, wait, trigger, trade and end (Kite docs, orders; fact sheet section 5).

Counterparties are unlimited at the last price: a BUY with a limit at or above it trades, a SELL at or below it. An
arriving order trades at the last price, a resting one at its own limit when the price comes to it.
"""

from random import Random

from kite_simulator.engine.dice import FaultDice
from kite_simulator.engine.errors import SELF_TRADE
from kite_simulator.engine.faults import FaultKind
from kite_simulator.engine.kernel import Kernel
from kite_simulator.engine.orders import ARRIVING, RESTING, Order, Status
from kite_simulator.engine.rendering import postback_body
from kite_simulator.engine.streams import stream
from kite_simulator.engine.validation import auto_protection_bps, protected_price


class Exchange:
    """Order life from arrival to its end."""

    def __init__(self, kernel: Kernel, dice: FaultDice) -> None:
        self._kernel = kernel
        self._dice = dice
        self._working: dict[str, tuple[int, int]] = {}
        self._rounds = 0

    def arrive(self, order: Order) -> None:
        """Send a received order on, at once or after the configured latency."""
        kernel = self._kernel
        if order.variety == "amo" and order.status is Status.RECEIVED:
            kernel.record_order(order, Status.AMO_RECEIVED)
        elif self._dice.draws(FaultKind.ORDER_STUCK):
            stuck_s = self._dice.seconds(FaultKind.ORDER_STUCK, self._dice.rates.stuck_s)
            self._dice.note(FaultKind.ORDER_STUCK, due_in_s=stuck_s, order_id=order.order_id, tag=order.tag)
        elif kernel.settings.order_latency_s > 0:
            kernel.schedule(kernel.settings.order_latency_s, "accept", order.order_id)
        else:
            self.accept(order)

    def accept(self, order: Order) -> None:
        """Risk check of the OMS, then the exchange."""
        kernel = self._kernel
        if order.status in (Status.RECEIVED, Status.AMO_RECEIVED):
            kernel.record_order(order, Status.VALIDATION_PENDING)
        reason = kernel.state.refused_symbols.get(order.key)
        if reason is None and order.order_type in ("LIMIT", "SL") and order.price_paise == 0:
            reason = "Price is required for limit orders."
        if reason is not None:
            self.reject(
                order, reason, f"RMS:{reason} for entity account-{order.placed_by} across exchange {order.exchange}"
            )
            return
        if order.status is Status.VALIDATION_PENDING:
            kernel.record_order(order, Status.OPEN_PENDING)
        ids = {
            "exchange_order_id": kernel.new_exchange_order_id(),
            "exchange_at": kernel.time,
            "exchange_update_at": kernel.time,
        }
        if order.needs_trigger:
            kernel.record_order(order, Status.TRIGGER_PENDING, **ids)
            self._try_trigger(order)
        elif self._would_self_trade(order, self._limit(order)):
            kernel.record("self_trade_prevented", order_id=order.order_id, stage="arrival")
            self.reject(order, SELF_TRADE, SELF_TRADE, ids)
        else:
            kernel.record_order(order, Status.OPEN, **ids)
            self.match(order, aggressor=True)

    def reject(self, order: Order, message: str, raw: str, changes: dict[str, object] | None = None) -> None:
        """End an order that never traded."""
        self._kernel.record_order(
            order, Status.REJECTED, status_message=message, status_message_raw=raw, **(changes or {})
        )
        self._kernel.emit(order, "REJECTED")

    def match_key(self, key: str) -> None:
        """The price of an instrument moved: fire triggers, trade resting orders, oldest first."""
        for order in self._kernel.state.live_orders(key):
            if order.status is Status.TRIGGER_PENDING:
                self._try_trigger(order)
            elif order.is_live:
                self.match(order, aggressor=False)

    def match(self, order: Order, *, aggressor: bool) -> None:
        """Trade as much as the price allows, possibly in pieces over the next moments."""
        kernel = self._kernel
        if not kernel.market_open() or order.order_id in self._working or not self._marketable(order):
            if order.validity == "IOC" and order.is_live and aggressor and kernel.market_open():
                self.end_unfilled(order, None)
            return
        pieces = self._pieces(order)
        self._fill(order, pieces[0], aggressor=aggressor)
        if order.is_terminal:
            return
        if order.validity == "IOC":
            self.end_unfilled(order, None)
            return
        self._rounds += 1
        self._working[order.order_id] = (self._rounds, len(pieces) - 1)
        delays = stream(kernel.settings.seed, f"delay/{order.ordinal}/{order.filled_quantity}")
        for delay, piece in zip(
            sorted(delays.uniform(0.05, kernel.settings.fill_latency_max_s) for _ in pieces[1:]),
            pieces[1:],
            strict=True,
        ):
            kernel.schedule(delay, "piece", order.order_id, piece, self._rounds)

    def fill_piece(self, order: Order, quantity: int, round_: int) -> None:
        """One scheduled piece of a partly filled order is due; void when the order was changed since."""
        working, left = self._working.get(order.order_id, (0, 0))
        if working != round_:
            return
        if left <= 1:
            del self._working[order.order_id]
        else:
            self._working[order.order_id] = (working, left - 1)
        if order.is_live and self._kernel.market_open() and self._marketable(order):
            self._fill(order, min(quantity, order.pending_quantity), aggressor=True)

    def expire(self, order: Order) -> None:
        """The minutes of a TTL order are over."""
        if order.status in RESTING:
            self.end_unfilled(order, None)

    def end_unfilled(self, order: Order, message: str | None) -> None:
        """Cancel what is left of an order: by the client, by expiry, by the end of the session."""
        kernel = self._kernel
        self._working.pop(order.order_id, None)
        if order.status is Status.AMO_RECEIVED:
            kernel.record_order(
                order, Status.CANCELLED_AMO, cancelled_quantity=order.pending_quantity, status_message=message
            )
        else:
            kernel.record_order(order, Status.CANCEL_PENDING)
            kernel.record_order(
                order,
                Status.CANCELLED,
                cancelled_quantity=order.pending_quantity,
                exchange_update_at=kernel.time,
                status_message=message,
            )
        kernel.emit(order, "CANCELLED")
        self._after_end(order)

    def fill_and_end(self, order: Order, quantity: int) -> None:
        """Trade some of a resting order at its own limit, wherever the price is, and cancel what is left of it."""
        self._working.pop(order.order_id, None)
        if self._kernel.market_open():
            self._fill(order, min(quantity, order.pending_quantity), aggressor=False)
        if not order.is_terminal:
            self.end_unfilled(order, None)

    def forget_pieces(self, order: Order) -> None:
        """A modification makes scheduled pieces void."""
        self._working.pop(order.order_id, None)

    def exit_leg(self, leg: Order) -> None:
        """Exit a cover order: its waiting second leg turns into a market order (fact sheet 5.8)."""
        kernel = self._kernel
        kernel.record_order(leg, Status.OPEN, order_type="MARKET", price_paise=0, order_at=kernel.time)
        self._fill(leg, leg.pending_quantity, aggressor=True)

    def enter_filled(self, fields: dict[str, object]) -> Order:
        """Place and fill an order that came another way: the broker's closing order, or one entered by hand."""
        order = self._kernel.receive_order(dict(fields), counts=False)
        for status in (Status.VALIDATION_PENDING, Status.OPEN_PENDING):
            self._kernel.record_order(order, status)
        now = self._kernel.time
        self._kernel.record_order(
            order,
            Status.OPEN,
            exchange_order_id=self._kernel.new_exchange_order_id(),
            exchange_at=now,
            exchange_update_at=now,
        )
        self._fill(order, order.quantity, aggressor=True)
        return order

    def resume(self) -> None:
        """After a restart: finish what was on its way, trade what was in pieces, watch expiries again."""
        promises = self._kernel.state.promises.values()
        stuck = {fact["order_id"] for fact in promises if fact["fault"] == FaultKind.ORDER_STUCK}
        for orders in list(self._kernel.state.live.values()):
            for order in list(orders.values()):
                if order.validity == "TTL":
                    self.watch_expiry(order)
                if order.status in ARRIVING and order.order_id not in stuck:
                    self._kernel.schedule(0, "accept", order.order_id)
                elif order.is_live:
                    self.match(order, aggressor=True)

    def watch_expiry(self, order: Order) -> None:
        """Schedule the end of a TTL order."""
        age_s = (self._kernel.time - order.placed_at).total_seconds()
        self._kernel.schedule(max(0.0, order.validity_ttl * 60 - age_s), "expire", order.order_id)

    def would_self_trade(self, order: Order, price_paise: int) -> bool:
        """Whether an order at that limit could trade with a live opposite order of this account."""
        return self._would_self_trade(order, price_paise)

    def _would_self_trade(self, order: Order, limit: int | None) -> bool:
        price = self._kernel.board.lines[order.key].last_paise if limit is None else limit
        for other in self._kernel.state.live_orders(order.key):
            if other.is_live and other.side != order.side and other.order_id != order.order_id:
                other_limit = self._limit(other)
                if other_limit is None or (price >= other_limit if order.is_buy else price <= other_limit):
                    return True
        return False

    def _limit(self, order: Order) -> int | None:
        return order.price_paise or None

    def _marketable(self, order: Order) -> bool:
        limit = self._limit(order)
        last = self._kernel.board.lines[order.key].last_paise
        return limit is None or (last <= limit if order.is_buy else last >= limit)

    def _try_trigger(self, order: Order) -> None:
        kernel = self._kernel
        line = kernel.board.lines[order.key]
        hit = line.last_paise >= order.trigger_paise if order.is_buy else line.last_paise <= order.trigger_paise
        if not hit or not kernel.market_open():
            return
        changes: dict[str, object] = {"exchange_update_at": kernel.time}
        limit = self._limit(order)
        if order.order_type == "SL-M" and order.protection_bps:
            bps = order.protection_bps
            bps = auto_protection_bps(order.trigger_paise) if bps == -1 else bps
            limit = protected_price(line, order.side, bps, order.trigger_paise)
            changes |= {"order_type": "LIMIT", "price_paise": limit}
        if self._would_self_trade(order, limit):
            kernel.record("self_trade_prevented", order_id=order.order_id, stage="trigger")
            self.end_unfilled(order, SELF_TRADE)
            return
        kernel.record_order(order, Status.OPEN, **changes)
        kernel.emit(order, "UPDATE")
        self.match(order, aggressor=True)

    def _pieces(self, order: Order) -> list[int]:
        settings = self._kernel.settings
        quantity = order.pending_quantity
        if quantity > 1 and self._dice.draws(FaultKind.PARTIAL_FILL):
            rng = self._dice.sizes(FaultKind.PARTIAL_FILL)
            count = min(quantity, rng.randint(1, self._dice.rates.partial_fill_pieces_max))
            self._dice.note(FaultKind.PARTIAL_FILL, order_id=order.order_id, tag=order.tag, pieces=count)
            return _cut(rng, quantity, count)
        rng = stream(settings.seed, f"fill/{order.ordinal}/{order.filled_quantity}")
        if quantity < 2 or rng.random() >= settings.partial_fill_probability:
            return [quantity]
        count = min(quantity, rng.randint(2, max(2, settings.partial_fill_pieces_max)))
        return _cut(rng, quantity, count)

    def _fill(self, order: Order, quantity: int, *, aggressor: bool) -> None:
        kernel, dice = self._kernel, self._dice
        late = quantity == order.pending_quantity and dice.draws(FaultKind.UPDATE_AFTER_COMPLETE)
        before = postback_body(order, "UPDATE", "") if late else None
        line = kernel.board.lines[order.key]
        price = line.last_paise if aggressor or order.price_paise == 0 else order.price_paise
        line.volume += quantity
        line.turnover_paise += quantity * price
        trade_id = kernel.record_trade(order, quantity, price)
        self._spoil_trade(order, trade_id)
        done = order.pending_quantity == 0
        kernel.record_order(order, Status.COMPLETE if done else Status.OPEN, exchange_update_at=kernel.time)
        kernel.emit(order, "COMPLETE" if done else "UPDATE")
        if before is not None:
            dice.note(FaultKind.UPDATE_AFTER_COMPLETE, order_id=order.order_id, tag=order.tag)
            kernel.emit_body(before)
        if done:
            self._after_end(order)

    def _spoil_trade(self, order: Order, trade_id: str) -> None:
        """A trade that shows late, a trade that is corrected later."""
        dice = self._dice
        where = {"order_id": order.order_id, "trade_id": trade_id, "tag": order.tag}
        if dice.draws(FaultKind.TRADES_LAG):
            lag_s = dice.seconds(FaultKind.TRADES_LAG, dice.rates.trades_lag_s)
            dice.note(FaultKind.TRADES_LAG, due_in_s=lag_s, **where)
        if dice.draws(FaultKind.TRADE_CORRECTED):
            after_s = dice.seconds(FaultKind.TRADE_CORRECTED, dice.rates.correction_s)
            dice.note(FaultKind.TRADE_CORRECTED, due_in_s=after_s, **where)

    def _after_end(self, order: Order) -> None:
        if order.variety == "co" and order.parent_order_id is None and order.filled_quantity:
            self._open_second_leg(order)
        if order.variety == "iceberg" and order.status is Status.COMPLETE:
            self._release_next_leg(order)

    def _open_second_leg(self, entry: Order) -> None:
        leg = self._kernel.receive_order(
            {
                **copied_fields(entry),
                "side": "SELL" if entry.is_buy else "BUY",
                "order_type": "SL-M",
                "quantity": entry.filled_quantity,
                "price_paise": 0,
                "protection_bps": -1 if self._kernel.settings.strict else 0,
                "validity": "DAY",
                "validity_ttl": 0,
                "parent_order_id": entry.order_id,
            },
            counts=False,
        )
        self.arrive(leg)

    def _release_next_leg(self, order: Order) -> None:
        iceberg = order.meta["iceberg"]
        if iceberg["leg"] >= iceberg["legs"]:
            return
        remaining = iceberg["remaining_quantity"]
        quantity = min(iceberg["leg_quantity"], remaining)
        leg = self._kernel.receive_order(
            {
                **copied_fields(order),
                "quantity": quantity,
                "parent_order_id": order.parent_order_id or order.order_id,
                "meta": {
                    "iceberg": {
                        **iceberg,
                        "leg": iceberg["leg"] + 1,
                        "remaining_quantity": remaining - quantity,
                    }
                },
            },
            counts=False,
        )
        if leg.validity == "TTL":
            self.watch_expiry(leg)
        self.arrive(leg)


def _cut(rng: Random, quantity: int, count: int) -> list[int]:
    """`count` pieces of at least one share."""
    cuts = sorted(rng.sample(range(1, quantity), count - 1))
    return [high - low for low, high in zip([0, *cuts], [*cuts, quantity], strict=True)]


def copied_fields(order: Order) -> dict[str, object]:
    """The client's part of an order, for a further leg of it."""
    return {
        "variety": order.variety,
        "exchange": order.exchange,
        "symbol": order.symbol,
        "token": order.token,
        "side": order.side,
        "order_type": order.order_type,
        "product": order.product,
        "validity": order.validity,
        "validity_ttl": order.validity_ttl,
        "quantity": order.quantity,
        "disclosed_quantity": order.disclosed_quantity,
        "price_paise": order.price_paise,
        "trigger_paise": order.trigger_paise,
        "protection_bps": order.protection_bps,
        "tag": order.tag,
        "tags": order.tags,
        "meta": order.meta,
        "parent_order_id": order.parent_order_id,
        "placed_by": order.placed_by,
    }
