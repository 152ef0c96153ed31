"""What falls due and is placed by the platform, instalments and automatic rebalances: its states, and how often it is
tried. Pure."""

from datetime import timedelta
from enum import StrEnum


class DueState(StrEnum):
    """What became of something that fell due."""

    DUE = "DUE"
    PLACED = "PLACED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"


DUE_STATES = tuple(DueState)
ATTEMPT_PAUSE = timedelta(minutes=15)
"""What could not be placed is left alone for so long."""
AUTO_ATTEMPTS_FOR = timedelta(hours=4)
"""An instalment that can not be placed is tried again for so long; then the user is asked to confirm it."""
ATTEMPTS_MAX = 16
"""Attempts of one automatic rebalance: four hours of an open market."""


def attempts_left(attempts: int) -> bool:
    """Whether something that was tried so often is tried again."""
    return attempts < ATTEMPTS_MAX
