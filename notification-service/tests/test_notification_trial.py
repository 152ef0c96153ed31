"""The trial of `bench.notifications` in small and in virtual time: failures, repeats and an outage of half a minute."""

from contextlib import ExitStack
from datetime import UTC, datetime

import pytest

from bench.notifications import CHANNELS, Trial
from common.clock import FixedClock
from common.db import Database
from notification_service import loop
from notification_service.delivering import deliver

FACTS = 60
OUTAGE_S = 30
STEPS_MAX = 600


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_fact_is_told_once_per_channel(db: Database, seed: int) -> None:
    clock = FixedClock(datetime(2026, 11, 23, 4, 30, tzinfo=UTC))
    with ExitStack() as stack:
        trial = Trial(db, clock, 0.2, seed, stack)
        trial.say(FACTS)
        desk = trial.desk()
        assert trial.said > FACTS
        told_in_outage = 0
        for second in range(STEPS_MAX):
            if second == 1:
                trial.mail.stop()
            if second == 1 + OUTAGE_S:
                told_in_outage = len(trial.sms.taken) + len(trial.push.taken)
                trial.mail.start()
            loop.sweep_rows(desk)
            for channel in CHANNELS:
                deliver(desk, channel, budget_s=0.3 if second == 0 else 30)
            if second > 1 + OUTAGE_S and not trial.unfinished():
                break
            clock.advance(1)
        assert trial.unfinished() == 0
        assert trial.check() == []
        assert told_in_outage > FACTS, "the other channels went on"
        assert trial.mail.refused + trial.sms.refused + trial.push.refused > 0
