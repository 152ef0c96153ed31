"""Money of the caller: balances, paper top-ups, ledger rows, statements, and what a trade would be charged."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from common.auth import User
from common.clock import DayInput, trading_date
from common.db import SessionDep
from common.dependencies import ClockDep
from common.errors import Unprocessable
from common.idempotency import IdempotencyKey, answer_once
from common.money import format_rupees
from portfolio_service import charges, funds, portfolios, statement
from portfolio_service.charge_schedule import ChargeRowMissing
from portfolio_service.dependencies import SettingsDep
from portfolio_service.entries import particulars
from portfolio_service.ledger import AccountKind
from portfolio_service.order_queries import day_start
from portfolio_service.paging import PAGE_DEFAULT, PAGE_MAX, read_number_cursor
from portfolio_service.schemas_money import (
    CashMovedOut,
    ChargesIn,
    ChargesOut,
    FundsOut,
    StatementOut,
    TopupIn,
    TransactionOut,
    TransactionPage,
)

router = APIRouter(prefix="/api/v1", tags=["funds"])

STATEMENT_DAYS_MAX = 366
OWN_ACCOUNTS = (AccountKind.CASH, AccountKind.SHARES, AccountKind.INTRADAY, AccountKind.DUE)

Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]
Cursor = Annotated[str | None, Query(max_length=40)]


class PeriodInvalid(Unprocessable):
    """The first day is after the last, or the period is too long."""


class ChargesUnknown(Unprocessable):
    """The schedule has no row for such a trade on that day."""


@router.get("/funds")
def get_funds(
    user: User, session: SessionDep, settings: SettingsDep, clock: ClockDep, portfolio_id: UUID | None = None
) -> FundsOut:
    """Money of a portfolio (default: the default one): had, blocked by orders, available, owed."""
    portfolio = portfolios.portfolio_of(
        session, user.user_id, portfolio_id, clock.now(), paper_cash_paise=settings.initial_paper_cash_rupees * 100
    )
    return FundsOut.of(portfolio.portfolio_id, *funds.cash_of(session, portfolio.portfolio_id))


@router.post("/funds/topup", status_code=201, responses={201: {"model": CashMovedOut}})
def top_up(
    body: TopupIn, user: User, key: IdempotencyKey, session: SessionDep, settings: SettingsDep, clock: ClockDep
) -> Response:
    """Add paper money (paper mode only)."""

    def produce() -> tuple[int, CashMovedOut]:
        if settings.trading_mode != "paper":
            raise funds.TopupNotAvailable("Paper money can be added in paper mode only; this platform trades live.")
        if body.amount > settings.topup_max_rupees * 100:
            raise funds.TopupLimit(
                f"One top-up may bring at most ₹{format_rupees(settings.topup_max_rupees * 100)}.",
                limit=format_rupees(settings.topup_max_rupees * 100),
            )
        portfolio = portfolios.portfolio_of(
            session,
            user.user_id,
            body.portfolio_id,
            clock.now(),
            paper_cash_paise=settings.initial_paper_cash_rupees * 100,
        )
        transfer = funds.move_cash(
            session, portfolio, "TOPUP", body.amount, key=key, actor_id=user.user_id, reason=None, now=clock.now()
        )
        return 201, cash_moved_out(session, portfolio.portfolio_id, transfer.id, "TOPUP", body.amount)

    return answer_once(session, user.user_id, key, "funds/topup", body, produce)


@router.get("/transactions")
def list_transactions(
    user: User,
    session: SessionDep,
    clock: ClockDep,
    portfolio_id: UUID | None = None,
    holds: Annotated[bool, Query(description="Also show money and shares being held and released.")] = False,
    from_: Annotated[DayInput | None, Query(alias="from")] = None,
    to: DayInput | None = None,
    limit: Limit = PAGE_DEFAULT,
    cursor: Cursor = None,
) -> TransactionPage:
    """Ledger rows of one portfolio or all of the caller's, newest first."""
    if portfolio_id is not None:
        chosen = [portfolios.portfolio_of(session, user.user_id, portfolio_id, clock.now()).portfolio_id]
    else:
        chosen = [row.portfolio_id for row in portfolios.portfolios_of(session, user.user_id, clock.now())]
    rows = funds.movements(
        session,
        chosen,
        kinds=OWN_ACCOUNTS,
        with_holds=holds,
        before_seq=read_number_cursor(cursor) if cursor else None,
        first=day_start(from_) if from_ else None,
        last=day_start(to + timedelta(days=1)) if to else None,
        limit=limit + 1,
    )
    # One ledger row can be two lines here, and a page never ends between them.
    numbers = list(dict.fromkeys(row.seq for row in rows))
    shown = set(numbers[:limit])
    return TransactionPage(
        items=[TransactionOut.of(row) for row in rows if row.seq in shown],
        next_cursor=str(numbers[limit - 1]) if len(numbers) > limit else None,
    )


