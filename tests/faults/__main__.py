"""`make faults ORDERS=… SEEDS=…`: play seeds, print one table, exit 1 on any violation."""

import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.faults.many import play
from tests.faults.run import Result

HASH_SEED = "PYTHONHASHSEED"
console = Console()


def main(
    orders: Annotated[int, typer.Option(min=1, help="User orders of each seed.")] = 1_000,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 4,
    first: Annotated[int, typer.Option(help="The first seed.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Processes that play seeds side by side.")] = 2,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON here.")] = None,
) -> None:
    """Random orders, faults, kills and outages over the whole path, in virtual time on a real PostgreSQL."""
    if os.environ.get(HASH_SEED) != "0":
        # The order of sets is part of a schedule: without this a seed cannot be played again.
        environ = {**os.environ, HASH_SEED: "0"}
        os.execve(sys.executable, [sys.executable, "-m", "tests.faults", *sys.argv[1:]], environ)  # noqa: S606  ourselves
    results = []
    with Progress(console=console) as progress:
        task = progress.add_task(f"{seeds} seeds of {orders} orders", total=seeds)
        for result in play(range(first, first + seeds), orders, workers):
            results.append(result)
            progress.advance(task)
            if output is not None:
                # After every seed: what a run of hours has found stays, also when the run is broken off.
                write(results, output)
            for violation in result.violations:
                progress.console.print(f"[bold red]seed {result.seed}[/] {violation}")
            if result.violations:
                again = f"make faults ORDERS={orders} SEEDS=1 FIRST={result.seed}"
                progress.console.print(f"play it again: {again}")
    report(summed(results))
    if any(result.violations for result in results):
        raise typer.Exit(1)


def write(results: Sequence[Result], output: Path) -> None:
    """The sums and each seed's own figures, as JSON."""
    document = {**summed(results), "results": [vars(result) for result in results]}
    output.write_text(json.dumps(document, indent=1, default=str))


def summed(results: Sequence[Result]) -> dict[str, object]:
    """The figures of all seeds together."""
    figures: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for result in results:
        figures.update(result.figures)
        faults.update(result.faults)
    unknown = [seconds for result in results for seconds in result.unknown_s]
    return {
        "seeds": len(results),
        "violations": sum(len(result.violations) for result in results),
        "figures": dict(figures),
        "faults": dict(sorted(faults.items())),
        "faults in all": sum(faults.values()),
        "unknown resolved, seconds p50 / p99": percentiles(unknown),
        "virtual seconds": round(sum(result.virtual_s for result in results)),
        "quiet after the last fault, virtual seconds p50 / p99": percentiles([result.quiet_s for result in results]),
        "wall seconds": round(sum(result.wall_s for result in results)),
    }


def percentiles(values: Sequence[float]) -> str:
    """p50 and p99, or a dash."""
    if len(values) < 2:
        return " / ".join(f"{value:.1f}" for value in values) or "-"
    cuts = quantiles(values, n=100, method="inclusive")
    return f"{cuts[49]:.1f} / {cuts[98]:.1f}"


def report(figures: dict[str, object]) -> None:
    """One table."""
    table = Table(title="Faults", show_header=False)
    for name, value in figures.items():
        if isinstance(value, dict):
            for inner, count in value.items():
                table.add_row(f"  {inner}", f"{count}")
        else:
            table.add_row(name, f"{value}")
    console.print(table)
    verdict = "[bold green]nothing lost, nothing doubled[/]" if not figures["violations"] else "[bold red]violations[/]"
    console.print(verdict)


if __name__ == "__main__":
    typer.run(main)
