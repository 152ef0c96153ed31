"""A killed run leaves nothing behind; one that ends in order is left alone. Wires between them break as told."""

import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.testing import eventually
from common.testing_ports import free_port
from tests.chaos.keeper import Keeper
from tests.chaos.proxies import Proxies

LONG_S = "120"


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(["sleep", LONG_S], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_what_a_killed_run_had_started_is_ended_and_its_directory_removed(
    tmp_path: Path, sleeper: "subprocess.Popen[bytes]"
) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    keeper = Keeper(directory)
    keeper.watch(sleeper.pid)
    keeper._process.communicate()  # the pipe closes, as at the death of the run
    assert sleeper.wait(10) == -signal.SIGKILL
    assert not directory.exists()


def test_a_run_that_ends_in_order_is_left_alone(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    keeper = Keeper(tmp_path)
    keeper.watch(sleeper.pid)
    keeper.stop()
    assert sleeper.poll() is None
    assert tmp_path.exists()


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends back what it gets; answers its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(end: socket.socket) -> None:
            with end:
                try:
                    while data := end.recv(1024):
                        end.sendall(data)
                except ConnectionError:
                    return

        def accept() -> None:
            try:
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
            except OSError:
                return

        threading.Thread(target=accept, daemon=True).start()
        yield int(listener.getsockname()[1])


def test_a_proxy_carries_holds_and_resets(echo: int) -> None:
    port = free_port()
    proxies = Proxies({port: echo})
    try:
        line = eventually(lambda: _connect(port))
        assert line is not None
        assert _said(line, b"carried") == b"carried"
        proxies.order(port, "hold", seconds=60)
        eventually(lambda: _is_silent(line))
        proxies.order(port, "heal")
        line.settimeout(10)
        eventually(lambda: b"end" in _said(line, b"end"))
        proxies.order(port, "cut")
        with pytest.raises(ConnectionError):
            eventually(lambda: _said(line, b"gone") and None)
    finally:
        proxies.stop()


def _connect(port: int) -> socket.socket | None:
    try:
        return socket.create_connection(("127.0.0.1", port), 10)
    except ConnectionRefusedError:
        return None


def _said(line: socket.socket, words: bytes) -> bytes:
    line.sendall(words)
    return line.recv(1024)


def _is_silent(line: socket.socket) -> bool:
    line.settimeout(0.2)
    try:
        _said(line, b"?")
    except TimeoutError:
        return True
    return False
