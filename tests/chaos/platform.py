"""The whole platform of a run: private servers, proxies before them, every room's processes with their settings.

Two of every relay, consumer, sweeper, loop and worker run at once. Whatever can be cut goes through a proxy: the
database, the message broker and the simulated exchange.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from types import MappingProxyType

from common.db import Database
from common.testing_ports import free_port
from scripts.embedded_environment import PREFIXES, ROOMS, variables
from scripts.embedded_servers import DATABASES
from tests.chaos.keeper import Keeper
from tests.chaos.processes import Spec, Supervisor, weigh
from tests.chaos.proxies import Proxies
from tests.chaos.servers import Cache, Postgres, Rabbit, ServerDidNotStart, wait_for
from user_service.admin_cli import create_admin

OPERATORS = ("operator-one@example.com", "operator-two@example.com")
"""Resuming after a halt takes two people."""
TWICE = {
    "portfolio-service": ("consume", "relay", "sweep"),
    "smallcase-service": ("consume", "relay", "drive"),
    "trade-executor": ("consume", "relay", "worker", "loop"),
    "notification-service": ("consume", "worker", "loop"),
    "analytics-service": ("consume",),
}
ONCE = {"user-service": ("relay",), "market-data-service": ("loop",)}
ON_THE_BUS = frozenset({"consume", "worker"})
"""Commands that are connected to the message broker all the time; a relay connects with its first message."""
START_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Ports:
    """Where the proxies listen."""

    postgres: int
    rabbit: int
    simulator: int


@dataclass(frozen=True)
class Platform:
    """A running platform and the handles to hurt it."""

    directory: Path
    postgres: Postgres
    rabbit: Rabbit
    cache: Cache
    proxies: Proxies
    ports: Ports
    supervisor: Supervisor
    gateway_url: str
    simulator_url: str
    passwords: dict[str, str]
    """Of the operators, by address."""

    def database(self, room: str) -> str:
        """A room's database as its owner, not through the proxy."""
        return self.postgres.url(DATABASES[room], user=DATABASES[room])


@contextmanager
def started(
    directory: Path,
    *,
    seed: int,
    settings: dict[str, str],
    tell: Callable[..., None],
    copies: int = 2,
    counts: Mapping[str, int] = MappingProxyType({}),
    proxied: bool = True,
    niceness: Mapping[str, int] = MappingProxyType({}),
) -> Iterator[Platform]:
    """Start servers and rooms, wait until all work; everything is ended when the block ends, however it ends.

    `copies` of every process that may run more than once; `counts` says otherwise for some ("trade-executor.worker": 4).
    Without `proxied` the rooms reach the servers directly, and nothing can be cut. `niceness` of rooms and servers, by name.
    """
    (directory / "logs").mkdir()
    with ExitStack() as stack:
        keeper = Keeper(directory)
        stack.callback(keeper.stop)
        rabbit = Rabbit(directory, keeper.watch)
        stack.callback(rabbit.stop)
        postgres = Postgres(directory, keeper.watch)
        stack.callback(postgres.stop)
        cache = Cache(keeper.watch)
        stack.callback(cache.stop)
        postgres.create()
        postgres.make_databases(DATABASES.values())
        cache.start()
        rabbit.create()
        for name, pid in (("postgresql", postgres.pid), ("rabbitmq", rabbit.pid)):
            if pid is not None:
                weigh(pid, niceness.get(name, 0))
        simulator_port = free_port()
        servers = Ports(postgres.port, rabbit.port, simulator_port)
        ports = Ports(free_port(), free_port(), free_port()) if proxied else servers
        proxies = Proxies(dict(zip(astuple(ports), astuple(servers), strict=True)) if proxied else {})
        stack.callback(proxies.stop)
        addresses = {room: f"http://127.0.0.1:{free_port()}" for room in ROOMS}
        environ = _environ(directory, postgres, cache, addresses, ports, simulator_port, seed) | settings
        _migrate(environ)
        passwords = _operators(postgres)
        supervisor = Supervisor(directory, tell, keeper.watch)
        stack.callback(supervisor.stop)
        supervisor.start(_specs(environ, addresses, ports, simulator_port, copies, counts, niceness))
        _await_work(supervisor)
        yield Platform(
            directory, postgres, rabbit, cache, proxies, ports, supervisor,
            gateway_url=addresses["api-gateway"], simulator_url=f"http://127.0.0.1:{simulator_port}",
            passwords=passwords,
        )  # fmt: skip


