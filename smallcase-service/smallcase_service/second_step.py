"""The second step of a basket order: buys computed anew from the cash that the sells have freed and from live prices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from common.logging import get_logger
from common.market_data import Key
from smallcase_service import baskets, outcomes, plan
from smallcase_service.composition import Constituent
from smallcase_service.desk import Desk
from smallcase_service.models import BasketOrder, Investment
from smallcase_service.orders import Stage
from smallcase_service.plan import Line, Trade
from smallcase_service.portfolio_orders import Estimate

log = get_logger(__name__)

FIT_ATTEMPTS = 4
"""How often the money is lowered until the buys can be held at their worst prices."""
CLOSED_PAUSE = timedelta(minutes=1)


@dataclass(frozen=True)
class _Sold:
    """A basket order whose sells have ended."""

    user_id: UUID
    portfolio_id: UUID
    wanted: Mapping[str, Any]
    held: dict[Key, int]
    freed_paise: int


def take(desk: Desk, order_id: UUID) -> datetime | None:
    """Compute and submit the buys of an order whose sells have ended; answers when to look again if it can not be yet.

    Raises Unavailable while the market or portfolio-service does not answer.
    """
    with desk.db.transaction() as session:
        sold = _read(session, order_id)
    if sold is None:
        return None
    market_session = desk.market.session()
    if not market_session.is_open:
        return market_session.next_open_at or desk.clock.now() + CLOSED_PAUSE
    trades = _buys(desk, sold)
    with desk.db.transaction() as session:
        submit = outcomes.write_buys(session, order_id, trades, desk.clock.now())
    if submit:
        desk.submit(order_id)
    return None


def _read(session: Session, order_id: UUID) -> _Sold | None:
    order = session.get(BasketOrder, order_id)
    if order is None or order.stage != Stage.SOLD:
        return None
    investment = session.get_one(Investment, order.investment_id)
    sells = [leg for leg in baskets.legs_of(session, order_id) if leg.side == "SELL"]
    return _Sold(
        order.user_id,
        investment.portfolio_id,
        order.wanted,
        baskets.holdings(session, [order.investment_id])[order.investment_id],
        max(0, sum(leg.amount_paise - leg.charges_paise for leg in sells)),
    )


def _buys(desk: Desk, sold: _Sold) -> list[Trade]:
    if sold.wanted["then"] == "buys":
        return _named(desk, sold.wanted["buys"])
    constituents = [
        Constituent(row["exchange"], row["tradingsymbol"], row["weight_bps"]) for row in sold.wanted["weights"]
    ]
    prices = desk.market.prices([one.key for one in constituents])
    # A share that has lost its price is bought by none: the others do not wait for it.
    lines = [
        Line(one.key, one.weight_bps, prices[one.key].price_paise, sold.held.get(one.key, 0))
        for one in constituents
        if one.key in prices and prices[one.key].price_paise > 0
    ]
    money = desk.allowance.budget(sold.freed_paise, len(lines))
    for _ in range(FIT_ATTEMPTS):
        if money <= 0:
            return []
        trades = plan.buys_after_sells(lines, money, filtered=sold.wanted["filtered"])
        if not trades:
            return []
        estimate = desk.portfolio.estimate(sold.user_id, sold.portfolio_id, trades)
        if estimate.hold_paise <= estimate.available_paise:
            return trades
        money = _lower(money, trades, estimate)
    return trades


def _lower(money: int, trades: Sequence[Trade], estimate: Estimate) -> int:
    """Money whose buys can be held: market orders are held at their worst price, which is more than the plan's."""
    value = sum(trade.value_paise for trade in trades)
    fitting = value * estimate.available_paise // estimate.hold_paise
    log.info("basket.buys_lowered", money_paise=money, available_paise=estimate.available_paise)
    return min(money - 1, fitting)


def _named(desk: Desk, rows: Sequence[Mapping[str, Any]]) -> list[Trade]:
    prices = desk.market.prices([(row["exchange"], row["tradingsymbol"]) for row in rows])
    trades = []
    for row in rows:
        key = row["exchange"], row["tradingsymbol"]
        trade = Trade(key, "BUY", row["quantity"], 1)
        # Without a price it is submitted all the same, and refused with the reason.
        trades.append(replace(trade, price_paise=prices[key].price_paise) if key in prices else trade)
    return trades
