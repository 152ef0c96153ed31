"""Snapshots of several databases while messages fly between them: nobody has acted on what its sender does not know."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg2
import pytest
import sqlalchemy as sa
from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ

from common import outbox
from common.db import Database
from common.events import KycChanged
from common.outbox import claim
from common.testing_servers import empty
from scripts.backup import one_moment as module
from scripts.backup.one_moment import NoMoment, one_moment

ROOMS = ("portfolio-service", "smallcase-service")
ROUNDS = 15


def url(db: Database) -> str:
    return db.url.replace("+psycopg2", "", 1)


@pytest.fixture
def databases(service_database: Callable[..., Database]) -> dict[str, Database]:
    found = {room: service_database(room.replace("-", "_"), pool_size=2) for room in ROOMS}
    for db in found.values():
        empty(db)
    return found


@contextmanager
def talking(databases: dict[str, Database]) -> Iterator[None]:
    """A message goes round between the rooms as fast as it can: each takes the other's and says the next one."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def talk() -> None:
        message: UUID | None = None
        try:
            while not stop.is_set():
                for room in ROOMS:
                    with databases[room].transaction() as session:
                        if message is not None:
                            assert claim(session, room, [message])
                        event = KycChanged(user_id=UUID(int=1), status="approved")
                        message = outbox.record(session, event, source=room, aggregate_id="x")
        except BaseException as error:  # noqa: BLE001  shown by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=talk) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert failures == []


def seen(connection: Any) -> tuple[set[str], set[str]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT message_id::text FROM outbox")
        said = {row[0] for row in cursor}
        cursor.execute("SELECT message_id::text FROM inbox")
        return said, {row[0] for row in cursor}


def ahead(connections: dict[str, Any]) -> int:
    """Messages that a room has taken and its sender has not said."""
    (said_a, taken_a), (said_b, taken_b) = (seen(connections[room]) for room in ROOMS)
    return len(taken_a - said_b) + len(taken_b - said_a)


def test_nobody_is_ahead_of_its_sender_in_a_moment(databases: dict[str, Database]) -> None:
    moved = 0
    with talking(databases):
        for _ in range(ROUNDS):
            with one_moment({room: url(db) for room, db in databases.items()}) as moment:
                connections = {room: snapshot.connection for room, snapshot in moment.snapshots.items()}
                assert ahead(connections) == 0
                moved = sum(len(taken) for _, taken in map(seen, connections.values()))
                assert moment.held_ms < 3_000, "less than a room waits for a lock"
    assert moved > 50, "messages did fly meanwhile"


def test_snapshots_one_after_the_other_would_not_do(databases: dict[str, Database]) -> None:
    """What the locks are for: the same comparison finds the fault of snapshots that are merely close together."""
    with talking(databases):
        for _ in range(50):
            connections = {}
            for room in ROOMS:
                connections[room] = psycopg2.connect(url(databases[room]))
                connections[room].set_session(isolation_level=ISOLATION_LEVEL_REPEATABLE_READ, readonly=True)
                seen(connections[room])
                time.sleep(0.02)
            found = ahead(connections)
            for connection in connections.values():
                connection.close()
            if found:
                return
    raise AssertionError("never seen: this test no longer shows anything")


def test_an_exported_snapshot_is_the_same_moment(databases: dict[str, Database]) -> None:
    room = ROOMS[0]
    with one_moment({name: url(db) for name, db in databases.items()}) as moment:
        with databases[room].transaction() as session:
            outbox.record(session, KycChanged(user_id=UUID(int=2), status="none"), source=room, aggregate_id="y")
        with databases[room].engine.connect() as other:
            other.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            other.execute(sa.text(f"SET TRANSACTION SNAPSHOT '{moment.snapshots[room].name}'"))
            assert other.scalar(sa.text("SELECT count(*) FROM outbox")) == 0


def test_rooms_go_on_when_the_moment_is_over(databases: dict[str, Database]) -> None:
    with one_moment({room: url(db) for room, db in databases.items()}):
        for room in ROOMS:
            with databases[room].transaction() as session:
                assert claim(session, room, [UUID(int=3)]), "dumps are made while messages are taken again"


def test_a_room_that_is_never_still_is_said_so(databases: dict[str, Database], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ATTEMPTS_MAX", 2)
    monkeypatch.setattr(module, "LOCKS_TOGETHER_S", 0.2)
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    with databases[ROOMS[1]].transaction() as session:
        claim(session, ROOMS[1], [UUID(int=4)])
        with pytest.raises(NoMoment):
            with one_moment({room: url(db) for room, db in databases.items()}):
                raise AssertionError("there was no such moment")
    with databases[ROOMS[0]].transaction() as session:
        assert claim(session, ROOMS[0], [UUID(int=5)]), "no lock is left behind"
