"""Stages and statuses of basket orders: the table knows every way, the status follows from the legs alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smallcase_service.orders import (
    ENDED_STAGES,
    LIVE_LEGS,
    REPAIRABLE,
    TRANSITIONS,
    Fact,
    IllegalTransition,
    InvestmentStatus,
    Legs,
    LegState,
    Stage,
    Status,
    investment_status,
    next_stage,
    status_of,
)

SUMMARIES = st.builds(
    Legs,
    live=st.integers(0, 50),
    untouched=st.booleans(),
    units=st.integers(0, 1_000),
    complete=st.booleans(),
    only_sells=st.booleans(),
)


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("fact", Fact)
def test_an_unknown_pair_is_an_error_and_nothing_follows_an_end(stage: Stage, fact: Fact) -> None:
    if (stage, fact) in TRANSITIONS:
        assert stage not in ENDED_STAGES
        assert next_stage(stage, fact) is TRANSITIONS[stage, fact]
    else:
        with pytest.raises(IllegalTransition):
            next_stage(stage, fact)


def test_every_stage_but_the_first_can_be_reached_and_every_stage_can_end() -> None:
    assert set(TRANSITIONS.values()) == set(Stage)
    ends = set(ENDED_STAGES)
    for _ in Stage:
        ends |= {stage for (stage, _), after in TRANSITIONS.items() if after in ends}
    assert ends == set(Stage)


@given(st.sampled_from(Stage), SUMMARIES, st.booleans())
def test_the_status_says_what_the_legs_say(stage: Stage, legs: Legs, repaired: bool) -> None:
    status = status_of(stage, legs, repaired=repaired)
    assert (status is Status.REFUSED) == (stage is Stage.REFUSED)
    assert (status is Status.FILLED) == (stage is Stage.DONE and legs.complete)
    assert (status in REPAIRABLE) == (stage is Stage.DONE and not legs.complete and not repaired)
    assert (status in {Status.PLACING, Status.PLACED, Status.PARTIALLY_FILLED}) == (stage not in ENDED_STAGES)
    if status is Status.UNFILLED:
        assert legs.units == 0
    if status in {Status.NEEDS_REPAIR, Status.PARTIALLY_FILLED}:
        assert legs.units > 0


@pytest.mark.parametrize(
    ("held", "ever_held", "working", "expected"),
    [
        (False, False, True, InvestmentStatus.PENDING),
        (True, True, False, InvestmentStatus.ACTIVE),
        (False, True, True, InvestmentStatus.ACTIVE),
        (False, True, False, InvestmentStatus.CLOSED),
        (False, False, False, InvestmentStatus.FAILED),
    ],
)
def test_an_investment_is_what_it_holds_and_what_works(
    held: bool, ever_held: bool, working: bool, expected: InvestmentStatus
) -> None:
    assert investment_status(held=held, ever_held=ever_held, working=working) is expected


def test_a_leg_is_live_until_nothing_can_happen_to_it() -> None:
    assert {LegState.INTENT, LegState.ACCEPTED, LegState.WORKING, LegState.PARTIAL} == LIVE_LEGS
