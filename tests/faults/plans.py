"""What a planted bug is, and the weathers in which the bugs are played: small, rough in one respect, calm in the others."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import sqlalchemy as sa
from psycopg2 import Error as PostgresError
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from common.db import Database
from kite_simulator.engine.faults import FaultRates
from tests.faults import causes, disasters
from tests.faults.bus import BusFaults
from tests.faults.clients import Mix
from tests.faults.points import AFTER, Point
from tests.faults.run import Plan
from tests.faults.schedule import Killed
from tests.faults.world import CALM, SYMBOLS, Weather, World
from trade_executor import control
from trade_executor.brokers import kite
from trade_executor.models import Control

NEVER_S = 1e9
AFTER_PLACE = Point("broker", "place", AFTER)
AFTER_LOOK = Point("commit", "pump._look", AFTER)
NIGHT_S = 15.5 * 3_600
"""From ten in the morning to half past one at night, IST: the day before in UTC."""

_LOSE_LOCKS = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database d ON d.oid = database"
    " WHERE locktype = 'advisory' AND granted AND datname = current_database()"
)

Plant = Callable[[World], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Bug:
    """One mistake somebody could make: planted in a world that is built and has not run yet."""

    name: str
    rule: str
    """The rule of execution.md it breaks."""
    plan: str
    plant: Plant
    invariants: tuple[int, ...]
    """Which of the sixteen are expected to see it; others may be first."""


def execute(world: World, package: str, statement: str) -> None:
    """Change a scratch database itself: constraints and sequences."""
    db = Database(world.urls[package], pool_size=1)
    with db.transaction() as session:
        session.execute(sa.text(statement))
    db.dispose()


def plan(name: str) -> Plan:
    """A fresh plan: some remember what they have seen."""
    return _PLANS[name]()


def plan_names() -> tuple[str, ...]:
    """All plans."""
    return tuple(_PLANS)


def _small(**more: Any) -> Plan:
    """One of everything and slow loops: idle virtual time costs most."""
    settings = {"loop_seconds": 4.0, "recon_quick_seconds": 20.0, **more.pop("executor_settings", {})}
    values: dict[str, Any] = {
        "twins": 1,
        "users": 8,
        "orders_per_second": 4.0,
        "check_every_s": 4.0,
        "settle_s": 25.0,
        "quiet_within_s": 600.0,
        "first_violation_ends": True,
        "rules": (causes.check,),
    }
    return Plan(executor_settings=settings, **{**values, **more})


def _answers() -> Plan:
    """Answers to place calls get lost, come late or lie; the book hides our tag behind the broker's own marks."""
    broker = FaultRates(
        response_lost=0.15, request_lost=0.04, timed_out_400=0.04, timed_out_400_accepted=0.10,
        bad_gateway_accepted=0.04, accept_delayed=0.06, refused_at_front=0.10, partial_fill=0.4,
    )  # fmt: skip
    return _small(weather=Weather(broker=broker), around=_tag_beside_the_brokers_marks)


def _trades() -> Plan:
    """Trades in many pieces that lag the book, cancels that race them, a book that is behind; two shares, both sides."""
    broker = FaultRates(
        partial_fill=1.0, trades_lag=0.4, cancel_then_filled=0.5, cancel_refused=0.05, book_stale=0.3,
        book_truncated=0.05, order_stuck=0.02,
    )  # fmt: skip
    return _small(
        weather=Weather(broker=broker, bell_lost=0.1),
        mix=Mix(sell=0.45, far=0.2, ioc=0.1, cancel=0.5, replace=0.0, batch_max=25),
        symbols=SYMBOLS[:2],
        simulator_settings={"fill_latency_max_s": 6.0},
    )


def _cancels() -> Plan:
    """Users who change their minds about resting orders, and a broker that fills what it has promised to cancel."""
    broker = FaultRates(partial_fill=0.5, cancel_then_filled=0.6, cancel_refused=0.1, trades_lag=0.1)
    return _small(
        weather=Weather(broker=broker),
        mix=Mix(market=0.35, sell=0.35, far=0.7, ioc=0.0, cancel=1.0, replace=0.0, batch_max=3),
        symbols=SYMBOLS[:4],
    )


def _commits() -> Plan:
    """Processes die at points, commits break before and after, the bus drops and doubles; ids come out of order."""
    weather = Weather(
        kill_at_point=0.003,
        commit_refused=0.01,
        commit_unknown=0.01,
        bus=BusFaults(confirm_lost=0.05, doubled=0.10, dropped=0.03),
    )
    return _small(weather=weather, around=_cached_ids)


