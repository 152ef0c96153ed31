"""`make bench`: every benchmark of the order path on real servers, one table at the end, each figure beside its bar.

Figures belong to the machine they were measured on; the ratios travel. Nothing is asserted: a bar that is missed says NO.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench import accept, allocate, batch, drain, embedded, memory, reach, scale
from bench.figures import Figure

PARTS: dict[str, Callable[[], list[Figure]]] = {
    "accept": accept.figures,
    "batch": batch.figures,
    "reach": reach.figures,
    "drain": drain.figures,
    "allocate": allocate.figures,
    "scale": scale.figures,
    "embedded": embedded.figures,
    "memory": memory.figures,
}

console = Console(width=150)


def main(
    only: Annotated[str, typer.Option(help="Some of: " + ", ".join(PARTS) + "; separated by commas.")] = "",
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON here, part by part.")] = None,
) -> None:
    """Run the parts one after the other."""
    names = only.split(",") if only else list(PARTS)
    if unknown := set(names) - set(PARTS):
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    found: list[Figure] = []
    for name in names:
        console.rule(name)
        found += PARTS[name]()
        if output is not None:
            output.write_text(json.dumps([asdict(figure) for figure in found], indent=1))
    table = Table("figure", "value", "bar", "met", title="Benchmarks")
    for figure in found:
        table.add_row(figure.name, f"{figure.value:,.2f}", figure.bar, figure.met)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
