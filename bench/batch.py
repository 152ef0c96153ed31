"""Orders a second in batches of 100 and of 1,000 through the gateway; a batch is one transaction."""

from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench import orders
from bench.accept import DOWNSTREAM
from bench.figures import Figure
from bench.stage import Stage, stage

SIZES = (100, 1_000)
BARS = {1_000: 10_000.0}
CONNECTIONS = 2

console = Console(width=150)


def rates(target: Stage, size: int, seconds: float, rounds: int) -> list[float]:
    """Orders a second of each round."""
    found = []
    for _ in range(rounds):
        load = orders.drive(
            target.tokens, target.platform.gateway_url, orders.batch(size),
            connections=CONNECTIONS, seconds=seconds, path=orders.BATCH_PATH,
        )  # fmt: skip
        refused = {status: number for status, number in load.statuses.items() if not 200 <= status < 300}
        assert not refused, refused
        found.append(load.rate * size)
    return found


def main(seconds: Annotated[float, typer.Option()] = 6.0, rounds: Annotated[int, typer.Option()] = 3) -> None:
    """Print one table."""
    tell(seconds, rounds)


def tell(seconds: float, rounds: int) -> dict[int, float]:
    """The table; answers the median rate of each size."""
    table = Table("batch", "orders/s: slowest", "median", "fastest", title=f"Batch, {CONNECTIONS} connections")
    result = {}
    with stage(100) as target, target.standing_still(*DOWNSTREAM):
        for size in SIZES:
            found = rates(target, size, seconds, rounds)
            result[size] = median(found)
            table.add_row(f"{size:,}", *(f"{rate:,.0f}" for rate in (min(found), result[size], max(found))))
    console.print(table)
    return result


def figures() -> list[Figure]:
    """Medians of three rounds."""
    return [
        Figure(f"batch of {size:,}: orders/s", rate, at_least=BARS.get(size)) for size, rate in tell(6.0, 3).items()
    ]


if __name__ == "__main__":
    typer.run(main)
