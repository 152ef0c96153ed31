"""How far the bus is behind, as a consumer sees it: what is still on its way is not what the bus has lost."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime

from common.events import Envelope

QUIET_S = 10.0
"""After so long without a message of a source nothing is known of how far the bus is with it."""


class Backlog:
    """The youngest message that came from each source, and when. One for the threads of a consumer."""

    def __init__(self) -> None:
        self._youngest: dict[str, datetime] = {}
        self._came_at: dict[str, float] = {}

    def note(self, envelopes: Iterable[Envelope]) -> None:
        """Messages have come from the bus. An old one that comes again does not make it look further behind."""
        for envelope in envelopes:
            known = self._youngest.get(envelope.source, envelope.recorded_at)
            self._youngest[envelope.source] = max(known, envelope.recorded_at)
            self._came_at[envelope.source] = time.monotonic()

    def behind_s(self, source: str) -> float:
        """Seconds since what the bus brings now was recorded; 0 when it brings nothing."""
        if time.monotonic() - self._came_at.get(source, -QUIET_S) >= QUIET_S:
            return 0.0
        return max(0.0, (datetime.now(UTC) - self._youngest[source]).total_seconds())
