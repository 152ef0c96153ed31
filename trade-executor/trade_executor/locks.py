"""Advisory locks of PostgreSQL: one pump and one poller an account. They save work; rows alone keep us safe."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from common.db import Database
from common.logging import get_logger

log = get_logger(__name__)

LOCK_NOT_AVAILABLE = "55P03"
HELD_MAX_S = 90
"""A holder that has been stopped (not killed) for so long loses its lock: longer than any pump or read may take."""


@contextmanager
def advisory_lock(db: Database, name: str, *, wait: bool) -> Iterator[bool]:
    """Hold a named lock on a connection of its own for the block; yields whether it was got.

    Without `wait` a taken lock answers False at once, with it after the connection's lock timeout. The server frees it
    when the connection dies, so a killed holder blocks nobody, and one that hangs blocks nobody for long. A holder whose
    lock is gone does not notice: what it does has to be safe beside others.
    """
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"SET idle_session_timeout = '{HELD_MAX_S}s'"))
        if wait:
            held = _wait_for(connection, name)
        else:
            held = bool(
                connection.execute(
                    text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))"), {"name": name}
                ).scalar_one()
            )
        try:
            yield held
        finally:
            # A pooled connection would carry the lock, and the timeout, on to its next user.
            _give_back(connection, name if held else None)


def _give_back(connection: Connection, name: str | None) -> None:
    try:
        if name is not None:
            connection.execute(text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), {"name": name})
        connection.execute(text("RESET idle_session_timeout"))
    except OperationalError as error:
        # The connection died meanwhile, and the lock with it.
        log.warning("lock.lost", name=name, error=str(error.orig))
        connection.invalidate()


def _wait_for(connection: Connection, name: str) -> bool:
    try:
        connection.execute(text("SELECT pg_advisory_lock(hashtextextended(:name, 0))"), {"name": name})
    except OperationalError as error:
        if getattr(error.orig, "pgcode", None) != LOCK_NOT_AVAILABLE:
            raise
        return False
    return True
