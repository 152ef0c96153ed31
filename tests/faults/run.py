"""One seed from empty databases to a verdict, and many of them side by side."""

import hashlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import psycopg2
from psycopg2 import sql

from common.db import Database, run_migrations
from common.testing_servers import empty, postgres
from tests.faults import invariants
from tests.faults.clients import CLIENTS, Mix, Traders
from tests.faults.disasters import Disasters, Operator
from tests.faults.invariants import Books, Truth
from tests.faults.schedule import Stuck
from tests.faults.virtual import shadow_clock
from tests.faults.world import PACKAGES, ROUGH, SYMBOLS, Weather, World

ORDERS_PER_SECOND = 20.0
"""Of virtual time: the pace at which users send."""
SENDING_S_MAX = 120.0
"""However many the orders are, they come within two minutes: many orders are a burst, not a long day."""
QUIET_WITHIN_S = 3_600.0
SETTLE_S = 60.0
"""How long everything has to be at rest: longer than catching up with what the bus lost takes."""
CHECK_EVERY_S = 60.0
UNREST_SHOWN = 5
DRILL_EVERY_S = 120.0

Rule = Callable[[Books, list[dict[str, Any]]], Iterator[str]]
"""A further invariant that holds at every instant: reads the books and the simulator's facts, yields violations."""


@dataclass(frozen=True)
class Plan:
    """How a seed is played; the defaults are those of `make faults`."""

    weather: Weather = ROUGH
    mix: Mix = field(default_factory=Mix)
    symbols: tuple[str, ...] = SYMBOLS
    users: int | None = None
    """How many; by default one for twenty orders, within bounds."""
    twins: int = 2
    switch: float = 0.15
    """How likely another actor comes first at a point."""
    executor_settings: Mapping[str, Any] = field(default_factory=dict)
    simulator_settings: Mapping[str, Any] = field(default_factory=dict)
    orders_per_second: float = ORDERS_PER_SECOND
    drill_every_s: float = DRILL_EVERY_S
    check_every_s: float = CHECK_EVERY_S
    settle_s: float = SETTLE_S
    quiet_within_s: float = QUIET_WITHIN_S
    first_violation_ends: bool = False
    rules: tuple[Rule, ...] = ()
    around: Callable[[World], AbstractContextManager[Any]] = lambda world: nullcontext()
    """Entered when everything is built and before anything has run."""
    at_end: Callable[[World, Books], None] = lambda world, books: None


PLAN = Plan()


@dataclass
class Result:
    """What one seed showed."""

    seed: int
    violations: list[str]
    orders: int = 0
    figures: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    unknown_s: list[float] = field(default_factory=list)
    """How long attempts were unknown."""
    virtual_s: float = 0.0
    quiet_s: float = 0.0
    """Virtual time from the end of the faults until nothing moved."""
    wall_s: float = 0.0
    digest: str = ""
    """SHA-256 over all that happened at the broker: two plays of a seed have the same."""


