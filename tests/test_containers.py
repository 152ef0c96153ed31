"""What surrounds the rooms in containers agrees with the code: recipes, processes, addresses, queues, rules, dashboards."""

import itertools
import json
import re
import shlex
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from common.events import REGISTRY
from common.queues import EXCHANGE, dead_arguments, dead_queue, work_arguments
from scripts import container_secrets, dashboards, dockerfiles, saras
from scripts.embedded_environment import PREFIXES
from scripts.settings_reference import ROOMS as SETTINGS
from scripts.settings_reference import all_variables
from tests.compose.runbooks import Step, steps

ROOT = Path(__file__).parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
METRIC = re.compile(r"\bsaras_[a-z_]+\b")


def ours() -> dict[str, dict[str, Any]]:
    """Services that run a room's image."""
    return {
        name: one for name, one in SERVICES.items() if isinstance(one.get("build"), dict) and room_of(one) in FOLDERS
    }


def room_of(service: dict[str, Any]) -> str:
    return str(service["image"]).removeprefix("saras/").partition(":")[0]


FOLDERS = {room.folder: room for room in dockerfiles.ROOMS}


@pytest.mark.parametrize("room", dockerfiles.ROOMS, ids=lambda room: room.folder)
def test_every_dockerfile_is_the_recipe(room: dockerfiles.Room) -> None:
    recipe = (ROOT / dockerfiles.RECIPE).read_text()
    assert (ROOT / room.folder / "Dockerfile").read_text() == dockerfiles.dockerfile(recipe, room)
    assert (ROOT / room.folder / ".dockerignore").read_text() == dockerfiles.IGNORE
    assert "@" not in dockerfiles.dockerfile(recipe, room)


@pytest.mark.parametrize("room", dockerfiles.ROOMS, ids=lambda room: room.folder)
def test_every_recipe_has_the_rooms_own_port_and_prefix(room: dockerfiles.Room) -> None:
    settings = dict(SETTINGS)[room.folder]
    assert settings.model_config["env_prefix"] == room.prefix
    assert settings.model_fields["port"].default == room.port


@pytest.mark.parametrize("room", FOLDERS)
def test_a_rooms_lock_pins_what_the_lock_of_all_pins(room: str) -> None:
    everything = pins(ROOT / "requirements.lock")
    own = pins(ROOT / room / "requirements.lock")
    assert own
    assert {name: pin for name, pin in own.items() if everything.get(name) != pin} == {}


def pins(lock: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Name -> version and hashes."""
    found = {}
    for entry in lock.read_text().replace("\\\n", " ").splitlines():
        if (match := re.match(r"([A-Za-z0-9_.-]+)==([^\s;]+)", entry)) is not None:
            found[match[1].lower()] = (match[2], frozenset(re.findall(r"--hash=(\S+)", entry)))
    return found


def test_every_process_of_every_room_runs_in_compose() -> None:
    """One container per command that a room's `__main__` offers, and nothing else."""
    running: dict[str, Counter[str]] = {}
    for service in ours().values():
        running.setdefault(room_of(service), Counter()).update(service.get("command", ["api"]))
    for room in FOLDERS:
        offered = commands(room.replace("-", "_"))
        assert offered - set(running[room]) == set(), f"{room}: nobody runs these"
        assert set(running[room]) - offered == set(), f"{room}: no such command"


def commands(package: str) -> set[str]:
    """The long-running commands and `migrate` that `python -m <package>` takes, read from its usage text."""
    usage = import_module(f"{package}.__main__").__doc__ or ""
    listed = re.search(r"python -m \w+ ([a-z-]+(?: \| [a-z-]+)*)", usage)
    assert listed is not None, f"{package} does not say its commands"
    by_hand = {"create-keys", "create-admin", "reset-totp", "rebuild"}
    return set(listed[1].split(" | ")) - by_hand


def test_settings_in_compose_are_settings() -> None:
    known = all_variables() | {"SECRETS_DIR", "PROMETHEUS_MULTIPROC_DIR"}
    for name, service in ours().items():
        assert set(service.get("environment", {})) - known == set(), name


def test_containers_are_locked_down() -> None:
    for name, service in ours().items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["deploy"]["resources"]["limits"]["memory"], name
        assert "privileged" not in service, name
        mounts = [mount for mount in service.get("volumes", []) if mount.endswith(":/run/saras:ro")]
        assert [mount.split("/")[-3].partition(":")[0] for mount in mounts] == [room_of(service)], (
            "one's own secrets alone"
        )


def test_nothing_secret_is_written_into_the_files() -> None:
    words = re.compile(r"(password|secret|token|key)\s*[:=]\s*['\"]?[A-Za-z0-9+/]{12,}", re.IGNORECASE)
    for path in [ROOT / "docker-compose.yml", *(ROOT / "infra").rglob("*")]:
        if path.is_file() and path.suffix != ".json":
            assert words.findall(path.read_text()) == [], path.name


def test_only_the_door_and_operators_windows_are_published_and_on_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"gateway", "simulator", "prometheus", "alertmanager", "grafana"}
    for name, ports in published.items():
        for port in ports:
            assert port.startswith(("127.0.0.1:", "${GATEWAY_ADDRESS:-127.0.0.1}:")), name


