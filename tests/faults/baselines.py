"""`make baselines`: how other systems send orders, on the same seeds, broker, users and weather (execution.md 4.6).

Only the policy differs: what is done when the broker does not answer, and whether anybody looks for an order that was
given up. Everything else, our tables included, stays as it is, so the figures are the policy's alone. They are counted
against what the simulator knows to be true.
"""

import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import sqlalchemy as sa
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sqlalchemy.orm import Session

from common.db import Database
from tests.faults import planted_broker, run
from tests.faults.clients import Mix
from tests.faults.invariants import Books
from tests.faults.plans import Plant
from tests.faults.planted import HASH_SEED, stage
from tests.faults.run import Plan
from tests.faults.world import ROUGH, Weather, World
from trade_executor import breaks, kill_switch, loop, observing, pump, resolving, sending
from trade_executor.brokers.base import Acked, Refused
from trade_executor.models import Block, BrokerOrder

PER = 10_000
ORDERS_PER_SECOND = 5.0
CALLS_MAX = 3
WEATHER = Weather(
    kill_at_point=ROUGH.kill_at_point,
    commit_refused=ROUGH.commit_refused,
    commit_unknown=ROUGH.commit_unknown,
    bell_lost=ROUGH.bell_lost,
    bus=ROUGH.bus,
    # Trades of strangers and corrections are nobody's orders: they would only blur the count.
    broker=ROUGH.broker.model_copy(update={"foreign_order": 0.0, "trade_corrected": 0.0}),
    disaster_every_s=ROUGH.disaster_every_s,
)
MIX = Mix(batch_max=6)
console = Console(width=180)


@dataclass
class Count:
    """What a policy did to the orders of its runs."""

    policy: str
    orders: int = 0
    broker_orders: int = 0
    duplicates: int = 0
    """Orders at the broker beside the first of their block."""
    fills_lost: int = 0
    """Trades of our orders that are in nobody's books."""
    fills_invented: int = 0
    fills_to_house: int = 0
    """Trades of orders given up that the house has booked: its cost, and known."""
    shares_wrong: int = 0
    paise_wrong: int = 0
    """The worth of lost and invented fills, and what was booked at another price."""
    unfinished: int = 0
    """User orders without an end."""
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Count") -> None:
        """Another run of the same policy."""
        for name in _COUNTED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.faults.update(other.faults)


_COUNTED = (
    "orders", "broker_orders", "duplicates", "fills_lost", "fills_invented", "fills_to_house", "shares_wrong",
    "paise_wrong", "unfinished",
)  # fmt: skip


# --- policies ---------------------------------------------------------------------------------------------------------


@contextmanager
def ours(_world: World) -> Iterator[None]:
    """As it is."""
    yield


@contextmanager
def naive_retry(world: World) -> Iterator[None]:
    """A: whatever goes wrong, call again, three times; then the order counts as rejected. Nothing keeps two workers apart."""
    real = sending._claim

    def claim(db: Database, attempt_id: int, *, epoch: int) -> Any:
        # Who has found the order sends it, whether somebody else is about to or not.
        with db.transaction() as session:
            _set_back(session, BrokerOrder.attempt_id == attempt_id)
        return real(db, attempt_id, epoch=epoch)

    with ExitStack() as stack:
        stack.enter_context(lock_and_retry(world))
        stack.enter_context(planted_broker.epoch_not_compared(world))
        stack.enter_context(mock.patch.object(sending, "_claim", claim))
        stack.enter_context(mock.patch.object(pump, "advisory_lock", return_value=nullcontext(True)))
        yield


@contextmanager
def lock_and_retry(world: World) -> Iterator[None]:
    """B: the same under a lock, so that one worker at a time has an order; who dies with it leaves it to the next."""

    def transmit(broker: Any, claimed: Any, *, deadline_s: float) -> Any:
        for _ in range(CALLS_MAX):
            outcome = broker.place(claimed.request)
            if isinstance(outcome, Acked):
                return outcome
        return Refused("gave_up", f"{CALLS_MAX} calls without success")

    def died(session: Session, _block: Block, attempt: BrokerOrder) -> None:
        session.flush()
        _set_back(session, BrokerOrder.attempt_id == attempt.attempt_id)

    with ExitStack() as stack:
        stack.enter_context(_nobody_looks(world))
        stack.enter_context(mock.patch.object(sending, "transmit", transmit))
        stack.enter_context(mock.patch.object(resolving, "_unknown", died))
        yield


