"""What a run does to the platform: a seeded schedule of kills, freezes, cuts, purges, alarms and restarts, alone and in pairs.

A nemesis strikes and answers what it hit and how to heal it; healing happens on a timer, so that several overlap. What
cannot strike now (the server is away already) is skipped and not counted.
"""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import pika
import psycopg2
import redis
from pika.exceptions import AMQPError

from notification_service.tasks import QUEUE as NOTIFICATION_QUEUE
from tests.chaos.books import CONSUMERS
from tests.chaos.operators import Operators, OperatorStuck
from tests.chaos.platform import Platform
from tests.chaos.servers import ServerDidNotStart
from trade_executor.tasks import QUEUE as CELERY_QUEUE

FIRST_AFTER_S = 2.0
PAIR_SHARE = 0.3
QUEUES = (*CONSUMERS, CELERY_QUEUE, NOTIFICATION_QUEUE)
"""All queues of work of the platform: a purge empties every one of them."""


@dataclass
class Strike:
    """One act: what was done to whom, when, and when it was healed (monotonic and wall seconds)."""

    kind: str
    target: str
    at: float
    wall: float
    healed_at: float | None = None


@dataclass(frozen=True)
class Hit:
    """What a nemesis did: its target, how to undo it and after how many seconds (0: at once or by itself)."""

    target: str
    heal: Callable[[], object] | None = None
    after_s: float = 0.0


class Skipped(Exception):
    """Nothing to hit now."""


Nemesis = Callable[["Arena"], Hit]


@dataclass
class Arena:
    """Where nemeses act."""

    platform: Platform
    operators: Operators
    rng: random.Random
    freeze_max_s: float
    hold_max_s: float
    busy: dict[str, threading.Lock] = field(
        default_factory=lambda: {name: threading.Lock() for name in ("postgres", "rabbit", "cache", "switch")}
    )

    def one_of(self, *prefixes: str) -> str:
        """A process whose name begins so."""
        return self.rng.choice(self.platform.supervisor.names(*prefixes))


# --- processes --------------------------------------------------------------------------------------------------------


def _kill(*prefixes: str) -> Nemesis:
    def strike(arena: Arena) -> Hit:
        name = arena.one_of(*prefixes)
        if not arena.platform.supervisor.kill(name):
            raise Skipped(f"{name} is not running")
        return Hit(name)

    return strike


def _kill_worker_child(arena: Arena) -> Hit:
    name = arena.one_of("trade-executor.worker")
    if not arena.platform.supervisor.kill_child(name, arena.rng.choice):
        raise Skipped(f"{name} has no child")
    return Hit(f"child of {name}")


def _freeze(*prefixes: str) -> Nemesis:
    def strike(arena: Arena) -> Hit:
        name = arena.one_of(*prefixes)
        pid = arena.platform.supervisor.freeze(name)
        if pid is None:
            raise Skipped(f"{name} is not running")
        seconds = arena.rng.uniform(1.0, arena.freeze_max_s)
        return Hit(f"{name} for {seconds:.0f} s", lambda: arena.platform.supervisor.thaw(pid), seconds)

    return strike


# --- servers ----------------------------------------------------------------------------------------------------------


def _exclusive(arena: Arena, name: str, hit: Callable[[], Hit]) -> Hit:
    """Act on a server that nobody else is restarting; the lock is held until it is healed."""
    lock = arena.busy[name]
    if not lock.acquire(blocking=False):
        raise Skipped(f"{name} is being restarted")
    try:
        done = hit()
    except BaseException:
        lock.release()
        raise

    def heal() -> None:
        try:
            if done.heal is not None:
                done.heal()
        finally:
            lock.release()

    return Hit(done.target, heal, done.after_s)


def _kill_rabbit(arena: Arena) -> Hit:
    def act() -> Hit:
        arena.platform.rabbit.kill()
        return Hit("rabbitmq", arena.platform.rabbit.start, arena.rng.uniform(0.0, 3.0))

    return _exclusive(arena, "rabbit", act)


def _restart_rabbit_app(arena: Arena) -> Hit:
    rabbit = arena.platform.rabbit

    def start() -> None:
        rabbit.control("start_app")
        rabbit.wait()

    def act() -> Hit:
        rabbit.control("stop_app")
        return Hit("rabbitmq", start, arena.rng.uniform(0.5, 5.0))

    return _exclusive(arena, "rabbit", act)


