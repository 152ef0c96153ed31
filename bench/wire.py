"""A load generator that costs little: prepared HTTP/1.1 requests over kept connections, one under way on each.

Latency is measured from the write of a request to the last byte of its answer.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import SplitResult, urlsplit

import uvloop

Requests = Callable[[int], Iterator[bytes]]
"""fn(connection number): the requests that a connection sends one after the other; ends when they do."""


@dataclass
class Load:
    """What a run of requests was answered."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def answered(self) -> int:
        """Requests with a 2xx answer."""
        return sum(count for status, count in self.statuses.items() if 200 <= status < 300)

    @property
    def rate(self) -> float:
        """2xx answers a second."""
        return self.answered / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Seconds within which this share of the answers came."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class _Client(asyncio.Protocol):
    """One connection: sends the next request when the answer of the last is complete."""

    def __init__(self, requests: Iterator[bytes], load: Load, until: float, done: asyncio.Future[None]) -> None:
        self._requests, self._load, self._until, self._done = requests, load, until, done
        self._buffer = bytearray()
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if (size := _complete(self._buffer)) is None:
            return
        self._load.latencies.append(time.perf_counter() - self._sent_at)
        self._load.statuses[int(self._buffer[9:12])] += 1
        del self._buffer[:size]
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _send(self) -> None:
        request = next(self._requests, None) if time.perf_counter() < self._until else None
        if request is None:
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)


def _complete(buffer: bytearray) -> int | None:
    """Bytes of the first answer in the buffer, None while it is not whole."""
    head = buffer.find(b"\r\n\r\n")
    if head < 0:
        return None
    at = buffer.lower().find(b"content-length:", 0, head)
    if at >= 0:
        length = int(buffer[at + 15 : buffer.find(b"\r\n", at)])
        return head + 4 + length if len(buffer) >= head + 4 + length else None
    end = buffer.find(b"0\r\n\r\n", head)
    return None if end < 0 else end + 5


def request(method: str, path: str, url: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """The bytes of one request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {urlsplit(url).netloc}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def run_load(urls: str | Sequence[str], requests: Requests, *, connections: int, seconds: float) -> Load:
    """Send for so long, or until every connection has sent all it has; several addresses get connections in turn."""
    addresses = [urlsplit(url) for url in ([urls] if isinstance(urls, str) else urls)]
    return uvloop.run(_run(addresses, requests, connections=connections, seconds=seconds))


async def _run(addresses: Sequence[SplitResult], requests: Requests, *, connections: int, seconds: float) -> Load:
    loop = asyncio.get_running_loop()
    load = Load()
    started = time.perf_counter()
    ends = [loop.create_future() for _ in range(connections)]

    async def connect(number: int) -> None:
        address = addresses[number % len(addresses)]
        await loop.create_connection(
            lambda: _Client(requests(number), load, started + seconds, ends[number]),
            address.hostname or "127.0.0.1",
            address.port or 80,
        )

    await asyncio.gather(*map(connect, range(connections)))
    await asyncio.gather(*ends)
    load.seconds = time.perf_counter() - started
    return load
