"""Cash, positions and holdings of the one account, in paise and shares (Kite docs, portfolio and user margins)."""

from dataclasses import dataclass, field

from kite_simulator.charges import INTRADAY_PRODUCTS

INTRADAY_LEVERAGE = 5
"""MIS and CO block a fifth of the value."""


@dataclass(slots=True)
class Position:
    """Today's flow of one instrument under one product."""

    exchange: str
    symbol: str
    token: int
    isin: str
    product: str
    buy_quantity: int = 0
    buy_value_paise: int = 0
    sell_quantity: int = 0
    sell_value_paise: int = 0

    @property
    def quantity(self) -> int:
        """Net shares: bought minus sold today."""
        return self.buy_quantity - self.sell_quantity

    @property
    def open_cost_paise(self) -> int:
        """Value at which the net quantity was opened (average of its side)."""
        if self.quantity > 0:
            return self.buy_value_paise * self.quantity // self.buy_quantity
        if self.quantity < 0:
            return self.sell_value_paise * -self.quantity // self.sell_quantity
        return 0

    @property
    def realised_paise(self) -> int:
        """Profit of the closed part."""
        if self.quantity >= 0:
            return self.sell_value_paise - (self.buy_value_paise - self.open_cost_paise)
        return self.sell_value_paise - self.open_cost_paise - self.buy_value_paise

    def add(self, side: str, quantity: int, value_paise: int) -> None:
        """Book a trade."""
        if side == "BUY":
            self.buy_quantity += quantity
            self.buy_value_paise += value_paise
        else:
            self.sell_quantity += quantity
            self.sell_value_paise += value_paise


@dataclass(slots=True)
class Holding:
    """Shares in the demat account: delivered ones and those bought on the last trading day (T1)."""

    isin: str
    quantity: int = 0
    t1_quantity: int = 0
    cost_paise: int = 0

    @property
    def total(self) -> int:
        """Delivered plus T1."""
        return self.quantity + self.t1_quantity


@dataclass(slots=True)
class Account:
    """The ledger of the day. `cash_paise` is the opening balance; today's flows live in the positions."""

    cash_paise: int
    payin_paise: int = 0
    blocked_paise: int = 0
    positions: dict[str, Position] = field(default_factory=dict)
    holdings: dict[str, Holding] = field(default_factory=dict)

    def position(self, exchange: str, symbol: str, token: int, isin: str, product: str) -> Position:
        """The position row, created on first use."""
        key = f"{exchange}:{symbol}:{product}"
        if key not in self.positions:
            self.positions[key] = Position(exchange, symbol, token, isin, product)
        return self.positions[key]

    def delivery_net(self, isin: str) -> int:
        """Delivery shares bought minus sold today, over both exchanges."""
        return sum(p.quantity for p in self.positions.values() if p.isin == isin and p.product not in INTRADAY_PRODUCTS)

    def sellable(self, isin: str, pending_sell: int) -> int:
        """Delivery shares that may still be sold: held, plus bought today, minus sold and on offer."""
        holding = self.holdings.get(isin)
        return (holding.total if holding else 0) + self.delivery_net(isin) - pending_sell

    def delivery_buys_paise(self) -> int:
        """Money spent on delivery today."""
        return sum(p.buy_value_paise for p in self.positions.values() if p.product not in INTRADAY_PRODUCTS)

    def delivery_sales_paise(self) -> int:
        """Proceeds of delivery sales usable today: all but those of T1 shares (rule of 7 Oct 2024)."""
        total = 0
        sold: dict[str, list[Position]] = {}
        for position in self.positions.values():
            if position.product not in INTRADAY_PRODUCTS and position.sell_quantity:
                total += position.sell_value_paise
                sold.setdefault(position.isin, []).append(position)
        for isin, rows in sold.items():
            delivered = self.holdings[isin].quantity if isin in self.holdings else 0
            t1_sold = max(0, -self.delivery_net(isin) - delivered)
            if t1_sold:
                value = sum(row.sell_value_paise for row in rows)
                total -= value * t1_sold // sum(row.sell_quantity for row in rows)
        return total

    def intraday_margin_paise(self) -> int:
        """Blocked for open intraday positions."""
        return sum(
            -(-p.open_cost_paise // INTRADAY_LEVERAGE)
            for p in self.positions.values()
            if p.product in INTRADAY_PRODUCTS
        )

    def intraday_realised_paise(self) -> int:
        """Closed intraday profit and loss of the day."""
        return sum(p.realised_paise for p in self.positions.values() if p.product in INTRADAY_PRODUCTS)

    def available_paise(self) -> int:
        """Free money. Intraday losses count at once, intraday profits only after settlement."""
        return (
            self.cash_paise
            + self.payin_paise
            - self.delivery_buys_paise()
            + self.delivery_sales_paise()
            - self.intraday_margin_paise()
            + min(0, self.intraday_realised_paise())
            - self.blocked_paise
        )

    def net_flow_paise(self) -> int:
        """Sales minus purchases of the day over all products: what settlement moves."""
        return sum(p.sell_value_paise - p.buy_value_paise for p in self.positions.values())

    def settle(self, isin: str) -> int:
        """Roll one share to the next day: T1 is delivered, today's net joins or leaves. Returns shares delivered out."""
        net = self.delivery_net(isin)
        holding = self.holdings.setdefault(isin, Holding(isin))
        holding.quantity += holding.t1_quantity
        holding.t1_quantity = 0
        if net < 0:
            holding.cost_paise -= holding.cost_paise * -net // holding.quantity
            holding.quantity += net
        elif net > 0:
            bought = [p for p in self.positions.values() if p.isin == isin and p.product not in INTRADAY_PRODUCTS]
            quantity = sum(p.buy_quantity for p in bought)
            holding.cost_paise += sum(p.buy_value_paise for p in bought) * net // quantity
            holding.t1_quantity = net
        if holding.total == 0:
            del self.holdings[isin]
        return max(0, -net)
