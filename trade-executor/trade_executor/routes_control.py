"""The kill switch. Stopping takes one person, starting again takes two."""

from typing import Any

from fastapi import APIRouter, Depends, Request

from common.auth import OpsUser, require_role
from common.db import SessionDep
from trade_executor import kill_switch, schemas
from trade_executor.desk import Desk

router = APIRouter(prefix="/api/v1/ops/control", tags=["ops"], dependencies=[Depends(require_role("ops", "admin"))])


def _account(request: Request) -> str:
    desk: Desk = request.app.state.desk
    return desk.settings.account


@router.get("", response_model=schemas.ControlOut)
def get_control(request: Request, session: SessionDep) -> Any:
    """State of the switch and of the send budget."""
    return kill_switch.row_of(session, _account(request))


@router.post("/halt", response_model=schemas.ControlOut)
def halt(request: Request, body: schemas.SwitchRequest, user: OpsUser, session: SessionDep) -> Any:
    """Stop everything that is sent. When this has answered, no further order or cancel leaves."""
    return kill_switch.stop(session, _account(request), "HALTED", actor=str(user.user_id), reason=body.reason)


@router.post("/cancel-only", response_model=schemas.ControlOut)
def cancel_only(request: Request, body: schemas.SwitchRequest, user: OpsUser, session: SessionDep) -> Any:
    """Stop new orders; cancels still go out."""
    return kill_switch.stop(session, _account(request), "CANCEL_ONLY", actor=str(user.user_id), reason=body.reason)


@router.post("/resume", response_model=schemas.ControlOut)
def resume(request: Request, body: schemas.SwitchRequest, user: OpsUser, session: SessionDep) -> Any:
    """Ask for a resume; a second person's call within a quarter of an hour approves it."""
    return kill_switch.request_or_approve_resume(
        session, _account(request), actor=str(user.user_id), reason=body.reason
    )
