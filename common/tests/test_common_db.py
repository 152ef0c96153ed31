"""Connections that died while they rested."""

import math
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from common.db import Database


@pytest.fixture
def pool(scratch_database: Database) -> Iterator[Callable[[float], Database]]:
    """Databases of one connection, with a rest after which it is asked."""
    made = []

    def make(ping_after_s: float) -> Database:
        made.append(Database(scratch_database.url, pool_size=1, ping_after_s=ping_after_s))
        return made[-1]

    yield make
    for one in made:
        one.dispose()


def server_process(of: Database) -> int:
    with of.transaction() as session:
        return int(session.execute(text("SELECT pg_backend_pid()")).scalar_one())


def kill(db: Database, process: int) -> None:
    with db.transaction() as session:
        assert session.execute(text("SELECT pg_terminate_backend(:process, 5000)"), {"process": process}).scalar_one()


def test_a_connection_that_died_while_it_rested_is_made_anew(
    scratch_database: Database, pool: Callable[[float], Database]
) -> None:
    rested = pool(0)
    first = server_process(rested)
    assert server_process(rested) == first
    kill(scratch_database, first)
    assert server_process(rested) != first


def test_a_connection_in_steady_use_is_not_asked_and_its_death_is_met_once(
    scratch_database: Database, pool: Callable[[float], Database]
) -> None:
    busy = pool(math.inf)
    first = server_process(busy)
    kill(scratch_database, first)
    with pytest.raises(OperationalError) as met:
        server_process(busy)
    assert met.value.connection_invalidated
    assert server_process(busy) != first
