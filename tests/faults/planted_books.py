"""Bugs inside our own books: division, ledger, keys, messages."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common import consumers, idempotency, outbox
from common.catching_up import CatchingUp
from common.db import Database, run_in_transaction
from common.money import split_by_largest_remainder
from common.outbox import RELAY_BATCH, Relay, envelope_of
from portfolio_service import fills, postings, sweeper
from portfolio_service.ledger import Transfer, TransferKind, clearing_account
from portfolio_service.models import TransferRow, UserOrder
from portfolio_service.orders import LIVE_STATES
from portfolio_service.portfolios import lock_trader
from tests.faults.plans import Bug, execute
from tests.faults.world import World
from trade_executor import allocation, batching, cancelling
from trade_executor.config import SERVICE

Patch = AbstractContextManager[Any]


# --- division ---------------------------------------------------------------------------------------------------------


def money_in_floats(_world: World) -> Patch:
    def split(total: int, weights: Sequence[int], _ties: Any = None) -> list[int]:
        price = round(total / 100 / sum(weights), 2)
        return [int(price * weight * 100) for weight in weights]

    return mock.patch.object(allocation, "split_by_largest_remainder", split)


def remainders_of_the_running_total(_world: World) -> Patch:
    """What everyone should have by now less what they have; nothing is taken back."""

    def allocate_round(quantities: Sequence[int], already: Sequence[int], new_fill: int, ties: Any) -> list[int]:
        due = split_by_largest_remainder(sum(already) + new_fill, quantities, ties)
        return [max(0, share - got) for share, got in zip(due, already, strict=True)]

    return mock.patch.object(allocation, "allocate_round", allocate_round)


def opposite_blocks(_world: World) -> Patch:
    return mock.patch.object(batching, "can_cross", return_value=False)


# --- the ledger -------------------------------------------------------------------------------------------------------


def hold_kept_after_a_refusal(_world: World) -> Patch:
    def finish_close(booking: Any, order: Any) -> None:
        if order.closing_outcome == "REJECTED":
            order.hold_transfer_id, order.hold_amount = None, 0
        real(booking, order)

    real = fills._finish_close
    return mock.patch.object(fills, "_finish_close", finish_close)


def hold_released_twice(world: World) -> Patch:
    """The release of a closed order is made under a new id each time, and nothing says that a hold ends once."""
    execute(world, "portfolio_service", "DROP INDEX IF EXISTS uq_transfer_resolved_once")

    def apply_closed(session: Session, messages: Any, clock: Any) -> None:
        for event, _ in messages:
            order = session.get(UserOrder, event.order_id, with_for_update={"key_share": True}, populate_existing=True)
            if order is not None and order.state not in LIVE_STATES:
                _release_again(session, order, clock)
        real(session, messages, clock)

    real = fills.apply_closed
    return mock.patch.object(fills, "apply_closed", apply_closed)


def _release_again(session: Session, order: Any, clock: Any) -> None:
    hold = session.scalars(
        sa.select(TransferRow)
        .where(TransferRow.order_id == order.order_id, TransferRow.kind == "pending")
        .order_by(TransferRow.seq.desc())
        .limit(1)
    ).first()
    if hold is None:
        return
    account = fills._held_account(order)
    void = Transfer(
        cause=f"close:{uuid4()}:void",
        debit=account,
        credit=clearing_account(account.asset),
        amount=hold.amount,
        kind=TransferKind.VOID,
        pending_id=hold.id,
        released=hold.amount,
        order_id=order.order_id,
    )
    lock_trader(session, order.user_id)
    postings.lock_accounts(session, [account])
    postings.post(session, [void], clock.now())


# --- keys and messages ------------------------------------------------------------------------------------------------


def idempotency_key_forgotten(_world: World) -> Patch:
    return mock.patch.object(idempotency, "claim_keys", lambda _session, claims: [None] * len(claims))


@contextmanager
def outbox_after_the_commit(_world: World) -> Iterator[None]:
    real_transaction, real_record = Database.transaction, outbox.record_many

    def record_many(session: Session, events: Sequence[Any], *, source: str) -> list[Any]:
        if source != SERVICE:
            return real_record(session, events, source=source)
        session.info.setdefault("events after the commit", []).extend(events)
        return [uuid4() for _ in events]

    @contextmanager
    def transaction(db: Database) -> Iterator[Session]:
        with real_transaction(db) as session:
            yield session
        if later := session.info.pop("events after the commit", []):
            with real_transaction(db) as second:
                real_record(second, later, source=SERVICE)

    with mock.patch.object(Database, "transaction", transaction), mock.patch.object(outbox, "record_many", record_many):
        yield


def relay_by_last_id(_world: World) -> Patch:
    marks: dict[str, int] = {}

    def publish_batch(relay: Relay) -> int:
        table = outbox.outbox
        with relay._db.transaction() as session:
            rows = session.execute(
                sa.select(table).where(table.c.id > marks.get(relay._db.url, 0)).order_by(table.c.id).limit(RELAY_BATCH)
            ).all()
        if not rows:
            return 0
        confirmed = relay._bus.publish([envelope_of(row) for row in rows])
        marks[relay._db.url] = rows[-1].id
        with relay._db.transaction() as session:
            session.execute(
                sa.update(table).where(table.c.message_id.in_(confirmed)).values(sent_at=sa.func.clock_timestamp())
            )
        return len(rows)

    return mock.patch.object(Relay, "publish_batch", publish_batch)


def inbox_in_its_own_transaction(_world: World) -> Patch:
    def handle(db: Database, consumer: str, handlers: Any, envelopes: Sequence[Any]) -> int:
        with db.transaction() as session:
            claimed = outbox.claim(session, consumer, [envelope.id for envelope in envelopes])
        new = [envelope for envelope in envelopes if envelope.id in claimed]
        run_in_transaction(db, lambda session: consumers.apply(session, consumer, handlers, new))
        return len(new)

    return mock.patch.object(consumers, "handle", handle)


@contextmanager
def lost_messages_stay_lost(_world: World) -> Iterator[None]:
    with (
        mock.patch.object(sweeper, "sweep_orders", return_value=0),
        mock.patch.object(CatchingUp, "round", return_value=0),
    ):
        yield


def cancel_closes_at_once(_world: World) -> Patch:
    """A user's cancel ends the order although its block is at the broker."""

    def cancel_order(session: Session, order_id: Any, requested_at: Any) -> None:
        child = session.get(cancelling.ChildOrder, order_id, with_for_update=True)
        if child is not None and child.block_id is not None:
            cancelling.closing.close_orders(session, [order_id], cancelling.closing.CANCELLED_BY_USER)
        else:
            real(session, order_id, requested_at)

    real: Callable[..., None] = cancelling.cancel_order
    return mock.patch.object(cancelling, "cancel_order", cancel_order)


