"""Reconciliation breaks: opened once per kind and key, closed by a person or by the fact that cured them.

Kinds follow execution.md 3.10. Opening a break never repairs anything: repair may only add facts from the broker.
"""

from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common import outbox
from common.errors import Conflict, NotFound
from common.events import BreakOpened
from common.logging import get_logger
from trade_executor.config import SERVICE
from trade_executor.models import ReconBreak

log = get_logger(__name__)

OURS_UNKNOWN = "ours_unknown"  # B1: our tag, not in our books
FOREIGN_ORDER = "foreign_order"  # B2: placed by hand or by the broker
MISSING_IN_BOOK = "missing_in_book"  # B3
TRADES_INCOMPLETE = "trades_incomplete"  # B4
TRADE_CHANGED = "trade_changed"  # B5
LATE_FILL = "late_fill"  # shares after the attempt was settled: the house's
OVERFILLED = "overfilled"  # B10
PARENT_MISMATCH = "parent_mismatch"  # B10, before sending
DUPLICATE_TAG = "duplicate_tag"
TAG_MISMATCH = "tag_mismatch"
ATTEMPT_LOST = "attempt_lost"  # B11
GHOST_ORDER = "ghost_order"  # B11
PAST_DAY = "past_day_unsettled"
BLIND = "blind"  # B12
CANCEL_STUCK = "cancel_stuck"

SEVERITY = {
    OURS_UNKNOWN: 1,
    FOREIGN_ORDER: 3,
    MISSING_IN_BOOK: 2,
    TRADES_INCOMPLETE: 2,
    TRADE_CHANGED: 1,
    LATE_FILL: 1,
    OVERFILLED: 1,
    PARENT_MISMATCH: 1,
    DUPLICATE_TAG: 1,
    TAG_MISMATCH: 1,
    ATTEMPT_LOST: 2,
    GHOST_ORDER: 1,
    PAST_DAY: 1,
    BLIND: 2,
    CANCEL_STUCK: 2,
}
HALTING = frozenset({OURS_UNKNOWN, OVERFILLED, PARENT_MISMATCH, DUPLICATE_TAG})
"""Kinds that stop the account: something sends what we did not decide."""


class BreakAlreadyClosed(Conflict):
    """Somebody closed it before."""


def open_break(session: Session, account: str, kind: str, key: str, detail: str) -> bool:
    """Record a disagreement and tell; False when the same one is open already."""
    break_id = uuid4()
    statement = (
        insert(ReconBreak)
        .values(break_id=break_id, account=account, kind=kind, key=key, severity=SEVERITY[kind], detail=detail)
        .on_conflict_do_nothing(
            index_elements=[ReconBreak.account, ReconBreak.kind, ReconBreak.key],
            index_where=ReconBreak.closed_at.is_(None),
        )
        .returning(ReconBreak.break_id)
    )
    if session.execute(statement).first() is None:
        return False
    event = BreakOpened(break_id=break_id, kind=kind, key=key, severity=SEVERITY[kind], detail=detail)
    outbox.record(session, event, source=SERVICE, aggregate_id=break_id)
    log.error("break.opened", account=account, kind=kind, key=key, severity=SEVERITY[kind], detail=detail)
    return True


def cure(session: Session, account: str, kind: str, key: str, how: str) -> None:
    """Close an open break because the disagreement is gone."""
    session.execute(
        sa.update(ReconBreak)
        .where(ReconBreak.account == account, ReconBreak.kind == kind, ReconBreak.key == key)
        .where(ReconBreak.closed_at.is_(None))
        .values(closed_at=sa.func.clock_timestamp(), closed_by="system", closed_reason=how)
    )


def close(session: Session, break_id: UUID, *, actor: str, reason: str) -> ReconBreak:
    """A person declares a break dealt with; raises NotFound or BreakAlreadyClosed."""
    row = session.get(ReconBreak, break_id, with_for_update=True)
    if row is None:
        raise NotFound(f"There is no break {break_id}.", code="break_not_found")
    if row.closed_at is not None:
        raise BreakAlreadyClosed(f"The break was closed by {row.closed_by}.")
    row.closed_at = session.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    row.closed_by, row.closed_reason = actor, reason
    session.flush()
    return row


def severe_open(session: Session, account: str) -> list[str]:
    """Open breaks that forbid resuming, as `kind:key`."""
    rows = session.execute(
        sa.select(ReconBreak.kind, ReconBreak.key)
        .where(ReconBreak.account == account, ReconBreak.closed_at.is_(None), ReconBreak.severity == 1)
        .order_by(ReconBreak.opened_at)
        .limit(50)
    )
    return [f"{row.kind}:{row.key}" for row in rows]
