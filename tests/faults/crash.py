"""`make crash-points`: every scenario once undisturbed, then once for each point it comes to, with a kill exactly there.

Coverage is over the list that `points` reads from the source: a commit that no scenario reaches is named and fails.
"""

import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from common.logging import configure
from tests.faults import invariants, run
from tests.faults.disasters import Operator
from tests.faults.invariants import Books, Truth
from tests.faults.points import AFTER, BEFORE, WIRE_POINTS, Point, commit_sites
from tests.faults.run import Quiet, clear, observers
from tests.faults.scenarios import SCENARIOS, SETTINGS, Stage
from tests.faults.schedule import Stuck
from tests.faults.world import CALM, World

HASH_SEED = "PYTHONHASHSEED"
QUIET_WITHIN_S = 2_400.0
SETTLE_S = 15.0
NOT_ON_THE_PATH = {
    "audit_chain.run": "links audit rows; tested with its own room",
    "key_rotation.rotate": "an operator's command; tested with its own room",
    "routes_broker._record_asked": "a person's login over HTTP",
    "sessions.access_token": "asked by market-data-service over HTTP",
    "routes_orders._bought": "reads a lot before an order like any other",
    "routes_portfolios._chosen": "reads only",
    "routes_portfolios._held": "reads only",
    "routes_portfolios._traded": "reads only",
    "routes_portfolios.get_portfolio": "reads only",
    "day_jobs._report_missed": "the day after a day without an end",
    "gauges.count_orders": "reads only",
    "gauges.prove_ledger": "reads only",
    "outbox.measure": "reads only",
}
"""Sites that no order's life comes to, with the reason; they are not counted."""
console = Console()


@dataclass
class Outcome:
    """One run of a scenario."""

    scenario: str
    point: str
    violations: list[str]
    reached: list[Point] = field(default_factory=list)
    killed: bool = False
    wall_s: float = 0.0


def every_point() -> list[Point]:
    """All points there are, in the order of their numbers."""
    commits = [
        Point("commit", site, moment) for site in sorted(commit_sites()) if site not in NOT_ON_THE_PATH for moment in (BEFORE, AFTER)
    ]  # fmt: skip
    return [*commits, *WIRE_POINTS]


def run_scenario(
    name: str, urls: Mapping[str, str], point: Point | None = None, *, nth: int = 1, seed: int = 1
) -> Outcome:
    """Play a scenario, with a kill when `point` is reached for the n-th time; check everything afterwards."""
    clear(urls)
    started = time.perf_counter()
    armed = None if point is None else (point, nth)
    world = World(seed, urls, CALM, executor_settings=SETTINGS.get(name, {}), twins=1, armed=armed)
    outcome = Outcome(name, str(point), [])
    with world.running():
        stage = Stage(world, [])
        operator = Operator(world, random.Random(f"{seed}/operator"), 0)  # noqa: S311  reproducible, not secret
        world.scheduler.spawn("operator", operator.run)
        story = world.scheduler.spawn("scenario", lambda: SCENARIOS[name](stage))
        books = Books(observers(urls), Truth({}, {}), world.settings.tag_key.get_secret_value().encode(), {})
        try:
            if not world.scheduler.run(Quiet(world, books, story, settle_s=SETTLE_S), until_s=QUIET_WITHIN_S):
                outcome.violations.append(f"1: not quiet after {QUIET_WITHIN_S:.0f} s")
        except Stuck as stuck:
            outcome.violations.append(f"1: {stuck}")
        books.truth = Truth.of(world.engine.kernel.facts)
        outcome.violations.extend(invariants.check(books, requests=stage.requests, halts=[], quiet=True))
        outcome.reached = list(world.points.reached)
        outcome.killed = bool(world.counts["killed at the armed point"])
    for db in books.databases.values():
        db.dispose()
    outcome.wall_s = time.perf_counter() - started
    return outcome


def play(names: Sequence[str], keep: Callable[[str, Point], bool]) -> Iterator[Outcome]:
    """All runs of some scenarios in this process: first undisturbed, then killed at every point that `keep` wants."""
    configure("faults", "CRITICAL", stream=open(os.devnull, "w"))  # noqa: SIM115  lives as long as the process
    with run.server() as address, run.databases(address) as urls:
        for name in names:
            undisturbed = run_scenario(name, urls)
            yield undisturbed
            for point in sorted(undisturbed.reached):
                if keep(name, point):
                    yield run_scenario(name, urls, point)


