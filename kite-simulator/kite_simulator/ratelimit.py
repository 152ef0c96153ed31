"""Request limits by class, as documented in 2026 (Kite docs, rate limiting; fact sheet section 3)."""

from collections import deque
from dataclasses import dataclass, field

from kite_simulator.engine.errors import ORDER_CAP_REACHED, TOO_MANY_REQUESTS, Refused

ORDERS_PER_DAY = 5000


@dataclass(slots=True)
class Window:
    """At most `limit` requests in any `seconds`."""

    limit: int
    seconds: float
    taken: deque[float] = field(default_factory=deque)

    def is_full(self, now: float) -> bool:
        """Whether one more would exceed the limit; forgets what has left the window."""
        while self.taken and self.taken[0] <= now - self.seconds:
            self.taken.popleft()
        return len(self.taken) >= self.limit


class RateLimiter:
    """Sliding windows: order requests are counted for the account, everything else for the api_key (there is one)."""

    def __init__(self) -> None:
        self._order_second = Window(10, 1.0)
        self._order_minute = Window(400, 60.0)
        self._quote = Window(1, 1.0)
        self._historical = Window(3, 1.0)
        self._other = Window(10, 1.0)

    def take_order(self, now: float, used_today: int, *, is_cancel: bool) -> None:
        """Count one order request; raises Refused with HTTP 429. Cancels use up the second only."""
        windows = [self._order_second] if is_cancel else [self._order_second, self._order_minute]
        if any(window.is_full(now) for window in windows):
            raise Refused(TOO_MANY_REQUESTS, "NetworkException", 429)
        if not is_cancel and used_today >= ORDERS_PER_DAY:
            raise Refused(ORDER_CAP_REACHED, "NetworkException", 429)
        for window in windows:
            window.taken.append(now)

    def take_read(self, now: float, path: str) -> None:
        """Count one request that is no order; raises Refused with HTTP 429."""
        if path.startswith("/quote"):
            window = self._quote
        elif path.startswith("/instruments/historical"):
            window = self._historical
        else:
            window = self._other
        if window.is_full(now):
            raise Refused(TOO_MANY_REQUESTS, "NetworkException", 429)
        window.taken.append(now)
