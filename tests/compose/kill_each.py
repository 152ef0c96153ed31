"""`make compose-trial`: every container of a fresh platform is killed in turn while orders flow; then the books are checked.

Starts the Compose project of this folder anew (its volumes are deleted), needs a Docker engine and built images. Exit code
0: nothing lost, doubled or wrong, and every container came back.
"""

import json
import subprocess
import sys
import time
from statistics import quantiles
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from scripts.compose_platform import ComposeFailed, compose

UP_TIMEOUT_S = 300.0
HEALTHY_TIMEOUT_S = 120.0
POLL_S = 0.5
PAUSE_S = 3.0
FINAL_TIMEOUT_S = 600.0
"""From the last order to the verdict."""
STANDING = "{{.State.Status}} {{with .State.Health}}{{.Status}}{{end}}"
NOT_KILLED = frozenset({"tests", "operator"})

console = Console(width=120)


def main(
    seconds: Annotated[float, typer.Option(help="How long orders flow; long enough for all kills.")] = 600.0,
    rate: Annotated[float, typer.Option(help="Requests a second.")] = 4.0,
    keep: Annotated[bool, typer.Option(help="Leave the platform running.")] = False,
) -> None:
    """Start, let orders flow, kill and start each container, check."""
    compose("--profile", "test", "down", "--volumes", "--remove-orphans", timeout_s=UP_TIMEOUT_S)
    begun = time.monotonic()
    compose("up", "--wait", "--no-build", timeout_s=UP_TIMEOUT_S)
    console.print(f"up and healthy after {time.monotonic() - begun:.1f} s")
    command = ["docker", "compose", "--profile", "test", "run", "--rm", "-T", "tests"]
    orders = subprocess.Popen(
        [*command, "--seconds", str(seconds), "--rate", str(rate)], stdout=subprocess.PIPE, text=True
    )
    assert orders.stdout is not None
    for line in orders.stdout:
        if line.startswith("trading"):
            break
    back: dict[str, float | None] = {}
    deadline = time.monotonic() + seconds
    running = {
        service: one["Name"]
        for service, one in containers().items()
        if one["State"] == "running" and service not in NOT_KILLED
    }
    for service, name in sorted(running.items()):
        if time.monotonic() > deadline:
            console.print(f"[bold red]no time left to kill {service}[/]")
            back[service] = None
            continue
        back[service] = kill(name)
        console.print(f"{service}: healthy again after {back[service]} s")
        time.sleep(PAUSE_S)
    still_s = max(0.0, deadline - time.monotonic())
    said, _ = orders.communicate(timeout=still_s + FINAL_TIMEOUT_S)
    console.print(said, highlight=False, markup=False)
    report(back)
    if not keep:
        begun = time.monotonic()
        compose("--profile", "test", "down", "--volumes", timeout_s=UP_TIMEOUT_S)
        console.print(f"down after {time.monotonic() - begun:.1f} s")
    sys.exit(1 if orders.returncode or None in back.values() else 0)


def kill(name: str) -> float | None:
    """SIGKILL and start again; answers the seconds until it is healthy, None when it does not become so in time."""
    began = time.monotonic()
    docker("kill", "--signal", "KILL", name)
    # Killed by hand a container stays down. `docker start` starts it alone; Compose would run its migrations first.
    docker("start", name)
    while time.monotonic() - began < HEALTHY_TIMEOUT_S:
        if docker("inspect", "--format", STANDING, name).split() in (["running", "healthy"], ["running"]):
            return round(time.monotonic() - began, 1)
        time.sleep(POLL_S)
    return None


def docker(*arguments: str) -> str:
    """What the command says; raises CalledProcessError."""
    command = ["docker", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=HEALTHY_TIMEOUT_S).stdout


def containers() -> dict[str, dict[str, Any]]:
    """Every container of the project by its service."""
    try:
        lines = compose("ps", "--all", "--format", "json").splitlines()
    except ComposeFailed:
        return {}
    return {one["Service"]: one for one in map(json.loads, filter(None, lines))}


def report(back: dict[str, float | None]) -> None:
    """One table of recoveries."""
    times = [seconds for seconds in back.values() if seconds is not None]
    table = Table("killed", "back", "p50", "longest", title="Containers")
    middle = quantiles(times, n=2)[0] if len(times) > 1 else 0.0
    table.add_row(str(len(back)), str(len(times)), f"{middle:.1f} s", f"{max(times, default=0.0):.1f} s")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
