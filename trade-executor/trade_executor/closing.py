"""How orders leave a block: closed with an outcome and told so, or back to the pool in their old order."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common import metrics, outbox
from common.bulk import array_of
from common.events import Event, OrderClosed
from common.logging import get_logger
from trade_executor import states
from trade_executor.config import SERVICE
from trade_executor.models import Block, ChildOrder

log = get_logger(__name__)

_now = sa.func.clock_timestamp()


@dataclass(frozen=True)
class Close:
    """The rest of the orders ends with this outcome."""

    state: str
    code: str
    reason: str


@dataclass(frozen=True)
class ToPool:
    """The rest of the orders goes back to the pool, if wanted not before some seconds have passed."""

    not_before_s: float = 0.0


Rest = Close | ToPool

CANCELLED_BY_USER = Close("CANCELLED", "cancelled_by_user", "Cancelled at the user's request.")


def close_orders(session: Session, order_ids: Sequence[UUID], close: Close) -> None:
    """Close live orders with one outcome and tell; raises IllegalTransition when one of them may not end so."""
    if not order_ids:
        return
    rows = session.execute(
        sa.update(ChildOrder)
        .where(ChildOrder.order_id == sa.any_(array_of(order_ids)))
        .where(ChildOrder.state.in_(states.CHILD.sources(close.state)))
        .values(
            state=close.state,
            block_id=None,
            closed_at=_now,
            version=ChildOrder.version + 1,
            reason_code=close.code,
            reason=close.reason,
        )
        .returning(
            ChildOrder.order_id,
            ChildOrder.user_id,
            ChildOrder.filled_quantity,
            ChildOrder.amount_paise,
            ChildOrder.correlation_id,
        )
    ).all()
    if len(rows) != len(order_ids):
        raise states.IllegalTransition(
            f"{len(order_ids) - len(rows)} of {len(order_ids)} orders cannot be {close.state}"
        )
    tell: list[tuple[Event, object, str | None]] = [
        (
            OrderClosed(
                order_id=row.order_id,
                user_id=row.user_id,
                outcome=close.state,
                filled_quantity=row.filled_quantity,
                amount_paise=row.amount_paise,
                reason_code=close.code or None,
                reason=close.reason or None,
            ),
            row.order_id,
            row.correlation_id,
        )
        for row in rows
    ]
    outbox.record_many(session, tell, source=SERVICE)
    metrics.orders_total.labels(SERVICE, close.state).inc(len(rows))
    log.info("orders.closed", outcome=close.state, code=close.code, count=len(rows))


def return_to_pool(session: Session, order_ids: Sequence[UUID], *, not_before_s: float = 0.0) -> None:
    """Put orders of a block back into the pool; their age order is unchanged."""
    if not order_ids:
        return
    wait = _now + sa.func.make_interval(0, 0, 0, 0, 0, 0, not_before_s) if not_before_s else None
    count = session.execute(
        sa.update(ChildOrder)
        .where(ChildOrder.order_id == sa.any_(array_of(order_ids)))
        .where(ChildOrder.state.in_(states.CHILD.sources("ACCEPTED")))
        .values(state="ACCEPTED", block_id=None, pooled_at=_now, not_before=wait, version=ChildOrder.version + 1)
    ).rowcount  # type: ignore[attr-defined]
    if count != len(order_ids):
        raise states.IllegalTransition(f"{len(order_ids) - count} of {len(order_ids)} orders cannot return to the pool")


def end_block(session: Session, block: Block, rest: Rest, *, why: str) -> None:
    """Finish a locked block: orders still in it follow `rest`, those whose user cancelled are closed as cancelled.

    A refusal cannot undo shares an order already has, so an order with fills ends CANCELLED where others are REJECTED.
    """
    rows = session.execute(
        sa.select(ChildOrder.order_id, ChildOrder.filled_quantity, ChildOrder.cancel_requested_at)
        .where(ChildOrder.block_id == block.block_id)
        .order_by(ChildOrder.seq)
        .with_for_update()
    ).all()
    # A refusal is told even to those who had given up: it is why nothing happened.
    refusal = isinstance(rest, Close) and rest.state in ("REJECTED", "FAILED")
    unwanted = [] if refusal else [row.order_id for row in rows if row.cancel_requested_at is not None]
    others = [row for row in rows if row.order_id not in set(unwanted)]
    close_orders(session, unwanted, CANCELLED_BY_USER)
    if isinstance(rest, ToPool):
        return_to_pool(session, [row.order_id for row in others], not_before_s=rest.not_before_s)
    elif rest.state == "REJECTED":
        close_orders(session, [row.order_id for row in others if row.filled_quantity == 0], rest)
        partly = [row.order_id for row in others if row.filled_quantity > 0]
        close_orders(session, partly, Close("CANCELLED", rest.code, rest.reason))
    else:
        close_orders(session, [row.order_id for row in others], rest)
    block.state = states.BLOCK.require(block.state, "DONE")
    block.end_reason = why
    block.done_at = session.execute(sa.select(_now)).scalar_one()
    session.flush()
    log.info("block.done", block_id=str(block.block_id), why=why, orders=len(rows))


def lock_block(session: Session, block_id: UUID) -> Block:
    """The block's row, locked: the first lock of every transaction that changes a block, its attempt or its orders."""
    return session.scalars(
        sa.select(Block).where(Block.block_id == block_id).with_for_update().execution_options(populate_existing=True)
    ).one()
