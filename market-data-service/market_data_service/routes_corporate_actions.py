"""Splits and bonus issues: read by everybody, entered and withdrawn by an admin."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from common.auth import AdminUser, User
from common.dependencies import ClockDep, DatabaseDep
from common.logging import get_logger
from market_data_service.asking import MarketDep, key_of, listing_of
from market_data_service.corporate_actions import Entered, enter, history, in_force, withdraw
from market_data_service.models import CorporateAction
from market_data_service.schemas import (
    CorporateActionAnswer,
    CorporateActionRecord,
    CorporateActionRecords,
    CorporateActionRequest,
    CorporateActionsAnswer,
    Reason,
)

router = APIRouter(prefix="/api/v1/market/corporate-actions", tags=["corporate-actions"])
log = get_logger(__name__)


@router.get("/{exchange}/{symbol}")
def corporate_actions(
    exchange: str, symbol: str, user: User, db: DatabaseDep, market: MarketDep
) -> CorporateActionsAnswer:
    """Splits and bonus issues of a share, those to come among them, oldest ex-date first."""
    listing = listing_of(market, key_of(exchange, symbol))
    with db.session() as session:
        rows = in_force(session, listing.key)
    return CorporateActionsAnswer(
        exchange=listing.exchange,
        tradingsymbol=listing.tradingsymbol,
        actions=[
            CorporateActionAnswer(
                action_id=row.action_id,
                ex_date=row.ex_date,
                kind=row.kind,
                new_shares=row.new_shares,
                old_shares=row.old_shares,
            )
            for row in rows
        ],
    )


@router.get("")
def all_corporate_actions(admin: AdminUser, db: DatabaseDep) -> CorporateActionRecords:
    """Splits and bonus issues of all shares, in force and withdrawn, with who entered them and why."""
    with db.session() as session:
        return CorporateActionRecords(actions=[_record(row) for row in history(session)])


@router.post("")
def post_corporate_action(
    body: CorporateActionRequest, admin: AdminUser, db: DatabaseDep, market: MarketDep, clock: ClockDep
) -> CorporateActionRecord:
    """Enter a split or bonus issue; the same once more changes nothing, another ratio of the same day is refused.

    The share's stored candles before the ex-date are read anew from the broker when they are next asked for.
    """
    entered = Entered(
        share=listing_of(market, key_of(body.exchange, body.tradingsymbol)),
        ex_date=body.ex_date,
        kind=body.kind,
        new_shares=body.new_shares,
        old_shares=body.old_shares,
        reason=body.reason.strip(),
    )
    with db.transaction() as session:
        answer = _record(enter(session, entered, admin.user_id, clock.now()))
    log.info(
        "corporate_action.entered",
        tradingsymbol=answer.tradingsymbol,
        ex_date=answer.ex_date.isoformat(),
        kind=answer.kind,
        user_id=str(admin.user_id),
    )
    return answer


@router.delete("/{action_id}")
def delete_corporate_action(
    action_id: UUID, reason: Annotated[Reason, Query()], admin: AdminUser, db: DatabaseDep, clock: ClockDep
) -> CorporateActionRecord:
    """Take a wrong split or bonus issue out of force. The row stays for the record."""
    with db.transaction() as session:
        answer = _record(withdraw(session, action_id, reason.strip(), admin.user_id, clock.now()))
    log.info("corporate_action.withdrawn", action_id=str(action_id), user_id=str(admin.user_id))
    return answer


def _record(row: CorporateAction) -> CorporateActionRecord:
    return CorporateActionRecord(
        action_id=row.action_id,
        exchange=row.exchange,
        tradingsymbol=row.tradingsymbol,
        ex_date=row.ex_date,
        kind=row.kind,
        new_shares=row.new_shares,
        old_shares=row.old_shares,
        reason=row.reason,
        created_by=row.created_by,
        created_at=row.created_at,
        is_in_force=row.withdrawn_at is None,
        withdrawn_by=row.withdrawn_by,
        withdrawn_at=row.withdrawn_at,
        withdrawn_reason=row.withdrawn_reason,
    )
