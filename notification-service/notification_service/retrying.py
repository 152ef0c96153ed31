"""When a failed delivery is tried again, and when a provider that fails is left alone for a while. Pure."""

from dataclasses import dataclass
from datetime import timedelta

JITTER = 0.5
"""A pause is shortened by up to this part of it, so that what failed together is not tried again together."""
UNKNOWN_MAX = 1
"""How many attempts of one delivery may have an unknown outcome; after one more it is given up, not sent again."""


@dataclass(frozen=True)
class Pauses:
    """Doubling pauses in seconds, from `first` to at most `longest`."""

    first: float
    longest: float

    def after(self, failures: int, chance: float = 0.0) -> timedelta:
        """The pause after so many failures (at least 1); `chance` in [0, 1) shortens it by up to JITTER."""
        # The exponent is capped: 2.0 ** 1024 is an overflow, not a long pause.
        seconds = min(self.longest, self.first * 2.0 ** min(failures - 1, 32))
        return timedelta(seconds=seconds * (1 - JITTER * chance))
