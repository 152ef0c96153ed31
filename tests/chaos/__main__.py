"""`make chaos MINUTES=10`: real processes and servers, hurt for so long under load; then the books are checked.

Exit code 0: nothing lost, doubled or wrong. 1: a violation, printed in full. 2: the run itself broke. 3: not run, because
this machine lacks a server or the Indian day is about to end.
"""

import shutil
import signal
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from common.clock import SystemClock, trading_date
from common.logging import configure
from scripts.demo_client import DemoFailed
from tests.chaos.operators import OperatorStuck
from tests.chaos.run import Plan, run
from tests.chaos.servers import NotInstalled, ServerDidNotStart

VIOLATED, BROKEN, NOT_RUN = 1, 2, 3
AFTER_THE_LOAD = timedelta(minutes=8)
"""Start, heal and check included: the simulated exchange forgets its book at midnight."""

console = Console(width=150)


def main(
    minutes: Annotated[float, typer.Option(min=0.1, max=600)] = 10.0,
    seed: Annotated[int, typer.Option()] = 1,
    users: Annotated[int, typer.Option(min=1, max=200)] = 20,
    rate: Annotated[float, typer.Option(help="Requests per second.")] = 5.0,
    every: Annotated[float, typer.Option(help="Seconds between two strikes.")] = 5.0,
    freeze_max: Annotated[float, typer.Option(help="Longest SIGSTOP, in seconds.")] = 30.0,
    hold_max: Annotated[float, typer.Option(help="Longest silence of a wire, in seconds.")] = 20.0,
    accept_delay_max: Annotated[float, typer.Option(help="Latest arrival of an order the exchange sat on.")] = 60.0,
    drain: Annotated[float, typer.Option(help="Seconds for orders to trade before users take them back.")] = 45.0,
    faults: Annotated[str, typer.Option(help="The exchange's faults: standard or off.")] = "standard",
    json: Annotated[Path | None, typer.Option(help="Write the figures there.")] = None,
    keep: Annotated[bool, typer.Option(help="Keep the directory with all logs and the truth log.")] = False,
) -> None:
    """Run and print the figures."""
    configure("chaos", "WARNING", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _interrupt)
    if _crosses_midnight(timedelta(minutes=minutes) + AFTER_THE_LOAD):
        _not_run("the Indian day ends before the run would; start again after midnight there")
    directory = Path(tempfile.mkdtemp(prefix="saras-chaos-"))
    directory.chmod(0o755)
    console.print(f"Logs: {directory / 'logs'}")
    begun = time.monotonic()

    def tell(event: str, **facts: object) -> None:
        words = " ".join(f"{name}={value}" for name, value in facts.items())
        console.print(f"{time.monotonic() - begun:7.1f} {event} {words}", highlight=False, markup=False)

    plan = Plan(minutes, seed, users, rate, every, freeze_max, hold_max, accept_delay_max, drain, faults)
    try:
        figures = run(plan, directory, tell)
    except NotInstalled as missing:
        _not_run(str(missing))
    except (ServerDidNotStart, DemoFailed, OperatorStuck) as failure:
        console.print(f"[bold red]The run broke:[/] {failure}")
        sys.exit(BROKEN)
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
    figures.show(console)
    if json is not None:
        figures.write(json)
    sys.exit(VIOLATED if figures.violated else 0)


def _crosses_midnight(duration: timedelta) -> bool:
    now = SystemClock().now()
    return trading_date(now) != trading_date(now + duration)


def _not_run(why: str) -> None:
    console.print(f"[bold yellow]Chaos was not run:[/] {why}")
    sys.exit(NOT_RUN)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    application = typer.Typer(pretty_exceptions_enable=False)
    application.command()(main)
    application()
