"""Orders against the platform in containers, then the books of all rooms against the exchange's truth.

Runs as Compose's service `tests` (`docker compose --profile test run --rm tests --seconds 60`), inside its networks, on a
platform that nobody else has used: what nobody asked for is a violation. Exit code 0: nothing lost, doubled or wrong.
"""

import asyncio
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, cast

import httpx
import typer
from rich.console import Console
from rich.table import Table

from common.config import SECRETS_DIRECTORY_VARIABLE
from common.db import Database
from common.logging import configure
from portfolio_service import ledger_check
from scripts.demo_client import Client
from scripts.embedded_environment import PREFIXES
from tests.chaos import checker
from tests.chaos.books import PORTFOLIO, USER, Books, busy
from tests.chaos.load import HTTP_LIMITS, Load
from tests.chaos.operators import Operators
from tests.chaos.platform import OPERATORS, Platform
from tests.chaos.truth import Truth
from user_service.admin_cli import create_admin

DRAIN_S = 45.0
QUIET_WAIT_S = 240.0
PROBE_S = 2.0
QUIET_PROBES = 2

console = Console(width=150)


@dataclass
class Containers:
    """The platform as seen from inside its networks: what the checks of `make chaos` ask of a platform."""

    gateway_url: str
    simulator_url: str
    secrets: Path
    passwords: dict[str, str] = field(default_factory=dict)

    def database(self, room: str) -> str:
        """A room's database as its owner."""
        return (self.secrets / f"{PREFIXES[room].lower()}database_url").read_text()


def main(
    seconds: Annotated[float, typer.Option(min=5, help="How long users send orders.")] = 60.0,
    users: Annotated[int, typer.Option(min=1, max=200)] = 20,
    rate: Annotated[float, typer.Option(help="Requests a second.")] = 5.0,
    seed: Annotated[int, typer.Option()] = 1,
    secrets: Annotated[Path, typer.Option(envvar=SECRETS_DIRECTORY_VARIABLE)] = Path("/run/saras"),
    gateway: Annotated[str, typer.Option()] = "http://gateway:8000",
    simulator: Annotated[str, typer.Option()] = "http://simulator:9010",
) -> None:
    """Trade, wait until nothing moves, compare; exit code 1 on any violation."""
    configure("compose-trial", "WARNING", stream=sys.stderr)
    platform = Containers(gateway, simulator, secrets)
    found, counts = asyncio.run(_run(platform, seconds, users, rate, seed))
    table = Table("check", "violations", title="Orders through containers")
    for name, lines in found.items():
        table.add_row(name, f"[bold red]{len(lines)}[/]" if lines else "0")
    console.print(table)
    for name, count in counts.items():
        console.print(f"{name}: {count}")
    for name, lines in found.items():
        for line in lines[:20]:
            console.print(f"[bold red]{name}[/]: {line}", highlight=False)
    sys.exit(1 if any(found.values()) else 0)


async def _run(
    containers: Containers, seconds: float, users: int, rate: float, seed: int
) -> tuple[dict[str, list[str]], dict[str, Any]]:
    platform = cast(Platform, containers)
    _make_operators(containers)
    operators = Operators(platform, lambda *_, **__: None)
    async with httpx.AsyncClient(base_url=containers.gateway_url, limits=HTTP_LIMITS, trust_env=False) as http:
        admin = Client(http)
        await admin.login(OPERATORS[0], containers.passwords[OPERATORS[0]])
        load = Load(http, rate, random.Random(seed))  # noqa: S311  repeatable choices, no secret
        await load.sign_up(users, admin)
        console.print("trading")
        trading = asyncio.create_task(load.run())
        try:
            operators.start()
            await asyncio.sleep(seconds)
            load.stop.set()
            await trading
            await asyncio.to_thread(_until, lambda: not busy(platform).get("live user orders"), DRAIN_S)
            await load.cancel_all()
            quiet_s = await asyncio.to_thread(_until, lambda: not busy(platform), QUIET_WAIT_S)
        finally:
            trading.cancel()
            await asyncio.gather(trading, return_exceptions=True)
            await asyncio.to_thread(operators.stop)
    books, truth = Books.read(platform), Truth.of(operators.truth())
    evidence = checker.Evidence(list(load.asks), books, truth, _ledger(containers), operators.halts)
    found = checker.verdict(evidence)
    found["all came to rest"] = [f"{name}: {count}" for name, count in busy(platform).items()]
    operators.close()
    return found, {
        "requests": sum(1 for _ in load.asks),
        "user orders": len(books.orders),
        "broker orders": len(truth.orders),
        "fills": len(books.fills),
        "allocations": len(books.allocations),
        "requests answered later": dict(load.server_errors),
        "seconds until quiet": round(quiet_s, 1),
    }


def _make_operators(containers: Containers) -> None:
    database = Database(containers.database(USER), pool_size=1)
    try:
        for address in OPERATORS:
            containers.passwords[address] = str(create_admin(database, address, roles=["admin", "ops"]).password)
    finally:
        database.dispose()


def _until(true: Callable[[], bool], patience_s: float) -> float:
    """Wait until something holds several times in a row, or the patience ends; answers the seconds it took."""
    started = time.monotonic()
    calm = 0
    while calm < QUIET_PROBES and time.monotonic() - started < patience_s:
        threading.Event().wait(PROBE_S)
        calm = calm + 1 if true() else 0
    return time.monotonic() - started


def _ledger(containers: Containers) -> ledger_check.LedgerReport:
    database = Database(containers.database(PORTFOLIO), pool_size=1)
    try:
        with database.transaction() as session:
            return ledger_check.check(session)
    finally:
        database.dispose()


if __name__ == "__main__":
    typer.run(main)
