"""Orders and trades of the caller."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from common.auth import User
from common.clock import DayInput
from common.db import SessionDep
from common.dependencies import ClockDep, DatabaseDep, MarketDep
from common.errors import Unprocessable
from portfolio_service import changes, order_queries
from portfolio_service.dependencies import Asking, AskingDep, SettingsDep
from portfolio_service.market_view import observe
from portfolio_service.models import TaxLot
from portfolio_service.order_queries import OrderFilter
from portfolio_service.order_route import OrderRoute
from portfolio_service.orders import OrderState
from portfolio_service.paging import PAGE_DEFAULT, PAGE_MAX
from portfolio_service.schemas import (
    AllocationOut,
    BatchIn,
    BatchItem,
    BatchOut,
    Body,
    ExitIn,
    HistoryOut,
    OrderChange,
    OrderDetail,
    OrderIn,
    OrderOut,
    OrderPage,
    Side,
    TradeIn,
    TradePage,
)
from portfolio_service.submissions import Accepted, Outcome, Refused, Submission

router = APIRouter(prefix="/api/v1", tags=["orders"])
placing = APIRouter(prefix="/api/v1", tags=["orders"], route_class=OrderRoute)
"""Requests for orders; the other routes are the framework's own."""

Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]
Cursor = Annotated[str | None, Query(max_length=200)]
Text = Annotated[str | None, Query(max_length=40, pattern=r"^[\x20-\x7e]*$")]


class BatchRefused(Unprocessable):
    """An all-or-none list with at least one order that can not be taken."""


@placing.post("/orders", status_code=202, responses={202: {"model": OrderOut}})
async def place_order(body: OrderIn, asking: AskingDep) -> Response:
    """Accept an order: the money or shares are held and the order is on its way to the market."""
    return await _place_one(body, body.side, "orders", asking)


@placing.post("/orders/buy", status_code=202, responses={202: {"model": OrderOut}})
async def buy(body: TradeIn, asking: AskingDep) -> Response:
    """Accept a buy."""
    return await _place_one(body, "BUY", "orders/buy", asking)


@placing.post("/orders/sell", status_code=202, responses={202: {"model": OrderOut}})
async def sell(body: TradeIn, asking: AskingDep) -> Response:
    """Accept a sale of shares that are held and free."""
    return await _place_one(body, "SELL", "orders/sell", asking)


async def _place_one(body: TradeIn, side: Side, route: str, asking: Asking, asked: Body | None = None) -> Response:
    def produce(outcomes: list[Outcome]) -> tuple[int, OrderOut]:
        (outcome,) = outcomes
        if isinstance(outcome, Refused):
            raise outcome.error()
        return 202, OrderOut.of(outcome.order)

    submission = Submission(asking.user.user_id, asking.user.kyc, [body.request(side)], asking.key)
    return await asking.commit.answer(submission, route, asked or body, produce)


@placing.post("/orders/batch", status_code=202, responses={202: {"model": BatchOut}})
async def place_batch(body: BatchIn, asking: AskingDep) -> Response:
    """Accept a list of orders in one transaction, all or none unless `atomic` is false."""
    if len(body.orders) > asking.commit.orders_max:
        raise Unprocessable(
            f"A batch may have at most {asking.commit.orders_max} orders.",
            code="batch_limit",
            limit=asking.commit.orders_max,
        )
    requests = [order.request(order.side) for order in body.orders]
    submission = Submission(asking.user.user_id, asking.user.kyc, requests, asking.key, atomic=body.atomic)

    def produce(outcomes: list[Outcome]) -> tuple[int, BatchOut]:
        if body.atomic and any(isinstance(outcome, Refused) for outcome in outcomes):
            raise batch_refused(outcomes)
        return 202, batch_out(submission, outcomes)

    return await asking.commit.answer(submission, "orders/batch", body, produce)


def batch_refused(outcomes: Sequence[Outcome]) -> Exception:
    """The problem of an all-or-none list that was not taken."""
    errors = [
        {"index": outcome.index, "code": outcome.refusal.code, "detail": outcome.refusal.detail}
        for outcome in outcomes
        if isinstance(outcome, Refused) and outcome.refusal.code != "not_attempted"
    ]
    first = errors[0]
    codes = {error["code"] for error in errors}
    # A reason that concerns the caller and not one order keeps its own status and code.
    if len(codes) == 1 and codes & {"kyc_required", "order_rate", "portfolio_not_found"}:
        return next(outcome for outcome in outcomes if isinstance(outcome, Refused)).error()
    return BatchRefused(
        f"{len(errors)} of {len(outcomes)} orders can not be taken, so none was. The first: {first['detail']}",
        errors=errors,
    )


