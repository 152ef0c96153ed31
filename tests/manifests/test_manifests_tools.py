"""Helm, the schemas of two Kubernetes versions and the linter, over what is deployed and over planted mistakes."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.render_manifests import NAMESPACES, key_of, plain, values_of
from tests.manifests import tools
from tests.manifests.objects import ENVIRONMENTS, K8S, ROOT, Manifest, built, find, of_kind, pod

FOLDERS = ("base", *(f"overlays/{name}" for name in ENVIRONMENTS))
pytestmark = pytest.mark.timeout(1_200)
EXCEPTIONS = set(yaml.safe_load((K8S / "checkov.yaml").read_text())["skip-check"])


@pytest.fixture(autouse=True)
def _tools() -> None:
    tools.require()


def by_key(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    return {key_of(one): one for one in manifests}


# --- one source ---------------------------------------------------------------------------------------------------


def test_base_and_overlays_are_as_the_chart_renders_them() -> None:
    done = tools.run(tools.BIN / "python", "-m", "scripts.render_manifests", "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_chart_that_has_moved_on_is_found(tmp_path: Path) -> None:
    shutil.copytree(K8S, tmp_path / "k8s")
    (tmp_path / "scripts").mkdir()
    for name in ("__init__.py", "render_manifests.py"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts" / name)
    values = tmp_path / "k8s/environments/staging.yaml"
    values.write_text(values.read_text().replace("maximumReplicas: 2", "maximumReplicas: 3"))
    (tmp_path / "k8s/base/forgotten.yaml").write_text("{}")
    done = tools.run(tools.BIN / "python", "-m", "scripts.render_manifests", "--check", cwd=tmp_path)
    told = {line.partition(":")[0] for line in done.stderr.splitlines()}
    wanted = {"k8s/overlays/staging/kustomization.yaml", "k8s/base/forgotten.yaml", "k8s/rendered.sha256"}
    assert (done.returncode, told) == (1, wanted)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_kustomize_and_helm_give_the_same(name: str) -> None:
    namespace = NAMESPACES[name]
    manifests = built(f"overlays/{name}")
    kustomized = [one for one in manifests if one["kind"] != "Namespace"]
    assert {one["metadata"]["namespace"] for one in kustomized} == {namespace}
    helmed = tools.helm(values_of(name), namespace, raw=True)
    assert {one["metadata"]["namespace"] for one in helmed} == {namespace}
    assert by_key(plain(kustomized)) == by_key(plain(helmed))
    [made] = of_kind(manifests, "Namespace")
    assert made["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_migrations_are_hooks_before_an_upgrade() -> None:
    hooks = {
        key_of(one)
        for one in tools.helm({}, "saras", raw=True)
        if one["metadata"].get("annotations", {}).get("helm.sh/hook") == "pre-install,pre-upgrade"
    }
    jobs = {key_of(one) for one in of_kind(built("base"), "Job")}
    assert jobs
    assert hooks == {*jobs, ("ServiceAccount", "migrations")}


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"broker": {"kind": "kitee"}}, "kind"),
        ({"maximumReplica": 2}, "maximumReplica"),
        ({"image": {"tag": "latest"}}, "tag"),
        ({"settings": {"LOG_LEVEL": 3}}, "LOG_LEVEL"),
        ({"ingress": {"host": ""}}, "host"),
        ({"rooms": {"user-service": {"processes": {"relay": {"replica": 3}}}}}, "replica"),
        ({"rooms": {"user-service": {"processes": {"relay": {"uses": ["databse"]}}}}}, "uses"),
        ({"defaults": {"api": {"resources": {"limits": {"cpu": 1}}}}}, "cpu"),
    ],
)
def test_values_that_do_not_fit_are_refused(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        tools.helm(values, "saras")


# --- schemas ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", tools.VERSIONS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_schemas_are_kept(folder: str, version: str, tmp_path: Path) -> None:
    assert tools.schema_errors(built(folder), version, tmp_path) == []


@pytest.mark.parametrize("version", tools.VERSIONS)
def test_what_helm_applies_keeps_schemas(version: str, tmp_path: Path) -> None:
    manifests = tools.helm(values_of("production"), "saras", raw=True)
    assert tools.schema_errors(manifests, version, tmp_path) == []


def _change(kind: str, name: str, *path: Any, value: Any) -> Callable[[list[Manifest]], None]:
    def change(manifests: list[Manifest]) -> None:
        target: Any = find(manifests, kind, name)
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = value

    return change


@pytest.mark.parametrize("version", tools.VERSIONS)
@pytest.mark.parametrize(
    ("plant", "complaint"),
    [
        (_change("Deployment", "user-service-relay", "spec", "replicaz", value=2), "replicaz"),
        (_change("HorizontalPodAutoscaler", "user-service-api", "spec", "minReplicas", value="two"), "two"),
        (_change("Service", "user-service", "spec", "ports", 0, "port", value="http"), "http"),
        (_change("Ingress", "api-gateway", "spec", "rules", 0, "http", "paths", 0, "backend", value={"serviceName": "x"}), "serviceName"),
        (_change("Job", "user-service-migrate", "apiVersion", value="batch/v1beta1"), "batch/v1beta1"),
        (_change("NetworkPolicy", "deny-all", "spec", "podSelectors", value={}), "podSelectors"),
    ],
)  # fmt: skip
def test_schemas_find_mistakes(
    plant: Callable[[list[Manifest]], None], complaint: str, version: str, tmp_path: Path
) -> None:
    manifests = built("base")
    plant(manifests)
    assert [line for line in tools.schema_errors(manifests, version, tmp_path) if complaint in line]


# --- linter -------------------------------------------------------------------------------------------------------


def _write(folder: Path, manifests: list[Manifest]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "manifests.yaml").write_text("\n---\n".join(json.dumps(one, indent=1) for one in manifests))
    return folder


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_linter_finds_nothing_but_the_exceptions(name: str, tmp_path: Path) -> None:
    folder = _write(tmp_path / "rendered", built(f"overlays/{name}"))
    assert tools.failed_checks(folder, config=K8S / "checkov.yaml") == {}


def test_every_exception_is_needed_and_has_a_reason(tmp_path: Path) -> None:
    folder = _write(tmp_path / "rendered", built("overlays/production"))
    assert set(tools.failed_checks(folder)) == EXCEPTIONS
    assert len(
        re.findall(r"^  # .+\n(?:  # .+\n)*  - CKV\w+$", (K8S / "checkov.yaml").read_text(), re.MULTILINE)
    ) == len(EXCEPTIONS)


def test_the_linter_finds_mistakes(tmp_path: Path) -> None:
    manifests = built("overlays/production")
    spec = pod(find(manifests, "Deployment", "user-service-relay"))
    first = spec["containers"][0]
    first["securityContext"] = {"allowPrivilegeEscalation": True, "readOnlyRootFilesystem": False}
    del spec["securityContext"]
    del first["livenessProbe"]
    del first["resources"]["limits"]
    spec["hostNetwork"] = True
    failed = tools.failed_checks(_write(tmp_path / "planted", manifests), config=K8S / "checkov.yaml")
    wanted = {
        "CKV_K8S_8", "CKV_K8S_11", "CKV_K8S_13", "CKV_K8S_19", "CKV_K8S_20", "CKV_K8S_22", "CKV_K8S_23", "CKV_K8S_31",
        "CKV_K8S_37", "CKV_K8S_40",
    }  # fmt: skip
    assert wanted <= failed.keys()
    assert {resource for check in wanted for resource in failed[check]} == {"Deployment.saras.user-service-relay"}
