"""All processes on an order's path, over four scratch databases, one bus and one simulated broker.

Every process has two of itself, engines of its own and no memory in common with another. A process that dies comes back
with an empty memory, as a container would.
"""

import math
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from unittest import mock

import dateutil.parser
import kiteconnect.connect
import psycopg2
from psycopg2 import Error as PostgresError
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, OperationalError

import analytics_service.consumers
import notification_service.consumers
import portfolio_service.consumers
import trade_executor.consumers
from common import catching_up, outbox
from common.backlog import Backlog
from common.bus import BusUnavailable
from common.catching_up import CatchingUp
from common.clock import SystemClock
from common.consumers import run_consumer
from common.db import Database
from common.events import sources_of
from common.outbox import Relay
from kite_simulator.app import create_app as create_simulator
from kite_simulator.config import Settings as SimulatorSettings
from kite_simulator.engine.faults import OFF, STANDARD, FaultRates
from portfolio_service import sweeper
from portfolio_service.config import Settings as PortfolioSettings
from tests.faults.api import PortfolioApi
from tests.faults.bus import BusFaults, FaultyBus
from tests.faults.points import Point, Points
from tests.faults.rooms import OtherRoom, SimulatedMarket, Wire
from tests.faults.schedule import Actor, Killed, Scheduler
from trade_executor import locks, loop, polling
from trade_executor.brokers import wire
from trade_executor.config import Settings as ExecutorSettings
from trade_executor.desk import Desk
from trade_executor.pump import pump
from trade_executor.sessions import KiteAccess, sealer_from
from trade_executor.wakeup import OBSERVE_TASK, PUMP_TASK

PACKAGES = ("portfolio_service", "trade_executor", "analytics_service", "notification_service")
ACCOUNT = "pool"
ROOT = "http://127.0.0.1:9"
"""Nothing listens there: the simulator answers in this process."""
API_KEY, API_SECRET = "faults", "faults-secret"
SYMBOLS = (
    "RELIANCE", "TCS", "INFY", "HDFCBANK", "ICICIBANK", "SBIN", "ITC", "LT", "AXISBANK", "BHARTIARTL",
    "HINDUNILVR", "KOTAKBANK", "WIPRO", "SUNPHARMA", "TITAN", "NTPC", "ONGC", "TATASTEEL", "COALINDIA", "POWERGRID",
)  # fmt: skip
RELAY_POLL_S = 2.0
RESTART_S = (0.5, 8.0)
BROKER_STEP_S = 0.5
LOCK_WAIT_S = 3.0
LOCK_POLL_S = 0.05
GONE_WITHIN_MS = 10_000


@dataclass(frozen=True)
class Weather:
    """How rough a run is: chances at the points and of the bus, the broker's faults, how often something big happens."""

    kill_at_point: float = 0.0
    commit_refused: float = 0.0
    """The connection breaks before the commit: nothing happened."""
    commit_unknown: float = 0.0
    """The connection breaks after it: it happened, nobody was told."""
    bell_lost: float = 0.0
    bus: BusFaults = field(default_factory=BusFaults)
    broker: FaultRates = OFF
    disaster_every_s: float = 0.0


CALM = Weather()
ROUGH = Weather(
    kill_at_point=0.0003,
    commit_refused=0.0005,
    commit_unknown=0.0005,
    bell_lost=0.10,
    bus=BusFaults(
        refused=0.01, confirm_lost=0.02, doubled=0.03, reordered=0.05, delayed=0.02, delay_max_s=20.0, dropped=0.002
    ),
    broker=STANDARD.model_copy(update={"ghost": 0.003, "token_killed": 0.0005}),
    disaster_every_s=12.0,
)


