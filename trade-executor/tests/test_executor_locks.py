"""Advisory locks: they save work, so all that matters is that nobody can keep one for ever."""

import pytest
import sqlalchemy as sa

from common.testing import eventually
from trade_executor import locks
from trade_executor.locks import advisory_lock


def test_one_holder_at_a_time_and_the_next_after_it(db):
    with advisory_lock(db, "test", wait=False) as first:
        with advisory_lock(db, "test", wait=False) as second:
            assert (first, second) == (True, False)
    with advisory_lock(db, "test", wait=False) as again:
        assert again


def test_a_holder_that_hangs_loses_the_lock_and_goes_on(db, monkeypatch):
    monkeypatch.setattr(locks, "HELD_MAX_S", 1)

    def somebody_else_gets_it():
        with advisory_lock(db, "test", wait=False) as held:
            return held

    with advisory_lock(db, "test", wait=False) as held:
        assert held
        eventually(somebody_else_gets_it, timeout=10, interval=0.1)
    # Its connection was thrown away; the pool gives a good one, without the timeout.
    with db.engine.connect() as connection:
        assert connection.execute(sa.text("SHOW idle_session_timeout")).scalar_one() == "0"


@pytest.mark.parametrize("wait", [False, True])
def test_a_lock_is_given_back_when_the_work_fails(db, wait):
    with pytest.raises(RuntimeError), advisory_lock(db, "test", wait=wait):
        raise RuntimeError("the work failed")
    with advisory_lock(db, "test", wait=False) as held:
        assert held
