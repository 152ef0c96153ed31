"""What the market says about the instruments of a list of orders, read once and before any transaction begins."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from common.clock import trading_date
from common.market_data import Key, MarketData, SessionInfo
from portfolio_service.orders import OrderRequest
from portfolio_service.risk import MarketFacts


@dataclass(frozen=True)
class MarketView:
    """What was seen of the market before the transaction began."""

    facts: Mapping[Key, MarketFacts]

    def of(self, request: OrderRequest) -> MarketFacts:
        """Facts of the order's instrument."""
        return self.facts[request.instrument]


def observe(market: MarketData, requests: Iterable[OrderRequest]) -> MarketView:
    """Read instruments, last prices and the session once for a list of orders; raises what the market client raises."""
    keys = list(dict.fromkeys(request.instrument for request in requests))
    instruments, prices, session = market.instruments(keys), market.prices(keys), market.session()
    live_date = _live_date(session)
    facts = {}
    for key in keys:
        instrument, price = instruments.get(key), prices.get(key)
        facts[key] = MarketFacts(
            tick_paise=instrument.tick_paise if instrument else None,
            lot_size=instrument.lot_size if instrument else 1,
            lower_band_paise=instrument.lower_band_paise if instrument else None,
            upper_band_paise=instrument.upper_band_paise if instrument else None,
            price_paise=price.price_paise if price else None,
            price_at=price.at if price else None,
            is_open=session.is_open,
            trading_date=live_date,
        )
    return MarketView(facts)


def _live_date(session: SessionInfo) -> date | None:
    """The trading day an order accepted now can trade on: today's, or the next session's when it has to wait."""
    if session.is_open:
        return session.trading_date
    if session.next_open_at is not None:
        return trading_date(session.next_open_at)
    return session.next_trading_date


def unsettled_since(today: date) -> date:
    """First purchase day whose shares are not delivered at the start of `today` under T+1: the trading day before.

    Taken from the week alone; right after an exchange holiday it is a day late, where the broker's own check decides.
    """
    return today - timedelta(days={0: 3, 6: 2}.get(today.weekday(), 1))
