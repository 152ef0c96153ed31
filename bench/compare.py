"""`make bench-compare BASE=<git rev>`: the same benchmarks on another revision and on this tree, in turn, as ratios.

The other revision is checked out beside this tree with an environment of its own; both are measured by the benchmarks of
this tree, so that only the product differs. Runs alternate, so that a slow minute of the machine hits both.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.figures import Figure

ROOT = Path(__file__).resolve().parents[1]
MEASURING = (
    "bench",
    "tests/chaos",
    "common/common/testing_ports.py",
    "scripts/demo_client.py",
    "scripts/embedded_environment.py",
    "scripts/embedded_servers.py",
)
"""What measures, and what starts the rooms for it: taken from this tree for both."""

console = Console(width=150)


@contextmanager
def checked_out(base: str) -> Iterator[Path]:
    """A work tree of a revision, set up, with this tree's benchmarks."""
    with tempfile.TemporaryDirectory(prefix="saras-compare-") as directory:
        tree = Path(directory, "base")
        subprocess.run(["git", "worktree", "add", "--detach", str(tree), base], cwd=ROOT, check=True)
        try:
            for name in MEASURING:
                source, target = ROOT / name, tree / name
                if source.is_file():
                    shutil.copyfile(source, target)
                    continue
                shutil.rmtree(target, ignore_errors=True)
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            subprocess.run(["make", "setup"], cwd=tree, check=True, stdout=subprocess.DEVNULL)
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)


def measured(tree: Path, python: str, only: str) -> dict[str, Figure]:
    """The figures of one run."""
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory, "figures.json")
        command = [python, "-W", "ignore", "-m", "bench", "--only", only, "--output", str(output)]
        subprocess.run(command, cwd=tree, check=True, stdout=subprocess.DEVNULL)
        return {row["name"]: Figure(**row) for row in json.loads(output.read_text())}


def main(
    base: Annotated[str, typer.Argument(help="A revision of this repository.")],
    only: Annotated[str, typer.Option(help="Parts, separated by commas.")] = "accept,batch,reach,allocate",
    rounds: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Print each figure of both and the median of the paired ratios."""
    pairs: dict[str, list[tuple[Figure, Figure]]] = {}
    with checked_out(base) as tree:
        for _ in range(rounds):
            old = measured(tree, str(tree / ".venv/bin/python"), only)
            new = measured(ROOT, sys.executable, only)
            for name in old.keys() & new.keys():
                pairs.setdefault(name, []).append((old[name], new[name]))
    table = Table("figure", base, "this tree", "ratio", "", title=f"Paired, median of {rounds}")
    for name, rows in sorted(pairs.items()):
        ratio = median(new.value / old.value for old, new in rows if old.value)
        better = ratio < 1 if rows[0][1].smaller_is_better else ratio > 1
        table.add_row(
            name,
            f"{median(old.value for old, _ in rows):,.2f}",
            f"{median(new.value for _, new in rows):,.2f}",
            f"{ratio:.3f}",
            "" if abs(ratio - 1) < 0.05 else ("better" if better else "worse"),
        )
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
