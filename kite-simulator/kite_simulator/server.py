"""A running simulator in a thread, for tests and for running the platform in one process."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kite_simulator.app import create_app
from kite_simulator.config import Settings
from kite_simulator.connection import EXTENSION, WAY_BACK, SocketConnection
from kite_simulator.engine import Clock, Engine

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
Result = TypeVar("Result")


class SimulatorServer:
    """Context manager around uvicorn on a 127.0.0.1 socket that is bound before the thread starts.

    `port=0` takes a free port. `engine` may be read from any thread; to change it use the wire or `call`.
    """

    def __init__(self, settings: Settings | None = None, *, port: int = 0, clock: Clock | None = None) -> None:
        self.settings = settings or Settings()
        # asyncio sets TCP_NODELAY only on sockets that name their protocol; without it every answer waits 40 ms
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.ws_url = f"ws://127.0.0.1:{self.port}"
        self._app = create_app(self.settings, clock)
        self.engine: Engine = self._app.state.engine
        self._server = uvicorn.Server(server_config(self._app))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="kite-simulator", daemon=True)

    def start(self) -> "SimulatorServer":
        """Start and wait until requests are served."""
        self._thread.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the simulator did not start")
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        """Stop and wait for the thread."""
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT_S)
        self._socket.close()

    def call(self, action: Callable[[Engine], Result]) -> Result:
        """Run `action(engine)` as one command inside the server's event loop and return its result."""
        if self._loop is None:
            raise RuntimeError("the simulator is not running")

        async def run() -> Result:
            with self.engine.command():
                return action(self.engine)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(STOP_TIMEOUT_S)

    def __enter__(self) -> "SimulatorServer":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await self._server.serve(sockets=[self._socket])

        asyncio.run(serve())


class LosableConnections(HttpToolsProtocol):
    """uvicorn's HTTP protocol, whose requests may lose their connection (connection.py)."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: {WAY_BACK: SocketConnection(self.transport)}}


def server_config(app: object, host: str = "127.0.0.1", port: int = 0) -> uvicorn.Config:
    """uvicorn as the simulator needs it: no access log (tokens are in WebSocket URLs), no compression offers."""
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        host=host,
        port=port,
        http=LosableConnections,
        log_level="warning",
        access_log=False,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=2,
    )
