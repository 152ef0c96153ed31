"""A burst: many users' orders over 50 shares accepted at once; how long until the last share is allocated.

Beside it the floor that the broker's limit sets (one send a key, ten a second) and what a system without aggregation needs
at the same limit. At the end all books must be right.
"""

import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Annotated

import orjson
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from bench.stage import Stage, stage, wait_until_idle
from bench.wire import request, run
from common.db import Database
from portfolio_service import ledger_check
from tests.chaos.servers import query

BATCH = 100
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


def batches(target: Stage, shares: list[str], orders: int) -> list[bytes]:
    """Requests of BATCH orders each, users and shares in turn."""
    url, numbers = target.platform.gateway_url, count()
    found = []
    for number in range(orders // BATCH):
        body = {
            "orders": [
                {"tradingsymbol": shares[next(numbers) % len(shares)], "side": "BUY", "quantity": 1 + number % 5}
                for _ in range(BATCH)
            ]
        }
        headers = {
            "Authorization": f"Bearer {target.tokens[number % len(target.tokens)]}",
            "Content-Type": "application/json",
            "Idempotency-Key": f"drain-{number}",
        }
        found.append(request("POST", "/api/v1/orders/batch", url, headers, orjson.dumps(body)))
    return found


def main(
    orders: Annotated[int, typer.Option()] = 10_000,
    shares: Annotated[int, typer.Option()] = 50,
    users: Annotated[int, typer.Option()] = 100,
) -> None:
    """Print one table."""
    with stage(users) as target:
        names = symbols(target, shares)
        prepared = batches(target, names, orders)
        lanes = [prepared[lane::4] for lane in range(4)]

        def of(connection: int) -> Iterator[bytes]:
            return iter(lanes[connection])

        started = time.monotonic()
        load = uvloop.run(run(target.platform.gateway_url, of, connections=len(lanes), seconds=DRAIN_TIMEOUT_S))
        accepted_s = time.monotonic() - started
        wait_until_idle(target, timeout_s=DRAIN_TIMEOUT_S)
        drained_s = time.monotonic() - started
        tell(target, orders, shares, load.statuses, accepted_s, drained_s)


def tell(target: Stage, orders: int, shares: int, statuses: Counter[int], accepted_s: float, drained_s: float) -> None:
    """The table; raises AssertionError when the books are not right."""
    states = {
        row["state"]: row["n"]
        for row in query(
            target.platform.database("portfolio-service"), "SELECT state, count(*) AS n FROM user_order GROUP BY state"
        )
    }
    sent = query(
        target.platform.database("trade-executor"),
        "SELECT count(*) AS n, count(DISTINCT tradingsymbol) AS keys FROM broker_order JOIN block USING (block_id)",
    )[0]
    database = Database(target.platform.database("portfolio-service"), pool_size=1)
    with database.transaction() as session:
        report = ledger_check.check(session)
    database.dispose()
    floor_s = shares / SENDS_PER_SECOND
    table = Table("figure", "value", title="Drain")
    for name, value in {
        "user orders accepted": f"{sum(states.values()):,} ({dict(statuses)})",
        "of them": str(states),
        "accepted after": f"{accepted_s:.1f} s ({orders / accepted_s:,.0f} orders/s in batches of {BATCH})",
        "last allocation booked after": f"{drained_s:.1f} s",
        "floor of the broker's limit": f"{floor_s:.1f} s for {shares} keys",
        "of 1.5 times the floor plus 2 s": f"{drained_s / (1.5 * floor_s + 2):.2f}",
        "without aggregation at the same limit": f"{orders / SENDS_PER_SECOND:,.0f} s",
        "broker orders": f"{sent['n']} ({orders / max(1, sent['n']):.0f} user orders each)",
        "ledger": "all rules hold" if report.ok else str(report.problems),
    }.items():
        table.add_row(name, value)
    console.print(table)
    assert report.ok


if __name__ == "__main__":
    typer.run(main)
