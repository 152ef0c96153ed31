"""T10 and its neighbours: what time alone decides. Every step is restartable and touches one block at a time.

Ages are the database's (`clock_timestamp()`); a worker's clock decides nothing here.
"""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute, Session

from common.db import Database, run_in_transaction
from common.logging import get_logger
from trade_executor import breaks, cancelling, closing, sending, states
from trade_executor.config import Settings
from trade_executor.models import Block, BrokerOrder, ChildOrder, Control, Fill

log = get_logger(__name__)

ROWS_PER_SWEEP = 1_000
_now = sa.func.clock_timestamp()
_today = sa.func.timezone("Asia/Kolkata", _now).cast(sa.Date)
_sent_on = sa.func.timezone("Asia/Kolkata", BrokerOrder.sent_at).cast(sa.Date)

Act = Callable[[Session, Block, BrokerOrder], None]


def sweep(db: Database, account: str, settings: Settings) -> None:
    """Everything about attempts that becomes true by waiting."""
    _each(
        db,
        account,
        [BrokerOrder.state == "SENDING", _before(BrokerOrder.sent_at, settings.sending_max_seconds)],
        _unknown,
    )
    _each(
        db,
        account,
        [
            BrokerOrder.state == "UNKNOWN",
            _before(BrokerOrder.unknown_since, settings.unknown_min_seconds),
            BrokerOrder.scans_clean >= settings.unknown_min_scans,
            # The book is purged overnight: not being in it proves nothing about yesterday.
            _sent_on == _today,
        ],
        _lost,
    )
    _each(db, account, [BrokerOrder.state.in_(states.ATTEMPT_AT_BROKER), _sent_on < _today], _freeze_past_day)
    _each(
        db,
        account,
        [
            BrokerOrder.state == "ACKED",
            BrokerOrder.cancel_state == "NONE",
            BrokerOrder.request["order_type"].astext == "MARKET",
            _before(BrokerOrder.sent_at, settings.close_by_seconds),
        ],
        lambda session, block, _: cancelling.request_block_cancel(session, block, cancelling.CLOSE_BY),
    )
    _void_when_halted(db, account)
    _complain_about_trades(db, account, settings)
    _cancel_asked_in_flight(db, account)


def _before(column: InstrumentedAttribute[Any], seconds: float) -> sa.ColumnElement[bool]:
    return column <= _now - sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def _each(db: Database, account: str, conditions: Sequence[sa.ColumnElement[bool]], act: Act) -> None:
    """Run `act` for every attempt that meets the conditions, again checked under the locks of block and attempt."""
    with db.transaction() as session:
        found = session.execute(
            sa.select(BrokerOrder.attempt_id, BrokerOrder.block_id)
            .where(BrokerOrder.account == account, *conditions)
            .order_by(BrokerOrder.attempt_id)
            .limit(ROWS_PER_SWEEP)
        ).all()
    for row in found:

        def work(session: Session, attempt_id: int = row.attempt_id, block_id: UUID = row.block_id) -> None:
            block = closing.lock_block(session, block_id)
            attempt = session.scalars(
                sa.select(BrokerOrder).where(BrokerOrder.attempt_id == attempt_id, *conditions).with_for_update()
            ).one_or_none()
            if attempt is not None:
                act(session, block, attempt)

        run_in_transaction(db, work)


def _unknown(session: Session, _: Block, attempt: BrokerOrder) -> None:
    sending.mark_unknown(session, attempt, "no answer was recorded: the sender died or was held up")


def _lost(session: Session, block: Block, attempt: BrokerOrder) -> None:
    """Not in the broker's book for long enough: users are told, the tag stays watched."""
    attempt.state = states.ATTEMPT.require(attempt.state, "LOST")
    attempt.decided_at = session.execute(sa.select(_now)).scalar_one()
    session.flush()
    detail = f"no order with tag {attempt.tag} after {attempt.scans_clean} complete reads; {attempt.outcome_detail}"
    breaks.open_break(session, block.account, breaks.ATTEMPT_LOST, attempt.tag, detail)
    reason = "The broker did not confirm the order and does not know it; it was not placed."
    closing.end_block(session, block, closing.Close("FAILED", "not_placed", reason), why="lost")


def _freeze_past_day(session: Session, block: Block, attempt: BrokerOrder) -> None:
    """The broker's books of that day are gone: only a person with the contract note can say what happened."""
    if block.state != "WORKING":
        return
    block.state = states.BLOCK.require(block.state, "FROZEN")
    session.flush()
    detail = f"attempt {attempt.tag} was {attempt.state} when the day ended; compare with the contract note"
    breaks.open_break(session, block.account, breaks.PAST_DAY, str(block.block_id), detail)


def _void_when_halted(db: Database, account: str) -> None:
    """A halt dissolves what has not been sent: its orders wait in the pool, where users can cancel them."""
    with db.transaction() as session:
        halted = session.scalar(sa.select(Control.trading_state).where(Control.account == account)) == "HALTED"
    if halted:
        _each(
            db,
            account,
            [BrokerOrder.state == "INTENT"],
            lambda session, block, _: cancelling.request_block_cancel(session, block, "halted"),
        )


def _cancel_asked_in_flight(db: Database, account: str) -> None:
    """Users who cancelled while the send was under way or undecided: their wish applies once the order has a name."""
    with db.transaction() as session:
        found = session.scalars(
            sa.select(BrokerOrder.block_id)
            .where(BrokerOrder.account == account, BrokerOrder.state.in_(("INTENT", "ACKED")))
            .where(BrokerOrder.cancel_state == "NONE")
            .where(
                sa.exists().where(
                    ChildOrder.block_id == BrokerOrder.block_id, ChildOrder.cancel_requested_at.is_not(None)
                )
            )
            .limit(ROWS_PER_SWEEP)
        ).all()
    for block_id in found:
        cancelling.take_off_market(db, block_id, cancelling.USER)


def _complain_about_trades(db: Database, account: str, settings: Settings) -> None:
    """An order has ended, yet its trades do not add up: tell a person, keep reading, never allocate a guess."""
    traded = (
        sa.select(sa.func.coalesce(sa.func.sum(Fill.quantity), 0))
        .where(Fill.attempt_id == BrokerOrder.attempt_id)
        .scalar_subquery()
    )
    with db.transaction() as session:
        rows = session.execute(
            sa.select(BrokerOrder.broker_order_id, BrokerOrder.filled_quantity, traded.label("traded"))
            .where(BrokerOrder.account == account, BrokerOrder.state.in_(states.ATTEMPT_ENDED_AT_BROKER))
            .where(_before(BrokerOrder.ended_at, settings.break_after_seconds), BrokerOrder.filled_quantity != traded)
            .limit(ROWS_PER_SWEEP)
        ).all()
        for row in rows:
            detail = f"the book says {row.filled_quantity} shares were filled, the trades say {row.traded}"
            breaks.open_break(session, account, breaks.TRADES_INCOMPLETE, row.broker_order_id, detail)


def give_way(db: Database, block_ids: Sequence[UUID]) -> None:
    """Break up live blocks that have kept opposite demand waiting: their orders come back after it had its turn."""
    for block_id in block_ids:
        cancelling.take_off_market(db, block_id, cancelling.YIELD)
