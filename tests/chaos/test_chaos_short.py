"""A short chaos run, as continuous integration can afford it: the whole platform, some strikes, every book compared."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.__main__ import NOT_RUN

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 600

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(TIMEOUT_S + 60)]


def test_nothing_is_lost_doubled_or_wrong_in_a_short_run(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    options = {"minutes": 0.5, "seed": 7, "users": 8, "rate": 6, "every": 3, "freeze-max": 8, "hold-max": 6,
               "accept-delay-max": 20, "drain": 15, "json": figures}  # fmt: skip
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    run = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.chaos", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        output, _ = run.communicate(timeout=TIMEOUT_S)
    finally:
        # Ends the run in order when the test itself is ended; nothing happens to one that has ended.
        run.terminate()
        run.wait()
    if run.returncode == NOT_RUN:
        pytest.skip(" ".join(output.partition("not run:")[2].split()))
    assert run.returncode == 0, output
    told = json.loads(figures.read_text())
    assert told["orders"] > 20, "users could trade"
    assert sum(told["strikes"].values()) >= 5, "and the platform was hurt meanwhile"
    assert told["simulator_faults"], "and the exchange did not behave"
