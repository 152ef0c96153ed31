"""Dividing a block of 100,000 orders filled in 20 pieces: the rule alone."""

import random
import time
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

from trade_executor.allocation import divide, tie_key

console = Console()


def main(
    children: Annotated[int, typer.Option()] = 100_000,
    pieces: Annotated[int, typer.Option()] = 20,
    seed: Annotated[int, typer.Option()] = 1,
) -> None:
    """Print the time of the slowest, the middle and the fastest round."""
    dice = random.Random(seed)  # noqa: S311  reproducible, not secret
    block = UUID(int=dice.getrandbits(128))
    quantities = [dice.choice((1, 5, 10, 25, 100, dice.randint(1, 500))) for _ in range(children)]
    started = time.perf_counter()
    ties = [tie_key(block, UUID(int=dice.getrandbits(128))) for _ in range(children)]
    prepared = time.perf_counter() - started
    cuts = sorted(dice.sample(range(1, sum(quantities)), pieces - 1))
    fills = [after - before for before, after in zip([0, *cuts], [*cuts, sum(quantities)], strict=True)]
    already = [0] * children
    rounds = []
    for fill in fills:
        started = time.perf_counter()
        shares = divide(quantities, already, fill, fill * 12_345 + 7, ties)
        rounds.append(time.perf_counter() - started)
        already = [got + share.quantity for got, share in zip(already, shares, strict=True)]
    assert already == quantities
    table = Table(
        "children", "pieces", "ms per round: fastest", "median", "slowest", "ms of tie keys, once", title="Allocate"
    )
    ordered = sorted(rounds)
    table.add_row(f"{children:,}", str(pieces), f"{ordered[0] * 1e3:.1f}", f"{ordered[len(ordered) // 2] * 1e3:.1f}",
                  f"{ordered[-1] * 1e3:.1f}", f"{prepared * 1e3:.0f}")  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