@contextmanager
def adapter_of_lean(world: World) -> Iterator[None]:
    """C: any exception is a refusal, a cancel's answer is its result, fills at the average price, the end fills again."""
    with ExitStack() as stack:
        for plant in (
            _nobody_looks,
            planted_broker.unknown_is_refused,
            planted_broker.average_price_as_fill_price,
            planted_broker.cancel_answer_believed,
            planted_broker.filled_again_by_the_cancel,
        ):
            stack.enter_context(plant(world))
        yield


@contextmanager
def not_found_is_rejected(world: World) -> Iterator[None]:
    """D: without an answer the book is read; five times not found is a rejection, and nobody looks again."""
    real = resolving.sweep
    patience = {"unknown_min_seconds": 0.0, "unknown_min_scans": 5}

    def sweep(db: Database, account: str, settings: Any) -> None:
        real(db, account, settings.model_copy(update=patience))

    with _nobody_looks(world, but_for_the_unknown=True), mock.patch.object(resolving, "sweep", sweep):
        yield


def _set_back(session: Session, condition: Any) -> None:
    session.execute(
        sa.update(BrokerOrder).where(condition, BrokerOrder.state == "SENDING").values(state="INTENT"),
        execution_options={"synchronize_session": False},
    )


@contextmanager
def _nobody_looks(_world: World, *, but_for_the_unknown: bool = False) -> Iterator[None]:
    """No search by tag for orders given up, no house account, no breaks and no reconciliation: others have none."""
    adopt, acknowledge = observing._adopt, sending.acknowledge

    def adopt_unknown(db: Database, account: str, rows: Sequence[Any], settings: Any) -> None:
        if not but_for_the_unknown:
            return
        with db.transaction() as session:
            undecided = set(
                session.scalars(sa.select(BrokerOrder.tag).where(BrokerOrder.state.in_(("SENDING", "UNKNOWN"))))
            )
        adopt(db, account, [row for row in rows if row.tags & undecided], settings)

    def last_answer_counts(session: Session, block: Block, attempt: BrokerOrder, broker_order_id: str) -> None:
        if attempt.broker_order_id is not None and attempt.state == "ACKED":
            attempt.broker_order_id = broker_order_id
        elif attempt.state in ("SENDING", "UNKNOWN"):
            acknowledge(session, block, attempt, broker_order_id)

    with ExitStack() as stack:
        for target, name, value in (
            (observing, "_adopt", adopt_unknown),
            (observing, "_judge_stranger", mock.Mock()),
            (observing, "_book_strangers", mock.Mock(return_value=[])),
            (sending, "acknowledge", last_answer_counts),
            (breaks, "open_break", mock.Mock(return_value=False)),
            (kill_switch, "stop_if_running", mock.Mock(return_value=False)),
            (loop, "_reconcile_if_due", mock.Mock(__name__="_reconcile_if_due")),
            (loop, "_reconcile_at_start", mock.Mock(__name__="_reconcile_at_start")),
        ):
            stack.enter_context(mock.patch.object(target, name, value))
        yield


POLICIES: Mapping[str, Plant] = {
    "A naive retry, three calls": naive_retry,
    "B lock and retry, three calls": lock_and_retry,
    "C adapter in the manner of Lean": adapter_of_lean,
    "D not found in five reads is rejected": not_found_is_rejected,
    "ours": ours,
}


# --- counting ---------------------------------------------------------------------------------------------------------


def count(policy: str, world: World, books: Books) -> Count:
    """Compare the executor's books with the simulator's truth."""
    counted = Count(policy)
    counted.orders = int(books.rows("portfolio_service", "SELECT count(*) FROM user_order")[0][0])
    counted.unfinished = int(
        books.rows(
            "portfolio_service", "SELECT count(*) FROM user_order WHERE state IN ('ACCEPTED', 'WORKING', 'PARTIAL')"
        )[0][0]
    )
    at_broker = books.ours()
    counted.broker_orders = len(at_broker)
    counted.duplicates = _duplicates(world, books, at_broker)
    booked = {
        (row.broker_order_id, row.broker_trade_id): row
        for row in books.rows(
            "trade_executor",
            "SELECT broker_order_id, broker_trade_id, quantity, amount_paise, booked_to FROM fill",
        )
    }
    for key, (quantity, price_paise) in books.truth.trades.items():
        if key[0] not in at_broker:
            continue
        fill = booked.pop(key, None)
        if fill is None:
            counted.fills_lost += 1
            counted.shares_wrong += quantity
            counted.paise_wrong += quantity * price_paise
            continue
        counted.fills_to_house += fill.booked_to == "house"
        counted.shares_wrong += abs(fill.quantity - quantity)
        counted.paise_wrong += abs(fill.amount_paise - quantity * price_paise)
    counted.fills_invented = len(booked)
    counted.shares_wrong += sum(fill.quantity for fill in booked.values())
    counted.paise_wrong += sum(fill.amount_paise for fill in booked.values())
    counted.faults.update(fact["fault"] for fact in world.engine.kernel.facts if fact["kind"] == "fault_injected")
    return counted


