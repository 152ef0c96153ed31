"""Fixtures of the executor's tests."""

from collections.abc import Callable

import pytest

from common.db import Database
from trade_executor.testing import Room, make_room


@pytest.fixture
def db(service_database: Callable[..., Database]) -> Database:
    """The executor's database, migrated and empty."""
    return service_database("trade_executor", pool_size=20)


@pytest.fixture
def room(db: Database) -> Room:
    """A desk with a broker in memory."""
    return make_room(db)
