"""The platform in one process (`make run`): orders accepted a second, and from acceptance to the broker."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from bench import orders, reach
from bench.figures import Figure
from bench.stage import UNLIMITED, sign_up
from bench.wire import run_load
from common.testing_ports import free_port
from scripts.platform_state import DATA_DIRECTORY_VARIABLE, Running, running_platform
from tests.chaos.servers import query

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 60.0
IDLE_TIMEOUT_S = 300.0
CONNECTIONS = 8

console = Console(width=150)


@contextmanager
def platform() -> Iterator[Running]:
    """One of its own, in an empty directory."""
    with tempfile.TemporaryDirectory(prefix="saras-bench-", ignore_cleanup_errors=True) as directory:
        os.environ[DATA_DIRECTORY_VARIABLE] = directory
        environ = {**os.environ, **UNLIMITED, "GATEWAY_PORT": str(free_port())}
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "scripts.run_platform", "--quiet"],
            env=environ, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while (found := running_platform()) is None:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise TimeoutError("the platform did not start")
                time.sleep(0.2)
            yield found
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)
            del os.environ[DATA_DIRECTORY_VARIABLE]


def wait_until_idle(books: str) -> None:
    """Until no order of a user is live."""
    deadline = time.monotonic() + IDLE_TIMEOUT_S
    live = "SELECT count(*) AS n FROM user_order WHERE state IN ('ACCEPTED', 'WORKING', 'PARTIAL')"
    while query(books, live)[0]["n"]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"orders are live after {IDLE_TIMEOUT_S:.0f} s")
        time.sleep(0.1)


def figures() -> list[Figure]:
    """Reach at two orders a second, then as many as it takes; medians of three runs."""
    with platform() as running:
        tokens = asyncio.run(sign_up(running.gateway_url, 20))
        books, executor = running.database_urls["portfolio-service"], running.database_urls["trade-executor"]
        found = []
        for seconds in (4.0, 15.0, 15.0, 15.0):
            since = time.time()
            run_load(running.gateway_url, reach.paced(tokens, running.gateway_url, 2.0), connections=1, seconds=seconds)
            wait_until_idle(books)
            found.append(reach.times(executor, since))
        middle = sorted(found[1:], key=lambda run: run.steps["reach"])[1]
        lines = reach.table()
        lines.add_row(*reach.row_of("2, embedded", middle))
        console.print(lines)
        rates = sorted(
            orders.drive(tokens, running.gateway_url, orders.one(), connections=CONNECTIONS, seconds=6.0).rate
            for _ in range(3)
        )
    p50, p99 = (second * 1e3 for second in middle.steps["reach"])
    return [
        Figure("embedded reach: p50 ms", p50, at_most=8),
        Figure("embedded reach: p99 ms", p99),
        Figure(f"embedded accept: orders/s, {CONNECTIONS} connections, everything running", rates[1]),
    ]


def main() -> None:
    """Print the figures."""
    for figure in figures():
        console.print(f"{figure.name}: {figure.value:,.1f}")


if __name__ == "__main__":
    typer.run(main)
