"""Transition tables: what may follow what, and that nothing else may."""

import pytest

from trade_executor import states
from trade_executor.states import IllegalTransition, Transitions

TABLES = (states.CHILD, states.BLOCK, states.ATTEMPT, states.CANCEL, states.TRADING)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.entity)
def test_every_pair_is_either_listed_or_raises(table):
    legal = 0
    for current in table.states:
        for target in table.states:
            if current in (table.sources(target) if _reachable(table, target) else ()):
                assert table.require(current, target) == target
                legal += 1
            else:
                with pytest.raises(IllegalTransition):
                    table.require(current, target)
    assert legal > 0
    with pytest.raises(IllegalTransition):
        table.require("NO SUCH STATE", table.states[0])


def _reachable(table: Transitions, target: str) -> bool:
    try:
        table.sources(target)
    except IllegalTransition:
        return False
    return True


def test_a_table_that_leads_nowhere_is_refused():
    with pytest.raises(ValueError, match="moves to states without a row"):
        Transitions("thing", {"A": ("B",)})


def test_ends_of_an_order_have_no_way_out():
    assert states.CHILD.final == {"FILLED", "CANCELLED", "EXPIRED", "REJECTED", "FAILED"}
    assert states.BLOCK.final == {"DONE"}
    assert states.ATTEMPT.final == {"SETTLED", "CLOSED"}


def test_an_attempt_that_was_sent_can_never_be_sent_again():
    assert states.ATTEMPT.sources("SENDING") == ("INTENT",)
    with pytest.raises(IllegalTransition):
        states.ATTEMPT.sources("INTENT")


@pytest.mark.parametrize(
    ("status", "rank", "end"),
    [
        ("PUT ORDER REQ RECEIVED", 0, None),
        ("VALIDATION PENDING", 0, None),
        ("A STATUS NOBODY HAS DOCUMENTED", 0, None),
        ("TRIGGER PENDING", 1, None),
        ("OPEN", 1, None),
        ("OPEN PENDING", 0, None),
        ("CANCEL PENDING", 0, None),
        ("COMPLETE", 2, "COMPLETE"),
        ("CANCELLED", 2, "CANCELLED"),
        ("CANCELLED AMO", 2, "CANCELLED"),
        ("REJECTED", 2, "REJECTED"),
        ("LAPSED", 2, "CANCELLED"),
    ],
)
def test_broker_statuses_are_ranked_by_how_far_they_are(status, rank, end):
    assert (states.broker_rank(status), states.broker_end(status)) == (rank, end)
