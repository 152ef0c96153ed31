"""Every panel's query and every alert's expression, asked of the real Prometheus of a running Compose project.

Runs where `docker compose --profile monitoring up --wait` and some orders (`make demo`) have been; skipped elsewhere.
"""

from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from scripts import dashboards

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = "http://127.0.0.1:9090"


def ask(path: str, **parameters: str) -> Any:
    return httpx.get(f"{PROMETHEUS}/api/v1/{path}", params=parameters, timeout=10, trust_env=False).json()


@pytest.fixture(scope="module")
def prometheus() -> None:
    try:
        targets = ask("targets")
    except (httpx.TransportError, ValueError):
        pytest.skip(f"no Prometheus at {PROMETHEUS}: start docker compose --profile monitoring")
    jobs = {one["labels"]["job"] for one in targets["data"]["activeTargets"]}
    if "rooms" not in jobs:
        pytest.skip(f"the Prometheus at {PROMETHEUS} is not the platform's")


@pytest.mark.usefixtures("prometheus")
def test_every_target_answers() -> None:
    down = {
        one["scrapeUrl"]: one["lastError"] for one in ask("targets")["data"]["activeTargets"] if one["health"] != "up"
    }
    assert down == {}


@pytest.mark.usefixtures("prometheus")
@pytest.mark.parametrize(("panel", "expr"), list(dashboards.queries()), ids=lambda value: value[:60])
def test_every_panel_shows_something(panel: str, expr: str) -> None:
    answer = ask("query", query=expr)
    assert answer["status"] == "success", answer
    assert answer["data"]["result"], f"{panel}: nothing"


@pytest.mark.usefixtures("prometheus")
def test_every_alert_is_loaded_and_evaluates() -> None:
    loaded = {rule["name"]: rule["health"] for group in ask("rules")["data"]["groups"] for rule in group["rules"]}
    written = yaml.safe_load((ROOT / "infra/prometheus/alerts.yml").read_text())
    names = {rule["alert"] for group in written["groups"] for rule in group["rules"]}
    assert set(loaded) == names
    assert set(loaded.values()) == {"ok"}
