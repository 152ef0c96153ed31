"""Counting requests: in this process, or in a Redis that several gateways share.

Both counters are our own, on the algorithm of the library `limits` and tested against it. Its asynchronous memory storage
walks over all keys at every hit (1.3 ms of CPU with 10,000 keys, against 2 us here) and never bounds their number; its
Redis storage makes two calls for each request, which was half of the gateway's processor time.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from api_gateway.counters import limiter_fallbacks
from api_gateway.windows import Rule, Verdict, Window
from common.clock import Clock
from common.logging import get_logger

log = get_logger(__name__)

KEYS_MAX = 100_000
"""Beyond that the key unused for longest is forgotten: a flood of addresses costs memory up to here, no more."""
KEY_PREFIX = "saras-gateway"
REDIS_TIMEOUT_S = 0.25
REDIS_PAUSE_S = 5.0
"""After a failure Redis is left alone for this long, so that a dead one does not slow every request."""


class Limiter(Protocol):
    """Counts one request against a rule."""

    async def hit(self, rule: Rule, key: str) -> Verdict:
        """Count a request of `key`; never raises for a lost backend."""
        ...


class MemoryLimiter:
    """Counts of this process, at most KEYS_MAX keys."""

    def __init__(self, clock: Clock, *, keys_max: int = KEYS_MAX) -> None:
        self._clock = clock
        self._keys_max = keys_max
        self._windows: OrderedDict[tuple[str, str], Window] = OrderedDict()

    async def hit(self, rule: Rule, key: str) -> Verdict:
        now = self._clock.now().timestamp()
        name = (rule.name, key)
        window = self._windows.get(name)
        if window is None:
            window = self._windows[name] = Window(int(now // rule.period_s))
            if len(self._windows) > self._keys_max:
                self._windows.popitem(last=False)
        else:
            self._windows.move_to_end(name)
        return window.hit(rule, now)


class LimitsUnavailable(Exception):
    """Redis did not count; the text is the kind of failure."""


@dataclass(frozen=True, slots=True)
class _Hit:
    rule: Rule
    key: str
    verdict: asyncio.Future[Verdict]


class RedisLimiter:
    """Counts in Redis; raises LimitsUnavailable when it does not answer.

    Requests that come while Redis counts others are counted together in the next call: under load the call costs the
    gateway more than everything else it does for a request.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        self._clock = clock
        client = Redis.from_url(url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S)
        self._count = client.register_script(_COUNT)
        self._waiting: list[_Hit] = []
        self._calling: asyncio.Task[None] | None = None

    async def hit(self, rule: Rule, key: str) -> Verdict:
        hit = _Hit(rule, key, asyncio.get_running_loop().create_future())
        self._waiting.append(hit)
        if self._calling is None:
            self._calling = asyncio.create_task(self._call())
        return await hit.verdict

    async def _call(self) -> None:
        try:
            while self._waiting:
                hits, self._waiting = self._waiting, []
                await self._ask(hits)
        finally:
            self._calling = None

    async def _ask(self, hits: Sequence[_Hit]) -> None:
        now, failure = self._clock.now().timestamp(), "no answer"
        try:
            found = await self._count(
                keys=[f"{KEY_PREFIX}:{hit.rule.name}:{hit.key}" for hit in hits],
                args=[repr(now), *(number for hit in hits for number in (hit.rule.requests, hit.rule.period_s))],
            )
            for hit, counts in zip(hits, found, strict=True):
                if not hit.verdict.done():
                    hit.verdict.set_result(Window(*counts).hit(hit.rule, now))
        except (RedisError, OSError) as error:
            failure = type(error).__name__
        finally:
            for hit in hits:
                if not hit.verdict.done():
                    hit.verdict.set_exception(LimitsUnavailable(failure))


# For each key what `Window` holds before the request, counted if the rule allows it: the arithmetic is that of `Window.hit`.
_COUNT = """
local now = tonumber(ARGV[1])
local found = {}
for position, key in ipairs(KEYS) do
  local requests, period = tonumber(ARGV[2 * position]), tonumber(ARGV[2 * position + 1])
  local number = math.floor(now / period)
  local kept = redis.call('HMGET', key, 'number', 'current', 'previous')
  local known, current, previous = tonumber(kept[1]) or number, tonumber(kept[2]) or 0, tonumber(kept[3]) or 0
  if number > known then
    previous = (number == known + 1) and current or 0
    known, current = number, 0
  end
  found[position] = {known, current, previous}
  if math.floor(previous * (1 - (now % period) / period) + current) + 1 <= requests then
    redis.call('HSET', key, 'number', known, 'current', current + 1, 'previous', previous)
    redis.call('EXPIRE', key, 2 * period)
  end
end
return found
"""


class FailOpenLimiter:
    """Redis first, this process's own counts while Redis is away.

    Rules in `strict` (guessing passwords) are counted in this process as well, always: losing Redis must not hand out a
    fresh allowance.
    """

    def __init__(
        self,
        shared: Limiter,
        local: Limiter,
        *,
        strict: frozenset[str],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._local = local
        self._strict = strict
        self._monotonic = monotonic
        self._paused_until = float("-inf")

    async def hit(self, rule: Rule, key: str) -> Verdict:
        own = await self._local.hit(rule, key) if rule.name in self._strict else None
        if own is not None and not own.allowed:
            return own
        if self._monotonic() >= self._paused_until:
            try:
                return await self._shared.hit(rule, key)
            except LimitsUnavailable as error:
                self._paused_until = self._monotonic() + REDIS_PAUSE_S
                log.warning("limiter.redis_unavailable", error=str(error))
        limiter_fallbacks.labels("api-gateway").inc()
        return own or await self._local.hit(rule, key)
