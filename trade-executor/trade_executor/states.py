"""Every state an entity may have and every move it may make; whatever is not listed raises.

Source of the pairs: execution.md 3.3, with the additions of design.md section 3 (blocks may rest all day, a child's
cancel breaks its block up and the others go back to the pool).
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType


class IllegalTransition(Exception):
    """An entity was asked to make a move that its table does not list."""


class Transitions:
    """The legal moves of one entity."""

    def __init__(self, entity: str, table: Mapping[str, Iterable[str]]) -> None:
        self.entity = entity
        self._table = MappingProxyType({state: frozenset(targets) for state, targets in table.items()})
        unknown = {target for targets in self._table.values() for target in targets} - set(self._table)
        if unknown:
            raise ValueError(f"{entity}: moves to states without a row: {sorted(unknown)}")

    @property
    def states(self) -> tuple[str, ...]:
        """All states, in the order of the table."""
        return tuple(self._table)

    @property
    def final(self) -> frozenset[str]:
        """States without a way out."""
        return frozenset(state for state, targets in self._table.items() if not targets)

    def require(self, current: str, target: str) -> str:
        """Answer `target` when the move is legal; raises IllegalTransition otherwise."""
        if target not in self._table.get(current, frozenset()):
            raise IllegalTransition(f"{self.entity}: {current} -> {target}")
        return target

    def sources(self, target: str) -> tuple[str, ...]:
        """The states that may become `target`: the guard of a compare-and-set UPDATE."""
        sources = tuple(state for state, targets in self._table.items() if target in targets)
        if not sources:
            raise IllegalTransition(f"{self.entity}: nothing may become {target}")
        return sources


CHILD = Transitions(
    "child_order",
    {
        # In the pool; a remainder that came back from a block is here again.
        "ACCEPTED": ("BATCHED", "CANCELLED", "EXPIRED", "FAILED"),
        "BATCHED": ("PARTIAL", "FILLED", "ACCEPTED", "CANCELLED", "EXPIRED", "REJECTED", "FAILED"),
        # PARTIAL -> PARTIAL: another round of the same block.
        "PARTIAL": ("PARTIAL", "FILLED", "ACCEPTED", "CANCELLED", "EXPIRED", "REJECTED", "FAILED"),
        "FILLED": (),
        "CANCELLED": (),
        "EXPIRED": (),
        "REJECTED": (),
        "FAILED": (),
    },
)

BLOCK = Transitions(
    "block",
    {
        "SEALED": ("WORKING", "DONE", "FROZEN"),
        "WORKING": ("DONE", "FROZEN"),
        "FROZEN": ("WORKING", "DONE"),
        "DONE": (),
    },
)

ATTEMPT = Transitions(
    "broker_order",
    {
        "INTENT": ("SENDING", "VOID"),
        "SENDING": ("ACKED", "REFUSED", "UNKNOWN"),
        # A late answer of the sender, or the tag found in the book, ends the uncertainty.
        "UNKNOWN": ("ACKED", "REFUSED", "LOST"),
        "ACKED": ("COMPLETE", "CANCELLED", "REJECTED"),
        "COMPLETE": ("SETTLED",),
        "CANCELLED": ("SETTLED",),
        "REJECTED": ("SETTLED",),
        "SETTLED": (),
        # Given up, yet seen at the broker: ours to cancel, never a user's to own.
        "REFUSED": ("GHOST",),
        "VOID": ("GHOST",),
        "LOST": ("GHOST",),
        "GHOST": ("CLOSED",),
        "CLOSED": (),
    },
)

CANCEL = Transitions(
    "cancel",
    {
        "NONE": ("REQUESTED",),
        "REQUESTED": ("SENT",),
        # Cancelling twice is harmless at the broker; it is repeated until the book shows an end.
        "SENT": ("SENT",),
    },
)

TRADING = Transitions(
    "trading_state",
    {
        "ACTIVE": ("CANCEL_ONLY", "HALTED"),
        "CANCEL_ONLY": ("HALTED", "ACTIVE"),
        "HALTED": ("ACTIVE",),
    },
)

CHILD_LIVE = ("ACCEPTED", "BATCHED", "PARTIAL")
CHILD_IN_BLOCK = ("BATCHED", "PARTIAL")
BLOCK_LIVE = ("SEALED", "WORKING", "FROZEN")
ATTEMPT_UNRESOLVED = ("INTENT", "SENDING", "UNKNOWN", "ACKED", "COMPLETE", "CANCELLED", "REJECTED")
"""At most one attempt of a block is in one of these: a second cannot exist before the first is decided."""
ATTEMPT_ENDED_AT_BROKER = ("COMPLETE", "CANCELLED", "REJECTED")
ATTEMPT_AT_BROKER = ("SENDING", "UNKNOWN", "ACKED", *ATTEMPT_ENDED_AT_BROKER)
ATTEMPT_GIVEN_UP = ("REFUSED", "VOID", "LOST")
"""Watched by tag until the trading day ends."""

_RESTING = ("OPEN", "TRIGGER PENDING")


def broker_rank(status: str) -> int:
    """How far a broker's order status is along its life: 0 interim, 1 resting, 2 ended; it may only rise.

    The broker's list of interim names is not exhaustive, so an unknown text counts as interim.
    """
    if broker_end(status) is not None:
        return 2
    return 1 if status in _RESTING else 0


def broker_end(status: str) -> str | None:
    """COMPLETE, CANCELLED or REJECTED for a terminal broker status, None for any other.

    Matched by prefix (`CANCELLED AMO` exists); LAPSED is how an unfilled rest of the day is named by some clients.
    """
    for end in ATTEMPT_ENDED_AT_BROKER:
        if status.startswith(end):
            return end
    return "CANCELLED" if status.startswith("LAPSED") else None
