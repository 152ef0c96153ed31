"""What is deployed keeps all rules; every rule finds the mistake it is for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.manifests import arrows, rules, settings
from tests.manifests.objects import ENVIRONMENTS, K8S, Manifest, built, find, of_kind, parse, pod

FOLDERS = ("base", *(f"overlays/{name}" for name in ENVIRONMENTS))
Manifests = list[Manifest]


def described_secrets() -> dict[str, set[str]]:
    """The keys of every Secret, as the example of external secrets makes them."""
    return {
        one["spec"]["target"]["name"]: {entry["secretKey"] for entry in one["spec"]["data"]}
        for one in parse((K8S / "examples/external-secrets.yaml").read_text())
        if one["kind"] == "ExternalSecret"
    }


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_a_rule_is_kept(folder: str, rule: rules.Rule) -> None:
    assert list(rule(built(folder))) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_settings_have_names_that_somebody_reads(folder: str) -> None:
    assert list(settings.unknown_names(built(folder))) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_secrets_are_described(folder: str) -> None:
    assert list(settings.secrets_are_described(built(folder), described_secrets())) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_room_takes_its_environment(folder: str, secrets: Path, tmp_path: Path) -> None:
    assert list(settings.refused(built(folder), secrets, tmp_path)) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_both_ends_of_every_arrow_agree(folder: str) -> None:
    assert list(arrows.disagreements(built(folder))) == []


def deployment(manifests: Manifests, name: str = "portfolio-service-consume") -> Manifest:
    return find(manifests, "Deployment", name)


def container(manifests: Manifests, name: str = "portfolio-service-consume") -> Manifest:
    first: Manifest = pod(deployment(manifests, name))["containers"][0]
    return first


def put(target: Any, *path: Any, value: Any) -> None:
    """Set what a path of keys leads to."""
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value


Planting = tuple[rules.Rule, Callable[[Manifests], object], str]
PLANTED: tuple[Planting, ...] = (
    (rules.names_are_unique, lambda m: m.append(m[-1]), "is there twice"),
    (rules.selectors_match, lambda m: put(find(m, "Service", "user-service"), "spec", "selector", "app.kubernetes.io/component", value="apj"), "Service/user-service selects no pod"),
    (rules.selectors_match, lambda m: put(find(m, "PodDisruptionBudget", "user-service-api"), "spec", "selector", "matchLabels", value={"app": "user"}), "selects no pod"),
    (rules.selectors_match, lambda m: put(deployment(m), "spec", "selector", "matchLabels", "app.kubernetes.io/component", value="relay"), "does not select its own pods"),
    (rules.selectors_match, lambda m: deployment(m)["spec"]["selector"]["matchLabels"].pop("app.kubernetes.io/component"), "selects pods of"),
    (rules.selectors_match, lambda m: put(find(m, "NetworkPolicy", "user-service-api"), "spec", "podSelector", "matchLabels", "app.kubernetes.io/name", value="users"), "selects no pod"),
    (rules.ports_resolve, lambda m: put(find(m, "Service", "user-service"), "spec", "ports", 0, "targetPort", value="htpp"), "has no port htpp"),
    (rules.ports_resolve, lambda m: put(find(m, "Service", "user-service"), "spec", "ports", 0, "targetPort", value=8002), "has no port 8002"),
    (rules.ports_resolve, lambda m: put(find(m, "Ingress", "api-gateway-websocket"), "spec", "rules", 0, "http", "paths", 0, "backend", "service", "port", "number", value=80), "no Service api-gateway with port 80"),
    (rules.ports_resolve, lambda m: put(find(m, "NetworkPolicy", "user-service-relay"), "spec", "ingress", 0, "ports", 0, "port", value="http"), "has no port http"),
    (rules.ports_resolve, lambda m: put(find(m, "NetworkPolicy", "portfolio-service-consume"), "spec", "egress", -1, "ports", 0, "port", value="status"), "has no port status"),
    (rules.probes_are_real, lambda m: container(m).pop("startupProbe"), "has no startupProbe"),
    (rules.probes_are_real, lambda m: put(container(m), "livenessProbe", "httpGet", "port", value="http"), "which is not there"),
    (rules.probes_are_real, lambda m: put(container(m, "user-service-api"), "readinessProbe", "httpGet", "path", value="/ready"), "which nobody answers"),
    (rules.limits_cover_requests, lambda m: put(container(m), "resources", "requests", "memory", value="2Gi"), "more memory than its limit"),
    (rules.limits_cover_requests, lambda m: container(m)["resources"]["limits"].pop("cpu"), "no limit of cpu"),
    (rules.references_resolve, lambda m: put(container(m), "envFrom", 0, "configMapRef", "name", value="sarah"), "needs ConfigMap/sarah"),
    (rules.references_resolve, lambda m: m.remove(find(m, "ServiceAccount", "user-service")), "needs ServiceAccount/user-service"),
    (rules.references_resolve, lambda m: pod(deployment(m))["volumes"].pop(), "not there or not mounted"),
    (rules.references_resolve, lambda m: put(find(m, "HorizontalPodAutoscaler", "user-service-api"), "spec", "scaleTargetRef", "name", value="user-service"), "scales Deployment/user-service"),
    (rules.references_resolve, lambda m: m.remove(find(m, "PersistentVolumeClaim", "kite-simulator")), "needs PersistentVolumeClaim"),
    (rules.pods_are_restricted, lambda m: pod(deployment(m)).pop("automountServiceAccountToken"), "gets a token"),
    (rules.pods_are_restricted, lambda m: pod(deployment(m)).pop("enableServiceLinks"), "variables made for Services"),
    (rules.pods_are_restricted, lambda m: put(pod(deployment(m)), "securityContext", "runAsUser", value=0), "does not run as"),
    (rules.pods_are_restricted, lambda m: put(container(m), "volumeMounts", value=[]), "can write nowhere"),
    (rules.pods_are_restricted, lambda m: deployment(m)["spec"]["template"]["metadata"]["labels"].pop("app.kubernetes.io/part-of"), "outside of the network policies"),
    (rules.images_are_ours, lambda m: put(container(m), "image", value="saras/user-service:0.1.0"), "not an image of portfolio-service"),
    (rules.images_are_ours, lambda m: put(container(m), "image", value="portfolio-service:0.1.0"), "not an image of"),
    (rules.images_are_ours, lambda m: put(container(m), "image", value="saras/portfolio-service:latest"), "another build tomorrow"),
    (rules.images_are_ours, lambda m: put(container(m), "image", value="saras/portfolio-service:0.0.9"), "several releases"),
    (rules.copies_are_safe, lambda m: put(deployment(m), "spec", "replicas", value=2), "either written down or a scaler's"),
    (rules.copies_are_safe, lambda m: put(deployment(m, "market-data-service-loop"), "spec", "replicas", value=2), "may exist once only"),
    (rules.copies_are_safe, lambda m: put(find(m, "HorizontalPodAutoscaler", "user-service-api"), "spec", "scaleTargetRef", "name", value="user-service-relay"), "do not more work"),
    (rules.copies_are_safe, lambda m: m.remove(find(m, "PodDisruptionBudget", "user-service-api")), "a disruption budget"),
    (rules.copies_are_safe, lambda m: put(deployment(m), "spec", "strategy", "rollingUpdate", "maxUnavailable", value=1), "before its successor is ready"),
    (rules.migrations_come_first, lambda m: pod(deployment(m)).pop("initContainers"), "waits for []"),
    (rules.migrations_come_first, lambda m: m.remove(find(m, "Job", "user-service-migrate")), "waits for ['user_service']"),
    (settings.unknown_names, lambda m: put(find(m, "ConfigMap", "saras"), "data", "LOG_LEVL", value="INFO"), "no setting is called LOG_LEVL"),
    (settings.unknown_names, lambda m: container(m)["env"].append({"name": "PORTFOLIO_POOL", "value": "8"}), "no setting is called PORTFOLIO_POOL"),
    (settings.unknown_names, lambda m: put(pod(deployment(m))["volumes"][1], "projected", "sources", 0, "secret", "items", 0, "key", value="portfolio_dsn"), "no setting is read from portfolio_dsn"),
    (arrows.disagreements, lambda m: put(find(m, "NetworkPolicy", "user-service-api"), "spec", "ingress", value=[]), "does not let it in"),
    (arrows.disagreements, lambda m: put(find(m, "NetworkPolicy", "api-gateway-api"), "spec", "egress", value=[]), "which may not call it"),
    (arrows.disagreements, lambda m: m.remove(find(m, "NetworkPolicy", "deny-all")), "nothing denies"),
    (arrows.disagreements, lambda m: find(m, "NetworkPolicy", "user-service-api")["spec"]["egress"].append({"to": [], "ports": [{"port": 443}]}), "opens egress for everybody"),
    (arrows.disagreements, lambda m: put(find(m, "NetworkPolicy", "api-gateway-api"), "spec", "ingress", 0, "from", value=[{"namespaceSelector": {}}]), "opens ingress for everybody"),
)  # fmt: skip


@pytest.mark.parametrize(("rule", "plant", "finding"), PLANTED)
def test_a_rule_finds_its_mistake(rule: rules.Rule, plant: Callable[[Manifests], object], finding: str) -> None:
    manifests = built("base")
    plant(manifests)
    assert [found for found in rule(manifests) if finding in found]


def test_every_rule_has_a_planted_mistake() -> None:
    assert {*rules.RULES, settings.unknown_names, arrows.disagreements} == {rule for rule, _, _ in PLANTED}


def test_a_mistake_of_a_monitor_or_a_scaler_is_found() -> None:
    manifests = built("overlays/production")
    put(find(manifests, "ServiceMonitor", "user-service"), "spec", "endpoints", 0, "port", value="web")
    assert "ServiceMonitor/user-service: no web" in rules.ports_resolve(manifests)
    manifests.remove(find(manifests, "TriggerAuthentication", "portfolio-service-consume"))
    assert [one for one in rules.references_resolve(manifests) if "its authentication is not there" in one]


def test_secrets_that_fit_nobody_are_found() -> None:
    described = described_secrets()
    described["user-service"] = {*described["user-service"] - {"signing.pem"}, "user_pepper"}
    assert set(settings.secrets_are_described(built("base"), described)) == {
        "Secret user-service is taken to have signing.pem, which nobody describes",
        "Secret user-service: nobody takes user_pepper",
    }


@pytest.mark.parametrize(
    ("plant", "finding"),
    [
        (lambda m: put(find(m, "ConfigMap", "saras"), "data", "ENVIRONMENT", value="prod"), "ENVIRONMENT"),
        (lambda m: put(find(m, "ConfigMap", "user-service"), "data", "USER_PORTT", value="1"), "USER_PORTT"),
        (lambda m: put(find(m, "ConfigMap", "trade-executor"), "data", "EXECUTOR_SENDERS", value="many"), "EXECUTOR_SENDERS"),
        (lambda m: pod(deployment(m, "user-service-api"))["volumes"][1]["projected"]["sources"][0]["secret"]["items"].pop(), "is not mounted"),
        (lambda m: put(find(m, "ConfigMap", "kite-simulator"), "data", "KITE_SIM_PORT", value="x"), "port"),
    ],
)  # fmt: skip
def test_an_environment_that_a_room_refuses_is_found(
    plant: Callable[[Manifests], object], finding: str, secrets: Path, tmp_path: Path
) -> None:
    manifests = built("overlays/dev")
    plant(manifests)
    assert [found for found in settings.refused(manifests, secrets, tmp_path) if finding in found]


def test_everything_has_a_policy_of_its_own() -> None:
    manifests = built("base")
    policies = {one["metadata"]["name"] for one in of_kind(manifests, "NetworkPolicy")}
    assert {one["metadata"]["name"] for one in of_kind(manifests, "Deployment")} <= policies
