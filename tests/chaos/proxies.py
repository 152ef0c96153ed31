"""TCP proxies in a process of their own: connections can be cut, held still or slowed without the ends knowing why.

`python -m tests.chaos.proxies <listen>:<target> ...` serves until its input ends; a line of JSON is one order, such as
`{"port": 5433, "do": "cut", "share": 0.5}`, `{"port": 5433, "do": "hold", "seconds": 8}` or
`{"port": 5433, "do": "slow", "seconds": 8, "delay_s": 0.05}`.
"""

import asyncio
import contextlib
import json
import random
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import Any

import uvloop

CHUNK = 64 * 1024
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with zero seconds: closing sends a reset, as a cut cable's other end sees it in the end."""


@dataclass(eq=False)
class Proxy:
    """One listening port in front of one server."""

    port: int
    target: int
    links: set["Link"] = field(default_factory=set)
    held_until: float = 0.0
    slow_until: float = 0.0
    delay_s: float = 0.0

    async def serve(self) -> None:
        """Listen until cancelled."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        async with server:
            await server.serve_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.pause()
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            _reset(writer)
            return
        link = Link(self, (writer, there_writer))
        self.links.add(link)
        try:
            await link.run(reader, there_reader)
        finally:
            self.links.discard(link)

    async def pause(self) -> None:
        """Wait while the proxy is held, then for the delay of a slow one."""
        loop = asyncio.get_running_loop()
        while (rest := self.held_until - loop.time()) > 0:
            await asyncio.sleep(min(rest, 0.2))
        if self.slow_until > loop.time():
            await asyncio.sleep(self.delay_s)

    def obey(self, order: dict[str, Any]) -> None:
        """Do what an order says."""
        now = asyncio.get_running_loop().time()
        if order["do"] == "cut":
            links = sorted(self.links, key=id)
            for link in random.sample(links, round(len(links) * float(order.get("share", 1.0)))):
                link.cut()
        elif order["do"] == "hold":
            self.held_until = now + float(order["seconds"])
        elif order["do"] == "slow":
            self.slow_until, self.delay_s = now + float(order["seconds"]), float(order["delay_s"])
        elif order["do"] == "heal":
            self.held_until = self.slow_until = 0.0


@dataclass(eq=False)
class Link:
    """One connection through a proxy: two sockets, two directions."""

    proxy: Proxy
    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]

    async def run(self, here: asyncio.StreamReader, there: asyncio.StreamReader) -> None:
        """Carry bytes both ways until both ends are done."""
        to_here, to_there = self.writers
        await asyncio.gather(self._carry(here, to_there), self._carry(there, to_here))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK):
                await self.proxy.pause()
                writer.write(data)
                await writer.drain()
            if not writer.transport.is_closing():
                writer.write_eof()
        except OSError:
            # One side is gone without a goodbye; the other is told the same way.
            self.cut()

    def cut(self) -> None:
        """Reset both ends."""
        for writer in self.writers:
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    carrier = writer.get_extra_info("socket")
    if carrier is not None:
        with contextlib.suppress(OSError):
            carrier.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


async def _main(pairs: list[tuple[int, int]]) -> None:
    proxies = {port: Proxy(port, target) for port, target in pairs}
    tasks = [asyncio.create_task(proxy.serve()) for proxy in proxies.values()]
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        order = json.loads(line)
        proxies[order["port"]].obey(order)
    for task in tasks:
        task.cancel()


class Proxies:
    """The parent's handle on the process."""

    def __init__(self, pairs: dict[int, int]) -> None:
        arguments = [f"{port}:{target}" for port, target in pairs.items()]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.proxies", *arguments], stdin=subprocess.PIPE, start_new_session=True
        )
        self._lock = threading.Lock()

    def order(self, port: int, do: str, **more: float) -> None:
        """Send one order."""
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps({"port": port, "do": do, **more}).encode() + b"\n")
            self._process.stdin.flush()

    def stop(self) -> None:
        """End the process and all connections through it."""
        self._process.kill()
        self._process.wait()


if __name__ == "__main__":
    uvloop.run(_main([(int(here), int(there)) for here, there in (pair.split(":") for pair in sys.argv[1:])]))