def _alarm_rabbit(arena: Arena) -> Hit:
    """Memory alarm: the broker stops reading from whoever publishes."""
    rabbit = arena.platform.rabbit

    def act() -> Hit:
        rabbit.control("set_vm_memory_high_watermark", "0.00001")
        seconds = arena.rng.uniform(2.0, 10.0)
        return Hit(f"{seconds:.0f} s", lambda: rabbit.control("set_vm_memory_high_watermark", "0.4"), seconds)

    return _exclusive(arena, "rabbit", act)


def _purge(arena: Arena) -> Hit:
    emptied = 0
    with pika.BlockingConnection(pika.URLParameters(arena.platform.rabbit.url)) as connection:
        for queue in QUEUES:
            frame = connection.channel().queue_purge(queue)
            emptied += frame.method.message_count
    return Hit(f"{emptied} messages of {len(QUEUES)} queues")


def _restart_postgres(arena: Arena) -> Hit:
    def act() -> Hit:
        arena.platform.postgres.stop_at_once()
        return Hit("postgres", arena.platform.postgres.start, arena.rng.uniform(0.0, 3.0))

    return _exclusive(arena, "postgres", act)


def _end_backend(arena: Arena) -> Hit:
    pid, application = arena.rng.choice(arena.platform.postgres.backends())
    arena.platform.postgres.terminate(pid)
    return Hit(application)


def _kill_backend(arena: Arena) -> Hit:
    """kill -9 of one backend: the server drops all connections and recovers from its log."""
    pid, application = arena.rng.choice(arena.platform.postgres.backends())
    os.kill(pid, signal.SIGKILL)
    return Hit(application)


def _flush_cache(arena: Arena) -> Hit:
    arena.platform.cache.flush()
    return Hit("cache")


def _restart_cache(arena: Arena) -> Hit:
    def act() -> Hit:
        arena.platform.cache.stop()
        return Hit("cache", arena.platform.cache.start, arena.rng.uniform(1.0, 6.0))

    return _exclusive(arena, "cache", act)


# --- the wires --------------------------------------------------------------------------------------------------------


def _port(arena: Arena, wire: str) -> int:
    return int(getattr(arena.platform.ports, wire))


def _cut(wire: str) -> Nemesis:
    def strike(arena: Arena) -> Hit:
        share = arena.rng.choice((0.3, 0.6, 1.0))
        arena.platform.proxies.order(_port(arena, wire), "cut", share=share)
        return Hit(f"{share:.0%} of the connections")

    return strike


def _hold(wire: str) -> Nemesis:
    def strike(arena: Arena) -> Hit:
        seconds = arena.rng.uniform(1.0, arena.hold_max_s)
        arena.platform.proxies.order(_port(arena, wire), "hold", seconds=seconds)
        return Hit(f"{seconds:.0f} s", lambda: None, seconds)

    return strike


def _slow(wire: str, delay_s: tuple[float, float]) -> Nemesis:
    def strike(arena: Arena) -> Hit:
        seconds, delay = arena.rng.uniform(2.0, 10.0), arena.rng.uniform(*delay_s)
        arena.platform.proxies.order(_port(arena, wire), "slow", seconds=seconds, delay_s=delay)
        return Hit(f"{delay * 1000:.0f} ms a packet for {seconds:.0f} s", lambda: None, seconds)

    return strike


# --- the broker and the operators -------------------------------------------------------------------------------------


def _kill_session(arena: Arena) -> Hit:
    arena.operators.end_broker_session()
    return Hit("broker session")


def _halt(arena: Arena) -> Hit:
    def act() -> Hit:
        arena.operators.halt()
        return Hit("kill switch", arena.operators.resume, arena.rng.uniform(2.0, 6.0))

    return _exclusive(arena, "switch", act)


