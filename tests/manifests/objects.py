"""Reading manifests: pods of an object, what a selector chooses, what kustomize and the chart's values say."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
ENVIRONMENTS = ("dev", "staging", "production")
NAME = "app.kubernetes.io/name"
COMPONENT = "app.kubernetes.io/component"
PART_OF = "app.kubernetes.io/part-of"

Manifest = dict[str, Any]


def parse(text: str) -> list[Manifest]:
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


@cache
def _built(folder: str) -> str:
    """As JSON: read many times, and much faster than YAML."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: kustomize overlays cannot be built")
    built = subprocess.run(
        ["kubectl", "kustomize", str(K8S / folder)], check=False, capture_output=True, text=True, timeout=60
    )
    assert built.returncode == 0, built.stderr
    return json.dumps(parse(built.stdout))


def built(folder: str) -> list[Manifest]:
    """What `kubectl kustomize k8s/<folder>` gives; new objects with every call."""
    manifests: list[Manifest] = json.loads(_built(folder))
    return manifests


def chart_values() -> Manifest:
    """The chart's own values."""
    values: Manifest = yaml.safe_load((K8S / "chart/values.yaml").read_text())
    return values


def of_kind(manifests: Sequence[Manifest], *kinds: str) -> list[Manifest]:
    return [one for one in manifests if one["kind"] in kinds]


def find(manifests: Sequence[Manifest], kind: str, name: str) -> Manifest:
    [found] = [one for one in manifests if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def title(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def workloads(manifests: Sequence[Manifest]) -> list[Manifest]:
    """Objects that make pods."""
    return of_kind(manifests, "Deployment", "Job")


def pod(workload: Manifest) -> Manifest:
    spec: Manifest = workload["spec"]["template"]["spec"]
    return spec


def labels(workload: Manifest) -> Mapping[str, str]:
    found: Mapping[str, str] = workload["spec"]["template"]["metadata"].get("labels", {})
    return found


def room(workload: Manifest) -> str:
    return labels(workload)[NAME]


def containers(workload: Manifest) -> Iterator[Manifest]:
    yield from pod(workload).get("initContainers", [])
    yield from pod(workload)["containers"]


def chosen(selector: Mapping[str, str], manifests: Sequence[Manifest]) -> list[Manifest]:
    """The workloads whose pods carry all labels of a selector."""
    return [one for one in workloads(manifests) if selector.items() <= labels(one).items()]


def ports(workload: Manifest) -> dict[str, int]:
    """Named ports of the pods."""
    return {port["name"]: port["containerPort"] for one in containers(workload) for port in one.get("ports", [])}