@contextmanager
def databases(server: str) -> Iterator[dict[str, str]]:
    """Four scratch databases with the real migrations on virtual time; dropped in the end."""
    made: dict[str, str] = {}
    run_id = uuid4().hex[:10]
    try:
        for package in PACKAGES:
            name = f"saras_faults_{package}_{run_id}"
            _execute(server, sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
            made[package] = name
            _execute(server, sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(sql.Identifier(name)))
            url = _with_database(server, name)
            shadow_clock(url)
            run_migrations(package, url)
            _no_housekeeping(url)
        yield {package: _with_database(server, name) for package, name in made.items()}
    finally:
        for name in made.values():
            _execute(server, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _no_housekeeping(url: str) -> None:
    """Vacuum and statistics come when real time wants: rows and plans would change their order from play to play."""
    _execute(
        url,
        sql.SQL(
            "DO $$ DECLARE name regclass; BEGIN"
            " FOR name IN SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace LOOP"
            " EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = false)', name); END LOOP; END $$"
        ),
    )


def _execute(server: str, statement: sql.Composed) -> None:
    connection = psycopg2.connect(server)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


def _with_database(server: str, name: str) -> str:
    head, _, tail = server.partition("?")
    return head.rsplit("/", 1)[0] + f"/{name}" + (f"?{tail}" if tail else "")


def clear(urls: Mapping[str, str]) -> None:
    """Empty the databases for the next seed."""
    for url in urls.values():
        db = Database(url, pool_size=1)
        empty(db)
        db.dispose()


def run_seed(seed: int, orders: int, urls: Mapping[str, str], plan: Plan = PLAN) -> Result:
    """Play one seed: trade under faults, heal, wait until nothing moves, check."""
    clear(urls)
    started = time.perf_counter()
    world = World(seed, urls, plan.weather, plan.executor_settings, plan.simulator_settings, plan.twins)
    world.scheduler.switch = plan.switch
    result = Result(seed, [])
    books = Books(observers(urls), Truth({}, {}), b"", {})
    with world.running(), plan.around(world):
        traders = _traders(world, seed, orders, plan)
        clients = [world.scheduler.spawn(f"client-{number}", traders.trade) for number in range(CLIENTS)]
        disasters = Disasters(world, random.Random(f"{seed}/disasters"))  # noqa: S311  reproducible, not secret
        operator = Operator(world, random.Random(f"{seed}/operator"), plan.drill_every_s)  # noqa: S311
        world.scheduler.spawn("disasters", disasters.run)
        world.scheduler.spawn("operator", operator.run)
        books.tag_key = world.settings.tag_key.get_secret_value().encode()

        def look(*, quiet: bool) -> list[str]:
            books.truth = Truth.of(world.engine.kernel.facts)
            found = invariants.check(books, requests=traders.requests, halts=operator.halts, quiet=quiet)
            for rule in plan.rules:
                found.extend(rule(books, world.engine.kernel.facts))
            result.violations.extend(found)
            return found

        while not world.scheduler.run(
            lambda: not any(client.alive for client in clients), until_s=world.scheduler.time.now_s + plan.check_every_s
        ):
            if look(quiet=False) and plan.first_violation_ends:
                break
        else:
            _end(world, books, traders, plan, result)
            look(quiet=True)
        traders.ending = True
        _figures(result, world, books)
        plan.at_end(world, books)
    for db in books.databases.values():
        db.dispose()
    result.wall_s = time.perf_counter() - started
    return result


def _traders(world: World, seed: int, orders: int, plan: Plan) -> Traders:
    dice = random.Random(f"{seed}/clients")  # noqa: S311  reproducible, not secret
    count = plan.users or max(10, min(500, orders // 20))
    users = [UUID(int=dice.getrandbits(128), version=4) for _ in range(count)]
    return Traders(
        world.scheduler, world.api, world.market, plan.symbols, users, orders,
        min(orders / plan.orders_per_second, SENDING_S_MAX), plan.mix, random.Random(f"{seed}/traders"),  # noqa: S311
    )  # fmt: skip


def _end(world: World, books: Books, traders: Traders, plan: Plan, result: Result) -> None:
    """Heal, have everybody give up what rests, and wait until nothing moves."""
    world.heal()
    healed = world.scheduler.time.now_s
    giving_up = world.scheduler.spawn("giving-up", traders.cancel_what_rests)
    try:
        quiet = world.scheduler.run(
            Quiet(world, books, giving_up, plan.settle_s), until_s=world.scheduler.time.now_s + plan.quiet_within_s
        )
    except Stuck as stuck:
        quiet = False
        result.violations.append(f"1: {stuck}")
    if not quiet:
        result.violations.append(f"1: not quiet {plan.quiet_within_s:.0f} s after the last fault")
        result.violations.extend(f"1: {line}" for line in _unrest(books))
    result.quiet_s = world.scheduler.time.now_s - healed
    result.virtual_s = world.scheduler.time.now_s


def _unrest(books: Books) -> Iterator[str]:
    """What still moves, for whoever has to find out why."""
    looks = {
        "live order": (
            "portfolio_service",
            """SELECT order_id, state, tradingsymbol, side, order_type, price_paise, accepted_at, cancel_requested_at,
            replacement_state FROM user_order WHERE state IN ('ACCEPTED', 'WORKING', 'PARTIAL') ORDER BY accepted_at""",
        ),
        "order with the executor": (
            "trade_executor",
            """SELECT order_id, state, block_id, not_before, accepted_at FROM child_order
            WHERE state IN ('ACCEPTED', 'BATCHED') ORDER BY seq""",
        ),
        "attempt": (
            "trade_executor",
            """SELECT attempt_id, state, broker_order_id, unknown_since FROM broker_order
            WHERE state NOT IN ('SETTLED', 'REFUSED', 'VOID', 'LOST', 'CLOSED') ORDER BY attempt_id""",
        ),
        "open break": (
            "trade_executor",
            "SELECT kind, key, freezes, opened_at FROM recon_break WHERE closed_at IS NULL ORDER BY opened_at",
        ),
    }
    for what, (package, statement) in looks.items():
        for row in books.rows(package, f"{statement} LIMIT {UNREST_SHOWN}"):
            yield f"{what}: {', '.join(str(value) for value in row)}"


def observers(urls: Mapping[str, str]) -> dict[str, Database]:
    """Connections of the checker: no points, no faults."""
    return {package: Database(url, pool_size=1, application_name="faults-checker") for package, url in urls.items()}


@dataclass
class Quiet:
    """Whether nothing moves any more; asked often, so it looks at the databases only now and then."""

    world: World
    books: Books
    giving_up: Any
    """Whoever still sends requests."""
    settle_s: float
    next_look_s: float = 0.0
    since: float | None = None

    def __call__(self) -> bool:
        now = self.world.scheduler.time.now_s
        if now < self.next_look_s:
            return False
        self.next_look_s = now + 5.0
        if self.giving_up.alive or not self.world.bus.idle():
            return False
        live = self._count(
            "portfolio_service", "SELECT count(*) FROM user_order WHERE state IN ('ACCEPTED', 'WORKING', 'PARTIAL')"
        )
        if live:
            return False
        attempts = self._count(
            "trade_executor",
            "SELECT count(*) FROM broker_order WHERE state NOT IN ('SETTLED', 'REFUSED', 'VOID', 'LOST', 'CLOSED')",
        )
        unsent = sum(
            self._count(package, "SELECT count(*) FROM outbox WHERE sent_at IS NULL")
            for package in ("portfolio_service", "trade_executor")
        )
        return not attempts and not unsent and self._rested(now)

    def _rested(self, now: float) -> bool:
        """A little longer than catching up takes, so that what was lost on the bus has been fetched."""
        if self.since is None:
            self.since = now
        return now - self.since >= self.settle_s

    def _count(self, package: str, statement: str) -> int:
        return int(self.books.rows(package, statement)[0][0])


def _figures(result: Result, world: World, books: Books) -> None:
    def one(package: str, statement: str) -> int:
        return int(books.rows(package, statement)[0][0] or 0)

    result.digest = hashlib.sha256(repr(world.engine.kernel.facts).encode()).hexdigest()
    result.orders = one("portfolio_service", "SELECT count(*) FROM user_order")
    figures = result.figures
    figures["user orders"] = result.orders
    figures["blocks"] = one("trade_executor", "SELECT count(*) FROM block")
    figures["broker orders"] = len(books.ours())
    figures["fills"] = one("trade_executor", "SELECT count(*) FROM fill")
    figures["allocations"] = one("trade_executor", "SELECT count(*) FROM allocation")
    figures["fills of the house"] = one("trade_executor", "SELECT count(*) FROM fill WHERE booked_to = 'house'")
    figures["attempts unknown"] = one(
        "trade_executor", "SELECT count(*) FROM broker_order WHERE unknown_since IS NOT NULL"
    )
    figures["attempts lost"] = one("trade_executor", "SELECT count(*) FROM recon_break WHERE kind = 'attempt_lost'")
    figures["ghosts"] = one("trade_executor", "SELECT count(*) FROM recon_break WHERE kind = 'ghost_order'")
    figures["breaks opened"] = one("trade_executor", "SELECT count(*) FROM recon_break")
    figures["self-trades refused by the exchange"] = world.engine.kernel.state.self_trades_prevented
    for row in books.rows("portfolio_service", "SELECT state, count(*) FROM user_order GROUP BY 1"):
        figures[f"orders {row[0]}"] = row[1]
    result.unknown_s = [
        float(row[0])
        for row in books.rows(
            "trade_executor",
            "SELECT extract(epoch FROM decided_at - unknown_since) FROM broker_order WHERE unknown_since IS NOT NULL AND decided_at IS NOT NULL",
        )
    ]
    result.faults.update({f"bus: {name}": count for name, count in world.bus.counts.items() if count})
    result.faults.update({f"world: {name}": count for name, count in world.counts.items() if count})
    result.faults.update(
        f"broker: {fact['fault']}" for fact in world.engine.kernel.facts if fact["kind"] == "fault_injected"
    )


@contextmanager
def server() -> Iterator[str]:
    """A PostgreSQL server: the one that answers, otherwise one from the wheel for the time of the run."""
    with postgres() as url:
        yield url
