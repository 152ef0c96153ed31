"""One platform in this process per test file."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
import structlog

from api_gateway.routing import ROOMS
from common.clock import FixedClock
from common.db import Database
from common.testing_servers import empty
from kite_simulator.config import Settings as SimulatorSettings
from kite_simulator.server import SimulatorServer
from tests.security.house import API_SECRET, PACKAGES, House, RoomKeys, new_keys


@pytest.fixture(scope="session")
def room_keys() -> RoomKeys:
    """Signing keys of this run."""
    return new_keys()


@pytest.fixture(scope="module", autouse=True)
def quiet_log() -> Iterator[None]:
    """Warnings as plain lines: thousands of refusals would be told, and a traceback with all its variables."""
    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    yield
    structlog.configure(**before)


@pytest.fixture(scope="module")
def house(_databases: Callable[[str], str], room_keys: RoomKeys) -> Iterator[House]:
    """The platform; its databases are empty when a file begins."""
    with ExitStack() as stack:
        databases = {}
        for room in ROOMS:
            databases[room] = Database(_databases(PACKAGES[room]), pool_size=10, application_name=f"security-{room}")
            stack.callback(databases[room].dispose)
            empty(databases[room])
        settings = SimulatorSettings(
            api_secret=API_SECRET, rate_limits=False, partial_fill_probability=0.0, fill_latency_max_s=0.05
        )
        simulator = stack.enter_context(SimulatorServer(settings))
        simulator.call(lambda engine: engine.control.freeze_prices(True))
        yield House(databases, room_keys, FixedClock(datetime.now(UTC)), simulator, stack)
