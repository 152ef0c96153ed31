"""A cache that may be lost at any moment: Redis, or this process's memory. Nothing correct depends on it."""

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Protocol

import redis
from redis.exceptions import RedisError

from common.logging import get_logger

log = get_logger(__name__)

SOCKET_TIMEOUT_S = 0.5
WARNING_PAUSE_S = 30.0


class Cache(Protocol):
    """Text values under text keys, each with a lifetime in seconds."""

    def get_many(self, keys: Iterable[str]) -> dict[str, str]:
        """The values that are there."""
        ...

    def set_many(self, values: Mapping[str, str], ttl_s: int) -> None:
        """Keep values; a failing cache keeps nothing and raises nothing."""
        ...

    def ping(self) -> None:
        """Raise when the cache does not answer (health checks)."""
        ...


class MemoryCache:
    """The cache of one process."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()

    def get_many(self, keys: Iterable[str]) -> dict[str, str]:
        now = time.monotonic()
        with self._lock:
            return {key: self._values[key][1] for key in keys if key in self._values and self._values[key][0] > now}

    def set_many(self, values: Mapping[str, str], ttl_s: int) -> None:
        until = time.monotonic() + ttl_s
        with self._lock:
            self._values.update({key: (until, value) for key, value in values.items()})

    def ping(self) -> None:
        return None


class RedisCache:
    """The shared cache; a lost Redis costs speed only: reads find nothing, writes are dropped, a warning is logged."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(
            url, socket_timeout=SOCKET_TIMEOUT_S, socket_connect_timeout=SOCKET_TIMEOUT_S, decode_responses=True
        )
        self._warned_at = float("-inf")

    def get_many(self, keys: Iterable[str]) -> dict[str, str]:
        wanted = list(keys)
        if not wanted:
            return {}
        try:
            values = self._redis.mget(wanted)
        except RedisError as error:
            self._warn(error)
            return {}
        return {key: str(value) for key, value in zip(wanted, values, strict=True) if value is not None}

    def set_many(self, values: Mapping[str, str], ttl_s: int) -> None:
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                for key, value in values.items():
                    pipeline.set(key, value, ex=ttl_s)
                pipeline.execute()
        except RedisError as error:
            self._warn(error)

    def ping(self) -> None:
        self._redis.ping()

    def _warn(self, error: RedisError) -> None:
        if time.monotonic() - self._warned_at > WARNING_PAUSE_S:
            self._warned_at = time.monotonic()
            log.warning("cache.redis_unavailable", error=type(error).__name__)


def cache_from_url(url: str | None) -> Cache:
    """Redis when a URL is configured, otherwise this process's memory."""
    return RedisCache(url) if url else MemoryCache()
