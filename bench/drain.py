"""A burst: many users' orders over 50 shares accepted at once; how long until the last share is allocated.

Beside it the floor that the broker's limit sets (one send a key, ten a second) and what a system without aggregation needs
at the same limit. At the end all books must be right.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench import orders
from bench.figures import Figure
from bench.stage import Stage, stage, wait_until_idle
from bench.wire import run_load
from common.db import Database
from portfolio_service import ledger_check
from tests.chaos.servers import query

BATCH = 100
LANES = 4
SENDS_PER_SECOND = 10
DRAIN_TIMEOUT_S = 600.0

console = Console(width=150)


def symbols(target: Stage, wanted: int) -> list[str]:
    """Shares that have a price."""
    rows = query(
        target.platform.database("market-data-service"),
        "SELECT tradingsymbol FROM instrument WHERE exchange = 'NSE' AND segment = 'NSE' ORDER BY tradingsymbol",
    )
    names = [row["tradingsymbol"] for row in rows]
    if len(names) < wanted:
        raise LookupError(f"the simulator lists {len(names)} shares, {wanted} are wanted")
    return names[:wanted]


def batches(target: Stage, shares: list[str], wanted: int) -> list[bytes]:
    """Requests of BATCH orders each, users and shares in turn."""
    url = target.platform.gateway_url
    return [
        orders.submission(
            target.tokens[number % len(target.tokens)],
            url,
            orders.batch(BATCH, shares, 1 + number % 5, first=number * BATCH),
            orders.BATCH_PATH,
            f"drain-{number}",
        )
        for number in range(wanted // BATCH)
    ]


@dataclass(frozen=True)
class Drained:
    """What became of a burst."""

    orders: int
    shares: int
    statuses: Counter[int]
    states: dict[str, int]
    broker_orders: int
    accepted_s: float
    drained_s: float
    problems: list[str]

    @property
    def of_the_bar(self) -> float:
        """Time as a part of 1.5 times the floor of the broker's limit plus two seconds."""
        return self.drained_s / (1.5 * self.shares / SENDS_PER_SECOND + 2)


def drain(target: Stage, wanted: int, shares: int) -> Drained:
    """Accept a burst, wait for its last allocation, read the books; the platform is fresh."""
    prepared = batches(target, symbols(target, shares), wanted)
    lanes = [prepared[lane::LANES] for lane in range(LANES)]

    def of(connection: int) -> Iterator[bytes]:
        return iter(lanes[connection])

    started = time.monotonic()
    load = run_load(target.platform.gateway_url, of, connections=LANES, seconds=DRAIN_TIMEOUT_S)
    accepted_s = time.monotonic() - started
    wait_until_idle(target, timeout_s=DRAIN_TIMEOUT_S)
    drained_s = time.monotonic() - started
    books = target.platform.database("portfolio-service")
    states = {
        row["state"]: row["n"] for row in query(books, "SELECT state, count(*) AS n FROM user_order GROUP BY state")
    }
    sent = query(target.platform.database("trade-executor"), "SELECT count(*) AS n FROM broker_order")[0]["n"]
    database = Database(books, pool_size=1)
    with database.transaction() as session:
        report = ledger_check.check(session)
    database.dispose()
    problems = [] if report.ok else [str(report.problems)]
    return Drained(wanted, shares, load.statuses, states, sent, accepted_s, drained_s, problems)


def tell(found: Drained) -> None:
    """The table; raises AssertionError when the books are not right or not every order was accepted and filled."""
    table = Table("figure", "value", title="Drain")
    for name, value in {
        "user orders accepted": f"{sum(found.states.values()):,} ({dict(found.statuses)})",
        "of them": str(found.states),
        "accepted after": f"{found.accepted_s:.1f} s ({found.orders / found.accepted_s:,.0f} orders/s in batches of {BATCH})",
        "last allocation booked after": f"{found.drained_s:.1f} s",
        "floor of the broker's limit": f"{found.shares / SENDS_PER_SECOND:.1f} s for {found.shares} keys",
        "of 1.5 times the floor plus 2 s": f"{found.of_the_bar:.2f}",
        "without aggregation at the same limit": f"{found.orders / SENDS_PER_SECOND:,.0f} s",
        "broker orders": f"{found.broker_orders} ({found.orders / max(1, found.broker_orders):.0f} user orders each)",
        "ledger": "all rules hold" if not found.problems else str(found.problems),
    }.items():
        table.add_row(name, value)
    console.print(table)
    assert not found.problems
    assert sum(found.states.values()) == found.orders


def main(
    wanted: Annotated[int, typer.Option("--orders")] = 10_000,
    shares: Annotated[int, typer.Option()] = 50,
    users: Annotated[int, typer.Option()] = 100,
) -> None:
    """Print one table."""
    with stage(users) as target:
        tell(drain(target, wanted, shares))


def figures() -> list[Figure]:
    """The median of three bursts, each on a fresh platform."""
    runs = []
    for _ in range(3):
        with stage(100) as target:
            runs.append(drain(target, 10_000, 50))
    middle = sorted(runs, key=lambda run: run.drained_s)[1]
    tell(middle)
    return [
        Figure("drain: s to the last allocation", middle.drained_s),
        Figure("drain: of 1.5 times the broker's floor plus 2 s", middle.of_the_bar, at_most=1),
        Figure("drain: broker orders", middle.broker_orders),
        Figure("drain: s without aggregation at the same limit", middle.orders / SENDS_PER_SECOND),
    ]


if __name__ == "__main__":
    typer.run(main)
