"""Bugs on the way to the broker and back: calls, outcomes, claims, and what is read from its books."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC
from typing import Any
from unittest import mock

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from common.db import Database
from tests.faults.plans import Bug, as_kite_shows_it, execute
from tests.faults.world import World
from trade_executor import (
    allocating,
    breaks,
    cancelling,
    closing,
    control,
    cutting,
    observing,
    pump,
    resolving,
    sending,
    states,
)
from trade_executor.brokers import kite
from trade_executor.brokers.base import CancelSent, Refused, Unknown
from trade_executor.models import BrokerOrder, Fill

_now = sa.func.clock_timestamp()
Patch = AbstractContextManager[Any]


# --- the call ---------------------------------------------------------------------------------------------------------


def retried_call(_world: World) -> Patch:
    def transmit(broker: Any, claimed: Any, *, deadline_s: float) -> Any:
        outcome = real(broker, claimed, deadline_s=deadline_s)
        for _ in range(2):
            if not isinstance(outcome, Unknown):
                break
            outcome = broker.place(claimed.request)
        return outcome

    real = sending.transmit
    return mock.patch.object(sending, "transmit", transmit)


def every_400_refuses(_world: World) -> Patch:
    def classify(reply: Any) -> Any:
        return Refused("refused", reply.message) if reply.http_status == 400 else real(reply)

    real = kite.classify
    return mock.patch.object(kite, "classify", classify)


def unknown_is_refused(_world: World) -> Patch:
    def transmit(broker: Any, claimed: Any, *, deadline_s: float) -> Any:
        outcome = real(broker, claimed, deadline_s=deadline_s)
        return Refused("no_answer", outcome.reason) if isinstance(outcome, Unknown) else outcome

    real = sending.transmit
    return mock.patch.object(sending, "transmit", transmit)


def second_attempt_while_unknown(world: World) -> Patch:
    execute(world, "trade_executor", "DROP INDEX IF EXISTS uq_broker_order_unresolved_of_block")

    def mark_unknown(session: Session, attempt: BrokerOrder, reason: str) -> None:
        real(session, attempt, reason)
        number = attempt.attempt_no + 1
        cutting.add_attempt(session, attempt.account, attempt.block_id, number, attempt.request, world.settings)

    real = sending.mark_unknown
    return mock.patch.object(sending, "mark_unknown", mark_unknown)


def sent_again_after_a_death(_world: World) -> Patch:
    """Whoever becomes the sender makes the calls again that its predecessor had claimed."""

    def take_over(session: Session, account: str) -> int:
        session.execute(
            sa.update(BrokerOrder)
            .where(BrokerOrder.account == account, BrokerOrder.state == "SENDING")
            .values(state="INTENT"),
            execution_options={"synchronize_session": False},
        )
        return real(session, account)

    real = control.take_over
    return mock.patch.object(control, "take_over", take_over)


@contextmanager
def called_before_commit(world: World) -> Iterator[None]:
    """The broker is called at the end of the claim's transaction."""
    lines: list[Any] = []
    answers: dict[int, Any] = {}
    real_take, real_claim = pump._take, sending._claim

    def take(desk: Any, account: str, epoch: int, look: Any) -> Any:
        lines[:] = [desk.access.current(account).broker]
        return real_take(desk, account, epoch, look)

    class Eager:
        def __init__(self, db: Database, attempt_id: int) -> None:
            self.db, self.attempt_id = db, attempt_id

        @contextmanager
        def transaction(self) -> Iterator[Session]:
            with self.db.transaction() as session:
                yield session
                attempt = session.get(BrokerOrder, self.attempt_id)
                if attempt is not None and attempt.state == "SENDING":
                    # Nobody else may run while rows are locked in this one thread.
                    with mock.patch.object(world.scheduler, "switch", 0.0):
                        answers[self.attempt_id] = lines[0].place(cutting.thaw(attempt.request, attempt.tag))

    def claim(db: Any, attempt_id: int, *, epoch: int) -> Any:
        return real_claim(Eager(db, attempt_id), attempt_id, epoch=epoch)

    def transmit(_broker: Any, claimed: Any, *, deadline_s: float) -> Any:
        return answers.pop(claimed.attempt_id)

    with (
        mock.patch.object(pump, "_take", take),
        mock.patch.object(sending, "_claim", claim),
        mock.patch.object(sending, "transmit", transmit),
    ):
        yield


