"""A value that is expensive to make: kept for a while, made by one caller at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from common.clock import Clock

T = TypeVar("T")


class Cached(Generic[T]):
    """The answer of `load`, at most `ttl_s` seconds old; callers that come while it is loaded share that load."""

    def __init__(self, load: Callable[[], Awaitable[T]], *, ttl_s: float, clock: Clock) -> None:
        self._load = load
        self._ttl_s = ttl_s
        self._clock = clock
        self._value: tuple[float, T] | None = None
        self._loading: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """The value; raises what `load` raises (a failure is not kept)."""
        now = self._clock.now().timestamp()
        if self._value is not None and now < self._value[0] + self._ttl_s:
            return self._value[1]
        if self._loading is None:
            self._loading = asyncio.create_task(self._fill())
        # One caller giving up must not take the value from the others.
        return await asyncio.shield(self._loading)

    async def _fill(self) -> T:
        try:
            value = await self._load()
            self._value = (self._clock.now().timestamp(), value)
            return value
        finally:
            self._loading = None
