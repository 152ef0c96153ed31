"""The list of processes in the chart is what the rooms are, and the arrows are those of the design."""

import importlib
import re
import subprocess
import sys

import pytest
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api_gateway.health import RoomHealth
from api_gateway.health import health_router as gateway_health
from common.app import health_router
from common.clock import SystemClock
from common.events import sources_of
from kite_simulator.app import create_app as simulator_app
from scripts.render_manifests import DIGEST, digest
from scripts.settings_reference import ROOMS
from tests.manifests import arrows
from tests.manifests.objects import ENVIRONMENTS, ROOT, Manifest, built, chart_values, containers, of_kind

OPERATORS = {"user-service": {"create-keys", "create-admin", "reset-totp"}, "analytics-service": {"rebuild"}}
"""Commands that a person gives; they end by themselves."""
CATALOGUE = chart_values()["rooms"]


def commands(room: str) -> set[str]:
    """What the room's program says that it can do."""
    told = subprocess.run(
        [sys.executable, "-m", room.replace("-", "_"), "--help"],
        check=False, cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    text = told.stdout + told.stderr
    listed = re.search(r"\{([a-z,-]+)\}", text)
    words = listed[1].split(",") if listed else re.findall(r"python -m \w+ (\w+)", text)
    assert words, text
    return set(words)


def test_the_rooms_are_those_of_the_repository() -> None:
    assert set(CATALOGUE) == {room for room, _ in ROOMS}


@pytest.mark.parametrize("room", [room for room, _ in ROOMS])
def test_a_room_runs_every_command_it_has(room: str) -> None:
    spec = CATALOGUE[room]
    wanted = {*spec["processes"], *({"migrate"} if spec["database"] else ())}
    assert commands(room) - OPERATORS.get(room, set()) == wanted


@pytest.mark.parametrize(("room", "settings"), ROOMS, ids=[room for room, _ in ROOMS])
def test_prefixes_and_ports_are_the_rooms_own(room: str, settings: type) -> None:
    spec = CATALOGUE[room]
    assert spec["prefix"] == settings.model_config["env_prefix"]
    assert spec["port"] == settings.model_fields["port"].default


@pytest.mark.parametrize("room", [room for room, _ in ROOMS])
def test_a_consumer_may_ask_every_room_whose_facts_it_acts_on(room: str) -> None:
    package = room.replace("-", "_")
    if not (ROOT / room / package / "consumers.py").exists():
        assert "consume" not in CATALOGUE[room]["processes"]
        return
    handlers = importlib.import_module(f"{package}.consumers").HANDLERS
    process = CATALOGUE[room]["processes"]["consume"]
    assert set(sources_of(handlers)) <= set(process["calls"])
    assert process["queue"]["name"] == room


def test_what_is_rendered_is_from_this_chart() -> None:
    assert DIGEST.read_text() == digest(), "the chart has changed: run `make manifests`"


@pytest.mark.parametrize("folder", ["base", *(f"overlays/{name}" for name in ENVIRONMENTS)])
def test_every_process_is_a_deployment(folder: str) -> None:
    kind = "kite" if folder == "overlays/production" else "simulator"
    rooms = {room: spec for room, spec in CATALOGUE.items() if spec.get("only") in (None, kind)}
    wanted = {f"{room}-{command}": [command] for room, spec in rooms.items() for command in spec["processes"]}
    manifests = built(folder)
    found = {one["metadata"]["name"]: list(containers(one))[-1]["args"] for one in of_kind(manifests, "Deployment")}
    assert found == wanted
    jobs = {one["metadata"]["name"] for one in of_kind(manifests, "Job")}
    assert jobs == {f"{room}-migrate" for room, spec in rooms.items() if spec["database"]}


def test_probes_ask_what_the_programs_answer() -> None:
    rooms, gateway = FastAPI(), FastAPI()
    rooms.include_router(health_router({}))
    gateway.include_router(gateway_health(RoomHealth({}, SystemClock())))
    with TestClient(rooms) as client:
        assert [client.get(path).status_code for path in ("/health", "/health/ready", "/metrics")] == [200] * 3
    with TestClient(gateway) as client:
        assert [client.get(path).status_code for path in ("/health", "/metrics")] == [200] * 2
    with TestClient(simulator_app()) as client:
        assert client.get("/simulator/health").status_code == 200


# --- who talks to whom ----------------------------------------------------------------------------------------------


def allowed(broker: str) -> set[arrows.Arrow]:
    """The arrows of the design (sections 2 and 3): nothing else may exist."""
    rooms = [room for room in CATALOGUE if room != "kite-simulator"]
    with_database = [room for room in rooms if room != "api-gateway"]
    processes = [(room, command) for room in rooms for command in CATALOGUE[room]["processes"]]
    result = {("migrate", "database")}
    result |= {(f"{room}.{command}", "database") for room, command in processes if room in with_database}
    on_the_bus = {"relay", "consume", "worker"}
    result |= {(f"{room}.{command}", "bus") for room, command in processes if command in on_the_bus}
    # Wake-ups after what a person does go through Celery.
    result |= {(f"{room}.api", "bus") for room in CELERY}
    result |= {(name, "cache") for name in ("api-gateway.api", "market-data-service.api", "market-data-service.loop")}
    result |= {("api-gateway.api", f"{room}.api") for room in with_database}
    # Keys of users' tokens; the keys of rooms are in files.
    result |= {(f"{room}.api", "user-service.api") for room in with_database if room != "user-service"}
    # Facts a consumer has missed are asked for at their source.
    result |= {
        (f"{room}.consume", f"{source}.api")
        for room, command in processes
        if command == "consume"
        for source in sources_of(importlib.import_module(f"{room.replace('-', '_')}.consumers").HANDLERS)
    }
    result |= {(name, "market-data-service.api") for name in MARKET_READERS}
    result |= {(name, "portfolio-service.api") for name in LEDGER_READERS}
    result |= {("smallcase-service.drive", "user-service.api")}
    result |= {(f"market-data-service.{command}", "trade-executor.api") for command in ("api", "loop")}
    result |= {(f"notification-service.{command}", "user-service.api") for command in ("worker", "loop")}
    result |= {(f"notification-service.{command}", "outside:443,465,587") for command in ("worker", "loop")}
    target = "outside:443" if broker == "kite" else "kite-simulator.api"
    result |= {(name, target) for name in TO_THE_BROKER}
    return result | ({("kite-simulator.api", "api-gateway.api")} if broker == "simulator" else set())


CELERY = ("trade-executor", "notification-service", "analytics-service")
LEDGER_READERS = ("trade-executor.api", "trade-executor.loop", "smallcase-service.api", "smallcase-service.drive")
MARKET_READERS = (
    "portfolio-service.api", "portfolio-service.sweep", "smallcase-service.api", "smallcase-service.drive",
    "analytics-service.worker", "analytics-service.loop", "trade-executor.api",
    "trade-executor.worker", "trade-executor.loop", "notification-service.api", "notification-service.worker",
    "notification-service.loop",
)  # fmt: skip
TO_THE_BROKER = (
    "trade-executor.api", "trade-executor.worker", "trade-executor.loop", "market-data-service.api",
    "market-data-service.loop",
)  # fmt: skip


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_arrows_are_those_of_the_design(name: str) -> None:
    manifests = built(f"overlays/{name}")
    found, wanted = arrows.out(manifests), allowed("kite" if name == "production" else "simulator")
    assert (sorted(found - wanted), sorted(wanted - found)) == ([], [])


def test_only_two_rooms_come_to_the_broker() -> None:
    outside = {source for source, target in arrows.out(built("overlays/production")) if target == "outside:443"}
    assert {source.partition(".")[0] for source in outside} == {"trade-executor", "market-data-service"}


def test_monitors_give_targets_the_names_that_alert_rules_know() -> None:
    config = yaml.safe_load((ROOT / "infra/prometheus/prometheus.yml").read_text())
    rooms, processes = (
        {target.rpartition(":")[2] for scraped in job["static_configs"] for target in scraped["targets"]}
        for name in ("rooms", "processes")
        for job in config["scrape_configs"]
        if job["job_name"] == name
    )
    assert rooms == {str(spec["port"]) for room, spec in CATALOGUE.items() if room != "kite-simulator"}
    assert processes == {"9100"}
    monitors = of_kind(built("overlays/production"), "ServiceMonitor")
    found = {
        (endpoint["port"], one["replacement"])
        for monitor in monitors
        for endpoint in monitor["spec"]["endpoints"]
        for one in endpoint["relabelings"]
        if one["targetLabel"] == "job"
    }
    assert found == {("http", "rooms"), ("status", "processes")}
    assert len(monitors) == len(CATALOGUE) - 1


# --- how much ------------------------------------------------------------------------------------------------------


def most(manifests: list[Manifest], name: str, copies: int | None) -> int:
    """Copies of a Deployment at its largest, and one more while it is replaced."""
    scalers = of_kind(manifests, "HorizontalPodAutoscaler", "ScaledObject")
    limits = [
        one["spec"].get("maxReplicas", one["spec"].get("maxReplicaCount"))
        for one in scalers
        if one["spec"]["scaleTargetRef"]["name"] == name
    ]
    return (limits[0] if limits else int(copies or 1)) + 1


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_database_has_connections_for_all_at_their_largest(name: str) -> None:
    manifests, total = built(f"overlays/{name}"), 0
    for one in of_kind(manifests, "Deployment"):
        room, _, command = one["metadata"]["name"].rpartition("-")
        if not CATALOGUE[room]["database"]:
            continue
        container = list(containers(one))[-1]
        own = {variable["name"]: variable["value"] for variable in container["env"]}
        pool = int(own[f"{CATALOGUE[room]['prefix']}DATABASE_POOL_SIZE"])
        children = CATALOGUE[room]["processes"][command].get("children", 1)
        # A pool may grow to twice its size for moments (common/db.py); a relay listens on a connection of its own.
        own_connections = 2 * pool * children + (command == "relay")
        total += most(manifests, one["metadata"]["name"], one["spec"].get("replicas")) * own_connections
    assert total <= chart_values()["database"]["connectionsMax"]
