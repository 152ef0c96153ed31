"""Cooperative actors on virtual time: who runs next, for how long somebody is frozen, who dies where, all from one seed.

An actor is a greenlet. It gives way when it sleeps and, by chance, at the points that `points` marks: none of them lies
inside an open transaction, so no two actors can wait for each other's row locks.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from greenlet import getcurrent, greenlet

from tests.faults.virtual import VirtualTime

STEP_S = (0.0001, 0.002)
"""What one step between two points takes."""
NEVER = float("inf")


class Killed(BaseException):
    """The process of this actor is gone: SIGKILL, as far as one process can play it."""


class Stuck(AssertionError):
    """Nothing can happen any more, or virtual time ran out."""


@dataclass(eq=False)
class Actor:
    """One line of work of one process."""

    name: str
    run: Callable[[], None]
    wake_at: float = 0.0
    alive: bool = True
    sleeping: bool = False
    thread: greenlet = field(init=False)
    on_end: Callable[["Actor", BaseException | None], None] | None = None


class Scheduler:
    """Runs actors until told to stop."""

    def __init__(self, seed: int, *, switch: float = 0.15) -> None:
        self.dice = random.Random(f"{seed}/schedule")  # noqa: S311  reproducible, not secret
        self.time = VirtualTime(self.sleep)
        self.switch = switch
        self.actors: list[Actor] = []
        self.switches = 0
        self._main: greenlet = getcurrent()

    def spawn(self, name: str, run: Callable[[], None], *, delay_s: float = 0.0) -> Actor:
        """Add an actor; it starts when its turn comes."""
        actor = Actor(name, run, wake_at=self.time.now_s + delay_s)
        actor.thread = greenlet(lambda: self._live(actor), parent=self._main)
        self.actors.append(actor)
        return actor

    def current(self) -> Actor | None:
        """The actor that runs now; None in the harness itself."""
        thread = getcurrent()
        return next((actor for actor in self.actors if actor.thread is thread), None)

    def sleep(self, seconds: float) -> None:
        """Let others run for at least so long."""
        actor = self.current()
        if actor is None:
            raise RuntimeError("only actors sleep in virtual time")
        actor.wake_at = self.time.now_s + max(seconds, STEP_S[0])
        actor.sleeping = True
        self._main.switch()

    def pause(self) -> None:
        """A point where another may come first."""
        actor = self.current()
        if actor is None:
            return
        self.time.advance_to(self.time.now_s + self.dice.uniform(*STEP_S))
        if self.dice.random() < self.switch:
            actor.wake_at = self.time.now_s
            actor.sleeping = False
            self._main.switch()

    def wake(self, actor: Actor) -> None:
        """End an actor's sleep early (not its freeze)."""
        if actor.alive and actor.sleeping:
            actor.wake_at = min(actor.wake_at, self.time.now_s)

    def freeze(self, actor: Actor, seconds: float) -> None:
        """SIGSTOP: the actor does nothing for so long, wherever it stands."""
        actor.sleeping = False
        actor.wake_at = max(actor.wake_at, self.time.now_s) + seconds

    def kill(self, actor: Actor) -> None:
        """End an actor where it stands."""
        if not actor.alive:
            return
        if actor.thread.dead or not actor.thread:
            actor.alive = False
            self.actors.remove(actor)
            return
        if actor.thread is getcurrent():
            raise Killed(actor.name)
        # A greenlet that ends gives way to its parent: to whoever kills, or the rest of the killing would never happen.
        actor.thread.parent = getcurrent()
        actor.thread.throw(Killed(actor.name))

    def run(self, done: Callable[[], bool], *, until_s: float) -> bool:
        """Run until `done` (asked between steps) or until virtual time has come to `until_s`; answers whether done."""
        while not done():
            due = [actor for actor in self.actors if actor.wake_at <= self.time.now_s]
            if not due:
                next_s = min((actor.wake_at for actor in self.actors), default=NEVER)
                if next_s > until_s:
                    if next_s is NEVER:
                        raise Stuck("no actor will ever wake")
                    self.time.advance_to(until_s)
                    return done()
                self.time.advance_to(next_s)
                continue
            actor = due[self.dice.randrange(len(due))] if len(due) > 1 else due[0]
            actor.sleeping = False
            self.switches += 1
            actor.thread.switch()
        return True

    def end(self) -> None:
        """Kill whoever is left."""
        for actor in list(self.actors):
            self.kill(actor)

    def _live(self, actor: Actor) -> None:
        error: BaseException | None = None
        try:
            actor.run()
        except Killed as killed:
            error = killed
        finally:
            actor.alive = False
            self.actors.remove(actor)
        if actor.on_end is not None:
            actor.on_end(actor, error)
