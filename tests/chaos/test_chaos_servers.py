"""A server of a run comes back after its death, whatever took its port meanwhile."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from common.testing import eventually
from common.testing_ports import STABLE_PORTS, free_port
from tests.chaos.servers import NotInstalled, Rabbit

pytestmark = pytest.mark.timeout(900)


def test_a_port_is_free_and_none_that_outgoing_connections_get() -> None:
    ports = {free_port() for _ in range(50)}
    assert ports <= set(STABLE_PORTS)
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()
    ranges = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not ranges.exists():
        pytest.skip("this system does not say which ports its outgoing connections get")
    assert STABLE_PORTS.stop <= int(ranges.read_text().split()[0])


@pytest.fixture
def rabbit(tmp_path: Path) -> Iterator[Rabbit]:
    (tmp_path / "logs").mkdir()
    try:
        server = Rabbit(tmp_path, watch=lambda pid: None)
    except NotInstalled as missing:
        pytest.skip(str(missing))
    try:
        server.create()
        yield server
    finally:
        server.stop()


def test_a_broker_whose_port_is_taken_when_it_starts_again_comes_back_when_it_is_free(
    rabbit: Rabbit, tmp_path: Path
) -> None:
    log = tmp_path / "logs" / "rabbitmq.log"
    rabbit.kill()
    with closing(_outgoing(rabbit.port)):
        starting = threading.Thread(target=rabbit.start)
        starting.start()
        # The node gives up while somebody's connection has its port.
        eventually(lambda: "eaddrinuse" in log.read_text(errors="replace"), timeout=240)
        assert not rabbit.answers()
    starting.join()
    assert rabbit.answers()


def _outgoing(port: int) -> socket.socket:
    """A connection whose own port is this one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = socket.socket()
        # Only to take the port from connections that are closing; the broker is to find it used.
        line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        line.bind(("127.0.0.1", port))
        line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        line.connect(listener.getsockname())
        return line