NEMESES: dict[str, tuple[int, Nemesis]] = {
    "kill worker": (3, _kill("trade-executor.worker")),
    "kill worker child": (4, _kill_worker_child),
    "kill loop": (4, _kill("trade-executor.loop")),
    "kill relay": (3, _kill("trade-executor.relay", "portfolio-service.relay", "user-service.relay")),
    "kill consumer": (
        4,
        _kill(*(f"{room}.consume" for room in ("trade-executor", "portfolio-service", "notification-service", "analytics-service", "smallcase-service"))),
    ),
    "kill sweeper": (1, _kill("portfolio-service.sweep", "smallcase-service.drive")),
    "kill api": (
        3,
        _kill("portfolio-service.api", "trade-executor.api", "user-service.api", "market-data-service.api", "smallcase-service.api"),
    ),
    "kill gateway": (2, _kill("api-gateway.api")),
    "kill feed": (1, _kill("market-data-service.loop")),
    "kill simulator": (2, _kill("simulator")),
    "freeze loop": (4, _freeze("trade-executor.loop")),
    "freeze worker": (4, _freeze("trade-executor.worker")),
    "freeze relay": (2, _freeze("trade-executor.relay", "portfolio-service.relay")),
    "freeze consumer": (3, _freeze("trade-executor.consume", "portfolio-service.consume")),
    "freeze api": (1, _freeze("portfolio-service.api", "trade-executor.api")),
    "kill rabbitmq": (2, _kill_rabbit),
    "restart rabbitmq app": (1, _restart_rabbit_app),
    "memory alarm at rabbitmq": (1, _alarm_rabbit),
    "purge all queues": (3, _purge),
    "restart postgresql": (2, _restart_postgres),
    "end database session": (3, _end_backend),
    "kill database backend": (1, _kill_backend),
    "flush cache": (1, _flush_cache),
    "restart cache": (1, _restart_cache),
    "cut database": (2, _cut("postgres")),
    "cut rabbitmq": (2, _cut("rabbit")),
    "cut broker": (2, _cut("simulator")),
    "hold database": (1, _hold("postgres")),
    "hold rabbitmq": (1, _hold("rabbit")),
    "hold broker": (2, _hold("simulator")),
    "slow database": (1, _slow("postgres", (0.002, 0.02))),
    "slow rabbitmq": (1, _slow("rabbit", (0.01, 0.2))),
    "slow broker": (2, _slow("simulator", (0.2, 2.0))),
    "end broker session": (2, _kill_session),
    "halt and resume": (1, _halt),
}  # fmt: skip
"""Every nemesis by its name in the table of figures, with its weight."""
UNABLE = (
    Skipped, psycopg2.Error, AMQPError, OSError, redis.RedisError, httpx.HTTPError, subprocess.SubprocessError,
    ServerDidNotStart, OperatorStuck, IndexError,
)  # fmt: skip
"""What a strike may meet when something else is down already."""


class Schedule:
    """Strikes from a thread of its own, every few seconds, until stopped; then everything is healed."""

    def __init__(self, arena: Arena, every_s: float, tell: Callable[..., None]) -> None:
        self._arena = arena
        self._every_s = every_s
        self._tell = tell
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nemeses")
        self._healers: list[threading.Thread] = []
        self._deck: list[str] = []
        self.strikes: list[Strike] = []
        self.skipped = 0
        self.heal_failures: list[str] = []

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """No more strikes; waits until all are healed."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for healer in self._healers:
            healer.join()

    def _run(self) -> None:
        self._stop.wait(FIRST_AFTER_S)
        rng = self._arena.rng
        while not self._stop.is_set():
            for _ in range(2 if rng.random() < PAIR_SHARE else 1):
                self._strike(self._draw())
            self._stop.wait(self._every_s * rng.uniform(0.5, 1.5))

    def _draw(self) -> str:
        """The next kind: a shuffled deck, so that every kind comes in its turn."""
        if not self._deck:
            self._deck = [name for name, (weight, _) in NEMESES.items() for _ in range(weight)]
            self._arena.rng.shuffle(self._deck)
        return self._deck.pop()

    def _strike(self, kind: str) -> None:
        strike = Strike(kind, "", time.monotonic(), time.time())
        try:
            hit = NEMESES[kind][1](self._arena)
        except UNABLE as error:
            self.skipped += 1
            self._tell("nemesis.skipped", kind=kind, why=f"{type(error).__name__}: {error}"[:200])
            return
        strike.target = hit.target
        self.strikes.append(strike)
        self._tell("nemesis.struck", kind=kind, target=hit.target)
        if hit.heal is None:
            strike.healed_at = strike.at
            return
        healer = threading.Thread(target=self._heal, args=(strike, hit), name=f"heal {kind}")
        self._healers.append(healer)
        healer.start()

    def _heal(self, strike: Strike, hit: Hit) -> None:
        self._stop.wait(hit.after_s)
        assert hit.heal is not None
        try:
            hit.heal()
        except UNABLE as error:
            self.heal_failures.append(f"{strike.kind}: {type(error).__name__}: {error}")
        strike.healed_at = time.monotonic()
