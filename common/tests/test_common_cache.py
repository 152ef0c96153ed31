"""The cache contract, over this process's memory and over a real Redis; a lost Redis costs values, never an answer."""

from uuid import uuid4

import pytest
from redis.exceptions import RedisError

from common.cache import Cache, MemoryCache, RedisCache, cache_from_url
from common.testing import eventually


@pytest.fixture(params=["memory", "redis"])
def cache(request: pytest.FixtureRequest) -> Cache:
    return cache_from_url(None if request.param == "memory" else request.getfixturevalue("redis_url"))


def key() -> str:
    return f"test:{uuid4().hex}"


def test_values_come_back_until_their_end(cache: Cache) -> None:
    short, long, never = key(), key(), key()
    cache.set_many({short: "soon gone", long: "₹ 1,00,000"}, 60)
    cache.set_many({short: "soon gone"}, 1)
    assert cache.get_many([short, long, never]) == {short: "soon gone", long: "₹ 1,00,000"}
    eventually(lambda: short not in cache.get_many([short]), timeout=5)
    assert cache.get_many([long]) == {long: "₹ 1,00,000"}
    assert cache.get_many([]) == {}
    cache.ping()


def test_two_processes_share_redis_and_not_their_memory(redis_url: str) -> None:
    name = key()
    RedisCache(redis_url).set_many({name: "shared"}, 60)
    assert RedisCache(redis_url).get_many([name]) == {name: "shared"}
    MemoryCache().set_many({name: "own"}, 60)
    assert MemoryCache().get_many([name]) == {}


def test_a_lost_redis_finds_nothing_keeps_nothing_and_says_so_when_asked() -> None:
    lost = RedisCache("redis://127.0.0.1:9/0")
    lost.set_many({"a": "1"}, 60)
    assert lost.get_many(["a"]) == {}
    with pytest.raises(RedisError):
        lost.ping()
