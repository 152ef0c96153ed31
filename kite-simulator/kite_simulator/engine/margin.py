"""Money an order blocks while it is not terminal."""

from kite_simulator.charges import INTRADAY_PRODUCTS
from kite_simulator.engine.account import INTRADAY_LEVERAGE, Account
from kite_simulator.engine.orders import Order


def margin_paise(side: str, product: str, quantity: int, price_paise: int, reducible: int = 0) -> int:
    """Blocked money of `quantity` shares at `price_paise`.

    Delivery purchases block their full value, delivery sales nothing. Intraday orders block a fifth of the value of
    what does not reduce an open position of the same product (`reducible` shares).
    """
    if product in INTRADAY_PRODUCTS:
        value = max(0, quantity - reducible) * price_paise
        return -(-value // INTRADAY_LEVERAGE)
    return quantity * price_paise if side == "BUY" else 0


def reducible_quantity(account: Account, exchange: str, symbol: str, product: str, side: str) -> int:
    """Shares of that side which would only close an open intraday position."""
    position = account.positions.get(f"{exchange}:{symbol}:{product}")
    if position is None:
        return 0
    return max(0, -position.quantity) if side == "BUY" else max(0, position.quantity)


def order_margin_paise(order: Order, account: Account) -> int:
    """Blocked money of an order's pending quantity (all legs of an iceberg); the leg that closes a cover order blocks nothing."""
    if order.product == "CO" and order.parent_order_id is not None:
        return 0
    price = order.price_paise or order.trigger_paise
    reducible = reducible_quantity(account, order.exchange, order.symbol, order.product, order.side)
    return margin_paise(order.side, order.product, order.exposed_quantity, price, reducible)
