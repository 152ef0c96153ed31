"""One run from start to verdict: start, hurt under load, heal, wait until quiet, check."""

import asyncio
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg2

from common.db import Database
from kite_simulator.engine.faults import STANDARD, preset
from portfolio_service import ledger_check
from scripts.demo_client import Client
from tests.chaos import checker, figures
from tests.chaos.books import PORTFOLIO, Books, busy, live_orders
from tests.chaos.load import HTTP_LIMITS, Load
from tests.chaos.nemeses import Arena, Schedule
from tests.chaos.operators import Operators
from tests.chaos.platform import OPERATORS, Platform, started
from tests.chaos.truth import Truth
from tests.chaos.watch import Watch

Tell = Callable[..., None]
QUIET_WAIT_S = 240.0
QUIET_PROBE_S = 2.0
QUIET_PROBES = 2
"""So often in a row nothing may be under way: a message between two rooms is in no table of either for a moment."""
SETTINGS = {
    "EXECUTOR_UNKNOWN_MIN_SECONDS": "15",
    "EXECUTOR_UNKNOWN_MIN_SCANS": "5",
    "EXECUTOR_CLOSE_BY_SECONDS": "20",
    "EXECUTOR_BREAK_AFTER_SECONDS": "20",
}
"""Shorter waits, so that a run of minutes meets what takes a day."""


@dataclass(frozen=True)
class Plan:
    """What a run is asked to do."""

    minutes: float
    seed: int
    users: int
    rate: float
    every_s: float
    """Seconds between two strikes."""
    freeze_max_s: float
    hold_max_s: float
    accept_delay_max_s: float
    """How late an order that the exchange sits on may arrive; also bounds the wait for quiet."""
    drain_s: float = 45.0
    """How long users wait for their orders before they take back what is left."""
    preset: str = "standard"
    """Of the exchange's faults."""


def run(plan: Plan, directory: Path, tell: Tell) -> figures.Figures:
    """The whole run; raises when the platform cannot be started or never falls quiet without a reason to tell."""
    with started(directory, seed=plan.seed, settings=SETTINGS, tell=tell) as platform:
        tell("platform.started", processes=len(platform.supervisor.names()))
        return asyncio.run(_run(plan, platform, tell))


async def _run(plan: Plan, platform: Platform, tell: Tell) -> figures.Figures:
    rng, blows = random.Random(plan.seed), random.Random(plan.seed + 1)  # noqa: S311  repeatable choices, no secret
    operators, watch = Operators(platform, tell), Watch(platform.database("trade-executor"))
    arena = Arena(platform, operators, blows, plan.freeze_max_s, plan.hold_max_s)
    schedule = Schedule(arena, plan.every_s, tell)
    async with httpx.AsyncClient(base_url=platform.gateway_url, limits=HTTP_LIMITS, trust_env=False) as http:
        admin = Client(http)
        await admin.login(OPERATORS[0], platform.passwords[OPERATORS[0]])
        load = Load(http, plan.rate, rng)
        await load.sign_up(plan.users, admin)
        tell("users.ready", users=plan.users)
        operators.set_faults({"rates": faults(plan)})
        trading = asyncio.create_task(load.run())
        try:
            for part in (watch, operators, schedule):
                part.start()
            await asyncio.sleep(plan.minutes * 60)
            tell("healing")
            await asyncio.to_thread(_heal, platform, operators, schedule)
            load.stop.set()
            tell("healed")
            await trading
            tell("users.answered")
            await asyncio.to_thread(_drain, platform, plan.drain_s)
            await load.cancel_all()
            tell("rest.cancelled")
            quiet_after_s, rest = await asyncio.to_thread(_await_quiet, platform, operators, tell)
        finally:
            trading.cancel()
            await asyncio.gather(trading, return_exceptions=True)
            for part in (schedule, watch, operators):
                await asyncio.to_thread(part.stop)
        result = figures.Figures(_commit(), plan.seed, plan.minutes, plan.users, quiet_after_s)
        await asyncio.to_thread(_judge, result, platform, load, operators, watch, schedule, rest)
        operators.close()
    return result


def faults(plan: Plan) -> dict[str, Any]:
    """The rates of a preset, no promise later than the run waits for."""
    late = min(plan.accept_delay_max_s, STANDARD.accept_delay_s[1])
    rates = preset(plan.preset).model_copy(update={"accept_delay_s": (1.0, late), "stuck_s": (late, late)})
    return rates.model_dump(mode="json", exclude_defaults=True)


def _heal(platform: Platform, operators: Operators, schedule: Schedule) -> None:
    """No more strikes, everything up, no more faults."""
    schedule.stop()
    for port in (platform.ports.postgres, platform.ports.rabbit, platform.ports.simulator):
        platform.proxies.order(port, "heal")
    operators.set_faults({"off": True})
    operators.make_active("the run is over")


def _drain(platform: Platform, patience_s: float) -> None:
    """Give what is on its way some time to trade before its users take it back."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        threading.Event().wait(QUIET_PROBE_S)
        try:
            if not live_orders(platform):
                return
        except psycopg2.Error:
            continue  # still recovering


def _await_quiet(platform: Platform, operators: Operators, tell: Tell) -> tuple[float, dict[str, int]]:
    """Seconds until nothing was under way, and what still was when the patience ended."""
    begun = time.monotonic()
    calm, left = 0, {"not looked yet": 1}
    while calm < QUIET_PROBES and time.monotonic() - begun < QUIET_WAIT_S:
        threading.Event().wait(QUIET_PROBE_S)
        try:
            left = busy(platform)
        except psycopg2.Error as error:
            left = {type(error).__name__: 1}
        promised = Counter(Truth.of(operators.truth()).promised.values())
        left |= {f"exchange still to come: {fault}": count for fault, count in promised.items()}
        if idle := platform.supervisor.idle():
            left["processes not working"] = len(idle)
        calm = calm + 1 if not left else 0
        tell("quiet.waiting", **{name.replace(" ", "_"): count for name, count in left.items()})
    return time.monotonic() - begun, left


def _judge(
    result: figures.Figures,
    platform: Platform,
    load: Load,
    operators: Operators,
    watch: Watch,
    schedule: Schedule,
    rest: dict[str, int],
) -> None:
    books, truth = Books.read(platform), Truth.of(operators.truth())
    database = Database(platform.database(PORTFOLIO), pool_size=1)
    try:
        with database.transaction() as session:
            ledger = ledger_check.check(session)
    finally:
        database.dispose()
    evidence = checker.Evidence(list(load.asks), books, truth, ledger, operators.halts)
    result.violations = checker.verdict(evidence)
    public = operators.call(OPERATORS[0], "GET", "/api/v1/admin/ledger/check")
    if public["ok"] != ledger.ok:
        result.violations["the ledger holds"].append(f"the public check says {public['ok']}, the tables {ledger.ok}")
    result.violations["no two live blocks that can cross"] = list(watch.violations.values())
    result.violations["all came to rest"] = [f"{name}: {count}" for name, count in rest.items()]
    result.violations["everything could be healed"] = schedule.heal_failures
    figures.add_load(result, load)
    figures.add_books(result, books, truth)
    figures.add_strikes(result, schedule.strikes, platform.supervisor.recoveries, load, platform)
    figures.add_dead_letters(result, platform)
    figures.add_logs(result, platform)
    result.strikes_skipped = schedule.skipped
    result.ended_unasked = dict(Counter(f"{name} ({code})" for name, code in platform.supervisor.unasked))
    result.samples = watch.samples


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"
