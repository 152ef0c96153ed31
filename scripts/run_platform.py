"""`make run`: the whole platform on this machine, from one command, with nothing installed but Python.

Servers come from wheels, the broker is the simulator in a process of its own, every room runs here on a loopback socket.
All data lives in one directory; Ctrl-C stops everything, the next start finds the data.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from common.collector import spare_what_stays
from common.config import InvalidSettings
from common.logging import configure, get_logger
from scripts.embedded_assembly import Platform
from scripts.embedded_environment import ROOMS, prepare
from scripts.embedded_servers import DataDirectoryInUse, exclusive, listening_socket, postgres, simulator, valkey
from scripts.platform_state import Running, announce, data_directory, withdraw

log = get_logger(__name__)
console = Console()

DEFAULT_GATEWAY_PORT = 8000


def main(quiet: Annotated[bool, typer.Option(help="Do not print the addresses.")] = False) -> None:
    """Start everything, print the addresses, stop on SIGINT or SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    directory = data_directory()
    try:
        with ExitStack() as stack:
            started = time.monotonic()
            stack.enter_context(exclusive(directory))
            stack.callback(withdraw)
            running = start(stack, directory)
            announce(running)
            if not quiet:
                tell(running, directory, time.monotonic() - started)
            stop.wait()
            if not quiet:
                console.print("Stopping...")
    except (DataDirectoryInUse, InvalidSettings) as error:
        console.print(f"[bold red]Cannot start:[/] {error}")
        sys.exit(1)


def start(stack: ExitStack, directory: Path) -> Running:
    """Servers, environment, rooms; everything started is stopped by the stack in reverse order."""
    log_file = stack.enter_context((directory / "platform.log").open("a", buffering=1))
    configure("platform", os.environ.get("LOG_LEVEL", "INFO"), stream=log_file)
    databases: Mapping[str, str] = stack.enter_context(postgres(directory))
    cache_url = stack.enter_context(valkey(directory))
    listeners = {room: listening_socket() for room in ROOMS if room != "api-gateway"}
    listeners["api-gateway"] = listening_socket(int(os.environ.get("GATEWAY_PORT") or DEFAULT_GATEWAY_PORT))
    addresses = {room: f"http://127.0.0.1:{listener.getsockname()[1]}" for room, listener in listeners.items()}
    prepare(directory, databases=databases, cache_url=cache_url, addresses=addresses)
    simulator_url = stack.enter_context(simulator(directory, os.environ))
    os.environ["EXECUTOR_KITE_ROOT"] = simulator_url
    platform = Platform(listeners)
    stack.callback(platform.stop)
    platform.build()
    platform.start()
    spare_what_stays()
    return Running(
        pid=os.getpid(),
        gateway_url=addresses["api-gateway"],
        simulator_url=simulator_url,
        database_urls=dict(databases),
        mail_url=f"{addresses['notification-service']}/development/mail",
    )


def tell(running: Running, directory: Path, seconds: float) -> None:
    """Print where everything is."""
    console.print(f"[bold green]The platform is ready[/] after {seconds:.1f} s. Paper trading; Ctrl-C stops it.")
    console.print(f"  API documentation   {running.gateway_url}/docs")
    console.print(f"  API                 {running.gateway_url}/api/v1")
    console.print(f"  readiness, metrics  {running.gateway_url}/health/ready  {running.gateway_url}/metrics")
    console.print(f"  mails (none leave)  {running.mail_url}")
    console.print(f"  broker simulator    {running.simulator_url}")
    console.print(f"  data and logs       {directory}")
    console.print("  try it              make demo")


if __name__ == "__main__":
    typer.run(main)
