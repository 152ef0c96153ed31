"""The day cycle: square-off, end of DAY orders, settlement, purge of the book (market rules, sections 1 and 3)."""

from kite_simulator.charges import INTRADAY_PRODUCTS, Charges, contract_note_paise, order_charges
from kite_simulator.engine.exchange import Exchange
from kite_simulator.engine.kernel import Kernel
from kite_simulator.engine.orders import Order, Status

SQUARE_OFF_USER = "ADMINSQF"


class DayCycle:
    """Opens, closes and rolls trading days."""

    def __init__(self, kernel: Kernel, exchange: Exchange) -> None:
        self._kernel = kernel
        self._exchange = exchange

    def begin(self) -> None:
        """First start of empty books."""
        kernel = self._kernel
        day = kernel.calendar.day_of(kernel.time)
        anchor = kernel.calendar.previous_trading_day(day)
        kernel.record("day_started", day=day.isoformat(), anchor=anchor.isoformat())

    def close(self) -> None:
        """End of the session at the exchange's hour."""
        self._end_session()
        self._kernel.record("day_closed", day=str(self._kernel.state.day))

    def _end_session(self) -> None:
        """Intraday positions are squared off, DAY orders end."""
        kernel = self._kernel
        live = [order for orders in kernel.state.live.values() for order in orders.values()]
        for order in live:
            if order.product in INTRADAY_PRODUCTS and order.status in (Status.OPEN, Status.TRIGGER_PENDING):
                self._exchange.end_unfilled(order, None)
        for position in list(kernel.state.account.positions.values()):
            if position.product in INTRADAY_PRODUCTS and position.quantity:
                self._exchange.enter_filled(
                    {
                        "variety": "regular",
                        "exchange": position.exchange,
                        "symbol": position.symbol,
                        "token": position.token,
                        "side": "SELL" if position.quantity > 0 else "BUY",
                        "order_type": "MARKET",
                        "product": position.product,
                        "validity": "DAY",
                        "validity_ttl": 0,
                        "quantity": abs(position.quantity),
                        "disclosed_quantity": 0,
                        "price_paise": 0,
                        "trigger_paise": 0,
                        "protection_bps": 0,
                        "tag": None,
                        "tags": [],
                        "meta": {},
                        "parent_order_id": None,
                        "placed_by": SQUARE_OFF_USER,
                    }
                )
        for orders in list(kernel.state.live.values()):
            for order in list(orders.values()):
                if order.status in (Status.OPEN, Status.TRIGGER_PENDING):
                    self._exchange.end_unfilled(order, None)
                elif order.status is not Status.AMO_RECEIVED:
                    self._exchange.reject(order, "Session closed", "Session closed")

    def roll(self) -> None:
        """The next trading day: contract note, settlement, empty book, new closes."""
        kernel = self._kernel
        state = kernel.state
        ended = state.day
        if ended is None:
            raise RuntimeError("a day can roll only after it began")
        self._end_session()
        lines = kernel.board.lines
        kernel.record(
            "day_rolled",
            ended=ended.isoformat(),
            day=kernel.calendar.day_of(kernel.time).isoformat(),
            charges_paise=self._charges_paise(list(state.orders.values())),
            closes={key: line.last_paise for key, line in lines.items()},
            bars={
                key: [line.open_paise, line.high_paise, line.low_paise, line.last_paise, line.volume]
                for key, line in lines.items()
            },
        )
        for line in lines.values():
            line.start_day(line.last_paise)

    def release_amos(self, *, everything: bool = False) -> list[Order]:
        """After-market orders whose session has opened."""
        kernel = self._kernel
        day = kernel.state.day
        if day is None or not kernel.market_open():
            return []
        opened = kernel.calendar.opens_at(day)
        return [
            order
            for orders in list(kernel.state.live.values())
            for order in list(orders.values())
            if order.status is Status.AMO_RECEIVED and (everything or order.placed_at < opened)
        ]

    def _charges_paise(self, orders: list[Order]) -> int:
        account = self._kernel.state.account
        lines = Charges()
        for order in orders:
            if order.filled_quantity:
                lines += order_charges(order.exchange, order.product, order.side, order.filled_value_paise)
        isins = {position.isin for position in account.positions.values()}
        delivered_out = sum(1 for isin in isins if account.delivery_net(isin) < 0)
        return contract_note_paise(lines, delivered_out)