def commit_error_ignored(_world: World) -> Patch:
    class Hopeful:
        def __init__(self, db: Database) -> None:
            self.db = db

        @contextmanager
        def transaction(self) -> Iterator[Session]:
            worked = False
            try:
                with self.db.transaction() as session:
                    yield session
                    worked = True
            except DBAPIError:
                if not worked:
                    raise

    real = sending._claim
    return mock.patch.object(
        sending, "_claim", lambda db, attempt_id, *, epoch: real(Hopeful(db), attempt_id, epoch=epoch)
    )


# --- the claim --------------------------------------------------------------------------------------------------------

_EPOCH = " AND epoch = :epoch"
_STATE = " AND trading_state = ANY(:states)"


def _without(*conditions: str) -> Patch:
    statement = control._CLAIM
    for condition in conditions:
        if condition not in statement:
            raise LookupError(f"the claim has no {condition!r}")
        statement = statement.replace(condition, "")
    return mock.patch.object(control, "_CLAIM", statement)


@contextmanager
def epoch_not_compared(_world: World) -> Iterator[None]:
    real = pump._look
    with _without(_EPOCH), mock.patch.object(pump, "_look", lambda desk, account, *, epoch=None: real(desk, account)):
        yield


def switch_read_before_the_claim(_world: World) -> Patch:
    """`_look` reads the state in a transaction of its own; the claim trusts it."""
    return _without(_EPOCH, _STATE)


# --- reading the broker -----------------------------------------------------------------------------------------------


def tag_read_from_tag_alone(_world: World) -> Patch:
    def book_order(row: dict[str, Any], today: Any) -> Any:
        return real({**as_kite_shows_it(row), "tags": []}, today)

    real = kite.book_order
    return mock.patch.object(kite, "book_order", book_order)


def lost_after_ten_seconds(_world: World) -> Patch:
    def sweep(db: Database, account: str, settings: Any) -> None:
        real(db, account, settings.model_copy(update={"unknown_min_seconds": 10.0, "unknown_min_scans": 2}))

    real = resolving.sweep
    return mock.patch.object(resolving, "sweep", sweep)


def unknown_never_swept(_world: World) -> Patch:
    return mock.patch.object(resolving, "sweep")


def cancel_answer_believed(world: World) -> Patch:
    def transmit_cancel(broker: Any, broker_order_id: str) -> None:
        if isinstance(broker.cancel(broker_order_id), CancelSent):
            with world.operator_db.transaction() as session:
                _end_as_cancelled(session, BrokerOrder.broker_order_id == broker_order_id)

    return mock.patch.object(cancelling, "transmit_cancel", transmit_cancel)


def missing_means_cancelled(_world: World) -> Patch:
    def note_absences(session: Session, account: str, in_book: Any, _settings: Any) -> None:
        session.flush()
        _end_as_cancelled(session, BrokerOrder.broker_order_id.not_in(list(in_book)), BrokerOrder.account == account)

    return mock.patch.object(observing, "_note_absences", note_absences)


def _end_as_cancelled(session: Session, *conditions: Any) -> None:
    session.execute(
        sa.update(BrokerOrder)
        .where(BrokerOrder.state == "ACKED", *conditions)
        .values(state="CANCELLED", broker_status="CANCELLED", broker_rank=2, ended_at=_now),
        execution_options={"synchronize_session": False},
    )


def average_price_as_fill_price(_world: World) -> Patch:
    def trades(broker: Any) -> list[Any]:
        averages = {row.broker_order_id: row.average_price for row in broker.orders()}
        return [replace(trade, price=averages.get(trade.broker_order_id) or trade.price) for trade in real(broker)]

    real = kite.KiteBroker.trades
    return mock.patch.object(kite.KiteBroker, "trades", trades)


def trades_without_a_key(world: World) -> Patch:
    execute(world, "trade_executor", "ALTER TABLE fill DROP CONSTRAINT IF EXISTS uq_fill_trade")

    class Insert:
        def __init__(self, statement: Any) -> None:
            self.statement = statement

        def values(self, **values: Any) -> "Insert":
            return Insert(self.statement.values(**values))

        def on_conflict_do_nothing(self, **_: Any) -> Any:
            return self.statement

    real = observing.insert
    return mock.patch.object(observing, "insert", lambda table: Insert(real(table)) if table is Fill else real(table))


def ghosts_given_to_users(_world: World) -> Patch:
    def fill_values(account: str, attempt: BrokerOrder, trade: Any) -> dict[str, Any]:
        return {**real(account, attempt, trade), "booked_to": "block"}

    real = observing._fill_values
    return mock.patch.object(observing, "_fill_values", fill_values)


