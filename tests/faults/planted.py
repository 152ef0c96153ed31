"""`make planted`: mistakes somebody could make, each planted in a run of its own, and whether the harness sees it.

A harness that finds nothing proves something only if it would find something. The same seeds without the bug must be
clean: a bug counts as caught by a seed whose control run has no violation.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sqlalchemy.exc import OperationalError

from common.logging import configure
from tests.faults import planted_books, planted_broker, run
from tests.faults.plans import Bug, both, plan
from tests.faults.run import Result

HASH_SEED = "PYTHONHASHSEED"
ORDERS = 50
BUGS: tuple[Bug, ...] = (*planted_broker.BUGS, *planted_books.BUGS)
console = Console(width=180)


@dataclass
class Finding:
    """What became of one bug."""

    bug: str
    plan: str
    seeds: int = 0
    """How many seeds it took; the last one caught it, if any did."""
    seed: int | None = None
    invariants: list[int] = field(default_factory=list)
    first: str = ""
    """The first violation's words."""
    wall_s: float = 0.0


def bug_named(name: str) -> Bug:
    """Raises LookupError."""
    for bug in BUGS:
        if bug.name == name:
            return bug
    raise LookupError(name)


def play(seed: int, orders: int, urls: Any, plan_name: str, bug: Bug | None = None) -> Result:
    """One seed of a plan, with a bug or without. An error that nothing caught is a violation too."""
    chosen = plan(plan_name)
    if bug is not None:
        chosen = replace(chosen, around=both(chosen.around, bug.plant))
    try:
        return run.run_seed(seed, orders, urls, chosen)
    except OperationalError:
        # The server is away, which no bug can cause.
        raise
    except Exception as error:  # noqa: BLE001  whatever a bug raises is how it shows
        return Result(seed, [f"0: {type(error).__name__}: {error}"])


def hunt(name: str, first: int, seeds: int, orders: int) -> Finding:
    """Play a bug until a seed catches it, in databases of its own: some bugs begin with a constraint dropped."""
    bug = bug_named(name)
    finding = Finding(bug.name, bug.plan)
    with stage() as urls:
        for seed in range(first, first + seeds):
            result = play(seed, orders, urls, bug.plan, bug)
            finding.seeds += 1
            finding.wall_s += result.wall_s
            if result.violations:
                finding.seed = seed
                finding.invariants = numbers(result.violations)
                finding.first = result.violations[0]
                break
    return finding


def controls(plan_name: str, seeds: Sequence[int], orders: int) -> dict[int, list[str]]:
    """The violations of the same seeds without a bug."""
    with stage() as urls:
        return {seed: play(seed, orders, urls, plan_name).violations for seed in seeds}


def numbers(violations: Sequence[str]) -> list[int]:
    """Which invariants are broken; 0 stands for an error that nothing caught."""
    return sorted({int(line.partition(":")[0]) for line in violations})


@contextmanager
def stage() -> Iterator[Any]:
    """Scratch databases for one piece of work of one process, and no log."""
    configure("faults", "CRITICAL", stream=open(os.devnull, "w"))  # noqa: SIM115  lives as long as the process
    with run.server() as address, run.databases(address) as urls:
        yield urls


def main(
    seeds: Annotated[int, typer.Option(min=1, help="After so many seeds a bug has escaped.")] = 10,
    first: Annotated[int, typer.Option(help="The first seed.")] = 1,
    orders: Annotated[int, typer.Option(min=1, help="User orders of each seed.")] = ORDERS,
    workers: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 2,
    only: Annotated[list[str] | None, typer.Option(help="Bugs whose name holds one of these.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the findings as JSON here.")] = None,
) -> None:
    """Plant every bug, then play the seeds that caught one without it; exit 1 when one escapes or a control is not clean."""
    if os.environ.get(HASH_SEED) != "0":
        environ = {**os.environ, HASH_SEED: "0"}
        os.execve(sys.executable, [sys.executable, "-m", "tests.faults.planted", *sys.argv[1:]], environ)  # noqa: S606  ourselves
    from tests.faults import planted  # by its own name, so that the processes of the pool find it

    wanted = [bug.name for bug in BUGS if not only or any(part in bug.name for part in only)]
    if not wanted:
        raise typer.BadParameter(f"no bug has such a name: {only}")
    findings: list[Finding] = []
    clean: dict[str, dict[int, list[str]]] = {}
    with (
        Progress(console=console) as progress,
        ProcessPoolExecutor(workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool,
    ):
        task = progress.add_task(f"{len(wanted)} bugs", total=len(wanted))
        for future in as_completed([pool.submit(planted.hunt, name, first, seeds, orders) for name in wanted]):
            finding = future.result()
            findings.append(finding)
            progress.advance(task)
            progress.console.print(f"{finding.bug}: {finding.seeds} seeds, {finding.first or 'escaped'}")
        used: dict[str, set[int]] = {}
        for finding in findings:
            used.setdefault(finding.plan, set()).update(range(first, first + finding.seeds))
        task = progress.add_task("the same seeds without a bug", total=len(used))
        pending = {pool.submit(planted.controls, name, sorted(chosen), orders): name for name, chosen in used.items()}
        for control in as_completed(pending):
            clean[pending[control]] = control.result()
            progress.advance(task)
    findings.sort(key=lambda finding: wanted.index(finding.bug))
    tell(findings, clean)
    if output is not None:
        output.write_text(json.dumps({"bugs": [asdict(one) for one in findings], "controls": clean}, indent=1))
    if not all(caught(finding, clean) for finding in findings) or unclean(clean):
        raise typer.Exit(1)


def caught(finding: Finding, clean: dict[str, dict[int, list[str]]]) -> bool:
    """Whether a seed saw the bug and sees nothing without it."""
    return finding.seed is not None and not clean[finding.plan][finding.seed]


def unclean(clean: dict[str, dict[int, list[str]]]) -> list[str]:
    """Violations of the control runs."""
    return [
        f"{name}, seed {seed}: {line}"
        for name, seeds in clean.items()
        for seed, lines in seeds.items()
        for line in lines
    ]


def tell(findings: Sequence[Finding], clean: dict[str, dict[int, list[str]]]) -> None:
    """One table."""
    table = Table(title="Planted bugs")
    for column in ("bug", "rule it breaks", "weather", "caught by invariant", "seeds to catch", "control"):
        table.add_column(column)
    for finding in findings:
        table.add_row(
            finding.bug,
            bug_named(finding.bug).rule,
            finding.plan,
            ", ".join(map(str, finding.invariants)) or "[bold red]escaped[/]",
            str(finding.seeds),
            "clean" if caught(finding, clean) else "-",
        )
    console.print(table)
    for line in unclean(clean):
        console.print(f"[bold red]control[/] {line}")
    count = sum(caught(finding, clean) for finding in findings)
    runs = sum(len(seeds) for seeds in clean.values())
    console.print(f"{count} of {len(findings)} caught; {runs} control runs, {len(unclean(clean))} violations")


if __name__ == "__main__":
    typer.run(main)
