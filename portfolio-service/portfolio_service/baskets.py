"""Baskets of smallcase-service: what one would cost a user, and its acceptance through the one path of all orders."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid5

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common.clock import trading_date
from common.errors import Unavailable
from common.logging import get_logger
from portfolio_service import charges, funds, portfolios
from portfolio_service.charge_schedule import ChargeRowMissing
from portfolio_service.ledger import NAMESPACE
from portfolio_service.models import UserOrder
from portfolio_service.orders import OrderRequest
from portfolio_service.risk import Limits, worst_price
from portfolio_service.schemas_internal import BasketIn, BasketOut, EstimateIn, EstimateOrderIn, EstimateOut, RefusalOut
from portfolio_service.submissions import Outcome, Refused, Submission

log = get_logger(__name__)

PRODUCT = "CNC"
ORDER_TYPE = "MARKET"


def key_owner(user_id: UUID) -> UUID:
    """Who the keys of a user's baskets belong to: never mixed with keys that the user has chosen."""
    return uuid5(NAMESPACE, f"basket-keys:{user_id}")


def submission_of(basket: BasketIn) -> Submission:
    """The basket as acceptance takes it. A basket is judged as a whole, so repeated orders in it are meant."""
    requests = [
        OrderRequest(
            exchange=order.exchange,
            tradingsymbol=order.tradingsymbol,
            side=order.side,
            product=PRODUCT,
            order_type=ORDER_TYPE,
            quantity=order.quantity,
            portfolio_id=basket.portfolio_id,
            tag=basket.tag,
            queue_when_closed=basket.queue_when_closed,
            confirm_duplicate=True,
        )
        for order in basket.orders
    ]
    return Submission(
        basket.user_id,
        basket.kyc,
        requests,
        str(basket.submission_id),
        atomic=True,
        counted=basket.counted,
        order_ids=[order.order_id for order in basket.orders],
        submission_id=basket.submission_id,
    )


def answer(basket: BasketIn, outcomes: Sequence[Outcome]) -> BasketOut:
    """The answer to an atomic submission: accepted, or the refusals that made it fail."""
    refusals = [
        RefusalOut(index=outcome.index, code=outcome.refusal.code, detail=outcome.refusal.detail)
        for outcome in outcomes
        if isinstance(outcome, Refused) and outcome.refusal.code != "not_attempted"
    ]
    status = "refused" if refusals else "accepted"
    log.info("basket.judged", submission_id=str(basket.submission_id), orders=len(outcomes), status=status)
    return BasketOut(submission_id=basket.submission_id, status=status, refusals=refusals)


def estimate(session: Session, wanted: EstimateIn, limits: Limits, now: datetime, paper_cash_paise: int) -> EstimateOut:
    """Charges and holds of a basket, each order at the price that comes with it; moves nothing.

    Raises PortfolioNotFound, or Unavailable when charges can not be computed for lack of a schedule row.
    """
    portfolio = portfolios.portfolio_of(
        session, wanted.user_id, wanted.portfolio_id, now, paper_cash_paise=paper_cash_paise
    )
    cash, _ = funds.cash_of(session, portfolio.portfolio_id)
    each, hold_paise = [], 0
    for order in wanted.orders:
        each.append(_charges(order, order.price_paise, now))
        if order.side == "BUY":
            worst = worst_price(_as_request(order), order.price_paise, limits)
            hold_paise += worst * order.quantity + _charges(order, worst, now)
    return EstimateOut(
        portfolio_id=portfolio.portfolio_id,
        charges_paise=each,
        hold_paise=hold_paise,
        available_paise=max(0, cash.free),
    )


def _charges(order: EstimateOrderIn, price_paise: int, now: datetime) -> int:
    try:
        return charges.hold_estimate(
            exchange=order.exchange,
            side=order.side,
            product=PRODUCT,
            quantity=order.quantity,
            worst_value_paise=price_paise * order.quantity,
            trade_date=trading_date(now),
        )
    except ChargeRowMissing as error:
        raise Unavailable(
            "Charges for this basket can not be computed at the moment.", code="charges_unavailable"
        ) from error


def _as_request(order: EstimateOrderIn) -> OrderRequest:
    return OrderRequest(order.exchange, "", order.side, PRODUCT, ORDER_TYPE, order.quantity)


def states(session: Session, order_ids: Sequence[UUID]) -> Sequence[UserOrder]:
    """Orders by id; unknown ones are left out."""
    return session.scalars(sa.select(UserOrder).where(UserOrder.order_id.in_(order_ids))).all()
