"""T4 and T5: one attempt is sent at most once, and its answer is recorded by the one who may.

Claim (control row, INTENT -> SENDING) and commit; then exactly one HTTP call outside any transaction; then the answer as
a compare-and-set. A crash anywhere leaves a row that says what may have happened.
"""

import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common import metrics, outbox
from common.db import Database, run_in_transaction
from common.events import Event, OrderWorking
from common.logging import get_logger
from trade_executor import breaks, cancelling, closing, control, counters, cutting, kill_switch, states
from trade_executor import outcome as verdicts
from trade_executor.brokers.base import Acked, Broker, Outcome, PlaceRequest, Refused, Unknown
from trade_executor.config import SERVICE, Settings
from trade_executor.models import Block, BlockChild, BrokerOrder, ChildOrder

log = get_logger(__name__)

DEADLINE_PASSED = "send_deadline_passed"
_now = sa.func.clock_timestamp()


@dataclass(frozen=True)
class Claimed:
    """The right to make one call. `committed_at` is monotonic time taken before the commit."""

    attempt_id: int
    account: str
    request: PlaceRequest
    committed_at: float


def claim(db: Database, attempt_id: int, *, epoch: int) -> Claimed | None:
    """Take the right to send an attempt; None when the switch, the budget, the epoch or the attempt forbids it."""
    try:
        return _claim(db, attempt_id, epoch=epoch)
    except control.DayValueExceeded as exceeded:
        with db.transaction() as session:
            reason = "the day's limit of traded value is reached"
            kill_switch.stop_if_running(session, str(exceeded), "CANCEL_ONLY", actor="system", reason=reason)
        return None


def _claim(db: Database, attempt_id: int, *, epoch: int) -> Claimed | None:
    with db.transaction() as session:
        block_id = session.scalar(sa.select(BrokerOrder.block_id).where(BrokerOrder.attempt_id == attempt_id))
        if block_id is None:
            return None
        block = closing.lock_block(session, block_id)
        attempt = session.scalars(
            sa.select(BrokerOrder).where(BrokerOrder.attempt_id == attempt_id).with_for_update()
        ).one()
        if attempt.state != "INTENT" or block.state not in ("SEALED", "WORKING"):
            return None
        if mismatch := _parent_mismatch(session, block, attempt):
            kill_switch.stop_if_running(session, block.account, "HALTED", actor="system", reason=mismatch)
            breaks.open_break(session, block.account, breaks.PARENT_MISMATCH, str(block_id), mismatch)
            block.state = states.BLOCK.require(block.state, "FROZEN")
            return None
        value_paise = (block.price_paise or 0) * attempt.quantity
        account = block.account
        claimed_at = control.claim(session, account, epoch=epoch, kind="place", value_paise=value_paise)
        if claimed_at is None:
            return None
        attempt.state = states.ATTEMPT.require(attempt.state, "SENDING")
        attempt.sent_at = claimed_at
        if block.state == "SEALED":
            block.state = states.BLOCK.require(block.state, "WORKING")
        request = cutting.thaw(attempt.request, attempt.tag)
        # Taken before the commit: the time the commit takes counts against the deadline, never for it.
        committed_at = time.monotonic()
    return Claimed(attempt_id, account, request, committed_at)


def transmit(broker: Broker, claimed: Claimed, *, deadline_s: float) -> Outcome:
    """The one call. A process that was held up after its claim does not send: its claim may have been given up."""
    late_s = time.monotonic() - claimed.committed_at
    if late_s > deadline_s:
        return Refused(DEADLINE_PASSED, f"not sent: {late_s:.1f} s had passed since the claim", retryable=True)
    started = time.monotonic()
    outcome = broker.place(claimed.request)
    metrics.broker_calls.labels(SERVICE, "place", type(outcome).__name__).inc()
    metrics.broker_seconds.labels(SERVICE, "place").observe(time.monotonic() - started)
    return outcome


def record_outcome(db: Database, attempt_id: int, outcome: Outcome, settings: Settings) -> None:
    """Write down what a call proved. Running it again, or late, changes nothing that was decided meanwhile."""
    run_in_transaction(db, lambda session: _record(session, attempt_id, outcome, settings))


