"""What operators and administrators see and do: money of users, orders of all users, proof of the ledger."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from common import audit
from common.audit import CallerAddress
from common.auth import AdminUser, OpsUser
from common.clock import DayInput, trading_date
from common.db import SessionDep
from common.dependencies import ClockDep
from common.idempotency import IdempotencyKey, answer_once
from portfolio_service import funds, ledger_check, order_queries, portfolios
from portfolio_service.order_queries import OrderFilter, day_start
from portfolio_service.paging import PAGE_DEFAULT, PAGE_MAX
from portfolio_service.routes_funds import cash_moved_out
from portfolio_service.schemas import AdminOrderOut, AdminOrderPage, Side
from portfolio_service.schemas_money import AdminCashIn, CashMovedOut, LedgerCheckOut

router = APIRouter(prefix="/api/v1/admin", tags=["admin"])

Text = Annotated[str | None, Query(max_length=40, pattern=r"^[\x20-\x7e]*$")]


@router.post("/funds/deposit", status_code=201, responses={201: {"model": CashMovedOut}})
def deposit(
    body: AdminCashIn,
    admin: AdminUser,
    key: IdempotencyKey,
    session: SessionDep,
    clock: ClockDep,
    address: CallerAddress,
) -> Response:
    """Credit money a user has paid in; dues are paid first."""
    return answer_once(
        session,
        admin.user_id,
        key,
        "admin/deposit",
        body,
        lambda: _move(session, body, "DEPOSIT", key, admin, clock, address),
    )


@router.post("/funds/withdraw", status_code=201, responses={201: {"model": CashMovedOut}})
def withdraw(
    body: AdminCashIn,
    admin: AdminUser,
    key: IdempotencyKey,
    session: SessionDep,
    clock: ClockDep,
    address: CallerAddress,
) -> Response:
    """Debit money paid out to a user; only what is free can leave."""
    return answer_once(
        session,
        admin.user_id,
        key,
        "admin/withdraw",
        body,
        lambda: _move(session, body, "WITHDRAWAL", key, admin, clock, address),
    )


def _move(
    session: Session,
    body: AdminCashIn,
    kind: Literal["DEPOSIT", "WITHDRAWAL"],
    key: str,
    admin: AdminUser,
    clock: ClockDep,
    address: str,
) -> tuple[int, CashMovedOut]:
    portfolio = portfolios.portfolio_of(session, body.user_id, body.portfolio_id, clock.now())
    transfer = funds.move_cash(
        session, portfolio, kind, body.amount, key=key, actor_id=admin.user_id, reason=body.reason, now=clock.now()
    )
    audit.record(
        session,
        audit.operator(admin.user_id),
        f"funds.{kind.lower()}",
        target=f"portfolio:{portfolio.portfolio_id}",
        address=address,
        at=clock.now(),
        user_id=str(body.user_id),
        amount_paise=body.amount,
        transfer_id=str(transfer.id),
        reason=body.reason,
    )
    return 201, cash_moved_out(session, portfolio.portfolio_id, transfer.id, kind, body.amount)


@router.get("/orders")
def list_orders(
    _ops: OpsUser,
    session: SessionDep,
    clock: ClockDep,
    user_id: UUID | None = None,
    portfolio_id: UUID | None = None,
    status: Text = None,
    symbol: Text = None,
    side: Side | None = None,
    from_: Annotated[DayInput | None, Query(alias="from")] = None,
    to: DayInput | None = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> AdminOrderPage:
    """Orders of all users, newest first; `counts` are the orders accepted since `from` (default: today) by state."""
    wanted = OrderFilter(user_id, portfolio_id, status, symbol, side, from_, to)
    orders, next_cursor = order_queries.list_orders(session, wanted, limit=limit, cursor=cursor)
    since = day_start(from_ or trading_date(clock.now()))
    items = [
        AdminOrderOut.of(
            order,
            user_id=order.user_id,
            sweep_count=order.sweep_count,
            next_sweep_at=order.next_sweep_at,
            correlation_id=order.correlation_id,
        )
        for order in orders
    ]
    return AdminOrderPage(
        items=items, next_cursor=next_cursor, counts=order_queries.count_by_state(session, since=since)
    )


@router.get("/ledger/check")
def check_ledger(_ops: OpsUser, session: SessionDep, clock: ClockDep) -> LedgerCheckOut:
    """Replay the ledger and compare: sums per asset, balances, holds, tax lots, fills."""
    report = ledger_check.check(session)
    return LedgerCheckOut(ok=report.ok, checked_at=clock.now(), figures=report.figures, problems=report.problems)
