"""What goes wrong on a large scale, and the operator who mends what only a person may mend."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from common.errors import AppError
from tests.faults.world import ACCOUNT, World
from trade_executor import breaks, kill_switch, settling
from trade_executor.models import Block, Control, ReconBreak

FREEZE_S = (1.0, 300.0)
BUS_AWAY_S = (1.0, 30.0)
HALT_S = (5.0, 40.0)
LOOKED_AT_AFTER_S = 20.0
"""How long an operator takes to look at a break that somebody has to look at."""
OPERATOR_ROUND_S = 5.0


@dataclass
class Disasters:
    """Kills, freezes, outages and purges, one after the other, as chance has it."""

    world: World
    dice: random.Random

    def run(self) -> None:
        """Go on until the weather is calm."""
        acts: list[tuple[int, Callable[[], None]]] = [
            (8, self._kill),
            (4, self._freeze),
            (2, self._purge),
            (2, self._bus_away),
            (2, self._lose_locks),
            (1, self._kill_many),
        ]
        while not self.world.ending:
            every_s = self.world.weather.disaster_every_s
            self.world.scheduler.sleep(self.dice.expovariate(1 / every_s) if every_s else 3_600.0)
            if self.world.weather.disaster_every_s:
                self.dice.choices([act for _, act in acts], [weight for weight, _ in acts])[0]()

    def _kill(self) -> None:
        running = sorted(name for name, process in self.world.processes.items() if process.actors)
        if running:
            self.world.processes[self.dice.choice(running)].kill()

    def _kill_many(self) -> None:
        """A host goes down: half of everything at once."""
        self.world.counts["hosts down"] += 1
        for process in list(self.world.processes.values()):
            if process.actors and self.dice.random() < 0.5:
                process.kill()

    def _freeze(self) -> None:
        """SIGSTOP: whatever the process was about to do, it does much later."""
        running = sorted(name for name, process in self.world.processes.items() if process.actors)
        if running:
            self.world.counts["freezes"] += 1
            seconds = self.dice.uniform(*FREEZE_S) if self.dice.random() < 0.5 else self.dice.uniform(1, 10)
            for actor in self.world.processes[self.dice.choice(running)].actors:
                self.world.scheduler.freeze(actor, seconds)

    def _purge(self) -> None:
        self.world.counts["purges"] += 1
        self.world.bus.purge()

    def _bus_away(self) -> None:
        self.world.counts["bus outages"] += 1
        self.world.bus.down_until = self.world.scheduler.time.now_s + self.dice.uniform(*BUS_AWAY_S)

    def _lose_locks(self) -> None:
        """Advisory locks die with their connection; the holder does not notice and goes on."""
        db = self.world.processes["trade-executor-loop-1"].db
        try:
            with db.transaction() as session:
                lost = session.scalar(
                    sa.text(
                        "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_locks JOIN pg_database d ON d.oid = database"
                        " WHERE locktype = 'advisory' AND granted AND datname = current_database()"
                    )
                )
        except DBAPIError:
            return
        self.world.counts["locks lost"] += int(lost or 0)


@dataclass
class Operator:
    """Two people on call: halt and resume by drill, look at breaks that halt or freeze and close them, settle frozen blocks."""

    world: World
    dice: random.Random
    drill_every_s: float
    halts: list[tuple[datetime, datetime]] = field(default_factory=list)
    closed: list[tuple[str, str]] = field(default_factory=list)

    def run(self) -> None:
        """Rounds until the world ends."""
        next_drill = self.drill_every_s
        while not self.world.ending:
            self.world.scheduler.sleep(OPERATOR_ROUND_S)
            try:
                if (
                    self.drill_every_s
                    and self.world.weather.disaster_every_s
                    and self.world.scheduler.time.now_s > next_drill
                ):
                    next_drill = self.world.scheduler.time.now_s + self.dice.uniform(0.5, 1.5) * self.drill_every_s
                    self._drill()
                self._close_breaks()
                self._settle_frozen()
                self._resume()
            except DBAPIError:
                continue

    @property
    def _db(self) -> Any:
        return self.world.operator_db

    def _drill(self) -> None:
        try:
            with self._db.transaction() as session:
                kill_switch.stop(session, ACCOUNT, "HALTED", actor="operator-1", reason="drill")
        except AppError:
            return
        halted = self.world.scheduler.time.now
        self.world.counts["halts"] += 1
        self.world.scheduler.sleep(self.dice.uniform(*HALT_S))
        self.halts.append((halted, self.world.scheduler.time.now))

    def _resume(self) -> None:
        with self._db.transaction() as session:
            state = session.scalar(sa.select(Control.trading_state).where(Control.account == ACCOUNT))
        if state in (None, "ACTIVE"):
            return
        try:
            for person in ("operator-1", "operator-2"):
                with self._db.transaction() as session:
                    kill_switch.request_or_approve_resume(session, ACCOUNT, actor=person, reason="looked at")
        except AppError:
            return

    def _close_breaks(self) -> None:
        with self._db.transaction() as session:
            due = session.execute(
                sa.select(ReconBreak.break_id, ReconBreak.kind, ReconBreak.key)
                .where(ReconBreak.closed_at.is_(None))
                .where(sa.or_(ReconBreak.severity == 1, sa.func.cardinality(ReconBreak.freezes) > 0))
                .where(
                    ReconBreak.opened_at
                    < sa.func.clock_timestamp() - sa.func.make_interval(0, 0, 0, 0, 0, 0, LOOKED_AT_AFTER_S)
                )
            ).all()
        for row in due:
            try:
                with self._db.transaction() as session:
                    breaks.close(session, row.break_id, actor="operator-1", reason="looked at")
            except AppError:
                continue
            self.closed.append((row.kind, row.key))

    def _settle_frozen(self) -> None:
        with self._db.transaction() as session:
            frozen = session.scalars(sa.select(Block.block_id).where(Block.state == "FROZEN")).all()
        for block_id in frozen:
            try:
                with self._db.transaction() as session:
                    settling.settle_frozen(session, block_id, actor="operator-1", reason="contract note")
            except AppError:
                continue