def one(name: str, wanted: Sequence[str] | None = None) -> list[Outcome]:
    """One scenario, undisturbed and with a kill at each wanted point (None: at all it comes to), in its own databases."""
    return list(play([name], lambda _name, point: wanted is None or str(point) in wanted))


def shares(undisturbed: Sequence[Outcome]) -> dict[str, list[str]]:
    """Each point given to the quickest scenario that comes to it: everything is covered with the fewest minutes."""
    given: dict[str, list[str]] = {}
    taken: set[str] = set()
    listed = {str(point) for point in every_point()}
    for outcome in sorted(undisturbed, key=lambda one: one.wall_s):
        mine = sorted({str(point) for point in outcome.reached} & listed - taken)
        taken.update(mine)
        if mine:
            given[outcome.scenario] = mine
    return given


def main(
    scenario: Annotated[list[str] | None, typer.Option(help="Only these scenarios.")] = None,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    cover: Annotated[bool, typer.Option(help="Kill at each point once, not in every scenario.")] = False,
    every: Annotated[int, typer.Option(min=1, help="Only every n-th point: a quick look, without the coverage.")] = 1,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON here.")] = None,
) -> None:
    """Kill at every point of every scenario; exit 1 on a violation or on a point nobody was killed at."""
    if os.environ.get(HASH_SEED) != "0":
        environ = {**os.environ, HASH_SEED: "0"}
        os.execve(sys.executable, [sys.executable, "-m", "tests.faults.crash", *sys.argv[1:]], environ)  # noqa: S606  ourselves
    names = scenario or list(SCENARIOS)
    wanted: dict[str, Sequence[str] | None] = dict.fromkeys(names)
    if every > 1:
        some = tuple(str(point) for point in every_point()[::every])
        wanted = dict.fromkeys(names, some)
    outcomes: list[Outcome] = []
    with Progress(console=console) as progress, ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), max_tasks_per_child=1
    ) as pool:  # fmt: skip
        if cover:
            outcomes += in_parallel(pool, progress, "undisturbed", dict.fromkeys(names, ()))
            wanted = dict(shares(outcomes))
        outcomes += in_parallel(pool, progress, "killed", wanted)
    report = figures(outcomes)
    tell(outcomes, report)
    if output is not None:
        output.write_text(json.dumps(report, indent=1))
    if report["violations"] or (scenario is None and every == 1 and report["never killed at"]):
        raise typer.Exit(1)


def in_parallel(
    pool: ProcessPoolExecutor, progress: Progress, title: str, wanted: Mapping[str, Sequence[str] | None]
) -> list[Outcome]:
    """Scenarios side by side."""
    from tests.faults import crash  # by its own name, so that the processes of the pool find it

    outcomes: list[Outcome] = []
    task = progress.add_task(f"{len(wanted)} scenarios {title}", total=len(wanted))
    for future in as_completed([pool.submit(crash.one, name, points) for name, points in wanted.items()]):
        outcomes += future.result()
        progress.advance(task)
        for outcome in future.result():
            for violation in outcome.violations:
                progress.console.print(f"[bold red]{outcome.scenario}, {outcome.point}[/] {violation}")
    return outcomes


def figures(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """What was covered and what went wrong."""
    numbered = {str(point): number for number, point in enumerate(every_point(), 1)}
    killed = Counter(outcome.point for outcome in outcomes if outcome.killed)
    return {
        "scenarios": len({outcome.scenario for outcome in outcomes}),
        "runs": len(outcomes),
        "kills": sum(killed.values()),
        "points": len(numbered),
        "points killed at": len(numbered.keys() & killed.keys()),
        "coverage": f"{100 * len(numbered.keys() & killed.keys()) / len(numbered):.1f} %",
        "never killed at": [f"{number} {point}" for point, number in numbered.items() if point not in killed],
        "violations": [f"{outcome.scenario}, {outcome.point}: {line}" for outcome in outcomes for line in outcome.violations],
        "wall seconds": round(sum(outcome.wall_s for outcome in outcomes)),
    }  # fmt: skip


def tell(outcomes: Sequence[Outcome], report: Mapping[str, object]) -> None:
    """One table."""
    table = Table(title="Crash points", show_header=False)
    for name, value in report.items():
        table.add_row(name, "\n".join(value) if isinstance(value, list) else f"{value}")
    console.print(table)
    per_scenario = Counter(outcome.scenario for outcome in outcomes if outcome.killed)
    console.print(", ".join(f"{name} {count}" for name, count in sorted(per_scenario.items())))


if __name__ == "__main__":
    typer.run(main)
