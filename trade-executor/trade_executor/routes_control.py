"""The kill switch. Stopping takes one person, starting again takes two."""

from typing import Any

from fastapi import APIRouter, Depends, Request
from sqlalchemy.orm import Session

from common import audit
from common.audit import CallerAddress
from common.auth import CurrentUser, OpsUser, require_role
from common.db import SessionDep
from trade_executor import kill_switch, schemas
from trade_executor.desk import Desk
from trade_executor.models import Control

router = APIRouter(prefix="/api/v1/ops/control", tags=["ops"], dependencies=[Depends(require_role("ops", "admin"))])


def _account(request: Request) -> str:
    desk: Desk = request.app.state.desk
    return desk.settings.account


@router.get("", response_model=schemas.ControlOut)
def get_control(request: Request, session: SessionDep) -> Any:
    """State of the switch and of the send budget."""
    return kill_switch.row_of(session, _account(request))


@router.post("/halt", response_model=schemas.ControlOut)
def halt(
    request: Request, body: schemas.SwitchRequest, user: OpsUser, session: SessionDep, address: CallerAddress
) -> Any:
    """Stop everything that is sent. When this has answered, no further order or cancel leaves."""
    return _stop(session, _account(request), "HALTED", user, address, body.reason)


@router.post("/cancel-only", response_model=schemas.ControlOut)
def cancel_only(
    request: Request, body: schemas.SwitchRequest, user: OpsUser, session: SessionDep, address: CallerAddress
) -> Any:
    """Stop new orders; cancels still go out."""
    return _stop(session, _account(request), "CANCEL_ONLY", user, address, body.reason)


@router.post("/resume", response_model=schemas.ControlOut)
def resume(
    request: Request, body: schemas.SwitchRequest, user: OpsUser, session: SessionDep, address: CallerAddress
) -> Any:
    """Ask for a resume; a second person's call within a quarter of an hour approves it."""
    account = _account(request)
    row = kill_switch.request_or_approve_resume(session, account, actor=str(user.user_id), reason=body.reason)
    action = "control.active" if row.trading_state == "ACTIVE" else "control.resume_requested"
    _record(session, account, action, user, address, body.reason)
    return row


def _stop(session: Session, account: str, state: str, user: CurrentUser, address: str, reason: str) -> Control:
    row = kill_switch.stop(session, account, state, actor=str(user.user_id), reason=reason)
    _record(session, account, f"control.{state.lower()}", user, address, reason)
    return row


def _record(session: Session, account: str, action: str, user: CurrentUser, address: str, reason: str) -> None:
    audit.record(
        session, audit.operator(user.user_id), action, target=f"account:{account}", address=address, reason=reason
    )
