"""The workflows run make targets that exist, pinned actions, and reach production in one order only."""

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.manifests import tools
from tests.manifests.objects import ROOT

FOLDER = ROOT / ".github/workflows"
Workflow = dict[Any, Any]
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
BY_HAND = {("deploy", "Access to the cluster"), ("ci", "Prometheus' own tools")}
"""Steps that are no make target: they exist only there."""
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")
MUST_RUN = ("lint", "types", "test", "security", "manifests-check", "monitoring-check", "images", "image-scan")


def workflows() -> dict[str, Workflow]:
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yml"))}


def steps(workflow: Workflow) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in workflow["jobs"].items():
        yield from ((name, step) for step in job.get("steps", []))


def targets(workflow: Workflow) -> list[str]:
    """Make targets in the order of the file."""
    return [word for _, step in steps(workflow) for word in re.findall(r"make ([a-z-]+)", step.get("run", ""))]


def mistakes(name: str, workflow: Workflow) -> Iterator[str]:
    if workflow.get("permissions") != {"contents": "read"}:
        yield "jobs may do more than read unless they say so"
    yield from _jobs(workflow)
    for job_name, step in steps(workflow):
        if "uses" in step and not PINNED.fullmatch(step["uses"]):
            yield f"{job_name}: {step['uses']} may be other code tomorrow"
        run = step.get("run", "")
        if "${{" in run:
            yield f"{job_name}: text from outside becomes part of a command: {run}"
        if run and (name, step.get("name")) not in BY_HAND and not re.fullmatch(r"make [a-z-]+", run.strip()):
            yield f"{job_name}: not a make target: {run}"
    yield from (f"make {target} does not exist" for target in targets(workflow) if target not in TARGETS)


def _jobs(workflow: Workflow) -> Iterator[str]:
    for job_name, job in workflow["jobs"].items():
        for needed in job.get("needs", []):
            if needed not in workflow["jobs"]:
                yield f"{job_name} needs {needed}, which is not there"
        if "uses" in job:
            if not (ROOT / job["uses"]).exists():
                yield f"{job_name}: {job['uses']} is not there"
        elif "timeout-minutes" not in job:
            yield f"{job_name} may run for ever"
        for service, spec in job.get("services", {}).items():
            if "--health-cmd" not in spec.get("options", ""):
                yield f"{job_name}: nobody waits for {service}"


def path_to_production(found: dict[str, Workflow]) -> Iterator[str]:
    """Tests, then images, then staging, then production, the last with an environment that may ask a person."""
    jobs = found["cd"]["jobs"]
    order = [("publish", "ci"), ("staging", "publish"), ("production", "staging")]
    yield from (f"{later} does not wait for {first}" for later, first in order if jobs[later].get("needs") != [first])
    for name in ("staging", "production"):
        if jobs[name].get("with") != {"environment": name}:
            yield f"{name} is brought somewhere else"
    deploy = found["deploy"]["jobs"]["deploy"]
    if deploy.get("environment", {}).get("name") != "${{ inputs.environment }}":
        yield "no environment that could ask for approval"
    if targets(found["deploy"]) != ["deploy", "smoke", "rollback"]:
        yield "a deployment is: deploy, look, go back if it does not answer"
    if found["cd"]["concurrency"] != {"group": "cd", "cancel-in-progress": False}:
        yield "two deployments at once, or one cut off"
    if targets(found["cd"]) != ["images", "image-scan", "image-push"]:
        yield "images are pushed before they are scanned"
    missing = set(MUST_RUN) - set(targets(found["ci"]))
    yield from (f"a change may pass without make {target}" for target in sorted(missing))


@pytest.mark.parametrize("name", ["ci", "cd", "deploy"])
def test_a_workflow_is_sound(name: str) -> None:
    assert list(mistakes(name, workflows()[name])) == []


def test_the_path_to_production() -> None:
    assert list(path_to_production(workflows())) == []


Plant = Callable[[dict[str, Workflow]], object]
PLANTED: tuple[tuple[Plant, str], ...] = (
    (lambda w: w["ci"]["jobs"]["lint"]["steps"][-1].update(run="make lnt"), "make lnt does not exist"),
    (lambda w: w["ci"]["jobs"]["lint"]["steps"][-1].update(run="ruff check ."), "not a make target"),
    (lambda w: w["ci"]["jobs"]["lint"]["steps"][0].update(uses="actions/checkout@v7"), "other code tomorrow"),
    (lambda w: w["ci"]["jobs"]["lint"].pop("timeout-minutes"), "run for ever"),
    (lambda w: w["ci"].pop("permissions"), "more than read"),
    (lambda w: w["ci"]["jobs"]["test"]["services"]["redis"].pop("options"), "nobody waits for redis"),
    (lambda w: w["ci"]["jobs"]["lint"]["steps"][-1].update(run="make ${{ github.head_ref }}"), "part of a command"),
    (lambda w: w["cd"]["jobs"]["publish"].update(needs=["cii"]), "needs cii"),
    (lambda w: w["cd"]["jobs"]["ci"].update(uses="./.github/workflows/tests.yml"), "is not there"),
    (lambda w: w["cd"]["jobs"]["production"].update(needs=["publish"]), "production does not wait for staging"),
    (lambda w: w["cd"]["jobs"]["staging"].update({"with": {"environment": "production"}}), "somewhere else"),
    (lambda w: w["deploy"]["jobs"]["deploy"].pop("environment"), "ask for approval"),
    (lambda w: w["deploy"]["jobs"]["deploy"]["steps"].pop(), "go back if it does not answer"),
    (lambda w: w["cd"]["concurrency"].update({"cancel-in-progress": True}), "cut off"),
    (lambda w: w["cd"]["jobs"]["publish"]["steps"].pop(-2), "before they are scanned"),
    (lambda w: w["ci"]["jobs"].pop("security"), "without make security"),
)


@pytest.mark.parametrize(("plant", "finding"), PLANTED, ids=[finding for _, finding in PLANTED])
def test_a_mistake_is_found(plant: Plant, finding: str) -> None:
    found = copy.deepcopy(workflows())
    plant(found)
    lines = [line for name, workflow in found.items() for line in mistakes(name, workflow)]
    assert [line for line in [*lines, *path_to_production(found)] if finding in line]


# --- tools --------------------------------------------------------------------------------------------------------


def test_the_schema_of_workflows_is_kept(tmp_path: Path) -> None:
    tools.require()
    command = [tools.BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows"]
    done = tools.run(*command, *FOLDER.glob("*.yml"))
    assert done.returncode == 0, done.stdout
    broken = tmp_path / "broken.yml"
    broken.write_text((FOLDER / "ci.yml").read_text().replace("runs-on:", "run-on:"))
    done = tools.run(*command, broken)
    assert (done.returncode, "run-on" in done.stdout) == (1, True), done.stdout


def test_the_auditor_of_workflows_finds_nothing(tmp_path: Path) -> None:
    tools.require()
    command = [tools.BIN / "zizmor", "--offline", "--quiet", "--no-progress", "--min-severity=medium"]
    done = tools.run(*command, FOLDER)
    assert done.returncode == 0, done.stdout
    (tmp_path / "bad.yml").write_text(
        (FOLDER / "ci.yml").read_text().replace("make lint", "make ${{ github.head_ref }}")
    )
    assert tools.run(*command, tmp_path / "bad.yml").returncode != 0