@dataclass(eq=False)
class Process:
    """One process: a database pool of its own, some actors, and a way to begin again."""

    world: "World"
    name: str
    url: str
    begin: Callable[["Process"], list[tuple[str, Callable[[], None]]]]
    db: Database = field(init=False)
    backlog: Backlog = field(init=False)
    actors: list[Actor] = field(default_factory=list)
    deaths: int = 0

    def start(self) -> None:
        """Begin with an empty memory."""
        self.db = self.world.database(self.url, self.name)
        self.backlog = Backlog()
        for name, run in self.begin(self):
            actor = self.world.scheduler.spawn(f"{self.name}/{name}", run)
            actor.on_end = self._ended
            self.actors.append(actor)

    def kill(self) -> None:
        """SIGKILL, and a restart after a while."""
        self.deaths += 1
        self.world.counts["kills"] += 1
        actors, self.actors = self.actors, []
        for actor in actors:
            actor.on_end = None
            if actor is not self.world.scheduler.current():
                self.world.scheduler.kill(actor)
        self.db.dispose()
        _await_gone(self.url, self.name)
        if not self.world.ending:
            pause = self.world.scheduler.dice.uniform(*RESTART_S)
            self.world.scheduler.spawn(f"{self.name}/restart", self.start, delay_s=pause)

    def _ended(self, actor: Actor, error: BaseException | None) -> None:
        if error is None and not self.world.ending:
            raise AssertionError(f"{actor.name} ended by itself")
        if actor in self.actors:
            self.actors.remove(actor)
            self.kill()


