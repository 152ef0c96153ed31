"""Drawing faults: one independent stream per kind, so that the draws of one kind never move another's.

What was struck is a fact of the truth log. A fact that names an instant (`due`) promises something for later; a restart
finds the promise in the books and keeps it, and never draws again what was drawn before.
"""

from collections.abc import Iterable
from datetime import timedelta
from random import Random
from typing import Any

from kite_simulator.engine.faults import FaultKind, FaultRates
from kite_simulator.engine.kernel import Kernel
from kite_simulator.engine.streams import stream


class FaultDice:
    """Which opportunity meets which fault. Rates come from the last `faults_set` fact, before one from the settings."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        # After a restart the schedule goes on with fresh draws that still depend on seed and journal alone.
        later = f"/{len(kernel.facts)}" if kernel.facts else ""
        seed = kernel.settings.seed
        self._draws = {kind: stream(seed, f"fault/{kind}{later}") for kind in FaultKind}
        self._sizes = {kind: stream(seed, f"fault/{kind}/size{later}") for kind in FaultKind}
        given = kernel.state.fault_rates
        self._rates = kernel.settings.faults if given is None else FaultRates.read(given)

    @property
    def rates(self) -> FaultRates:
        """The rates in force."""
        return self._rates

    def set_rates(self, rates: FaultRates) -> None:
        """Use other rates from now on; what was forced stays forced."""
        self._kernel.record("faults_set", rates=rates.model_dump(mode="json", exclude_defaults=True))
        self._rates = rates

    def force(self, kind: FaultKind, count: int = 1) -> None:
        """Let the next `count` opportunities of a kind meet the fault, whatever the rates say."""
        if count < 1:
            raise ValueError("a fault is forced at least once")
        self._kernel.record("fault_forced", fault=FaultKind(kind).value, count=count)

    def calm(self) -> None:
        """No further fault: rates 0, nothing forced. Promises already made are kept."""
        self.set_rates(FaultRates())
        for fault in list(self._kernel.state.faults_forced):
            self._kernel.record("fault_forced", fault=fault, count=0)

    def draws(self, kind: FaultKind) -> bool:
        """Whether this opportunity meets the fault; `note` has to follow when it takes place."""
        if self._is_forced(kind):
            return True
        rate = self._rates.rate_of(kind)
        return rate > 0 and self._draws[kind].random() < rate

    def first_of(self, kinds: Iterable[FaultKind]) -> FaultKind | None:
        """One of several faults that exclude each other, or none. Every kind draws; a forced one goes first."""
        struck = [kind for kind in kinds if self.draws(kind)]
        forced = [kind for kind in struck if self._is_forced(kind)]
        return next(iter(forced or struck), None)

    def strikes(self, kind: FaultKind, **where: Any) -> bool:
        """Draw, and record the fault at once when it is met."""
        if not self.draws(kind):
            return False
        self.note(kind, **where)
        return True

    def note(self, kind: FaultKind, *, due_in_s: float | None = None, **where: Any) -> int:
        """Record a fault that takes place; with `due_in_s` its second half follows then. Returns the fact's number."""
        kernel = self._kernel
        if due_in_s is not None:
            where["due"] = (kernel.time + timedelta(seconds=due_in_s)).isoformat()
        kernel.record("fault_injected", fault=kind.value, forced=self._is_forced(kind), **where)
        number = len(kernel.facts)
        if due_in_s is not None:
            kernel.schedule(due_in_s, "fault", "", number)
        return number

    def seconds(self, kind: FaultKind, span: tuple[float, float]) -> float:
        """A length drawn for one kind, to the millisecond."""
        return round(self._sizes[kind].uniform(*span), 3)

    def sizes(self, kind: FaultKind) -> Random:
        """The stream of everything else about one kind: numbers of pieces, copies, which part is cut off."""
        return self._sizes[kind]

    def _is_forced(self, kind: FaultKind) -> bool:
        return self._kernel.state.faults_forced.get(kind.value, 0) > 0
