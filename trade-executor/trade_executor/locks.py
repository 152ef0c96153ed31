"""Advisory locks of PostgreSQL: one pump and one poller an account. They save work; rows alone keep us safe."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from common.db import Database

LOCK_NOT_AVAILABLE = "55P03"


@contextmanager
def advisory_lock(db: Database, name: str, *, wait: bool) -> Iterator[bool]:
    """Hold a named lock on a connection of its own for the block; yields whether it was got.

    Without `wait` a taken lock answers False at once, with it after the connection's lock timeout. The server frees it
    when the connection dies, so a killed holder blocks nobody.
    """
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
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
            if held:
                # A pooled connection would carry the lock on to its next user.
                connection.execute(text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), {"name": name})


def _wait_for(connection: Connection, name: str) -> bool:
    try:
        connection.execute(text("SELECT pg_advisory_lock(hashtextextended(:name, 0))"), {"name": name})
    except OperationalError as error:
        if getattr(error.orig, "pgcode", None) != LOCK_NOT_AVAILABLE:
            raise
        return False
    return True