def _sends() -> Plan:
    """Senders die before they have read the answer, commits around a call break, and the book is seconds behind."""

    @contextmanager
    def rough_sends(world: World) -> Iterator[None]:
        dice = random.Random(f"{world.seed}/sends")  # noqa: S311  reproducible, not secret
        reach, commit = world.points.on_point, world.points.in_commit

        def on_point(point: Point) -> None:
            if world.weather is not CALM and point == AFTER_PLACE and dice.random() < 0.15:
                raise Killed(str(point))
            reach(point)

        def in_commit(point: Point) -> None:
            if world.weather is not CALM and point.site.startswith("sending.") and dice.random() < 0.10:
                raise OperationalError("COMMIT", {}, PostgresError("server closed the connection before the commit"))
            commit(point)

        with mock.patch.multiple(world.points, on_point=on_point, in_commit=in_commit):
            yield

    broker = FaultRates(book_stale=0.9, book_stale_s=(3, 10))
    return _small(weather=Weather(broker=broker), around=rough_sends)


def _ghosts() -> Plan:
    """Orders that arrive after every patience has ended."""
    return _small(weather=Weather(broker=FaultRates(ghost=0.15, ghost_delay_s=(200, 240))))


def _halts() -> Plan:
    """An operator who halts and resumes all the time."""

    @contextmanager
    def nervous(_world: World) -> Iterator[None]:
        with mock.patch.multiple(disasters, OPERATOR_ROUND_S=0.2, HALT_S=(0.05, 0.5)):
            yield

    return _small(weather=Weather(disaster_every_s=NEVER_S), drill_every_s=0.4, switch=0.6, around=nervous)


def _deposed() -> Plan:
    """Two of everything; a sender stands still after it has looked, and loses its lock meanwhile. Claims are watched."""
    found: list[str] = []

    def claim(session: Session, account: str, *, epoch: int, **values: Any) -> Any:
        claimed_at = real(session, account, epoch=epoch, **values)
        now = session.scalar(sa.select(Control.epoch).where(Control.account == account))
        if claimed_at is not None and now != epoch:
            found.append(f"14: a sender of epoch {epoch} made a claim in epoch {now}")
        return claimed_at

    @contextmanager
    def standing_still(world: World) -> Iterator[None]:
        dice = random.Random(f"{world.seed}/standing still")  # noqa: S311  reproducible, not secret
        reach = world.points.on_point

        def on_point(point: Point) -> None:
            reach(point)
            if world.weather is not CALM and point == AFTER_LOOK and dice.random() < 0.1:
                execute(world, "trade_executor", _LOSE_LOCKS)
                world.scheduler.sleep(dice.uniform(1, 8))

        with mock.patch.object(control, "claim", claim), mock.patch.object(world.points, "on_point", on_point):
            yield

    real = control.claim
    rules = (causes.check, lambda _books, _facts: iter(found))
    return _small(twins=2, weather=Weather(), around=standing_still, rules=rules)


def _night() -> Plan:
    """Calm, in the hours in which India and UTC have different dates."""

    @contextmanager
    def at_night(world: World) -> Iterator[None]:
        world.scheduler.time.advance_to(NIGHT_S)
        yield

    return _small(around=at_night, weather=Weather())


@contextmanager
def _tag_beside_the_brokers_marks(_world: World) -> Iterator[None]:
    """Kite shows a protected order's own marks in `tags` and leaves `tag` empty (execution.md 2)."""
    real = kite.book_order
    with mock.patch.object(kite, "book_order", lambda row, today: real(as_kite_shows_it(row), today)):
        yield


def as_kite_shows_it(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the book without `tag` where the broker has put marks of its own."""
    return {**row, "tag": None} if "mktp" in (row.get("tags") or ()) else row


@contextmanager
def _cached_ids(world: World) -> Iterator[None]:
    """Every connection takes ids twenty at a time, so they commit out of order as under real concurrency."""
    for package in ("portfolio_service", "trade_executor"):
        execute(world, package, "ALTER SEQUENCE outbox_id_seq CACHE 20")
    yield


def both(*parts: Plant) -> Plant:
    """Several contexts as one."""

    @contextmanager
    def all_of(world: World) -> Iterator[None]:
        with ExitStack() as stack:
            for part in parts:
                stack.enter_context(part(world))
            yield

    return all_of


_PLANS: dict[str, Callable[[], Plan]] = {
    "answers": _answers,
    "trades": _trades,
    "cancels": _cancels,
    "commits": _commits,
    "sends": _sends,
    "ghosts": _ghosts,
    "halts": _halts,
    "deposed": _deposed,
    "night": _night,
}
