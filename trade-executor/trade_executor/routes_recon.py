"""What operators see of the comparison of books: runs, open breaks, the house's journal, ended days."""

from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from common import audit
from common.audit import CallerAddress
from common.auth import OpsUser, require_role
from common.db import SessionDep
from common.errors import Conflict
from trade_executor import queries_recon, reconciler, schemas, schemas_recon
from trade_executor.desk import Desk

PAGE_MAX = 200
OFFSET_MAX = 100_000
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]
Offset = Annotated[int, Query(ge=0, le=OFFSET_MAX)]
Part = Literal["orders", "trades", "positions", "holdings", "funds", "ledger"]

router = APIRouter(prefix="/api/v1/ops", tags=["ops"], dependencies=[Depends(require_role("ops", "admin"))])


class ReconciliationUnderWay(Conflict):
    """Another run is being made at this moment; its row will be there shortly."""


def _account(request: Request) -> str:
    desk: Desk = request.app.state.desk
    return desk.settings.account


@router.get("/reconciliation", response_model=schemas_recon.ReconciliationOut)
def get_reconciliation(request: Request, session: SessionDep) -> Any:
    """The latest runs, open breaks by kind, frozen instruments."""
    return queries_recon.state(session, _account(request))


@router.post("/reconciliation", response_model=schemas_recon.RunOut)
def post_reconciliation(request: Request, user: OpsUser, session: SessionDep, address: CallerAddress) -> Any:
    """Compare everything now. Facts of the broker may be added by it; nothing is traded."""
    desk: Desk = request.app.state.desk
    outcome = reconciler.reconcile(desk, desk.settings.account, "full", request.app.state.ledger)
    if outcome is None:
        raise ReconciliationUnderWay("Another reconciliation is under way.")
    target = f"reconciliation:{outcome.run_id}"
    audit.record(session, audit.operator(user.user_id), "reconciliation.run", target=target, address=address)
    return queries_recon.run(session, outcome.run_id)


@router.get("/reconciliation/{run_id}", response_model=schemas_recon.RunOut)
def get_run(run_id: UUID, session: SessionDep) -> Any:
    """One run."""
    return queries_recon.run(session, run_id)


@router.get("/house-fills", response_model=schemas.Page[schemas_recon.HouseFillOut])
def get_house_fills(session: SessionDep, limit: Limit = 50, offset: Offset = 0) -> Any:
    """Trades that belong to no user, newest first."""
    items = queries_recon.house_fills(session, limit=limit, offset=offset)
    return {"items": items, "limit": limit, "offset": offset}


@router.get("/days", response_model=schemas.Page[schemas_recon.DayOut])
def get_days(request: Request, session: SessionDep, limit: Limit = 50, offset: Offset = 0) -> Any:
    """Reports of ended days, newest first."""
    items = queries_recon.days(session, _account(request), limit=limit, offset=offset)
    return {"items": items, "limit": limit, "offset": offset}


@router.get("/days/{day}", response_model=schemas_recon.DayDetail)
def get_day(day: date, request: Request, session: SessionDep) -> Any:
    """One day: the check before trading, the report after the close, which of the broker's books were kept."""
    return queries_recon.day_detail(session, _account(request), day)


@router.get("/days/{day}/books/{part}", response_model=schemas_recon.BookOut)
def get_day_book(day: date, part: Part, request: Request, session: SessionDep) -> Any:
    """One part of the broker's books (or the ledger's totals) as they were after the close."""
    return queries_recon.day_book(session, _account(request), day, part)
