"""Reconciliation breaks: opened once per kind and key, closed by a person or by the fact that cured them.

Kinds follow execution.md 3.10. Opening a break never repairs anything: repair may only add facts from the broker. A
break may freeze instruments: no block of them is cut or sent until it is closed.
"""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common import outbox
from common.errors import Conflict, NotFound
from common.events import BreakOpened
from common.logging import get_logger
from trade_executor.config import SERVICE
from trade_executor.models import Block, BrokerOrder, ReconBreak

log = get_logger(__name__)

SYSTEM = "system"
OURS_UNKNOWN = "ours_unknown"  # B1: our tag, not in our books
FOREIGN_ORDER = "foreign_order"  # B2: placed by hand or by the broker
MISSING_IN_BOOK = "missing_in_book"  # B3
TRADES_INCOMPLETE = "trades_incomplete"  # B4
TRADE_CHANGED = "trade_changed"  # B5
MISALLOCATED = "misallocated"  # B6: fills, allocations and orders of ours disagree
UNTOLD = "untold"  # B6: an allocation or a fill of the house without its message
LEDGER_MISMATCH = "ledger_mismatch"  # B6: the ledger has booked what was never told
LEDGER_BEHIND = "ledger_behind"  # the ledger has not booked what it was told
DAY_NET = "day_net_mismatch"  # B7
UNITS = "units_mismatch"  # B8
CASH = "cash_mismatch"  # B9
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
    FOREIGN_ORDER: 2,
    MISSING_IN_BOOK: 2,
    TRADES_INCOMPLETE: 2,
    TRADE_CHANGED: 1,
    MISALLOCATED: 1,
    UNTOLD: 1,
    LEDGER_MISMATCH: 1,
    LEDGER_BEHIND: 2,
    DAY_NET: 2,
    UNITS: 2,
    CASH: 2,
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
HALTING = frozenset({OURS_UNKNOWN, OVERFILLED, PARENT_MISMATCH, DUPLICATE_TAG, MISALLOCATED, UNTOLD, LEDGER_MISMATCH})
"""Kinds that stop the account: something sends what we did not decide, or gives out what was not filled."""


class BreakAlreadyClosed(Conflict):
    """Somebody closed it before."""


def instrument(exchange: str, tradingsymbol: str) -> str:
    """How a break names an instrument: `NSE:INFY`."""
    return f"{exchange}:{tradingsymbol}"


def open_break(
    session: Session,
    account: str,
    kind: str,
    key: str,
    detail: str,
    *,
    freezes: Collection[str] = (),
    lasting: bool = False,
) -> bool:
    """Record a disagreement and tell; False when the same one is open already.

    No block of the instruments in `freezes` (see `instrument`) is cut or sent until the break is closed. A `lasting`
    fact stays in the broker's book after a person has dealt with it, and every new process meets it again: it is not
    opened a second time while its words are the same.
    """
    if lasting and _dealt_with(session, account, kind, key, detail):
        return False
    break_id = uuid4()
    statement = (
        insert(ReconBreak)
        .values(
            break_id=break_id,
            account=account,
            kind=kind,
            key=key,
            severity=SEVERITY[kind],
            detail=detail,
            freezes=sorted(freezes),
        )
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
    log.error(
        "break.opened",
        account=account,
        kind=kind,
        key=key,
        severity=SEVERITY[kind],
        detail=detail,
        freezes=list(freezes),
    )
    return True


def _dealt_with(session: Session, account: str, kind: str, key: str, detail: str) -> bool:
    same = _closed_by_person(account, kind, key).where(ReconBreak.detail == detail)
    return session.execute(same.limit(1)).first() is not None


def dealt_with(session: Session, account: str, kind: str, key: str, *, since: datetime) -> bool:
    """Whether a person has closed a break of this kind and key after `since`."""
    closed = _closed_by_person(account, kind, key).where(ReconBreak.closed_at >= since)
    return session.execute(closed.limit(1)).first() is not None


def _closed_by_person(account: str, kind: str, key: str) -> sa.Select[UUID]:
    return sa.select(ReconBreak.break_id).where(
        ReconBreak.account == account,
        ReconBreak.kind == kind,
        ReconBreak.key == key,
        ReconBreak.closed_at.is_not(None),
        ReconBreak.closed_by != SYSTEM,
    )


def cure(session: Session, account: str, kind: str, key: str, how: str) -> bool:
    """Close an open break because the disagreement is gone; whether there was one."""
    closed = session.execute(
        sa.update(ReconBreak)
        .where(ReconBreak.account == account, ReconBreak.kind == kind, ReconBreak.key == key)
        .where(ReconBreak.closed_at.is_(None))
        .values(closed_at=sa.func.clock_timestamp(), closed_by=SYSTEM, closed_reason=how)
        .returning(ReconBreak.break_id)
    )
    return closed.first() is not None


def frozen(session: Session, account: str) -> frozenset[str]:
    """Instruments that an open break freezes."""
    return frozenset(
        session.scalars(
            sa.select(sa.func.unnest(ReconBreak.freezes)).where(
                ReconBreak.account == account, ReconBreak.closed_at.is_(None)
            )
        )
    )


def freeze_ghosts(session: Session, account: str) -> None:
    """Freeze the instrument of every ghost (execution.md 3.6): its break names only the tag of the attempt."""
    instrument_of_block = Block.exchange + ":" + Block.tradingsymbol
    session.execute(
        sa.update(ReconBreak)
        .where(ReconBreak.account == account, ReconBreak.kind == GHOST_ORDER, ReconBreak.closed_at.is_(None))
        .where(sa.func.cardinality(ReconBreak.freezes) == 0)
        .where(BrokerOrder.tag == ReconBreak.key, Block.block_id == BrokerOrder.block_id)
        .values(freezes=sa.func.array_append(ReconBreak.freezes, instrument_of_block)),
        execution_options={"synchronize_session": False},
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