def test_prometheus_asks_every_process_and_no_other() -> None:
    config = yaml.safe_load((ROOT / "infra/prometheus/prometheus.yml").read_text())
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    expected: dict[str, set[str]] = {"rooms": set(), "processes": set()}
    for name, service in ours().items():
        command = service.get("command", ["api"])[0]
        if room_of(service) == "kite-simulator" or command == "migrate":
            continue
        if command == "api":
            expected["rooms"].add(f"{name}:{FOLDERS[room_of(service)].port}")
        else:
            expected["processes"].add(f"{name}:9100")
    assert {job: set(jobs[job]) for job in expected} == expected
    for job in ("rabbitmq", "postgres", "redis"):
        assert jobs[job][0].partition(":")[0] in SERVICES


def test_dashboards_are_what_their_code_says() -> None:
    for board in dashboards.DASHBOARDS:
        file = ROOT / dashboards.FOLDER / f"{board.uid.removeprefix('saras-')}.json"
        assert json.loads(file.read_text()) == dashboards.render(board)


def test_every_metric_asked_for_exists() -> None:
    for package in ("common", "trade_executor", "portfolio_service", "api_gateway"):
        for module in ("metrics", "gauges", "counters"):
            if (next(ROOT.glob(f"*/{package}/{module}.py"), None)) is not None:
                import_module(f"{package}.{module}")
    from prometheus_client import REGISTRY as METRICS

    known = {sample.name for family in METRICS.collect() for sample in family.samples}
    known |= {
        family.name + suffix for family in METRICS.collect() for suffix in ("", "_total", "_bucket", "_sum", "_count")
    }
    asked = dict(dashboards.queries())
    rules = yaml.safe_load((ROOT / "infra/prometheus/alerts.yml").read_text())
    asked |= {rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"]}
    unknown = {name: sorted(set(METRIC.findall(expr)) - known) for name, expr in asked.items()}
    assert {name: metrics for name, metrics in unknown.items() if metrics} == {}


def test_every_alert_has_a_test_and_a_runbook() -> None:
    rules = yaml.safe_load((ROOT / "infra/prometheus/alerts.yml").read_text())
    tests = (ROOT / "infra/prometheus/alerts_test.yml").read_text()
    for group in rules["groups"]:
        for rule in group["rules"]:
            name = rule["alert"]
            assert f"{name} fires" in tests, name
            assert f"{name} is silent" in tests, name
            assert (ROOT / "docs/runbooks" / f"{name}.md").exists(), name


@pytest.mark.parametrize("step", list(steps()), ids=lambda step: f"{step.page}: {step.text[:60]}")
def test_every_command_of_a_runbook_names_what_exists(step: Step) -> None:
    words = shlex.split(step.shell)
    if step.saras is not None:
        command = list(itertools.takewhile(lambda word: not word.startswith("-"), words[1:]))
        assert CliRunner().invoke(saras.build(command), [*command, "--help"]).exit_code == 0
        return
    asked = itertools.takewhile(lambda word: word not in ("|", "python", "psql"), words[3:])
    names = [word.partition("=")[0] for word in asked if not word.startswith("-") and not word.isdigit()]
    assert set(names) <= SERVICES.keys()
    assert names or words[2] == "ps"


def test_secrets_are_made_once_and_one_folder_knows_only_its_own(tmp_path: Path) -> None:
    made = CliRunner().invoke(typer_app(), [str(tmp_path / "secrets")])
    assert made.exit_code == 0, made.output
    first = contents(tmp_path / "secrets")
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    CliRunner().invoke(typer_app(), [str(tmp_path / "secrets")])
    assert contents(tmp_path / "secrets") == first
    for room, prefix in PREFIXES.items():
        private = first[f"{room}/service.pem"]
        others = [
            name
            for name, content in first.items()
            if private in content and not name.startswith(("authority/", f"{room}/"))
        ]
        assert others == [], room
        urls = [name for name in first if name.startswith(f"{room}/") and name.endswith("database_url")]
        assert urls == ([] if room == "api-gateway" else [f"{room}/{prefix.lower()}database_url"])
    signing = first["user-service/signing.pem"]
    assert [name for name, content in first.items() if signing in content and not name.startswith("authority/")] == [
        "user-service/signing.pem"
    ]


def typer_app() -> Any:
    import typer

    app = typer.Typer()
    app.command()(container_secrets.main)
    return app


def contents(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): path.read_bytes().decode("latin-1")
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_rabbitmqs_definitions_are_the_codes_topology(tmp_path: Path) -> None:
    rooms = {room for event in REGISTRY.values() for room in event.consumers}
    given = container_secrets.rabbit_definitions(dict.fromkeys([*rooms, "operator"], "word"), tmp_path)
    queues = {queue["name"]: queue["arguments"] for queue in given["queues"]}
    for room in rooms:
        assert queues[room] == work_arguments(dead_exchange=f"{EXCHANGE}.dead", dead_key=room)
        assert queues[dead_queue(room)] == dead_arguments()
    bound = {(one["destination"], one["routing_key"]) for one in given["bindings"] if one["source"] == EXCHANGE}
    assert bound == {(room, f"*.{name}") for name, event in REGISTRY.items() for room in event.consumers}


def test_a_room_may_touch_its_own_queues_alone(tmp_path: Path) -> None:
    rooms = sorted({room for event in REGISTRY.values() for room in event.consumers})
    given = container_secrets.rabbit_definitions(dict.fromkeys(rooms, "word"), tmp_path)
    for permission in given["permissions"]:
        user = permission["user"]
        for kind in ("configure", "write", "read"):
            may = re.compile(permission[kind])
            assert may.search(user), (user, kind)
            assert may.search(EXCHANGE), (user, kind)
            for other in rooms:
                if other != user:
                    assert not may.search(other), (user, kind, other)
                    assert not may.search(dead_queue(other)), (user, kind, other)
