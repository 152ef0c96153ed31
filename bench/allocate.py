"""Dividing a block of 100,000 orders filled in 20 pieces: the rule alone, and with everything it writes, committed.

Run: `python -m bench.allocate`. A round gives most of the orders something: their allocation rows, totals, states and the
events that tell of them are one transaction.
"""

import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
import typer
from rich.console import Console
from rich.table import Table

from bench.figures import Figure
from common.db import Database
from common.logging import configure
from common.testing_servers import postgres, scratch
from trade_executor.allocating import advance_block
from trade_executor.allocation import divide, tie_key
from trade_executor.models import Allocation

console = Console()

PRICE_PAISE = 123_45
IN_BLOCK = 5_000
"""The most that the setting EXECUTOR_CHILDREN_PER_BLOCK allows."""

BLOCK = """
INSERT INTO block (block_id, account, exchange, tradingsymbol, side, product, order_type, validity, quantity, state, children_hash)
VALUES (:block_id, 'pool', 'NSE', 'INFY', 'BUY', 'CNC', 'MARKET', 'DAY', :quantity, 'WORKING', 'bench')
"""
CHILDREN = """
INSERT INTO child_order (order_id, user_id, portfolio_id, account, exchange, tradingsymbol, side, product, order_type,
                         quantity, validity, accepted_at, trading_date, state, block_id)
SELECT order_id, gen_random_uuid(), gen_random_uuid(), 'pool', 'NSE', 'INFY', 'BUY', 'CNC', 'MARKET',
       quantity, 'DAY', now(), current_date, 'BATCHED', :block_id
FROM unnest(CAST(:order_ids AS uuid[]), CAST(:quantities AS bigint[])) AS child (order_id, quantity)
"""
MEMBERS = """
INSERT INTO block_child (block_id, order_id, quantity) SELECT block_id, order_id, quantity FROM child_order
"""
ATTEMPT = """
INSERT INTO broker_order (attempt_id, account, block_id, attempt_no, tag, request, quantity, state, broker_order_id)
VALUES (1, 'pool', :block_id, 1, 'bench', '{}', :quantity, 'ACKED', '1')
"""
FILL = """
INSERT INTO fill (account, attempt_id, block_id, exchange, tradingsymbol, side, trade_date, broker_order_id, broker_trade_id,
                  quantity, price, amount_paise, traded_at)
VALUES ('pool', 1, :block_id, 'NSE', 'INFY', 'BUY', current_date, '1', :trade_id, :quantity, 123.45, :amount, now())
"""


@dataclass(frozen=True)
class Case:
    """One block: what its orders asked for, and the pieces it is filled in."""

    block_id: UUID
    order_ids: Sequence[UUID]
    quantities: Sequence[int]
    pieces: Sequence[int]


def case(children: int, pieces: int, seed: int) -> Case:
    """Round lots and odd lots, cut anywhere; the same for the same seed."""
    dice = random.Random(seed)  # noqa: S311  reproducible, not secret
    quantities = [dice.choice((1, 5, 10, 25, 100, dice.randint(1, 500))) for _ in range(children)]
    total = sum(quantities)
    cuts = [0, *sorted(dice.sample(range(1, total), pieces - 1)), total]
    ids = [UUID(int=dice.getrandbits(128)) for _ in range(children + 1)]
    return Case(ids[0], ids[1:], quantities, [after - before for before, after in itertools.pairwise(cuts)])


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def pure(given: Case) -> list[float]:
    """Seconds of each round's computation."""
    ties = [tie_key(given.block_id, order_id) for order_id in given.order_ids]
    already = [0] * len(given.quantities)
    rounds = []
    for piece in given.pieces:
        started = time.perf_counter()
        shares, _ = divide(given.quantities, already, piece, piece * PRICE_PAISE + 7, ties)
        rounds.append(time.perf_counter() - started)
        already = [got + share for got, share in zip(already, shares, strict=True)]
    assert already == given.quantities
    return rounds


def committed(db: Database, given: Case) -> tuple[list[float], int]:
    """Seconds of each round with its commit, and the allocations that all of them wrote."""
    total = sum(given.quantities)
    with db.transaction() as session:
        own = {"block_id": given.block_id, "quantity": total}
        session.execute(sa.text(BLOCK), own)
        ids = [str(order_id) for order_id in given.order_ids]
        session.execute(
            sa.text(CHILDREN), {"block_id": given.block_id, "order_ids": ids, "quantities": list(given.quantities)}
        )
        session.execute(sa.text(MEMBERS))
        session.execute(sa.text(ATTEMPT), own)
    with db.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(sa.text("ANALYZE"))
    rounds = []
    for number, piece in enumerate(given.pieces):
        with db.transaction() as session:
            fill = {
                "block_id": given.block_id,
                "trade_id": str(number),
                "quantity": piece,
                "amount": piece * PRICE_PAISE,
            }
            session.execute(sa.text(FILL), fill)
        rounds.append(timed(lambda: advance_block(db, given.block_id)))
    with db.session() as session:
        shares, rows = session.execute(sa.select(sa.func.sum(Allocation.quantity), sa.func.count())).one()
    assert shares == total
    return rounds, rows


def measured(children: int, in_block: int, pieces: int, seed: int) -> tuple[list[float], list[float], int]:
    """Seconds of each round of the rule alone, and of a smaller block with its commits; the allocations written."""
    rule = pure(case(children, pieces, seed))
    with postgres() as server, scratch(server, "trade_executor", pool_size=2) as db:
        return rule, *committed(db, case(in_block, pieces, seed))


def tell(children: int, in_block: int, rule: list[float], rounds: list[float], rows: int) -> None:
    """Both, in milliseconds a round."""
    table = Table("ms a round", "fastest", "median", "slowest", title=f"Allocate, {len(rule)} pieces")
    for name, seconds in ((f"the rule, {children:,} orders", rule), (f"committed, {in_block:,} orders", rounds)):
        table.add_row(name, *(f"{one * 1e3:,.0f}" for one in (min(seconds), median(seconds), max(seconds))))
    table.add_row("allocations a second, committed", "", f"{rows / sum(rounds):,.0f}", "")
    console.print(table)


def main(
    children: Annotated[int, typer.Option(help="Of the rule's block.")] = 100_000,
    in_block: Annotated[int, typer.Option(help="Of the committed block; the platform cuts no larger one.")] = IN_BLOCK,
    pieces: Annotated[int, typer.Option()] = 20,
    seed: Annotated[int, typer.Option()] = 1,
) -> None:
    """Print one table."""
    configure("bench", "WARNING")
    tell(children, in_block, *measured(children, in_block, pieces, seed))


def figures() -> list[Figure]:
    """One block of 100,000 orders in 20 rounds for the rule, the largest that is ever cut with commits; medians."""
    configure("bench", "WARNING")
    rule, rounds, rows = measured(100_000, IN_BLOCK, 20, 1)
    tell(100_000, IN_BLOCK, rule, rounds, rows)
    return [
        Figure("allocate: ms a round of 100,000 orders, the rule", median(rule) * 1e3, at_most=50),
        Figure("allocate: orders/s committed", rows / sum(rounds), at_least=20_000),
    ]


if __name__ == "__main__":
    typer.run(main)