def batch_out(submission: Submission, outcomes: Sequence[Outcome]) -> BatchOut:
    """What became of each order of a list."""
    results = [
        BatchItem(index=outcome.index, status="accepted", order=OrderOut.of(outcome.order), code=None, detail=None)
        if isinstance(outcome, Accepted)
        else BatchItem(
            index=outcome.index,
            status="refused",
            order=None,
            code=outcome.refusal.code,
            detail=outcome.refusal.detail,
        )
        for outcome in outcomes
    ]
    accepted = sum(result.status == "accepted" for result in results)
    return BatchOut(
        submission_id=submission.submission_id, accepted=accepted, refused=len(results) - accepted, results=results
    )


@router.get("/orders")
def list_orders(
    user: User,
    session: SessionDep,
    status: Text = None,
    symbol: Text = None,
    side: Side | None = None,
    portfolio_id: UUID | None = None,
    from_: Annotated[DayInput | None, Query(alias="from")] = None,
    to: DayInput | None = None,
    limit: Limit = PAGE_DEFAULT,
    cursor: Cursor = None,
) -> OrderPage:
    """The caller's orders, newest first. `status` takes our words and those of other desks; days are Indian days."""
    wanted = OrderFilter(user.user_id, portfolio_id, status, symbol, side, from_, to)
    orders, next_cursor = order_queries.list_orders(session, wanted, limit=limit, cursor=cursor)
    return OrderPage(items=[OrderOut.of(order) for order in orders], next_cursor=next_cursor)


@router.get("/orders/{order_id}")
def get_order(order_id: UUID, user: User, session: SessionDep) -> OrderDetail:
    """One order with its fills and everything that happened to it."""
    order = changes.order_of(session, user.user_id, order_id)
    accepted = HistoryOut(
        version=1,
        fact="accepted",
        from_status=None,
        status=OrderState.ACCEPTED,
        filled_quantity=0,
        reason_code=None,
        reason=None,
        at=order.accepted_at,
    )
    return OrderDetail.of(
        order,
        allocations=[
            AllocationOut.of(row)
            for row in order_queries.allocations_of(session, order_id)
            if row.quantity > row.house_quantity
        ],
        history=[accepted, *(HistoryOut.of(row) for row in order_queries.history_of(session, order_id))],
    )


@router.put("/orders/{order_id}", status_code=202)
def replace_order(
    order_id: UUID,
    body: OrderChange,
    user: User,
    db: DatabaseDep,
    settings: SettingsDep,
    market: MarketDep,
    clock: ClockDep,
) -> OrderOut:
    """Ask for other terms: the order is cancelled first, then what is left is accepted as a new order.

    Follow `replacement.state` and `replaced_by` of this order. Nothing is changed in place: the order may be at the
    exchange already.
    """
    with db.transaction() as session:
        terms = changes.replacement_request(changes.order_of(session, user.user_id, order_id), body.changes())
    view = observe(market, [terms])  # between two transactions: no lock is held while another room is asked
    with db.transaction() as session:
        order = changes.request_replacement(
            session, user.user_id, order_id, terms, view=view, limits=settings.limits(), kyc=user.kyc, clock=clock
        )
    return OrderOut.of(order)


@router.delete("/orders/{order_id}", status_code=202)
def cancel_order(order_id: UUID, user: User, session: SessionDep, clock: ClockDep) -> OrderOut:
    """Ask for the cancellation of what is left of an order; asking again changes nothing."""
    return OrderOut.of(changes.request_cancel(session, user.user_id, order_id, clock))


@router.get("/trades")
def list_trades(
    user: User,
    session: SessionDep,
    symbol: Text = None,
    side: Side | None = None,
    portfolio_id: UUID | None = None,
    order_id: UUID | None = None,
    from_: Annotated[DayInput | None, Query(alias="from")] = None,
    to: DayInput | None = None,
    limit: Limit = PAGE_DEFAULT,
    cursor: Cursor = None,
) -> TradePage:
    """The caller's fills, newest first."""
    wanted = OrderFilter(user.user_id, portfolio_id, None, symbol, side, from_, to)
    rows, next_cursor = order_queries.list_trades(session, wanted, order_id=order_id, limit=limit, cursor=cursor)
    return TradePage(items=[AllocationOut.of(row) for row in rows], next_cursor=next_cursor)


def _bought(trade_id: UUID, user: User, db: DatabaseDep) -> TaxLot:
    with db.transaction() as reading:
        return order_queries.lot_of(reading, user.user_id, trade_id)


@router.post("/trades/{trade_id}/exit", status_code=202, responses={202: {"model": OrderOut}})
async def exit_trade(
    trade_id: UUID, body: ExitIn, asking: AskingDep, lot: Annotated[TaxLot, Depends(_bought)]
) -> Response:
    """Sell what is left of the shares one fill has bought."""
    return await _place_one(body.trade(lot), "SELL", f"trades/{trade_id}/exit", asking, asked=body)
