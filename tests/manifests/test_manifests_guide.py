"""The commands of docs/deployment-kubernetes.md that need no cluster, run as they stand there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.manifests.objects import ENVIRONMENTS, ROOT, Manifest, built, parse, workloads
from tests.manifests.settings import secret_keys

GUIDE = (ROOT / "docs/deployment-kubernetes.md").read_text()
WITHOUT_A_CLUSTER = 'kubectl() { command kubectl "$@" --dry-run=client -o yaml && echo ---; }\n'


def block(containing: str) -> str:
    [found] = [text for text in re.findall(r"^```\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL) if containing in text]
    return found


def run(script: str, folder: Path) -> list[Manifest]:
    """The objects that a script of the guide would give to a cluster."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace(".venv/bin/python", sys.executable)],
        check=False, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return parse(done.stdout)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifest]:
    """Secrets made by hand as the guide says."""
    folder = tmp_path_factory.mktemp("guide")
    secrets = run(WITHOUT_A_CLUSTER + block("container_secrets"), folder)
    return {one["metadata"]["name"]: one for one in secrets}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_secrets_made_by_hand_have_every_key_that_is_taken(name: str, made: dict[str, Manifest]) -> None:
    missing = {
        (secret, key)
        for one in workloads(built(f"overlays/{name}"))
        for secret, keys in secret_keys(one, optional=False).items()
        for key in keys
        if key not in made.get(secret, {}).get("data", {})
    }
    assert missing == set()


def test_the_servers_find_their_secrets(made: dict[str, Manifest]) -> None:
    examples = {name: (ROOT / "k8s/examples" / name).read_text() for name in ("postgres.yaml", "rabbitmq.yaml")}
    [cluster] = [one for one in parse(examples["postgres.yaml"]) if one["kind"] == "Cluster"]
    roles = {one["name"]: one["passwordSecret"]["name"] for one in cluster["spec"]["managed"]["roles"]}
    databases = {one["spec"]["name"] for one in parse(examples["postgres.yaml"]) if one["kind"] == "Database"}
    assert set(roles) == databases
    for name in roles.values():
        assert made[name]["type"] == "kubernetes.io/basic-auth"
        assert set(made[name]["data"]) == {"username", "password"}
    assert set(made["rabbitmq-definitions"]["data"]) == {"definitions.json"}
    assert "rabbitmq-definitions" in examples["rabbitmq.yaml"]


def test_the_alert_rules_become_an_object_of_the_operator(tmp_path: Path) -> None:
    [rule] = run(block("PrometheusRule").partition(" | kubectl")[0].replace("infra/", f"{ROOT}/infra/"), tmp_path)
    assert (rule["kind"], rule["spec"]) == (
        "PrometheusRule",
        yaml.safe_load((ROOT / "infra/prometheus/alerts.yml").read_text()),
    )


def test_the_guide_names_what_exists() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z][a-z-]*)", GUIDE)) <= targets
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", GUIDE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
    files = re.findall(r"(?:-f|--values|-k|kustomize) (k8s/[\w./-]+)", GUIDE)
    assert files
    assert [file for file in files if not (ROOT / file).exists()] == []
