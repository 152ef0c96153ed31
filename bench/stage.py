"""What benchmarks run on: the platform's real processes with real PostgreSQL, RabbitMQ and Redis, one of each, and users.

Limits that protect a public installation (requests a minute, value a day) are lifted, durability is not: PostgreSQL
flushes every commit.
"""

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from uuid import uuid4

import httpx
import psutil

from scripts.demo_client import Client, password
from tests.chaos.books import live_orders
from tests.chaos.load import HTTP_LIMITS
from tests.chaos.platform import Platform, started

UNLIMITED = {
    "GATEWAY_GENERAL_PER_MINUTE": "1000000",
    "GATEWAY_ORDERS_PER_MINUTE": "1000000",
    "GATEWAY_AUTH_PER_MINUTE": "1000000",
    "GATEWAY_ANONYMOUS_PER_MINUTE": "1000000",
    "PORTFOLIO_SUBMISSIONS_PER_MINUTE": "1000000",
    "PORTFOLIO_DUPLICATE_WINDOW_S": "0",
    "PORTFOLIO_DAILY_VALUE_MAX_RUPEES": "100000000000",
    "PORTFOLIO_INITIAL_PAPER_CASH_RUPEES": "10000000",
    "PORTFOLIO_KYC_REQUIRED": "false",
    "EXECUTOR_SENDS_PER_MINUTE": "100000",
    "EXECUTOR_VALUE_PER_DAY_PAISE": "1000000000000000",
    "LOG_LEVEL": "WARNING",
}
SIGN_UPS_AT_ONCE = 4
IDLE_LOOK_S = 0.5
"""Counting the live orders of a burst takes the database some 15 ms."""
SHARES = {"postgresql": -6, "rabbitmq": -6, "notification-service": 6, "analytics-service": 6}
"""Niceness: servers that every room waits for have four times a room's share of the processors, rooms that tell and count what
others have done a quarter of it, as in Compose."""


@dataclass(frozen=True)
class Stage:
    """A running platform and the tokens of its users."""

    platform: Platform
    tokens: list[str]

    def url(self, room: str) -> str:
        """Where a room's API answers."""
        spec = self.platform.supervisor.spec(f"{room}.api")
        assert spec.health_url is not None
        return spec.health_url.removesuffix("/health/ready").removesuffix("/health")

    def cpu(self) -> dict[str, float]:
        """Seconds of processor used so far, by process; PostgreSQL's are added up."""
        used = {name: _seconds(one.pid) for name, one in self.platform.supervisor._running.items() if one.pid}
        for name, pid in (("postgresql", self.platform.postgres.pid), ("rabbitmq", self.platform.rabbit.pid)):
            used[name] = _tree(pid) if pid else 0.0
        return used

    def memory(self) -> dict[str, int]:
        """Resident bytes by process, children included; PostgreSQL's as proportional shares."""
        found = {name: _resident(one.pid) for name, one in self.platform.supervisor._running.items() if one.pid}
        pid = self.platform.postgres.pid
        found["postgresql"] = _resident(pid) if pid else 0
        return found

    @contextmanager
    def standing_still(self, *names: str) -> Iterator[None]:
        """Processes that do nothing for the time of the block."""
        pids = [
            one.pid for name, one in self.platform.supervisor._running.items() if name.startswith(names) and one.pid
        ]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


def _seconds(pid: int) -> float:
    try:
        return _tree(pid)
    except psutil.NoSuchProcess:
        return 0.0


def _tree(pid: int) -> float:
    """Of a process and its children; a server's backends that have ended are in its own figure of waited-for children."""
    parent = psutil.Process(pid)
    times = [parent.cpu_times(), *(child.cpu_times() for child in parent.children(recursive=True))]
    first = times[0]
    return first.children_user + first.children_system + sum(one.user + one.system for one in times)


def _resident(pid: int) -> int:
    parent = psutil.Process(pid)
    return sum(one.memory_full_info().pss for one in (parent, *parent.children(recursive=True)))


@contextmanager
def stage(
    users: int, settings: dict[str, str] | None = None, counts: Mapping[str, int] = MappingProxyType({})
) -> Iterator[Stage]:
    """Start everything and sign users up; each has a crore of paper money. `counts`: processes of which not one is wanted."""
    with tempfile.TemporaryDirectory(prefix="saras-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        chosen = {**UNLIMITED, **(settings or {})}
        with started(
            directory,
            seed=1,
            settings=chosen,
            tell=lambda *_, **__: None,
            copies=1,
            counts=counts,
            proxied=False,
            niceness=SHARES,
        ) as platform:
            yield Stage(platform, asyncio.run(sign_up(platform.gateway_url, users)))


async def sign_up(gateway_url: str, users: int) -> list[str]:
    """Tokens of new users."""
    gate = asyncio.Semaphore(SIGN_UPS_AT_ONCE)
    run_id = uuid4().hex[:8]
    async with httpx.AsyncClient(base_url=gateway_url, limits=HTTP_LIMITS, trust_env=False, timeout=60) as http:

        async def one(number: int) -> str:
            async with gate:
                client, word = Client(http), password()
                email = f"bench{number}.{run_id}@example.com"
                await client.register(email, word, f"User {number}")
                answer = await http.post("/api/v1/auth/login", json={"email": email, "password": word})
                await client.login(email, word)
                await client.get("/api/v1/funds")
                return str(answer.raise_for_status().json()["access_token"])

        return list(await asyncio.gather(*(one(number) for number in range(users))))


def wait_until_idle(stage: Stage, *, timeout_s: float) -> float:
    """Seconds until no order of a user is live."""
    began = time.monotonic()
    while live_orders(stage.platform):
        if time.monotonic() - began > timeout_s:
            raise TimeoutError(f"orders are live after {timeout_s:.0f} s")
        time.sleep(IDLE_LOOK_S)
    return time.monotonic() - began
