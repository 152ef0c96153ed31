"""TCP proxies in a process of their own: connections can be cut, held still or slowed without the ends knowing why.

`python -m tests.chaos.proxies <listen>:<target> ...` serves until its input ends; a line of JSON is one order, such as
`{"port": 5433, "do": "cut", "share": 0.5}`, `{"port": 5433, "do": "hold", "seconds": 8}` or
`{"port": 5433, "do": "slow", "seconds": 8, "delay_s": 0.05}`.
"""

import asyncio
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
    links: set["asyncio.Task[None]"] = field(default_factory=set)
    held_until: float = 0.0
    slow_until: float = 0.0
    delay_s: float = 0.0

    async def serve(self) -> None:
        """Take connections until cancelled."""
        loop = asyncio.get_running_loop()
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind(("127.0.0.1", self.port))
            listener.listen(512)
            while True:
                here, _ = await loop.sock_accept(listener)
                link = asyncio.create_task(self._link(here))
                self.links.add(link)
                link.add_done_callback(self.links.discard)

    async def _link(self, here: socket.socket) -> None:
        """Carry one connection until both ends are done; one that is cut, or that breaks, resets both ends."""
        there = socket.socket()
        here.setblocking(False)
        there.setblocking(False)
        try:
            await self.pause()
            await asyncio.get_running_loop().sock_connect(there, ("127.0.0.1", self.target))
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self._carry(here, there))
                directions.create_task(self._carry(there, here))
        except (OSError, ExceptionGroup):
            _reset_when_closed(here, there)
        except asyncio.CancelledError:
            _reset_when_closed(here, there)
            raise
        finally:
            here.close()
            there.close()

    async def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(source, CHUNK):
            await self.pause()
            await loop.sock_sendall(sink, data)
        sink.shutdown(socket.SHUT_WR)

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
            for link in random.sample(list(self.links), round(len(self.links) * float(order.get("share", 1.0)))):
                link.cancel()
        elif order["do"] == "hold":
            self.held_until = now + float(order["seconds"])
        elif order["do"] == "slow":
            self.slow_until, self.delay_s = now + float(order["seconds"]), float(order["delay_s"])
        elif order["do"] == "heal":
            self.held_until = self.slow_until = 0.0


def _reset_when_closed(*ends: socket.socket) -> None:
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


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
