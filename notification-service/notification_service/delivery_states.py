"""States of one delivery and the only moves between them. Pure."""

from enum import StrEnum


class Status(StrEnum):
    """Where a delivery stands."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    """The provider has taken it."""
    DELIVERED = "delivered"
    """The provider says that it has arrived."""
    FAILED = "failed"
    """Refused for good: trying again would change nothing."""
    GAVE_UP = "gave_up"
    """Tried as often, or as long, as is allowed."""
    MERGED = "merged"
    """Told by a daily summary."""


class IllegalMove(Exception):
    """This delivery cannot go there from where it is."""


_Q, _ING, _S, _D, _F, _G, _M = Status
MOVES: frozenset[tuple[Status, Status]] = frozenset(
    {
        (_Q, _ING),  # claimed
        (_Q, _G),  # too old
        (_Q, _M),
        (_ING, _Q),  # may be tried again, or its worker was lost
        (_ING, _S),
        (_ING, _F),
        (_ING, _G),
        # A provider's word about an attempt whose answer came late or never.
        (_ING, _D),
        (_Q, _S),
        (_Q, _D),
        (_Q, _F),
        (_G, _S),
        (_G, _D),
        (_S, _D),
        (_S, _F),
        # An operator wants it tried again.
        (_F, _Q),
        (_G, _Q),
    }
)


def sources_of(target: Status) -> tuple[Status, ...]:
    """From where a delivery may come to this state."""
    return tuple(sorted(source for source, end in MOVES if end is target))


def check(source: Status, target: Status) -> None:
    """Raises IllegalMove for a move that is not in the table."""
    if (source, target) not in MOVES:
        raise IllegalMove(f"a delivery that is {source} cannot become {target}")
