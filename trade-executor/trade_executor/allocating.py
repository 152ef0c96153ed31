"""T7: hand out new fills among a block's orders, and settle the block once the broker's books are complete."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID, uuid5

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common import metrics, outbox
from common.bulk import array_of, insert_rows
from common.clock import trading_date
from common.db import Database, run_in_transaction
from common.events import Event, OrderAllocated, OrderClosed
from common.logging import get_logger
from trade_executor import allocation, breaks, cancelling, closing, kill_switch, states
from trade_executor.config import SERVICE
from trade_executor.models import Allocation, Block, BlockChild, BrokerOrder, ChildOrder, Fill

log = get_logger(__name__)

ALLOCATION_NAMESPACE = UUID("6f1d3f0e-7a44-5c1e-9d8e-0b2f5a3c9e71")
BLOCKS_PER_SWEEP = 1_000
Taken = Mapping[int, tuple[int, int]]
"""Shares and paise by fill that are not the block's."""


class Given(NamedTuple):
    """What one order gets in a round: shares and their cost or proceeds in paise."""

    child: Any
    quantity: int
    amount_paise: int
    allocation_id: UUID


def allocation_id(block_id: UUID, round_no: int, order_id: UUID) -> UUID:
    """The name of an allocation: the same cause has the same id wherever and however often it is computed."""
    return uuid5(ALLOCATION_NAMESPACE, f"{block_id}:{round_no}:{order_id}")


def blocks_to_advance(session: Session, account: str) -> list[UUID]:
    """Blocks with fills that nobody has been given, or whose order has ended at the broker."""
    unallocated = (
        sa.select(Fill.block_id)
        .join(Block, Block.block_id == Fill.block_id)
        .where(Fill.round_no.is_(None), Fill.booked_to == "block", Block.account == account)
        .where(Block.state == "WORKING")
    )
    ended = (
        sa.select(BrokerOrder.block_id)
        .join(Block, Block.block_id == BrokerOrder.block_id)
        .where(BrokerOrder.account == account, BrokerOrder.state.in_(states.ATTEMPT_ENDED_AT_BROKER))
        .where(Block.state == "WORKING")
    )
    return list(session.scalars(unallocated.union(ended).limit(BLOCKS_PER_SWEEP)))


def advance_block(db: Database, block_id: UUID) -> None:
    """Allocate what is new and settle what is complete; running it twice, or twice at once, changes nothing more."""
    run_in_transaction(db, lambda session: _advance(session, block_id))


def _advance(session: Session, block_id: UUID) -> None:
    block = closing.lock_block(session, block_id)
    if block.state != "WORKING":
        return
    if allocate_new_fills(session, block):
        _settle(session, block)


def open_fills(session: Session, block: Block) -> Sequence[Fill]:
    """Fills of a locked block that nobody has been given yet, oldest first."""
    return session.scalars(
        sa.select(Fill)
        .where(Fill.block_id == block.block_id, Fill.round_no.is_(None), Fill.booked_to == "block")
        .order_by(Fill.fill_id)
        .with_for_update()
    ).all()


def allocate_new_fills(session: Session, block: Block, *, taken: Taken = MappingProxyType({})) -> bool:
    """One round over the fills of a locked block that nobody has been given; False when they are too many.

    `taken` are the shares and paise of a fill that went to the house before (house.book_excess).
    """
    fills = open_fills(session, block)
    return not fills or _run_round(session, block, fills, taken)


def _run_round(session: Session, block: Block, fills: Sequence[Fill], taken: Taken) -> bool:
    """One allocation round over the given fills; False when they are more than the block asked for."""
    children = session.execute(
        sa.select(
            BlockChild.order_id,
            BlockChild.quantity,
            BlockChild.allocated_quantity,
            ChildOrder.user_id,
            ChildOrder.correlation_id,
        )
        .join(ChildOrder, ChildOrder.order_id == BlockChild.order_id)
        .where(BlockChild.block_id == block.block_id)
        .order_by(ChildOrder.seq)
        .with_for_update()
    ).all()
    quantity = sum(fill.quantity - taken.get(fill.fill_id, (0, 0))[0] for fill in fills)
    amount_paise = sum(fill.amount_paise - taken.get(fill.fill_id, (0, 0))[1] for fill in fills)
    if quantity + sum(child.allocated_quantity for child in children) > block.quantity:
        detail = f"{quantity} more shares filled than the block of {block.quantity} had open"
        kill_switch.stop_if_running(session, block.account, "HALTED", actor="system", reason=detail)
        breaks.open_break(session, block.account, breaks.OVERFILLED, str(block.block_id), detail)
        block.state = states.BLOCK.require(block.state, "FROZEN")
        return False
    shares, paise = allocation.divide(
        [child.quantity for child in children],
        [child.allocated_quantity for child in children],
        quantity,
        amount_paise,
        [allocation.tie_key(block.block_id, child.order_id) for child in children],
    )
    block.round_no += 1
    given = [
        Given(child, share, amount, allocation_id(block.block_id, block.round_no, child.order_id))
        for child, share, amount in zip(children, shares, paise, strict=True)
        if share
    ]
    for fill in fills:
        fill.round_no = block.round_no
    session.flush()
    _book(session, block, given, max(fill.traded_at for fill in fills))
    log.info(
        "block.allocated", block_id=str(block.block_id), round_no=block.round_no, quantity=quantity, orders=len(given)
    )
    return True


