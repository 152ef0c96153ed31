"""The tools of `make manifests-check`, in an environment of their own beside the project's."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.manifests.objects import ROOT, Manifest

BIN = ROOT / ".venv-manifests/bin"
VERSIONS = ("1.32", "1.37")
"""The oldest that this project says it runs on, and the newest whose schemas there are."""
CUSTOM = frozenset({"ServiceMonitor", "ScaledObject", "TriggerAuthentication"})
"""Kinds that an operator of the cluster brings, with schemas of its own."""
TIMEOUT_S = 600.0
"""The linter takes ten seconds where it has a processor to itself."""
_HELM = """
import json, sys
from scripts.render_manifests import helm, plain
values, namespace, raw = json.load(sys.stdin)
manifests = helm(values, namespace)
json.dump(manifests if raw else plain(manifests), sys.stdout)
"""


def require() -> None:
    """Skip without the tools, unless they have been asked for."""
    if not (BIN / "checkov").exists():
        if os.environ.get("SARAS_MANIFEST_TOOLS") == "required":
            pytest.fail("the tools are not installed")
        pytest.skip("Helm, schemas and linter are not installed: `make manifests-check` installs and runs them")


def run(*command: str | Path, cwd: Path = ROOT, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        check=False,
        cwd=cwd,
        input=text,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


def helm(values: Mapping[str, Any], namespace: str, *, raw: bool = False) -> list[Manifest]:
    """What Helm makes of the chart; raises ValueError with its message. `raw`: with hooks and namespace."""
    done = run(BIN / "python", "-c", _HELM, text=json.dumps([values, namespace, raw]))
    if done.returncode:
        raise ValueError(done.stderr)
    manifests: list[Manifest] = json.loads(done.stdout)
    return manifests


def schema_errors(manifests: Sequence[Manifest], version: str, folder: Path) -> list[str]:
    """What the strict schemas of a Kubernetes version say; kinds without a schema count as errors unless `CUSTOM`."""
    file = folder / f"{version}.yaml"
    file.write_text("\n---\n".join(json.dumps(one) for one in manifests if one["kind"] not in CUSTOM))
    done = run(BIN / "kubernetes-validate", "-k", version, "--strict", file)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line and not line.startswith("INFO")]
    return lines or ([f"exit code {done.returncode}"] if done.returncode else [])


def failed_checks(folder: Path, *, config: Path | None = None) -> dict[str, set[str]]:
    """Checks of the linter that fail, with what they fail for."""
    command: list[str | Path] = [BIN / "checkov", "-d", folder, "-o", "json"]
    command += ["--config-file", config] if config else ["--framework", "kubernetes", "--skip-download"]
    done = run(*command)
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 0, done.stdout
    failures: dict[str, set[str]] = {}
    for one in report["results"]["failed_checks"]:
        failures.setdefault(one["check_id"], set()).add(one["resource"])
    assert bool(failures) == bool(done.returncode), "the exit code does not say what the report says"
    return failures
