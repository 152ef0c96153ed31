"""From the acceptance of an order to the claim of its broker call: idle and at half load, and where the time goes."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Annotated
from uuid import uuid4

import typer
from rich.console import Console
from rich.table import Table

from bench import orders
from bench.figures import Figure
from bench.stage import Stage, stage, wait_until_idle
from bench.wire import Requests, run_load
from tests.chaos.servers import query

console = Console(width=150)

STEPS = ("reach", "arrived", "cut", "claimed", "answered")


@dataclass(frozen=True)
class Times:
    """How many orders, and seconds (p50, p99) of each step."""

    orders: int
    steps: dict[str, tuple[float, float]]


_STEPS = """
SELECT percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM received_at - accepted_at)) AS arrived,
       percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM block.created_at - received_at)) AS cut,
       percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM sent_at - block.created_at)) AS claimed,
       percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM sent_at - accepted_at)) AS reach,
       percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM decided_at - sent_at)) AS answered,
       count(*) AS n
  FROM child_order JOIN block_child USING (order_id) JOIN block ON block.block_id = block_child.block_id
  JOIN broker_order ON broker_order.block_id = block.block_id AND attempt_no = 1
 WHERE sent_at IS NOT NULL AND decided_at IS NOT NULL AND accepted_at > to_timestamp(%(since)s)
"""


def measure(target: Stage, per_second: float, seconds: float) -> Times:
    """Orders at a steady pace, then the times of all of them by step, from the executor's rows."""
    since = time.time()
    run_load(
        target.platform.gateway_url,
        paced(target.tokens, target.platform.gateway_url, per_second),
        connections=1,
        seconds=seconds,
    )
    wait_until_idle(target, timeout_s=120)
    return times(target.platform.database("trade-executor"), since)


def paced(tokens: Sequence[str], url: str, per_second: float) -> Requests:
    """One request at a time: the pace is kept here, not by the answers."""
    run_id = uuid4().hex[:8]

    def of(connection: int) -> Iterator[bytes]:
        started = time.perf_counter()
        for step in count(1):
            time.sleep(max(0.0, started + step / per_second - time.perf_counter()))
            yield orders.submission(
                tokens[step % len(tokens)], url, orders.one(), orders.PATH, f"reach-{run_id}-{step}"
            )

    return of


def times(database_url: str, since: float) -> Times:
    """Seconds (p50, p99) by step of the orders accepted since then."""
    row = query(database_url, _STEPS, {"since": since})[0]
    return Times(row["n"], {name: (row[name][0], row[name][1]) for name in STEPS})


def row_of(name: str, found: Times) -> tuple[str, ...]:
    """A line of the table."""
    steps = (found.steps[step] for step in STEPS)
    return (name, str(found.orders), *(f"{p50 * 1e3:.1f} / {p99 * 1e3:.1f}" for p50, p99 in steps))


def table() -> Table:
    """An empty one."""
    return Table(
        "orders/s", "orders", "reach", "to the executor", "to the cut", "to the claim", "broker's answer",
        title="Reach, ms p50 / p99",
    )  # fmt: skip


def main(
    seconds: Annotated[float, typer.Option()] = 20.0,
    users: Annotated[int, typer.Option()] = 20,
    paces: Annotated[str, typer.Option(help="Orders a second, one table row each.")] = "2,5",
) -> None:
    """Print one table: milliseconds, p50 / p99."""
    lines = table()
    with stage(users) as target:
        measure(target, 2, 4.0)
        for pace in map(float, paces.split(",")):
            lines.add_row(*row_of(f"{pace:g}", measure(target, pace, seconds)))
    console.print(lines)


def figures() -> list[Figure]:
    """Idle, and at half of what the broker's limit of ten sends a second allows; medians of three runs."""
    lines = table()
    result = []
    with stage(20) as target:
        measure(target, 2, 4.0)
        for name, pace in (("idle", 2.0), ("half load", 5.0)):
            runs = sorted((measure(target, pace, 20.0) for _ in range(3)), key=lambda run: run.steps["reach"])
            lines.add_row(*row_of(f"{pace:g}", runs[1]))
            p50, p99 = (second * 1e3 for second in runs[1].steps["reach"])
            idle = name == "idle"
            result += [
                Figure(f"reach: p50 ms, {name}", p50, at_most=15 if idle else None),
                Figure(f"reach: p99 ms, {name}", p99, at_most=60 if idle else None),
            ]
    console.print(lines)
    return result


if __name__ == "__main__":
    typer.run(main)
