"""Rooms in one process: each with its own event loop, thread pool and loopback socket, plus its background loops.

A room is called by the gateway and by its peers over HTTP, exactly as in containers. Rooms that shared one thread pool
could wait for each other for ever when all threads ask a peer at the same time.
"""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import uvicorn
from starlette.types import ASGIApp

from common.logging import bound, get_logger
from common.process import KEEP_ALIVE_S

log = get_logger(__name__)

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
GRACEFUL_SHUTDOWN_S = 3
Loop = Callable[[threading.Event], None]


class RoomServer:
    """One ASGI app served on an already listening socket by a thread of its own."""

    def __init__(self, name: str, app: ASGIApp, listener: socket.socket) -> None:
        self.name = name
        self._listener = listener
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                lifespan="on",
                timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
            )
        )
        self._thread = threading.Thread(target=self._run, name=f"serve-{name}")

    def _run(self) -> None:
        with bound(service=self.name):
            self._server.run(sockets=[self._listener])

    def start(self) -> None:
        """Start and wait until requests are answered."""
        self._thread.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start; see the log")
            time.sleep(0.01)

    def stop(self) -> None:
        """Finish requests under way and stop."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOP_TIMEOUT_S)


@dataclass
class Background:
    """The loops of all rooms: relays, consumers, sweepers, the executor's leader work. One stop event ends them."""

    stop: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self, name: str, loops: Sequence[Loop]) -> None:
        """Start a room's loops, each on a thread."""
        for loop in loops:
            thread = threading.Thread(target=self._run, args=(name, loop), name=f"{name}-loop", daemon=True)
            thread.start()
            self.threads.append(thread)

    def _run(self, name: str, loop: Loop) -> None:
        with bound(service=name):
            loop(self.stop)
            if not self.stop.is_set():
                log.error("platform.loop_ended", room=name)

    def end(self) -> None:
        """Tell every loop to stop and wait for it."""
        self.stop.set()
        for thread in self.threads:
            thread.join(STOP_TIMEOUT_S)