def _await_work(supervisor: Supervisor) -> None:
    try:
        wait_for(lambda: not supervisor.idle(), "the platform", START_TIMEOUT_S)
    except ServerDidNotStart as failure:
        raise ServerDidNotStart(f"{failure}: {', '.join(supervisor.idle())}") from None


def _environ(
    directory: Path,
    postgres: Postgres,
    cache: Cache,
    addresses: dict[str, str],
    ports: Ports,
    simulator_port: int,
    seed: int,
) -> dict[str, str]:
    """The settings of all rooms; those of the shell that started the run do not count."""
    ours = (*PREFIXES.values(), "KITE_SIM_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    databases = {room: postgres.url(name, user=name, port=ports.postgres) for room, name in DATABASES.items()}
    broker = Rabbit.url_at(ports.rabbit)
    (directory / "simulator").mkdir()
    return {
        **inherited,
        **variables(directory, databases=databases, cache_url=cache.url, addresses=addresses),
        **{f"{PREFIXES[room]}PORT": address.rpartition(":")[2] for room, address in addresses.items()},
        "PYTHONUNBUFFERED": "1",
        "BUS_URL": broker,
        "EXECUTOR_CELERY_BROKER_URL": broker,
        "NOTIFICATION_CELERY_BROKER_URL": broker,
        "EXECUTOR_KITE_ROOT": f"http://127.0.0.1:{ports.simulator}",
        "EXECUTOR_DATABASE_POOL_SIZE": "4",
        "GATEWAY_LIMITS_URL": cache.url,
        "PORTFOLIO_SUBMISSIONS_PER_MINUTE": "100000",
        "EXECUTOR_SENDS_PER_DAY": "100000",
        "EXECUTOR_PLACES_PER_DAY": "90000",
        "KITE_SIM_HOST": "127.0.0.1",
        "KITE_SIM_PORT": str(simulator_port),
        "KITE_SIM_DATA_DIR": str(directory / "simulator"),
        "KITE_SIM_SEED": str(seed),
    }


def _migrate(environ: dict[str, str]) -> None:
    """Bring every database to its newest revision, as an init container does."""
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", room.replace("-", "_"), "migrate"],
            env=environ, cwd=environ["KITE_SIM_DATA_DIR"], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for room in DATABASES
    ]  # fmt: skip
    for room, run in zip(DATABASES, runs, strict=True):
        _, errors = run.communicate(timeout=120)
        if run.returncode:
            raise RuntimeError(f"migration of {room} failed: {errors[-2000:]}")


def _operators(postgres: Postgres) -> dict[str, str]:
    name = DATABASES["user-service"]
    database = Database(postgres.url(name, user=name), pool_size=1)
    try:
        return {address: str(create_admin(database, address, roles=["admin", "ops"]).password) for address in OPERATORS}
    finally:
        database.dispose()


def _specs(
    environ: dict[str, str],
    addresses: dict[str, str],
    ports: Ports,
    simulator_port: int,
    twins: int,
    counts: Mapping[str, int],
    niceness: Mapping[str, int],
) -> list[Spec]:
    specs = [
        Spec(
            "simulator", "kite_simulator", "api", environ,
            health_url=f"http://127.0.0.1:{simulator_port}/simulator/health",
        )
    ]  # fmt: skip
    for room in ROOMS:
        package = room.replace("-", "_")
        # The gateway is ready when all rooms are; its own health is the process alone.
        path = "/health" if room == "api-gateway" else "/health/ready"
        nice = niceness.get(room, 0)
        specs.append(Spec(f"{room}.api", package, "api", environ, health_url=f"{addresses[room]}{path}", niceness=nice))
        copies = dict.fromkeys(TWICE.get(room, ()), twins) | dict.fromkeys(ONCE.get(room, ()), 1)
        for command, usual in copies.items():
            # A consumer and a worker's children open the database with their first message.
            needs = (ports.rabbit,) if command in ON_THE_BUS else (ports.postgres,)
            specs += [
                Spec(f"{room}.{command}-{number + 1}", package, command, environ, needs=needs, niceness=nice)
                for number in range(counts.get(f"{room}.{command}", usual))
            ]
    return specs
