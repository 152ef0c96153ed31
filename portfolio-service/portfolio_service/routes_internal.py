"""What other rooms read of the ledger and let it accept; only with their own service token."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from common.auth import require_service
from common.db import SessionDep
from common.dependencies import ClockDep, MarketDep
from common.idempotency import answer_once
from portfolio_service import baskets, totals
from portfolio_service.acceptance import accept
from portfolio_service.dependencies import SettingsDep
from portfolio_service.market_view import observe
from portfolio_service.schemas_internal import (
    ORDER_STATES_MAX,
    BasketIn,
    BasketOut,
    EstimateIn,
    EstimateOut,
    OrderStateOut,
    OrderStatesOut,
)
from portfolio_service.schemas_money import LedgerTotalsOut

router = APIRouter(prefix="/internal/v1", tags=["internal"], include_in_schema=False)

SmallcaseRoom = Annotated[str, Depends(require_service("smallcase-service"))]


@router.get("/ledger/totals")
def ledger_totals(
    _caller: Annotated[str, Depends(require_service("trade-executor"))], session: SessionDep, clock: ClockDep
) -> LedgerTotalsOut:
    """Users' and the house's totals of every asset, for the comparison with the broker's books."""
    return LedgerTotalsOut.model_validate({"as_of": clock.now(), "assets": totals.totals(session)})


@router.post("/baskets")
def accept_basket(
    _caller: SmallcaseRoom,
    body: BasketIn,
    session: SessionDep,
    settings: SettingsDep,
    market: MarketDep,
    clock: ClockDep,
) -> Response:
    """Accept all orders of a basket or none; answers refusals as a result, not as a problem.

    Judged once: the same submission gets the same answer however often it is sent, so whoever has lost an answer asks
    again. Raises IdempotencyKeyReused when it came with other orders.
    """
    submission = baskets.submission_of(body)
    view = observe(market, submission.requests)  # before the transaction: no lock is held while another room is asked

    def produce() -> tuple[int, BasketOut]:
        outcomes = accept(
            session,
            submission=submission,
            view=view,
            clock=clock,
            limits=settings.limits(),
            paper_cash_paise=settings.initial_paper_cash_rupees * 100,
        )
        return 200, baskets.answer(body, outcomes)

    return answer_once(session, baskets.key_owner(body.user_id), str(body.submission_id), "baskets", body, produce)


@router.post("/baskets/estimate")
def estimate_basket(
    _caller: SmallcaseRoom, body: EstimateIn, session: SessionDep, settings: SettingsDep, clock: ClockDep
) -> EstimateOut:
    """Charges and holds of a basket that might be placed, and the cash that is free; moves nothing."""
    return baskets.estimate(session, body, settings.limits(), clock.now(), settings.initial_paper_cash_rupees * 100)


@router.get("/orders")
def order_states(
    _caller: SmallcaseRoom,
    session: SessionDep,
    ids: Annotated[list[UUID], Query(alias="id", min_length=1, max_length=ORDER_STATES_MAX)],
) -> OrderStatesOut:
    """Where orders stand, for those who may have missed news of them."""
    return OrderStatesOut(
        orders=[OrderStateOut.model_validate(order, from_attributes=True) for order in baskets.states(session, ids)]
    )