@router.get("/portfolios/{portfolio_id}/transactions")
def portfolio_transactions(
    portfolio_id: UUID,
    user: User,
    session: SessionDep,
    clock: ClockDep,
    holds: bool = False,
    limit: Limit = PAGE_DEFAULT,
    cursor: Cursor = None,
) -> TransactionPage:
    """Ledger rows of one portfolio, newest first."""
    return list_transactions(user, session, clock, portfolio_id, holds, None, None, limit, cursor)


@router.get("/statement", responses={200: {"model": StatementOut, "content": {"text/csv": {}}}})
def get_statement(
    request: Request,
    user: User,
    session: SessionDep,
    clock: ClockDep,
    from_: Annotated[DayInput | None, Query(alias="from")] = None,
    to: DayInput | None = None,
    portfolio_id: UUID | None = None,
) -> Response:
    """Cash of a portfolio over a period (default: this month so far): opening, entries, closing. CSV by Accept."""
    last_day = to or trading_date(clock.now())
    first_day = from_ or last_day.replace(day=1)
    if not 0 <= (last_day - first_day).days < STATEMENT_DAYS_MAX:
        raise PeriodInvalid(f"Choose a period of 1 to {STATEMENT_DAYS_MAX} days, first day before last.")
    portfolio = portfolios.portfolio_of(session, user.user_id, portfolio_id, clock.now())
    first, last = day_start(first_day), day_start(last_day + timedelta(days=1))
    entries = [
        statement.Entry(
            booked_at=row.at,
            kind=row.type,
            particulars=particulars(row.type, row.reason, row.instrument),
            reference=str(row.order_id or row.transfer_id),
            amount_paise=row.amount,
        )
        for row in funds.statement_entries(session, portfolio.portfolio_id, first, last)
    ]
    built = statement.build(funds.cash_before(session, portfolio.portfolio_id, first), entries)
    if "text/csv" in request.headers.get("accept", ""):
        name = f"statement-{first_day.isoformat()}-{last_day.isoformat()}.csv"
        return Response(
            statement.to_csv(built),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )
    answer = StatementOut.of(portfolio.portfolio_id, first_day, last_day, built)
    return Response(answer.model_dump_json(), media_type="application/json")


@router.post("/charges/estimate")
def estimate_charges(body: ChargesIn, user: User, clock: ClockDep) -> ChargesOut:
    """What one executed order would be charged, by the schedule in force on the day; moves nothing."""
    value = body.price * body.quantity
    try:
        estimate = charges.estimate(
            exchange=body.exchange,
            side=body.side,
            product=body.product,
            quantity=body.quantity,
            value_paise=value,
            trade_date=body.trade_date or trading_date(clock.now()),
        )
    except (ChargeRowMissing, charges.InvalidTrade) as error:
        raise ChargesUnknown(f"No charges are known for this trade: {error}") from error
    return ChargesOut(
        value=value,
        brokerage=estimate.brokerage_paise,
        stt=estimate.stt_paise,
        exchange_fee=estimate.exchange_fee_paise,
        sebi_fee=estimate.sebi_fee_paise,
        stamp_duty=estimate.stamp_paise,
        gst=estimate.gst_paise,
        dp_charge=estimate.dp_paise,
        total=estimate.total_paise,
    )


def cash_moved_out(
    session: Session, portfolio_id: UUID, transfer_id: UUID, kind: str, amount_paise: int
) -> CashMovedOut:
    """The answer to a movement of money: what moved and the balances after it."""
    balances = FundsOut.of(portfolio_id, *funds.cash_of(session, portfolio_id))
    return CashMovedOut(transfer_id=transfer_id, kind=kind, amount=amount_paise, funds=balances)
