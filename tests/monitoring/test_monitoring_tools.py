"""Alert rules, their unit tests and the two configurations by Prometheus' own tools; each check fails on a planted error.

The tools are `promtool` and `amtool` (Debian and Ubuntu: packages prometheus and prometheus-alertmanager).
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

INFRA = Path(__file__).resolve().parents[2] / "infra"
CHECKS = {
    "rules": ("promtool", "check", "rules", "prometheus/alerts.yml"),
    "unit tests": ("promtool", "test", "rules", "prometheus/alerts_test.yml"),
    "prometheus": ("promtool", "check", "config", "--syntax-only", "prometheus/prometheus.yml"),
    "alertmanager": ("amtool", "check-config", "alertmanager/alertmanager.yml"),
}
PLANTED = [
    ("rules", "prometheus/alerts.yml", "humanizeDuration", "humaniseDuration"),
    ("rules", "prometheus/alerts.yml", "sum by (account)", "summe by (account)"),
    ("rules", "prometheus/alerts.yml", "    rules:\n", "    rule:\n"),
    (
        "unit tests",
        "prometheus/alerts.yml",
        "saras_oldest_open_break_seconds) > 3600",
        "saras_oldest_open_break_seconds) > 36000",
    ),
    ("unit tests", "prometheus/alerts.yml", "severity: page", "severity: ticket"),
    ("prometheus", "prometheus/prometheus.yml", "scrape_configs:", "scrape_config:"),
    ("prometheus", "prometheus/prometheus.yml", "scrape_interval:", "scrape_interval: fast #"),
    ("alertmanager", "alertmanager/alertmanager.yml", "receiver: operators", "receiver: nobody"),
    ("alertmanager", "alertmanager/alertmanager.yml", "group_wait: 15s", "group_wait: soon"),
]


pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def infra(tmp_path: Path) -> Path:
    """A copy of the files that may be spoiled."""
    for name in ("promtool", "amtool"):
        if shutil.which(name) is None:
            if os.environ.get("SARAS_MONITORING_TOOLS") == "required":
                pytest.fail(f"{name} is not installed")
            pytest.skip(
                "promtool and amtool are not installed: with them `make monitoring-check` checks alerts and configurations"
            )
    for folder in ("prometheus", "alertmanager"):
        shutil.copytree(INFRA / folder, tmp_path / folder)
    return tmp_path


def run(check: str, infra: Path) -> subprocess.CompletedProcess[str]:
    """One tool on the copies."""
    command = CHECKS[check]
    return subprocess.run(command, cwd=infra, check=False, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("check", CHECKS)
def test_what_is_shipped_passes(check: str, infra: Path) -> None:
    done = run(check, infra)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("check", "name", "right", "wrong"), PLANTED)
def test_a_planted_error_is_found(check: str, name: str, right: str, wrong: str, infra: Path) -> None:
    text = (infra / name).read_text()
    assert right in text
    (infra / name).write_text(text.replace(right, wrong))
    assert run(check, infra).returncode != 0
