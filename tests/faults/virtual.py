"""Virtual time and seeded chance for one process: Python, PostgreSQL and the simulator see the same instant.

PostgreSQL's own `clock_timestamp()` and `now()` are shadowed by functions of the scratch databases that read a sequence:
a sequence is not transactional, so every session sees the present at once. Random ids come from the seed, so a schedule
can be played again; run Python with PYTHONHASHSEED set.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import psycopg2
import sqlalchemy as sa
import time_machine
from sqlalchemy import event
from sqlalchemy.engine import Connection, make_url

from common.db import Database

START = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
"""10:00 IST of a Monday."""

TELL_STEP_S = 0.005
"""PostgreSQL's present may lag by so much: telling it costs a statement."""

_SHADOWS = """
CREATE SEQUENCE virtual_micros MINVALUE 0;
CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL RESTRICTED AS
    $$ SELECT 'epoch'::timestamptz + (SELECT last_value FROM public.virtual_micros) * interval '1 microsecond' $$;
CREATE FUNCTION now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL RESTRICTED AS
    $$ SELECT 'epoch'::timestamptz + (SELECT last_value FROM public.virtual_micros) * interval '1 microsecond' $$;
"""


def shadow_clock(url: str) -> None:
    """Make an empty scratch database tell virtual time; call it before the migrations, whose defaults bind to it."""
    name = make_url(url).database
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(_SHADOWS)
            # The system's functions are found after ours only when pg_catalog is named, and named last.
            cursor.execute(f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog')
            cursor.execute("SELECT setval('virtual_micros', %s)", (_micros(START),))
    finally:
        connection.close()


def _micros(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


class VirtualTime:
    """The one present. It moves only by `advance_to`; `sleep` is what `time.sleep` does meanwhile."""

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self.now_s = 0.0
        self._sleep = sleep
        self._traveller: Any = None
        self._told: dict[str, float] = {}

    @property
    def now(self) -> datetime:
        """The present as an instant."""
        return START + timedelta(seconds=self.now_s)

    def advance_to(self, seconds: float) -> None:
        """Move the present, never backwards."""
        if seconds > self.now_s:
            self.now_s = seconds
            self._traveller.move_to(self.now, tick=False)

    def watch(self, db: Database) -> None:
        """Tell this database the present before each transaction that begins later than the last one."""

        def tell(connection: Connection) -> None:
            if self.now_s - self._told.get(db.url, -1.0) >= TELL_STEP_S:
                self._told[db.url] = self.now_s
                with connection.connection.cursor() as cursor:
                    cursor.execute("SELECT setval('virtual_micros', %s)", (_micros(self.now),))

        event.listen(db.engine, "begin", tell)

    def _monotonic(self) -> float:
        return self.now_s

    @contextmanager
    def running(self, seed: int) -> Iterator[None]:
        """Put Python on this time and its ids on this seed."""
        dice = random.Random(f"{seed}/ids")  # noqa: S311  repeatable ids are the point
        with (
            mock.patch.object(time, "monotonic", self._monotonic),
            mock.patch.object(time, "sleep", self._sleep),
            mock.patch.object(os, "urandom", dice.randbytes),
            mock.patch.object(random, "_urandom", dice.randbytes),
        ):
            random.seed(f"{seed}/global")
            travel = time_machine.travel(self.now, tick=False)
            self._traveller = travel.start()
            try:
                yield
            finally:
                travel.stop()


def count_rows(db: Database, statement: str, **values: Any) -> int:
    """One number from a database."""
    with db.session() as session:
        return int(session.execute(sa.text(statement), values).scalar_one())
