"""The harness finds what it is meant to find: a few of the bugs of `make planted`, each by its first seed."""

import pytest

from tests.faults.plans import plan_names
from tests.faults.planted import BUGS, Finding, caught, unclean
from tests.faults.test_faults_short import play

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
QUICK = ("a call without an answer is made again", "money is divided in floats", "a refused order keeps its hold")


def test_three_mistakes_are_found_and_the_same_seeds_without_them_are_clean() -> None:
    only = [word for name in QUICK for word in ("--only", name)]
    output = play("tests.faults.planted", "--seeds", "1", *only)
    assert f"{len(QUICK)} of {len(QUICK)} caught; 2 control runs, 0 violations" in output


def test_a_seed_that_is_not_clean_without_the_bug_proves_nothing() -> None:
    finding = Finding("bug", "answers", seeds=2, seed=2, invariants=[3])
    assert caught(finding, {"answers": {1: ["1: lost"], 2: []}})
    assert not caught(finding, {"answers": {1: [], 2: ["1: lost"]}})
    assert not caught(Finding("bug", "answers", seeds=2), {"answers": {1: [], 2: []}})
    assert unclean({"answers": {1: [], 2: ["1: lost"]}}) == ["answers, seed 2: 1: lost"]


def test_every_bug_has_a_name_of_its_own_a_rule_and_a_weather() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 24
    assert all(bug.rule and bug.invariants and bug.plan in plan_names() for bug in BUGS)
