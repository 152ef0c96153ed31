"""Memory of each process at rest, and again after 100,000 orders have been accepted, traded and booked."""

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench import orders
from bench.figures import Figure
from bench.stage import Stage, stage, wait_until_idle
from bench.wire import run_load

BATCH = 1_000
WAVE = 10_000
"""Orders accepted before the next wait: what a platform that keeps up has waiting."""
IDLE_TIMEOUT_S = 900.0
MIB = 1 << 20

console = Console(width=150)


def wave(target: Stage, number: int, size: int) -> None:
    """Accept some orders in batches and wait until all have ended."""
    url = target.platform.gateway_url

    def of(connection: int) -> Iterator[bytes]:
        for index in range(size // BATCH):
            token = target.tokens[(number + index) % len(target.tokens)]
            key = f"memory-{number}-{index}"
            yield orders.submission(token, url, orders.batch(BATCH), orders.BATCH_PATH, key)

    load = run_load(url, of, connections=1, seconds=IDLE_TIMEOUT_S)
    assert load.answered == size // BATCH, load.statuses
    wait_until_idle(target, timeout_s=IDLE_TIMEOUT_S)


def measured(wanted: int) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes by process before and after."""
    with stage(100) as target:
        before = target.memory()
        for number in range(wanted // WAVE):
            wave(target, number, WAVE)
        return before, target.memory()


def tell(wanted: int, before: dict[str, int], after: dict[str, int]) -> None:
    """The table, largest first."""
    table = Table("process", "MiB at rest", f"after {wanted:,} orders", title="Memory (proportional set size)")
    for name in sorted(after, key=lambda name: -after[name]):
        table.add_row(name, f"{before.get(name, 0) / MIB:,.0f}", f"{after[name] / MIB:,.0f}")
    table.add_row("together", f"{sum(before.values()) / MIB:,.0f}", f"{sum(after.values()) / MIB:,.0f}")
    console.print(table)


def main(wanted: Annotated[int, typer.Option("--orders")] = 100_000) -> None:
    """Print one table."""
    tell(wanted, *measured(wanted))


def figures() -> list[Figure]:
    """All processes together."""
    before, after = measured(100_000)
    tell(100_000, before, after)
    ours = [name for name in after if name not in ("postgresql", "rabbitmq")]
    return [
        Figure("memory: MiB of all processes at rest", sum(before[name] for name in ours) / MIB),
        Figure("memory: MiB of all processes after 100,000 orders", sum(after[name] for name in ours) / MIB),
        Figure("memory: MiB of PostgreSQL after 100,000 orders", after["postgresql"] / MIB),
    ]


if __name__ == "__main__":
    typer.run(main)
