"""What operators read of a room's audit log: its rows, and the chain's head to be stored where nobody here can write."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from common import audit, audit_chain
from common.auth import require_role
from common.db import SessionDep

PAGE_MAX = 200
ID_MAX = 2**63 - 1
Filter = Annotated[str | None, Query(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


class AuditEntry(BaseModel):
    """One act. `seq` and `hash` are its link in the chain, absent for a moment after the act."""

    id: int
    at: datetime
    actor: str
    actor_kind: str
    action: str
    target: str
    address: str
    details: dict[str, Any]
    correlation_id: str | None
    seq: int | None
    hash: str | None


class AuditPage(BaseModel):
    """One page, newest first; `next_before` asks for the next one."""

    items: list[AuditEntry]
    next_before: int | None


class AuditHead(BaseModel):
    """The newest link; `waiting` rows have none yet."""

    seq: int
    hash: str
    waiting: int


def audit_router(room: str, guard: Any = None) -> APIRouter:
    """`/api/v1/admin/audit/<room>` for the room's app; `guard` is the dependency that lets operators in."""
    allowed = Depends(guard or require_role("ops", "admin"))
    router = APIRouter(prefix=f"/api/v1/admin/audit/{room}", tags=["audit"], dependencies=[allowed])

    @router.get("")
    def list_audit(
        session: SessionDep,
        action: Filter = None,
        actor: Filter = None,
        target: Filter = None,
        before: Annotated[int | None, Query(ge=1, le=ID_MAX)] = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 50,
    ) -> AuditPage:
        """Who did what, newest first."""
        rows = audit.entries(session, action=action, actor=actor, target=target, before=before, limit=limit)
        items = [
            AuditEntry.model_validate({**row._mapping, "hash": row.hash.hex() if row.hash is not None else None})
            for row in rows
        ]
        return AuditPage(items=items, next_before=items[-1].id if len(items) == limit else None)

    @router.get("/head")
    def get_audit_head(session: SessionDep) -> AuditHead:
        """The head of the hash chain."""
        newest = audit_chain.head(session)
        return AuditHead(seq=newest.seq, hash=newest.hash.hex(), waiting=audit_chain.waiting(session))

    return router
