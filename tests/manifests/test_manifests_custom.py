"""Objects of operators (KEDA, Prometheus, CloudNativePG, External Secrets) against the schemas of their definitions."""

import json
from typing import Any

import jsonschema_rs
import pytest

from tests.manifests.objects import ENVIRONMENTS, K8S, Manifest, built, find, parse

SCHEMAS = {
    (f"{group}/{version}", kind): jsonschema_rs.validator_for(json.loads(path.read_text()))
    for path in sorted((K8S / "schemas").glob("*.json"))
    for kind, group, version in [path.stem.split("_")]
}
EXAMPLES = sorted(path.name for path in (K8S / "examples").glob("*.yaml") if not path.name.endswith(".values.yaml"))
WITHOUT = frozenset({"SecretStore", "ObjectStore", "RabbitmqCluster"})
"""Kinds of the examples alone whose schemas are not kept here: the first is as large as all others together."""


def errors(manifests: list[Manifest]) -> list[str]:
    found = []
    for one in manifests:
        schema = SCHEMAS.get((one["apiVersion"], one["kind"]))
        if schema is not None:
            found += [f"{one['kind']}/{one['metadata']['name']}: {error.message}" for error in schema.iter_errors(one)]
        elif one["kind"] not in WITHOUT and _is_custom(one["apiVersion"]):
            found.append(f"{one['apiVersion']} {one['kind']} has no schema")
    return found


def _is_custom(api_version: str) -> bool:
    group = api_version.partition("/")[0]
    return "." in group and not group.endswith(".k8s.io")


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_rendered_objects_of_operators_keep_their_schemas(name: str) -> None:
    assert errors(built(f"overlays/{name}")) == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_keep_their_schemas(name: str) -> None:
    assert errors(parse((K8S / "examples" / name).read_text())) == []


def _planted(kind: str, name: str, *path: Any) -> list[Manifest]:
    """All objects with one field of one of them under a wrong name."""
    examples = [one for file in EXAMPLES for one in parse((K8S / "examples" / file).read_text())]
    manifests = [*built("overlays/production"), *examples]
    target: Any = find(manifests, kind, name)
    for step in path[:-1]:
        target = target[step]
    target[f"{path[-1]}s"] = target.pop(path[-1])
    return manifests


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [
        ("ServiceMonitor", "user-service", ("spec", "endpoints", 0, "interval")),
        ("ScaledObject", "portfolio-service-consume", ("spec", "maxReplicaCount")),
        ("TriggerAuthentication", "portfolio-service-consume", ("spec", "secretTargetRef", 0, "parameter")),
        ("ExternalSecret", "user-service", ("spec", "data", 0, "secretKey")),
        ("Cluster", "postgres", ("spec", "storage", "size")),
        ("Database", "saras-user", ("spec", "owner")),
        ("ScheduledBackup", "postgres", ("spec", "schedule")),
    ],
)
def test_a_wrong_field_is_found(kind: str, name: str, path: tuple[Any, ...]) -> None:
    found = errors(_planted(kind, name, *path))
    assert found
    assert all(line.startswith(f"{kind}/{name}: ") for line in found)