def filled_again_by_the_cancel(_world: World) -> Patch:
    """Lean's fourth fault: the end of a partly filled order is booked as a fill of everything it had."""

    def raise_status(session: Session, attempt: BrokerOrder, row: Any) -> None:
        before = attempt.state
        real(session, attempt, row)
        if before == "ACKED" and attempt.state == "CANCELLED" and row.filled_quantity:
            trade = observing.BookTrade(
                f"end-{row.broker_order_id}", row.broker_order_id, row.exchange, row.tradingsymbol, row.side,
                row.filled_quantity, row.average_price, session.execute(sa.select(_now)).scalar_one(),
            )  # fmt: skip
            session.execute(sa.insert(Fill).values(**observing._fill_values(attempt.account, attempt, trade)))

    real = observing._raise_status
    return mock.patch.object(observing, "_raise_status", raise_status)


def settled_without_its_trades(_world: World) -> Patch:
    def settle(session: Session, block: Any) -> None:
        attempt = session.scalars(
            sa.select(BrokerOrder)
            .where(BrokerOrder.block_id == block.block_id, BrokerOrder.state.in_(states.ATTEMPT_ENDED_AT_BROKER))
            .with_for_update()
            .execution_options(populate_existing=True)
        ).one_or_none()
        if attempt is None:
            return
        rest, why = allocating.rest_of(attempt.state, attempt.status_message, block)
        attempt.state = states.ATTEMPT.require(attempt.state, "SETTLED")
        session.flush()
        breaks.cure(session, block.account, breaks.TRADES_INCOMPLETE, str(attempt.broker_order_id), "settled")
        closing.end_block(session, block, rest, why=why)

    return mock.patch.object(allocating, "_settle", settle)


def dated_in_utc(_world: World) -> Patch:
    return mock.patch.object(observing, "trading_date", lambda instant: instant.astimezone(UTC).date())


BUGS = (
    Bug("a call without an answer is made again", "3.5: one attempt, one call", "answers", retried_call, (3,)),
    Bug("every HTTP 400 is a refusal", "3.5: whitelisted texts only", "answers", every_400_refuses, (15,)),
    Bug("no answer is a refusal", "3.5: unknown stays unknown", "answers", unknown_is_refused, (15,)),
    Bug("a second attempt while the first is unknown", "3.7.2: one undecided attempt a block", "answers", second_attempt_while_unknown, (15, 3)),
    Bug("an attempt is sent again after its sender died", "3.7.1: INTENT to SENDING once", "sends", sent_again_after_a_death, (3,)),
    Bug("the broker is called before the claim is committed", "T4: COMMIT must return", "sends", called_before_commit, (3,)),
    Bug("a failed commit of the claim is ignored", "T4: COMMIT must return", "sends", commit_error_ignored, (3,)),
    Bug("the claim does not compare the epoch", "3.7.3: a deposed sender fails", "deposed", epoch_not_compared, (14,)),
    Bug("the kill switch is read before the claim", "3.9: same row as the claim", "halts", switch_read_before_the_claim, (14,)),
    Bug("our tag is read from `tag` alone", "2: tag and every element of tags", "answers", tag_read_from_tag_alone, (4, 10, 15)),
    Bug("an unknown attempt is lost after ten seconds", "3.6: 180 s and 20 scans", "answers", lost_after_ten_seconds, (15,)),
    Bug("unknown attempts are never swept", "0.1: every row is driven again", "answers", unknown_never_swept, (1,)),
    Bug("the answer to a cancel is believed", "T9: state comes from the book", "cancels", cancel_answer_believed, (15,)),
    Bug("an order missing in the book is cancelled", "B3: missing is not cancelled", "trades", missing_means_cancelled, (15,)),
    Bug("a fill has the order's average price", "T6: the trade's own price", "trades", average_price_as_fill_price, (4,)),
    Bug("trades have no key", "3.2: trade key", "trades", trades_without_a_key, (15, 10)),
    Bug("a ghost's fills are the users'", "3.6: fills to the house", "ghosts", ghosts_given_to_users, (16,)),
    Bug("a cancelled rest is booked as another fill", "1: Lean L4", "cancels", filled_again_by_the_cancel, (4,)),
    Bug("a block is settled before its trades are complete", "3.8: completeness gate", "trades", settled_without_its_trades, (15,)),
    Bug("trades are dated in UTC", "2: trading day of the exchange", "night", dated_in_utc, (4,)),
)  # fmt: skip