@dataclass(eq=False)
class World:
    """One run: built from a seed, the addresses of four empty databases and a weather."""

    seed: int
    urls: Mapping[str, str]
    weather: Weather = CALM
    executor_settings: Mapping[str, Any] = field(default_factory=dict)
    simulator_settings: Mapping[str, Any] = field(default_factory=dict)
    twins: int = 2
    counts: Counter[str] = field(default_factory=Counter)
    processes: dict[str, Process] = field(default_factory=dict)
    ending: bool = False
    armed: tuple[Point, int] | None = None
    """Kill whoever comes to this point for the n-th time."""

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.seed)
        self.points = Points(on_point=self._on_point, in_commit=self._in_commit)
        self.dice = random.Random(f"{self.seed}/weather")  # noqa: S311  reproducible, not secret
        self.bus = FaultyBus(self.scheduler, self.points, self.weather.bus, random.Random(f"{self.seed}/bus"))  # noqa: S311
        self.stop = Endless(self.scheduler)
        self._bells: list[tuple[str, str]] = []
        self._relays: dict[str, list[Actor]] = {}
        self._databases: list[Database] = []

    # --- life -------------------------------------------------------------------------------------------------------

    @contextmanager
    def running(self) -> Any:
        """Put Python on this world's time and broker, build everything, and take it all down again."""
        with (
            self.scheduler.time.running(self.seed),
            mock.patch.object(wire, "HTTPAdapter", self._adapter),
            mock.patch.object(locks, "_wait_for", self._wait_for_lock),
            mock.patch.object(loop, "ledger_from", self._ledger),
            mock.patch.object(outbox, "notify", _remember_notify),
            # The official client parses every timestamp of every row of every read: the same ones again and again.
            mock.patch.object(kiteconnect.connect.dateutil.parser, "parse", lru_cache(100_000)(dateutil.parser.parse)),
        ):
            settings = SimulatorSettings(
                seed=self.seed, api_key=API_KEY, api_secret=API_SECRET, rate_limits=True, **self.simulator_settings
            )
            self.simulator = create_simulator(settings)
            self.engine = self.simulator.state.engine
            self.engine.faults.set_rates(self.weather.broker)
            self.market = SimulatedMarket(self.engine)
            self._build()
            self.rooms = {
                name: OtherRoom(self._plain_database(self.urls[package]))
                for name, package in (("portfolio-service", "portfolio_service"), ("trade-executor", "trade_executor"))
            }
            self.operator_db = self.database(self.urls["trade_executor"], "operator")
            self.api = PortfolioApi(
                self.database(self.urls["portfolio_service"], "api"),
                self.portfolio_settings,
                self.market,
                SystemClock(),
                self.scheduler,
            )
            for process in self.processes.values():
                process.start()
            self.scheduler.spawn("broker", self._broker)
            try:
                yield self
            finally:
                self.ending = True
                self.scheduler.end()
                for database in self._databases:
                    database.dispose()

    def _ledger(self, _settings: Any) -> OtherRoom:
        return self.rooms["portfolio-service"]

    def _adapter(self, **_: Any) -> "Wire":
        return Wire(self.simulator, self.points, self.scheduler.sleep)

    def heal(self) -> None:
        """No more faults from here on; what broke must mend by itself."""
        self.weather = CALM
        self.bus.faults = CALM.bus
        self.bus.down_until = 0.0
        self.engine.faults.calm()

    def _plain_database(self, url: str, name: str = "faults") -> Database:
        # A fault must show where it happens, not be mended by a ping at the next checkout.
        db = Database(url, pool_size=2, application_name=name, ping_after_s=math.inf)
        self.scheduler.time.watch(db)
        self._databases.append(db)
        return db

    def database(self, url: str, name: str) -> Database:
        """A pool whose transactions are points and know virtual time."""
        db = self._plain_database(url, name)
        self.points.watch(db)
        _ring_after_commit(db, lambda: self._wake_relays(url))
        return db

    # --- chance -----------------------------------------------------------------------------------------------------

    def _on_point(self, point: Point) -> None:
        if self.ending or self.scheduler.current() is None:
            return
        self._die_if_due(point)
        if point.kind == "commit" and self.dice.random() < self.weather.commit_unknown:
            self.counts["commit answers lost"] += 1
            raise OperationalError("COMMIT", {}, PostgresError("server closed the connection after the commit"))
        self.scheduler.pause()

    def _in_commit(self, point: Point) -> None:
        if self.ending or self.scheduler.current() is None:
            return
        self._die_if_due(point)
        if self.dice.random() < self.weather.commit_refused:
            self.counts["commits refused"] += 1
            raise OperationalError("COMMIT", {}, PostgresError("server closed the connection before the commit"))

    def _die_if_due(self, point: Point) -> None:
        if self.armed is not None and point == self.armed[0] and self.points.reached[point] == self.armed[1]:
            self.counts["killed at the armed point"] += 1
            raise Killed(str(point))
        if self.weather.kill_at_point and self.dice.random() < self.weather.kill_at_point:
            self.counts["kills at points"] += 1
            raise Killed(str(point))

    # --- parts ------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        clock = SystemClock()
        self.portfolio_settings = PortfolioSettings(
            database_url=self.urls["portfolio_service"],
            initial_paper_cash_rupees=1_00_00_000,
            submissions_per_minute=1_000_000,
            duplicate_window_s=0,
            daily_value_max_rupees=100_00_00_000,
        )
        self.settings = ExecutorSettings(
            database_url=self.urls["trade_executor"],
            kite_root=ROOT,
            kite_api_key=API_KEY,
            kite_api_secret=API_SECRET,
            tag_key="a tag key of the fault harness",
            seal_keys={1: "A" * 43 + "="},
            auto_login=True,
            senders=1,
            **{"loop_seconds": 2.0, "value_per_day_paise": 10**15, **self.executor_settings},
        )
        handlers = {
            "portfolio_service": ("portfolio-service", portfolio_service.consumers.make_handlers(clock)),
            "analytics_service": ("analytics-service", analytics_service.consumers.HANDLERS),
            "notification_service": ("notification-service", notification_service.consumers.make_handlers(clock)),
        }
        for package, (name, table) in handlers.items():
            self._consuming_twin(name, package, table)
        for name, package in (("portfolio-service", "portfolio_service"), ("trade-executor", "trade_executor")):
            self._twin(f"{name}-relay", package, lambda process, name=name: [
                ("relay", lambda: self._relay(process, name))
            ])  # fmt: skip
        self._twin("portfolio-service-sweep", "portfolio_service", lambda process: [
            ("sweep", lambda: self._sweep(process))
        ])  # fmt: skip
        self._consuming_twin(trade_executor.consumers.CONSUMER, "trade_executor", trade_executor.consumers.HANDLERS)
        self._twin("trade-executor-worker", "trade_executor", lambda process: [("work", lambda: self._work(process))])
        self._twin("trade-executor-loop", "trade_executor", lambda process: [("loop", lambda: self._loop(process))])

    def _consuming_twin(self, name: str, package: str, handlers: Any) -> None:
        self.bus.declare(name, handlers)
        self._twin(f"{name}-consume", package, lambda process: [
            ("consume", lambda: self._consume(process, name, handlers)),
            ("catch-up", lambda: self._catch_up(process, name, handlers)),
        ])  # fmt: skip

    def _twin(self, name: str, package: str, begin: Any) -> None:
        for number in range(1, self.twins + 1):
            self.processes[f"{name}-{number}"] = Process(self, f"{name}-{number}", self.urls[package], begin)

    def _consume(self, process: Process, name: str, handlers: Any) -> None:
        run_consumer(
            self.bus,
            process.db,
            consumer=name,
            handlers=handlers,
            stop=self.stop,
            after_commit=self._after_commit(name),
            backlog=process.backlog,
        )

    def _catch_up(self, process: Process, name: str, handlers: Any) -> None:
        comparisons = [
            CatchingUp(
                process.db,
                room,
                consumer=name,
                source_name=source,
                handlers=handlers,
                backlog=process.backlog,
                after_commit=self._after_commit(name),
            )
            for source, room in self.rooms.items()
            if source in sources_of(handlers)
        ]
        catching_up.run(comparisons, name, self.stop)

    def _after_commit(self, name: str) -> Callable[[], None] | None:
        """What a consumer does with what it has written: only the executor's has work to wake."""
        return (lambda: self.pump(ACCOUNT)) if name == trade_executor.consumers.CONSUMER else None

    def _relay(self, process: Process, name: str) -> None:
        relay = Relay(process.db, self.bus, name=name)
        actor = self.scheduler.current()
        assert actor is not None
        self._relays.setdefault(process.url, []).append(actor)
        try:
            while True:
                try:
                    while relay.publish_batch():
                        pass
                except (DBAPIError, BusUnavailable):
                    self.counts["relay pauses"] += 1
                self.scheduler.sleep(RELAY_POLL_S)
        finally:
            self._relays[process.url].remove(actor)

    def _sweep(self, process: Process) -> None:
        sweeper.run(process.db, self.market, SystemClock(), self.portfolio_settings, self.stop)

    def _desk(self, process: Process) -> Desk:
        clock = SystemClock()
        access = KiteAccess(process.db, self.settings, sealer_from(self.settings), clock)
        while True:
            try:
                access.ensure_account()
                return Desk(process.db, self.settings, self.market, access, clock)
            except DBAPIError:
                self.scheduler.sleep(1.0)

    def _loop(self, process: Process) -> None:
        loop.run(self._desk(process), self.stop)

    def _work(self, process: Process) -> None:
        desk = self._desk(process)
        actor = self.scheduler.current()
        assert actor is not None
        self._workers.append(actor)
        try:
            while True:
                if not self._bells:
                    self.scheduler.sleep(30.0)
                    continue
                task, account = self._bells.pop(0)
                loop.guarded(pump if task == PUMP_TASK else polling.observe, desk, account)
        finally:
            self._workers.remove(actor)

    _workers: list[Actor] = field(default_factory=list)

    def _broker(self) -> None:
        """The broker goes on without being asked; what it would post back only rings, as a postback does."""
        while True:
            self.engine.advance()
            if self.engine.drain_updates():
                self.observe(ACCOUNT)
            self.engine.drain_ticked()
            self.scheduler.sleep(BROKER_STEP_S)

    # --- the doorbell (trade_executor.wakeup.Wakeup) ------------------------------------------------------------------

    def pump(self, account: str) -> None:
        """There may be something to send."""
        self._ring(PUMP_TASK, account)

    def observe(self, account: str) -> None:
        """The broker may have news."""
        self._ring(OBSERVE_TASK, account)

    def _ring(self, task: str, account: str) -> None:
        if self.dice.random() < self.weather.bell_lost:
            self.counts["bells lost"] += 1
            return
        if (task, account) not in self._bells:
            self._bells.append((task, account))
        for actor in self._workers:
            self.scheduler.wake(actor)

    def _wake_relays(self, url: str) -> None:
        for actor in self._relays.get(url, ()):
            self.scheduler.wake(actor)

    def _wait_for_lock(self, connection: Any, name: str) -> bool:
        """`pg_advisory_lock` with a lock timeout, without stopping everybody else in this one thread."""
        statement = locks.text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
        until = self.scheduler.time.now_s + LOCK_WAIT_S
        while not connection.execute(statement, {"name": name}).scalar_one():
            if self.scheduler.time.now_s >= until:
                return False
            self.scheduler.sleep(LOCK_POLL_S)
        return True


class Endless(threading.Event):
    """The stop event of loops in virtual time: waiting for it lets others run, and it never comes (actors are killed)."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler

    def wait(self, timeout: float | None = None) -> bool:
        self._scheduler.sleep(timeout or 0.0)
        return False


def _await_gone(url: str, name: str) -> None:
    """Until the server has let go of a dead process's connections and their locks: otherwise it is a matter of real time
    whether its twin gets a lock."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = %s AND pid <> pg_backend_pid()",
                (GONE_WITHIN_MS, name),
            )
    finally:
        connection.close()


def _remember_notify(session: Any) -> None:
    session.info["outbox"] = True


def _ring_after_commit(db: Database, ring: Callable[[], None]) -> None:
    def after(session: Any) -> None:
        if session.info.pop("outbox", False):
            ring()

    event.listen(db._sessions, "after_commit", after)
