"""Portfolio and margins as Kite shows them (Kite docs, portfolio, user margins, margin calculation)."""

from collections.abc import Mapping
from typing import Any

from kite_simulator.charges import Charges, order_charges
from kite_simulator.engine.account import Holding, Position
from kite_simulator.engine.clock import ist_text
from kite_simulator.engine.errors import Refused
from kite_simulator.engine.kernel import Kernel
from kite_simulator.engine.margin import margin_paise
from kite_simulator.engine.rendering import average_number, rupee_number
from kite_simulator.engine.validation import read_choice, read_int, refuse_missing

PRODUCTS = ("CNC", "MIS", "MTF")


class Portfolio:
    """Read side of the account, and the conversion of positions."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def positions(self) -> dict[str, list[dict[str, Any]]]:
        """`net` and `day`; without overnight positions both show the same flow."""
        rows = [
            self._position(p)
            for p in self._kernel.state.account.positions.values()
            if p.buy_quantity or p.sell_quantity
        ]
        return {"net": rows, "day": rows}

    def holdings(self) -> list[dict[str, Any]]:
        """Delivered and T1 shares, valued on NSE."""
        return [self._holding(holding) for holding in self._kernel.state.account.holdings.values()]

    def summary(self) -> dict[str, Any]:
        """Totals over the holdings."""
        invested = current = today = 0
        for holding in self._kernel.state.account.holdings.values():
            line = self._kernel.board.lines[self._key(holding)]
            invested += holding.cost_paise
            current += holding.total * line.last_paise
            today += holding.total * (line.last_paise - line.close_paise)
        before = current - today
        return {
            "total_pnl": rupee_number(current - invested),
            "total_pnl_percent": (current - invested) * 100 / invested if invested else 0,
            "today_pnl": rupee_number(today),
            "today_pnl_percent": today * 100 / before if before else 0,
            "invested_amount": rupee_number(invested),
            "current_value": rupee_number(current),
        }

    def margins(self) -> dict[str, Any]:
        """Both segments; the commodity segment is empty."""
        account = self._kernel.state.account
        net = account.available_paise()
        debits = account.cash_paise + account.payin_paise - net
        intraday = account.intraday_margin_paise()
        equity = _segment(
            net=net,
            cash=account.cash_paise,
            payin=account.payin_paise,
            debits=debits,
            exposure=intraday,
            realised=account.intraday_realised_paise(),
            sales=-account.delivery_sales_paise(),
            delivery=account.delivery_buys_paise(),
        )
        return {"equity": equity, "commodity": _segment()}

    def convert(self, fields: Mapping[str, str]) -> None:
        """Move shares of a position to another product; raises Refused."""
        kernel = self._kernel
        instrument = kernel.instruments.find(f"{fields.get('exchange')}:{fields.get('tradingsymbol')}")
        if instrument is None or not instrument.tradable:
            raise refuse_missing("tradingsymbol")
        side = read_choice(fields, "transaction_type", ("BUY", "SELL"))
        read_choice(fields, "position_type", ("day", "overnight"))
        old, new = read_choice(fields, "old_product", PRODUCTS), read_choice(fields, "new_product", PRODUCTS)
        quantity = read_int(fields, "quantity")
        position = kernel.state.account.positions.get(f"{instrument.key}:{old}")
        held = 0 if position is None else position.quantity * (1 if side == "BUY" else -1)
        if old == new or position is None or not 0 < quantity <= held:
            raise Refused("Invalid position conversion: not that many shares are open under the old product.")
        bought = position.buy_quantity if side == "BUY" else position.sell_quantity
        value = (position.buy_value_paise if side == "BUY" else position.sell_value_paise) * quantity // bought
        extra = margin_paise(side, new, 1, value) - margin_paise(side, old, 1, value)
        if extra > kernel.state.account.available_paise():
            raise Refused("Insufficient funds to convert the position.", "MarginException")
        if (
            side == "SELL"
            and new != "MIS"
            and quantity
            > kernel.state.account.sellable(instrument.isin, kernel.state.pending_delivery_sells(instrument.isin))
        ):
            raise Refused("Insufficient stock holding to convert the position.", "HoldingException")
        kernel.record(
            "position_converted",
            exchange=instrument.exchange,
            symbol=instrument.symbol,
            token=instrument.token,
            isin=instrument.isin,
            side=side,
            old_product=old,
            new_product=new,
            quantity=quantity,
            value_paise=value,
        )

    def _position(self, position: Position) -> dict[str, Any]:
        line = self._kernel.board.lines[f"{position.exchange}:{position.symbol}"]
        quantity = position.quantity
        value = position.sell_value_paise - position.buy_value_paise
        pnl = value + quantity * line.last_paise
        buy_price = average_number(position.buy_value_paise, position.buy_quantity)
        sell_price = average_number(position.sell_value_paise, position.sell_quantity)
        buy_value, sell_value = rupee_number(position.buy_value_paise), rupee_number(position.sell_value_paise)
        return {
            "tradingsymbol": position.symbol,
            "exchange": position.exchange,
            "instrument_token": position.token,
            "product": position.product,
            "quantity": quantity,
            "overnight_quantity": 0,
            "multiplier": 1,
            "average_price": buy_price if quantity > 0 else sell_price if quantity < 0 else 0,
            "close_price": rupee_number(line.close_paise),
            "last_price": rupee_number(line.last_paise),
            "value": rupee_number(value),
            "pnl": rupee_number(pnl),
            "m2m": rupee_number(pnl),
            "unrealised": rupee_number(pnl),
            "realised": 0,
            "buy_quantity": position.buy_quantity,
            "buy_price": buy_price,
            "buy_value": buy_value,
            "buy_m2m": buy_value,
            "sell_quantity": position.sell_quantity,
            "sell_price": sell_price,
            "sell_value": sell_value,
            "sell_m2m": sell_value,
            "day_buy_quantity": position.buy_quantity,
            "day_buy_price": buy_price,
            "day_buy_value": buy_value,
            "day_sell_quantity": position.sell_quantity,
            "day_sell_price": sell_price,
            "day_sell_value": sell_value,
        }

    def _key(self, holding: Holding) -> str:
        for instrument in self._kernel.instruments.all:
            if instrument.isin == holding.isin and instrument.exchange == "NSE":
                return instrument.key
        raise KeyError(holding.isin)

    def _holding(self, holding: Holding) -> dict[str, Any]:
        account = self._kernel.state.account
        line = self._kernel.board.lines[self._key(holding)]
        instrument = line.instrument
        average = average_number(holding.cost_paise, holding.total)
        used = max(0, -account.delivery_net(holding.isin))
        change = line.last_paise - line.close_paise
        return {
            "tradingsymbol": instrument.symbol,
            "exchange": instrument.exchange,
            "instrument_token": instrument.token,
            "isin": holding.isin,
            "product": "CNC",
            "price": 0,
            "quantity": holding.quantity,
            "used_quantity": used,
            "t1_quantity": holding.t1_quantity,
            "realised_quantity": holding.quantity,
            "authorised_quantity": 0,
            "authorised_date": (ist_text(self._kernel.time) or "")[:10] + " 00:00:00",
            "authorisation": {},
            "opening_quantity": holding.total,
            "short_quantity": 0,
            "collateral_quantity": 0,
            "collateral_type": "",
            "discrepancy": False,
            "average_price": average,
            "last_price": rupee_number(line.last_paise),
            "close_price": rupee_number(line.close_paise),
            "pnl": rupee_number(line.last_paise * holding.total - holding.cost_paise),
            "day_change": rupee_number(change),
            "day_change_percentage": change * 100 / line.close_paise,
            "mtf": {"quantity": 0, "used_quantity": 0, "average_price": 0, "value": 0, "initial_margin": 0},
        }

    def order_margin(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """MARGIN object of one order of POST /margins/orders."""
        line = self._kernel.board.lines.get(f"{item.get('exchange')}:{item.get('tradingsymbol')}")
        if line is None or not line.instrument.tradable:
            raise refuse_missing("tradingsymbol")
        text = {name: str(value) for name, value in item.items() if value is not None}
        side = read_choice(text, "transaction_type", ("BUY", "SELL"))
        product = "CO" if item.get("variety") == "co" else read_choice(text, "product", PRODUCTS)
        quantity = read_int(text, "quantity")
        price = round(float(item.get("price") or 0) * 100) or line.last_paise
        total = margin_paise(side, product, quantity, price)
        charges = order_charges(line.instrument.exchange, product, side, quantity * price)
        return {
            **empty_margin(),
            "type": "equity",
            "tradingsymbol": line.instrument.symbol,
            "exchange": line.instrument.exchange,
            "var": rupee_number(total),
            "leverage": 5 if product in ("MIS", "CO") else 1,
            "charges": render_charges(charges),
            "total": rupee_number(total),
        }


def _segment(
    net: int = 0,
    cash: int = 0,
    payin: int = 0,
    debits: int = 0,
    exposure: int = 0,
    realised: int = 0,
    sales: int = 0,
    delivery: int = 0,
) -> dict[str, Any]:
    return {
        "enabled": True,
        "net": rupee_number(net),
        "available": {
            "adhoc_margin": 0,
            "cash": rupee_number(cash),
            "opening_balance": rupee_number(cash),
            "live_balance": rupee_number(net),
            "collateral": 0,
            "intraday_payin": rupee_number(payin),
        },
        "utilised": {
            "debits": rupee_number(debits),
            "exposure": rupee_number(exposure),
            "m2m_realised": rupee_number(realised),
            "m2m_unrealised": 0,
            "option_premium": 0,
            "payout": 0,
            "span": 0,
            "holding_sales": rupee_number(sales),
            "turnover": 0,
            "liquid_collateral": 0,
            "stock_collateral": 0,
            "delivery": rupee_number(delivery),
        },
    }


def render_charges(charges: Charges) -> dict[str, Any]:
    """CHG object of the margin and charges calls."""
    gst = float(charges.gst)
    return {
        "transaction_tax": float(charges.transaction_tax),
        "transaction_tax_type": "stt",
        "exchange_turnover_charge": float(charges.exchange_turnover_charge),
        "sebi_turnover_charge": float(charges.sebi_turnover_charge),
        "brokerage": float(charges.brokerage),
        "stamp_duty": float(charges.stamp_duty),
        "gst": {"igst": gst, "cgst": 0, "sgst": 0, "total": gst},
        "total": float(charges.total),
    }


def empty_margin() -> dict[str, Any]:
    """A MARGIN object of zeros."""
    return {
        "type": "",
        "tradingsymbol": "",
        "exchange": "",
        "span": 0,
        "exposure": 0,
        "option_premium": 0,
        "additional": 0,
        "bo": 0,
        "cash": 0,
        "var": 0,
        "pnl": {"realised": 0, "unrealised": 0},
        "leverage": 0,
        "charges": {**render_charges(Charges()), "transaction_tax_type": ""},
        "total": 0,
    }