def _book(session: Session, block: Block, given: Sequence[Given], executed_at: datetime) -> None:
    """Write a round: allocation rows, the orders' totals and states, and the events that tell of both."""
    order_ids = [one.child.order_id for one in given]
    insert_rows(
        session,
        Allocation,
        [
            {
                "allocation_id": one.allocation_id,
                "block_id": block.block_id,
                "round_no": block.round_no,
                "order_id": one.child.order_id,
                "quantity": one.quantity,
                "amount_paise": one.amount_paise,
                "executed_at": executed_at,
            }
            for one in given
        ],
    )
    new = (
        sa.func.unnest(
            array_of(order_ids),
            array_of((one.quantity for one in given), sa.BigInteger),
            array_of((one.amount_paise for one in given), sa.BigInteger),
        )
        .table_valued("order_id", "quantity", "amount_paise", name="new")
        .render_derived()
    )
    session.execute(
        sa.update(BlockChild)
        .where(BlockChild.block_id == block.block_id, BlockChild.order_id == new.c.order_id)
        .values(allocated_quantity=BlockChild.allocated_quantity + new.c.quantity)
        .execution_options(synchronize_session=False)
    )
    filled = ChildOrder.filled_quantity + new.c.quantity
    full = filled == ChildOrder.quantity
    rows = session.execute(
        sa.update(ChildOrder)
        .where(ChildOrder.order_id == new.c.order_id, ChildOrder.block_id == block.block_id)
        .where(ChildOrder.state.in_(states.CHILD.sources("PARTIAL")))
        .values(
            filled_quantity=filled,
            amount_paise=ChildOrder.amount_paise + new.c.amount_paise,
            state=sa.case((full, "FILLED"), else_="PARTIAL"),
            block_id=sa.case((full, sa.null()), else_=ChildOrder.block_id),
            closed_at=sa.case((full, sa.func.clock_timestamp()), else_=sa.null()),
            version=ChildOrder.version + 1,
        )
        .returning(ChildOrder.order_id, ChildOrder.state, ChildOrder.filled_quantity, ChildOrder.amount_paise)
        .execution_options(synchronize_session=False)
    ).all()
    if len(rows) != len(given):
        raise states.IllegalTransition("shares for an order that is no longer in its block")
    totals = {row.order_id: row for row in rows}
    _tell(session, block, given, totals, executed_at)


def _tell(
    session: Session,
    block: Block,
    given: Sequence[Given],
    totals: dict[UUID, Any],
    executed_at: datetime,
) -> None:
    events: list[tuple[Event, object, str | None]] = []
    for child, quantity, amount_paise, name in given:
        total = totals[child.order_id]
        allocated = OrderAllocated(
            allocation_id=name,
            order_id=child.order_id,
            user_id=child.user_id,
            block_id=block.block_id,
            round_no=block.round_no,
            quantity=quantity,
            amount_paise=amount_paise,
            cumulative_quantity=total.filled_quantity,
            cumulative_amount_paise=total.amount_paise,
            executed_at=executed_at,
            trading_date=trading_date(executed_at),
            exchange=block.exchange,
            tradingsymbol=block.tradingsymbol,
            side=block.side,
            product=block.product,
        )
        events.append((allocated, child.order_id, child.correlation_id))
        if total.state == "FILLED":
            closed = OrderClosed(
                order_id=child.order_id,
                user_id=child.user_id,
                outcome="FILLED",
                filled_quantity=total.filled_quantity,
                amount_paise=total.amount_paise,
            )
            events.append((closed, child.order_id, child.correlation_id))
    outbox.record_many(session, events, source=SERVICE)
    metrics.orders_total.labels(SERVICE, "FILLED").inc(sum(1 for row in totals.values() if row.state == "FILLED"))


def _settle(session: Session, block: Block) -> None:
    """End the block when its order has ended at the broker and the trades add up to what the book says was filled."""
    attempt = session.scalars(
        sa.select(BrokerOrder)
        .where(BrokerOrder.block_id == block.block_id, BrokerOrder.state.in_(states.ATTEMPT_ENDED_AT_BROKER))
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()
    if attempt is None:
        return
    traded, waiting = session.execute(
        sa.select(
            sa.func.coalesce(sa.func.sum(Fill.quantity), 0),
            sa.func.count().filter(Fill.round_no.is_(None)),
        ).where(Fill.attempt_id == attempt.attempt_id, Fill.booked_to == "block")
    ).one()
    # Trades lag the book by up to half a minute: a guess would have to be taken back from users.
    if traded != attempt.filled_quantity or waiting:
        return
    rest, why = rest_of(attempt.state, attempt.status_message, block)
    attempt.state = states.ATTEMPT.require(attempt.state, "SETTLED")
    session.flush()
    breaks.cure(
        session, block.account, breaks.TRADES_INCOMPLETE, str(attempt.broker_order_id), "the trades are complete"
    )
    closing.end_block(session, block, rest, why=why)


def rest_of(end: str, message: str | None, block: Block) -> tuple[closing.Rest, str]:
    """What becomes of the open shares of a block whose order ended at the broker as `end`, and the reason in a word."""
    if end == "REJECTED":
        return closing.Close("REJECTED", "rejected_by_broker", message or "The broker rejected the order."), "rejected"
    if end == "COMPLETE":
        # Orders larger than a block: the rest of them goes out with the next one.
        return closing.ToPool(), "complete"
    if block.cancel_reason == cancelling.EXPIRY:
        return closing.Close("EXPIRED", "session_ended", "The trading session ended."), "expired"
    if block.cancel_reason is not None:
        return cancelling.back_to_pool(block.cancel_reason), block.cancel_reason
    if block.validity == "IOC":
        reason = "Immediate-or-cancel: what could not be traded at once was cancelled."
        return closing.Close("CANCELLED", "ioc_unfilled", reason), "ioc"
    if block.validity == "TTL":
        return closing.Close("EXPIRED", "ttl_ended", "The order's time to live ended."), "ttl"
    return closing.Close(
        "EXPIRED", "ended_by_broker", message or "The broker ended the order unfilled."
    ), "ended by broker"
