"""Breaks: facts that can not be right are kept and shown to people, never dropped and never repaired by guessing."""

from datetime import datetime
from uuid import uuid4

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common import outbox
from common.events import BreakOpened
from common.logging import get_logger
from portfolio_service.config import NAME
from portfolio_service.models import LedgerBreak

log = get_logger(__name__)

SEVERITY_STOP = 1
"""Money or shares are not where they belong."""
SEVERITY_LOOK = 2
"""Two statements contradict each other; nothing moved by it."""


def open_break(session: Session, *, kind: str, key: str, severity: int, detail: str, now: datetime) -> bool:
    """Open a break once per kind and key and publish it; answers whether it is new."""
    break_id = uuid4()
    opened = session.execute(
        insert(LedgerBreak)
        .values(break_id=break_id, kind=kind, key=key, severity=severity, detail=detail, opened_at=now)
        .on_conflict_do_nothing(index_elements=["kind", "key"])
        .returning(LedgerBreak.break_id)
    ).first()
    if opened is None:
        return False
    log.error("ledger.break_opened", kind=kind, key=key, severity=severity, detail=detail)
    event = BreakOpened(break_id=break_id, kind=kind, key=key, severity=severity, detail=detail)
    outbox.record(session, event, source=NAME, aggregate_id=break_id)
    return True