def _duplicates(world: World, books: Books, at_broker: Mapping[str, Mapping[str, Any]]) -> int:
    """Orders at the broker beside the first of their block; what the exchange rejected never stood there."""
    block_of = {row.tag: row.block_id for row in books.rows("trade_executor", "SELECT tag, block_id FROM broker_order")}
    standing: defaultdict[Any, int] = defaultdict(int)
    for order_id, order in at_broker.items():
        if not world.engine.kernel.state.orders[order_id].status.startswith("REJECTED"):
            standing[block_of.get(order["tag"], order_id)] += 1
    return sum(orders - 1 for orders in standing.values())


def one(policy: str, seed: int, orders: int) -> Count:
    """One seed under a policy, in databases of its own."""
    counted: list[Count] = []
    plan = Plan(
        weather=WEATHER,
        mix=MIX,
        executor_settings={"recon_quick_seconds": 20.0},
        orders_per_second=ORDERS_PER_SECOND,
        check_every_s=1e9,
        quiet_within_s=600.0,
        settle_s=30.0,
        around=POLICIES[policy],
        at_end=lambda world, books: counted.append(count(policy, world, books)),
    )
    with stage() as urls:
        run.run_seed(seed, orders, urls, plan)
    return counted[0]


def main(
    orders: Annotated[int, typer.Option(min=1, help="User orders of each seed.")] = 400,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, the same for every policy.")] = 5,
    first: Annotated[int, typer.Option(help="The first seed.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 2,
    only: Annotated[str, typer.Option(help="Policies whose name holds this.")] = "",
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON here.")] = None,
) -> None:
    """Run every policy on the same seeds and print what each lost, doubled and miscounted; exit 1 if ours did anything."""
    if os.environ.get(HASH_SEED) != "0":
        environ = {**os.environ, HASH_SEED: "0"}
        os.execve(sys.executable, [sys.executable, "-m", "tests.faults.baselines", *sys.argv[1:]], environ)  # noqa: S606  ourselves
    from tests.faults import baselines  # by its own name, so that the processes of the pool find it

    totals = {policy: baselines.Count(policy) for policy in POLICIES if only in policy}
    with (
        Progress(console=console) as progress,
        ProcessPoolExecutor(workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool,
    ):
        jobs = [
            pool.submit(baselines.one, policy, seed, orders)
            for seed in range(first, first + seeds)
            for policy in totals
        ]
        task = progress.add_task(f"{len(totals)} policies, {seeds} seeds of {orders} orders", total=len(jobs))
        for job in as_completed(jobs):
            counted = job.result()
            totals[counted.policy].add(counted)
            progress.advance(task)
    tell(list(totals.values()))
    if output is not None:
        output.write_text(json.dumps([vars(total) for total in totals.values()], indent=1))
    mine = totals.get("ours")
    if mine and any((mine.duplicates, mine.fills_lost, mine.fills_invented, mine.shares_wrong, mine.paise_wrong)):
        raise typer.Exit(1)


_COLUMNS: Mapping[str, Callable[[Count], float]] = {
    "duplicate broker orders": lambda total: total.duplicates,
    "fills lost": lambda total: total.fills_lost,
    "fills invented": lambda total: total.fills_invented,
    "shares wrong": lambda total: total.shares_wrong,
    "rupees wrong": lambda total: total.paise_wrong / 100,
    "orders without an end": lambda total: total.unfinished,
    "fills booked to the house": lambda total: total.fills_to_house,
}


def tell(totals: Sequence[Count]) -> None:
    """One table, each figure per 10,000 user orders."""
    table = Table(title=f"Per {PER:,} user orders")
    table.add_column("policy")
    for name in ("user orders", "broker orders", *_COLUMNS):
        table.add_column(name, justify="right")
    for total in totals:
        scaled = (figure(total) * PER / max(1, total.orders) for figure in _COLUMNS.values())
        table.add_row(
            total.policy, f"{total.orders:,}", f"{total.broker_orders:,}", *(f"{value:,.0f}" for value in scaled)
        )
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
