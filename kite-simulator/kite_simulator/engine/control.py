"""What a test may do to the market: outside the Kite protocol."""

from kite_simulator.engine.clock import ist_text
from kite_simulator.engine.day import DayCycle
from kite_simulator.engine.errors import Refused
from kite_simulator.engine.exchange import Exchange
from kite_simulator.engine.gtt import GttDesk
from kite_simulator.engine.instruments import Instrument
from kite_simulator.engine.kernel import Kernel


class Control:
    """Hand on the market. Every act is a fact of the truth log."""

    def __init__(self, kernel: Kernel, exchange: Exchange, days: DayCycle, gtts: GttDesk) -> None:
        self._kernel = kernel
        self._exchange = exchange
        self._days = days
        self._gtts = gtts

    def set_price(self, key: str, price_paise: int) -> None:
        """Move the last price of one instrument and match; raises Refused outside the band or off the grid."""
        kernel = self._kernel
        instrument = self._instrument(key)
        line = kernel.board.lines[key]
        if price_paise % instrument.tick_paise:
            raise Refused(f"{price_paise} paise is not on the tick grid of {key}")
        if not line.lower_paise <= price_paise <= line.upper_paise:
            raise Refused(f"{price_paise} paise is outside {line.lower_paise} to {line.upper_paise}")
        kernel.record("price_set", key=key, price_paise=price_paise)
        line.trade_at(price_paise, 1, kernel.time)
        kernel.ticked.add(key)
        if kernel.market_open():
            self._exchange.match_key(key)
            self._gtts.watch()

    def freeze_prices(self, frozen: bool) -> None:
        """Stop or continue the price process; matching goes on at the resting prices."""
        self._kernel.record("prices_frozen", frozen=frozen)

    def refuse_symbol(self, key: str, message: str | None) -> None:
        """Orders of one instrument end REJECTED by risk management from now on; None lifts it."""
        self._instrument(key)
        self._kernel.record("symbol_refused", key=key, message=message)

    def switch_market(self, is_open: bool | None) -> None:
        """Open or close the market against the calendar; None returns to the calendar. Opening releases AMOs."""
        kernel = self._kernel
        was_open = kernel.market_open()
        kernel.record("market_switched", open=is_open)
        if kernel.market_open() and not was_open:
            for order in self._days.release_amos(everything=True):
                self._exchange.accept(order)

    def pay_in(self, amount_paise: int) -> None:
        """Add cash to (or take it from) today's balance."""
        self._kernel.record("cash_paid_in", amount_paise=amount_paise)

    def give_holding(self, key: str, quantity: int, price_paise: int) -> None:
        """Put delivered shares into the demat account."""
        instrument = self._instrument(key)
        if quantity <= 0 or price_paise < 0:
            raise Refused("quantity has to be positive and the price not negative")
        self._kernel.record("holding_given", isin=instrument.isin, quantity=quantity, price_paise=price_paise)

    def status(self) -> dict[str, object]:
        """Counters for a reader in a hurry."""
        kernel, state = self._kernel, self._kernel.state
        return {
            "now": ist_text(kernel.time),
            "trading_day": str(state.day),
            "market_open": kernel.market_open(),
            "prices_frozen": state.frozen,
            "orders": len(state.orders),
            "trades": len(state.trades),
            "facts": len(kernel.facts),
            "order_requests_today": state.order_requests,
            "self_trades_prevented": state.self_trades_prevented,
            "cash_paise": state.account.cash_paise,
            "available_paise": state.account.available_paise(),
            "blocked_paise": state.account.blocked_paise,
            "refused_symbols": dict(state.refused_symbols),
        }

    def _instrument(self, key: str) -> Instrument:
        instrument = self._kernel.instruments.find(key)
        if instrument is None or not instrument.tradable:
            raise Refused(f"unknown instrument {key}")
        return instrument
