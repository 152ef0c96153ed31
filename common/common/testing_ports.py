"""A port for a server that a test or a trial starts, kills and starts again."""

import random
import socket

STABLE_PORTS = range(15_000, 32_000)
"""Below the ports that systems give to outgoing connections (from 32768 on Linux, from 49152 elsewhere). A server whose port
is among those may find it taken, when it is started again, by a connection that somebody made while it was down."""
ATTEMPTS = 100


def free_port() -> int:
    """A loopback port that nobody listens on now and no outgoing connection will take; raises OSError when there is none."""
    for port in random.sample(STABLE_PORTS, ATTEMPTS):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port among {ATTEMPTS} of {STABLE_PORTS}")