BUGS = (
    Bug("money is divided in floats", "0.4: integer paise", "trades", money_in_floats, (5,)),
    Bug("largest remainders of the running total", "3.8: deficits, not totals", "trades", remainders_of_the_running_total, (5, 15)),
    Bug("opposite blocks stand side by side", "3.9: self-trade", "cancels", opposite_blocks, (11,)),
    Bug("a refused order keeps its hold", "T5: holds are voided", "answers", hold_kept_after_a_refusal, (8,)),
    Bug("a hold is released twice", "3.2: id of the cause, resolved once", "answers", hold_released_twice, (9,)),
    Bug("the idempotency key is forgotten", "T1: key in the transaction", "commits", idempotency_key_forgotten, (2,)),
    Bug("the outbox is written after the commit", "T7: one transaction", "commits", outbox_after_the_commit, (15, 1)),
    Bug("the relay goes by `id > last`", "2: ids commit out of order", "commits", relay_by_last_id, (1,)),
    Bug("the inbox is written before the effect's transaction", "3.2: same transaction", "commits", inbox_in_its_own_transaction, (1, 13)),
    Bug("nothing repeats what the bus has lost", "0.1: messages only wake", "commits", lost_messages_stay_lost, (1, 13)),
    Bug("a cancel closes an order that is at the broker", "T8: the block decides", "cancels", cancel_closes_at_once, (1, 15)),
)  # fmt: skip