def _record(session: Session, attempt_id: int, outcome: Outcome, settings: Settings) -> None:
    block_id = session.scalar(sa.select(BrokerOrder.block_id).where(BrokerOrder.attempt_id == attempt_id))
    if block_id is None:
        raise LookupError(f"no attempt {attempt_id}")
    block = closing.lock_block(session, block_id)
    attempt = session.scalars(
        sa.select(BrokerOrder)
        .where(BrokerOrder.attempt_id == attempt_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    log.info(
        "broker.place_answered",
        attempt_id=attempt_id,
        block_id=str(block_id),
        outcome=type(outcome).__name__,
        code=getattr(outcome, "code", None),
        detail=getattr(outcome, "message", None) or getattr(outcome, "reason", None),
    )
    match outcome:
        case Acked(broker_order_id=broker_order_id):
            acknowledge(session, block, attempt, broker_order_id)
        case Refused():
            _refuse(session, block, attempt, outcome, settings)
        case Unknown(reason=reason):
            if attempt.state == "SENDING":
                mark_unknown(session, attempt, reason)


def acknowledge(session: Session, block: Block, attempt: BrokerOrder, broker_order_id: str) -> None:
    """The order exists at the broker under this id: told by its answer or found by tag. Both locked by the caller."""
    if attempt.broker_order_id is not None:
        if attempt.broker_order_id != broker_order_id:
            detail = f"tag {attempt.tag} carries {attempt.broker_order_id} and {broker_order_id}"
            breaks.open_break(session, attempt.account, breaks.DUPLICATE_TAG, attempt.tag, detail)
            kill_switch.stop_if_running(session, attempt.account, "HALTED", actor="system", reason=detail)
        return
    attempt.broker_order_id = broker_order_id
    attempt.decided_at = session.execute(sa.select(_now)).scalar_one()
    if attempt.state in states.ATTEMPT_GIVEN_UP:
        become_ghost(session, attempt)
        return
    attempt.state = states.ATTEMPT.require(attempt.state, "ACKED")
    session.flush()
    rows = session.execute(
        sa.select(ChildOrder.order_id, ChildOrder.correlation_id, ChildOrder.accepted_at)
        .join(BlockChild, BlockChild.order_id == ChildOrder.order_id)
        .where(BlockChild.block_id == block.block_id)
        .order_by(ChildOrder.seq)
    ).all()
    working: list[tuple[Event, object, str | None]] = [
        (OrderWorking(order_id=row.order_id, block_id=block.block_id), row.order_id, row.correlation_id) for row in rows
    ]
    outbox.record_many(session, working, source=SERVICE)
    if attempt.attempt_no == 1 and attempt.sent_at is not None:
        for row in rows:
            counters.order_reach.labels(SERVICE).observe(max(0.0, (attempt.sent_at - row.accepted_at).total_seconds()))


def become_ghost(session: Session, attempt: BrokerOrder) -> None:
    """An order we had given up exists after all: cancel it at once, whatever it fills is the house's."""
    attempt.state = states.ATTEMPT.require(attempt.state, "GHOST")
    if attempt.cancel_state == "NONE":
        attempt.cancel_state = states.CANCEL.require(attempt.cancel_state, "REQUESTED")
    session.flush()
    detail = f"broker order {attempt.broker_order_id} of an attempt that was given up; its fills go to the house"
    breaks.open_break(session, attempt.account, breaks.GHOST_ORDER, attempt.tag, detail)


def mark_unknown(session: Session, attempt: BrokerOrder, reason: str) -> None:
    """The order may or may not exist: from here only the order book decides."""
    attempt.state = states.ATTEMPT.require(attempt.state, "UNKNOWN")
    attempt.unknown_since = session.execute(sa.select(_now)).scalar_one()
    attempt.outcome_code, attempt.outcome_detail = "unknown", reason
    session.flush()
    log.warning("broker.place_unknown", attempt_id=attempt.attempt_id, tag_of_attempt=attempt.tag, detail=reason)


def _refuse(session: Session, block: Block, attempt: BrokerOrder, refused: Refused, settings: Settings) -> None:
    if attempt.state not in states.ATTEMPT.sources("REFUSED"):
        return
    attempt.state = states.ATTEMPT.require(attempt.state, "REFUSED")
    attempt.decided_at = session.execute(sa.select(_now)).scalar_one()
    attempt.outcome_code, attempt.outcome_detail = refused.code, refused.message
    session.flush()
    if refused.halts:
        _stop_sending(session, block, refused)
    elif not refused.retryable:
        closing.end_block(session, block, closing.Close("REJECTED", refused.code, refused.message), why=refused.code)
    elif attempt.attempt_no >= settings.attempts_per_block:
        reason = f"The broker could not take the order after {attempt.attempt_no} attempts: {refused.message}"
        closing.end_block(session, block, closing.Close("FAILED", "broker_unreachable", reason), why=refused.code)
    elif block.cancel_reason is not None:
        closing.end_block(
            session, block, cancelling.back_to_pool(block.cancel_reason), why=f"dissolved after {refused.code}"
        )
    elif _a_child_was_cancelled(session, block.block_id):
        closing.end_block(session, block, closing.ToPool(), why=f"dissolved after {refused.code}")
    else:
        pause_s = min(settings.retry_first_seconds * 2 ** (attempt.attempt_no - 1), settings.retry_max_seconds)
        number = attempt.attempt_no + 1
        cutting.add_attempt(
            session, block.account, block.block_id, number, attempt.request, settings, not_before_s=pause_s
        )


def _stop_sending(session: Session, block: Block, refused: Refused) -> None:
    """Nothing will pass until somebody acts: orders wait in the pool, none is lost."""
    closing.end_block(session, block, closing.ToPool(), why=refused.code)
    # A dead session needs a login, not two people; the caller marks it ended and no block is cut meanwhile.
    if refused.code != verdicts.SESSION_EXPIRED:
        reason = f"{refused.code}: {refused.message}"
        kill_switch.stop_if_running(session, block.account, "HALTED", actor="system", reason=reason)


def _a_child_was_cancelled(session: Session, block_id: UUID) -> bool:
    statement = sa.select(ChildOrder.order_id).where(
        ChildOrder.block_id == block_id, ChildOrder.cancel_requested_at.is_not(None)
    )
    return session.execute(statement.limit(1)).first() is not None


def _parent_mismatch(session: Session, block: Block, attempt: BrokerOrder) -> str | None:
    """The exit check (Knight, 2012): what leaves must equal what the orders asked for, once."""
    children: Any = session.scalar(
        sa.select(sa.func.sum(BlockChild.quantity)).where(BlockChild.block_id == block.block_id)
    )
    elsewhere: Any = session.scalar(
        sa.select(sa.func.coalesce(sa.func.sum(BrokerOrder.quantity), 0))
        .where(BrokerOrder.block_id == block.block_id, BrokerOrder.attempt_id != attempt.attempt_id)
        .where(BrokerOrder.state.not_in(states.ATTEMPT_GIVEN_UP))
    )
    if children != block.quantity or attempt.quantity + elsewhere > block.quantity:
        return (
            f"block of {block.quantity}: orders {children}, this attempt {attempt.quantity}, other attempts {elsewhere}"
        )
    return None
