"""From the acceptance of an order to the claim of its broker call: idle and at half load, and where the time goes."""

import time
from collections.abc import Iterator
from itertools import count
from typing import Annotated

import orjson
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from bench.accept import ORDER, ORDERS
from bench.stage import Stage, stage, wait_until_idle
from bench.wire import request, run
from tests.chaos.servers import query

console = Console(width=150)

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


def measure(target: Stage, per_second: float, seconds: float) -> dict[str, object]:
    """Orders at a steady pace, then the times of all of them by step, from the executor's rows."""
    url, body, numbers = target.platform.gateway_url, orjson.dumps(ORDER), count()
    since = time.time()

    def paced(connection: int) -> Iterator[bytes]:
        started = time.perf_counter()
        for step in count(1):
            headers = {
                "Authorization": f"Bearer {target.tokens[(connection + step) % len(target.tokens)]}",
                "Content-Type": "application/json",
                "Idempotency-Key": f"reach-{since}-{next(numbers)}",
            }
            # One connection, one request at a time: the pace is kept here, not by the answers.
            time.sleep(max(0.0, started + step / per_second - time.perf_counter()))
            yield request("POST", ORDERS, url, headers, body)

    uvloop.run(run(url, paced, connections=1, seconds=seconds))
    wait_until_idle(target, timeout_s=120)
    return dict(query(target.platform.database("trade-executor"), _STEPS, {"since": since})[0])


def main(
    seconds: Annotated[float, typer.Option()] = 20.0,
    users: Annotated[int, typer.Option()] = 20,
    paces: Annotated[str, typer.Option(help="Orders a second, one table row each.")] = "2,5",
) -> None:
    """Print one table: milliseconds, p50 / p99."""
    table = Table(
        "orders/s",
        "orders",
        "reach",
        "to the executor",
        "to the cut",
        "to the claim",
        "broker's answer",
        title="Reach, ms p50 / p99",
    )
    with stage(users) as target:
        measure(target, 2, 4.0)
        for pace in map(float, paces.split(",")):
            found = measure(target, pace, seconds)
            steps = [
                " / ".join(f"{value * 1e3:.1f}" for value in found[name])
                for name in ("reach", "arrived", "cut", "claimed", "answered")
            ]  # type: ignore[attr-defined]
            table.add_row(f"{pace:g}", str(found["n"]), *steps)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
