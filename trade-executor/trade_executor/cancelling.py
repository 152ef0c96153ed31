"""Cancels: users ask, only the executor sends, and only the order book says what became of it."""

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common import metrics, outbox
from common.db import Database, run_in_transaction
from common.logging import get_logger
from trade_executor import breaks, closing, control, states
from trade_executor.brokers.base import Broker
from trade_executor.config import SERVICE, Settings
from trade_executor.models import Block, BrokerOrder, ChildOrder

log = get_logger(__name__)

USER = "user"
CLOSE_BY = "close_by"
YIELD = "yield"
EXPIRY = "expiry"
YIELD_HOLD_S = 2.0
"""Orders of a block that gave way stay in the pool this long: the opposite demand is cut first."""


def cancel_order(session: Session, order_id: UUID, requested_at: datetime) -> None:
    """Cancel one known order, or ask for the cancel of the block it is in."""
    block_id = session.scalar(sa.select(ChildOrder.block_id).where(ChildOrder.order_id == order_id))
    block = closing.lock_block(session, block_id) if block_id is not None else None
    child = session.scalars(
        sa.select(ChildOrder)
        .where(ChildOrder.order_id == order_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    if child.state in states.CHILD.final:
        outbox.republish(session, [order_id])
        return
    if child.cancel_requested_at is None:
        child.cancel_requested_at = requested_at
        child.version += 1
        session.flush()
    if child.block_id is None:
        closing.close_orders(session, [order_id], closing.CANCELLED_BY_USER)
        return
    if block is None or block.block_id != child.block_id:
        # It entered a block while we waited for its row; a cut that has committed holds no locks, so this cannot hang.
        block = closing.lock_block(session, child.block_id)
    request_block_cancel(session, block, USER)


def request_block_cancel(session: Session, block: Block, reason: str) -> None:
    """Have a locked block taken off the market: dissolved at once if it was never sent, cancelled at the broker else."""
    attempt = session.scalars(
        sa.select(BrokerOrder)
        .where(BrokerOrder.block_id == block.block_id, BrokerOrder.state.in_(states.ATTEMPT_UNRESOLVED))
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()
    if attempt is None or block.state == "DONE":
        return
    if attempt.state == "INTENT":
        attempt.state = states.ATTEMPT.require(attempt.state, "VOID")
        session.flush()
        closing.end_block(session, block, back_to_pool(reason), why=f"dissolved before sending: {reason}")
        return
    if attempt.cancel_state != "NONE":
        return
    attempt.cancel_state = states.CANCEL.require(attempt.cancel_state, "REQUESTED")
    block.cancel_reason = block.cancel_reason or reason
    session.flush()
    log.info("block.cancel_requested", block_id=str(block.block_id), reason=reason)


def take_off_market(db: Database, block_id: UUID, reason: str) -> None:
    """`request_block_cancel` in a transaction of its own."""

    def work(session: Session) -> None:
        request_block_cancel(session, closing.lock_block(session, block_id), reason)

    run_in_transaction(db, work)


def back_to_pool(reason: str) -> closing.ToPool:
    """How orders return to the pool when their block was taken off the market for `reason`."""
    return closing.ToPool(YIELD_HOLD_S if reason == YIELD else 0.0)


def claim_cancel(db: Database, attempt_id: int, *, account: str, epoch: int, settings: Settings) -> str | None:
    """Take a send for a cancel and mark it as sent; answers the broker's id, None when it must not be sent now."""
    with db.transaction() as session:
        # The attempt's row before the control row: the order in which every transaction locks them.
        row: Any = session.execute(
            sa.update(BrokerOrder)
            .where(BrokerOrder.attempt_id == attempt_id, BrokerOrder.cancel_state.in_(states.CANCEL.sources("SENT")))
            .where(BrokerOrder.state.in_(("ACKED", "GHOST")), BrokerOrder.broker_rank < 2)
            .values(
                cancel_state="SENT",
                cancel_sent_at=sa.func.clock_timestamp(),
                cancel_sends=BrokerOrder.cancel_sends + 1,
            )
            .returning(BrokerOrder.broker_order_id, BrokerOrder.cancel_sends)
        ).one_or_none()
        if row is None:
            return None
        if control.claim(session, account, epoch=epoch, kind="cancel") is None:
            session.rollback()
            return None
        if row.cancel_sends == settings.cancel_sends_max:
            detail = f"asked {row.cancel_sends} times to cancel; the book still shows the order alive"
            breaks.open_break(session, account, breaks.CANCEL_STUCK, row.broker_order_id, detail)
        return str(row.broker_order_id)


def transmit_cancel(broker: Broker, broker_order_id: str) -> None:
    """Ask the broker once. The answer is only counted: 200 means that the request arrived, and a refusal is also given
    for orders that are filled; the order book tells what happened."""
    outcome = broker.cancel(broker_order_id)
    metrics.broker_calls.labels(SERVICE, "cancel", type(outcome).__name__).inc()
