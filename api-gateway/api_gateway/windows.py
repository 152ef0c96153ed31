"""A sliding window of requests, the arithmetic alone. Pure.

The sliding window counter: two fixed windows are counted, the previous one weighs as much as it still overlaps the
last period. It is the algorithm of `limits` (strategy SlidingWindowCounterRateLimiter), so a count kept here and one
kept in Redis judge alike.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """At most `requests` in any `period_s` seconds, for each key under `name`."""

    name: str
    requests: int
    period_s: int = 60


@dataclass(frozen=True, slots=True)
class Verdict:
    """May this request go on, and what the caller is told about its allowance; `reset_s` in whole seconds."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: int


@dataclass(slots=True)
class Window:
    """Counts of one key: the window that `number` names and the one before."""

    number: int
    current: int = 0
    previous: int = 0

    def hit(self, rule: Rule, now: float) -> Verdict:
        """Count one request at `now` (seconds) if the rule allows it."""
        self._move_to(int(now // rule.period_s))
        elapsed = now % rule.period_s
        weight = 1 - elapsed / rule.period_s
        used = math.floor(self.previous * weight + self.current)
        if used + 1 > rule.requests:
            return Verdict(False, rule.requests, 0, self._wait(rule, elapsed))
        self.current += 1
        return Verdict(True, rule.requests, rule.requests - used - 1, math.ceil(rule.period_s - elapsed))

    def _move_to(self, number: int) -> None:
        if number > self.number:
            self.previous = self.current if number == self.number + 1 else 0
            self.number, self.current = number, 0

    def _wait(self, rule: Rule, elapsed: float) -> int:
        """Whole seconds until the weighted count has room for one more."""
        wait = rule.period_s - elapsed
        if self.current < rule.requests:
            # previous * (1 - t / period) + current < requests, solved for t.
            free_at = rule.period_s * (1 - (rule.requests - self.current) / self.previous)
            wait = free_at - elapsed
        # At the solution itself the count is still full: one second is the grain of Retry-After.
        return max(1, math.floor(wait) + 1)
