"""A small set of what `make faults` and `make crash-points` play at length, as the commands a person would run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.testing_servers import postgres
from tests.faults.crash import NOT_ON_THE_PATH
from tests.faults.points import commit_sites

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def play(*arguments: str) -> str:
    with postgres() as server:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=ROOT, env={**os.environ, "SARAS_TEST_POSTGRES_URL": server, "COLUMNS": "200"},
            capture_output=True, text=True, timeout=580,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return done.stdout


def test_orders_survive_a_rough_day_and_a_second_play_is_the_same(tmp_path: Path) -> None:
    first, again = tmp_path / "first.json", tmp_path / "again.json"
    rough_day = ("tests.faults", "--orders", "60", "--workers", "1")
    assert "nothing lost, nothing doubled" in play(*rough_day, "--seeds", "2", "--output", str(first))
    play(*rough_day, "--seeds", "1", "--output", str(again))
    assert digests(again)[1] == digests(first)[1] != digests(first)[2]


def digests(output: Path) -> dict[int, str]:
    return {result["seed"]: result["digest"] for result in json.loads(output.read_text())["results"]}


def test_a_process_may_die_anywhere_in_the_life_of_an_order() -> None:
    output = play("tests.faults.crash", "--scenario", "limit_in_pieces", "--every", "15", "--workers", "1")
    assert "coverage" in output


def test_reasons_are_given_only_for_commits_that_exist() -> None:
    assert set(NOT_ON_THE_PATH) <= set(commit_sites())
