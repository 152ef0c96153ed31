"""What operators see and may do: blocks, attempts, fills, allocations, queue, breaks."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from common import audit
from common.audit import CallerAddress
from common.auth import AdminUser, OpsUser, require_role
from common.clock import InstantInput
from common.db import SessionDep
from trade_executor import breaks, control, cutting, queries, schemas, settling
from trade_executor.desk import Desk

PAGE_MAX = 200
OFFSET_MAX = 100_000
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]
Offset = Annotated[int, Query(ge=0, le=OFFSET_MAX)]
Symbol = Annotated[str | None, Query(max_length=64, pattern=r"^[\x20-\x7e]*$")]
BlockState = Literal["SEALED", "WORKING", "FROZEN", "DONE"]
AttemptState = Literal[
    "INTENT", "SENDING", "ACKED", "REFUSED", "UNKNOWN", "LOST", "VOID", "GHOST", "CLOSED", "COMPLETE", "CANCELLED",
    "REJECTED", "SETTLED",
]  # fmt: skip

router = APIRouter(prefix="/api/v1/ops", tags=["ops"], dependencies=[Depends(require_role("ops", "admin"))])


@router.get("/accounts", response_model=list[schemas.AccountOut])
def get_accounts(request: Request, session: SessionDep) -> Any:
    """Broker accounts and their sessions."""
    desk: Desk = request.app.state.desk
    return queries.accounts(session, desk.settings, desk.clock.now())


@router.get("/blocks", response_model=schemas.Page[schemas.BlockOut])
def get_blocks(
    session: SessionDep, state: BlockState | None = None, symbol: Symbol = None, limit: Limit = 50, offset: Offset = 0
) -> Any:
    """Block orders, newest first."""
    items = queries.blocks(session, state=state, tradingsymbol=symbol, limit=limit, offset=offset)
    return {"items": items, "limit": limit, "offset": offset}


@router.get("/blocks/{block_id}", response_model=schemas.BlockDetail)
def get_block(block_id: UUID, session: SessionDep) -> Any:
    """One block with its orders, attempts, fills and allocations."""
    return queries.block_detail(session, block_id)


@router.post("/blocks/{block_id}/settle", response_model=schemas.BlockOut)
def settle_block(
    block_id: UUID, body: schemas.SwitchRequest, user: AdminUser, session: SessionDep, address: CallerAddress
) -> Any:
    """Declare that a frozen block got exactly the fills on record; the rest of its orders expires."""
    block = settling.settle_frozen(session, block_id, actor=str(user.user_id), reason=body.reason)
    actor = audit.operator(user.user_id)
    audit.record(session, actor, "block.settled", target=f"block:{block_id}", address=address, reason=body.reason)
    return block


@router.get("/orders/{order_id}", response_model=schemas.OrderDetail)
def get_order(order_id: UUID, session: SessionDep) -> Any:
    """One user order with everything that happened to it."""
    return queries.order_detail(session, order_id)


@router.get("/attempts", response_model=schemas.Page[schemas.AttemptOut])
def get_attempts(session: SessionDep, state: AttemptState | None = None, limit: Limit = 50, offset: Offset = 0) -> Any:
    """Attempts at the broker, newest first."""
    items = queries.attempts(session, state=state, limit=limit, offset=offset)
    return {"items": items, "limit": limit, "offset": offset}


@router.get("/fills", response_model=schemas.Page[schemas.FillOut])
def get_fills(session: SessionDep, symbol: Symbol = None, limit: Limit = 50, offset: Offset = 0) -> Any:
    """Trades of the broker, newest first."""
    items = queries.fills(session, tradingsymbol=symbol, limit=limit, offset=offset)
    return {"items": items, "limit": limit, "offset": offset}


@router.get("/queue", response_model=schemas.QueueOut)
def get_queue(request: Request, session: SessionDep) -> Any:
    """Aggregation preview: pooled orders by the block they would go out in."""
    desk: Desk = request.app.state.desk
    allowed = control.allowance(session, desk.settings.account)
    pool = cutting.candidates(session, desk.settings.account, desk.settings)
    frozen = breaks.frozen(session, desk.settings.account)
    return {
        "market_open": desk.market_is_open(),
        "trading_state": allowed.trading_state,
        "send_wait_s": round(allowed.wait_s, 3),
        "items": [
            {
                **candidate.key._asdict(),
                "price": candidate.key.price_paise,
                "trigger_price": candidate.key.trigger_price_paise,
                "orders": candidate.orders,
                "quantity": candidate.quantity,
                "waited_s": round(waited_s, 3),
                "oldest": candidate.oldest,
                "frozen": breaks.instrument(candidate.exchange, candidate.tradingsymbol) in frozen,
            }
            for candidate, waited_s in pool
        ],
    }


@router.get("/summary", response_model=schemas.SummaryOut)
def get_summary(session: SessionDep, since: InstantInput | None = None) -> Any:
    """Counts, ratios and totals since an instant (default: ever)."""
    return queries.summary(session, since)


@router.get("/breaks", response_model=schemas.Page[schemas.BreakOut])
def get_breaks(
    session: SessionDep, open_only: Annotated[bool, Query(alias="open")] = True, limit: Limit = 50, offset: Offset = 0
) -> Any:
    """Disagreements between our books and the broker's, newest first."""
    items = queries.recon_breaks(session, open_only=open_only, limit=limit, offset=offset)
    return {"items": items, "limit": limit, "offset": offset}


@router.post("/breaks/{break_id}/close", response_model=schemas.BreakOut)
def close_break(
    break_id: UUID, body: schemas.CloseBreakRequest, user: OpsUser, session: SessionDep, address: CallerAddress
) -> Any:
    """Declare a break dealt with."""
    row = breaks.close(session, break_id, actor=str(user.user_id), reason=body.reason)
    audit.record(
        session,
        audit.operator(user.user_id),
        "break.closed",
        target=f"break:{break_id}",
        address=address,
        kind=row.kind,
        key=row.key,
        reason=body.reason,
    )
    return row
