"""Every process starts with what its manifest gives it, and answers its probes; over a real PostgreSQL with real migrations.

The bus is one that nobody answers at: processes have to wait for it, and queues of these names belong to nobody's tests.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from common.db import Database
from common.testing_ports import free_port
from tests.manifests import start
from tests.manifests.objects import built, chart_values, find, of_kind, room
from tests.manifests.rules import PROBES

pytestmark = pytest.mark.timeout(600)
CATALOGUE = chart_values()["rooms"]
NEEDS_INSTRUMENTS = ("market-data-service-api",)
"""Ready when instruments are loaded, which takes a broker session (docs/deployment-kubernetes.md, "The first time")."""


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_a_room_starts_with_what_its_manifest_gives(
    name: str, secrets: Path, tmp_path: Path, service_database: Callable[..., Database]
) -> None:
    replaced = {
        "bus_url": f"amqp://{'nobody:nothing'}@127.0.0.1:{free_port()}/",
        "redis_url": f"redis://127.0.0.1:{free_port()}/0",
        "gateway_limits_url": "memory://",
        f"{CATALOGUE[name]['prefix'].lower()}celery_broker_url": "memory://",
    }
    if CATALOGUE[name]["database"]:
        prefix = CATALOGUE[name]["prefix"].lower()
        replaced[f"{prefix}database_url"] = service_database(name.replace("-", "_"), pool_size=1).url
    manifests = built("overlays/dev")
    found: dict[str, dict[str, object]] = {}
    with ExitStack() as stack:
        started = []
        for one in [one for one in of_kind(manifests, "Deployment") if room(one) == name]:
            folder, port = tmp_path / one["metadata"]["name"], free_port()
            folder.mkdir()
            start.mounted(one, secrets, folder, replaced)
            environ = start.variables(one, manifests, folder, port)
            started.append((one, port, folder, stack.enter_context(start.running(one, environ, folder))))
        for one, port, folder, process in started:
            answers: dict[str, object] = {
                probe: start.probe(one, probe, port, process)
                for probe in PROBES
                if not (probe == "readinessProbe" and one["metadata"]["name"] in NEEDS_INSTRUMENTS)
            }
            if set(answers.values()) != {200}:
                found[one["metadata"]["name"]] = {**answers, "log": (folder / "log").read_text()[-2000:]}
    assert found == {}, "".join(str(one.pop("log")) for one in found.values())


@pytest.mark.parametrize(
    ("process", "missing"), [("user-service-relay", "bus_url"), ("user-service-api", "signing.pem")]
)
def test_a_process_without_what_it_needs_is_found(
    process: str, missing: str, secrets: Path, tmp_path: Path, service_database: Callable[..., Database]
) -> None:
    manifests = built("overlays/dev")
    deployment, port = find(manifests, "Deployment", process), free_port()
    database = service_database("user_service", pool_size=1).url
    start.mounted(deployment, secrets, tmp_path, {"user_database_url": database})
    (tmp_path / missing).unlink()
    with start.running(deployment, start.variables(deployment, manifests, tmp_path, port), tmp_path) as running:
        assert start.probe(deployment, "startupProbe", port, running) is None
    assert {"bus_url": "BUS_URL", "signing.pem": "signing.pem"}[missing] in (tmp_path / "log").read_text()
