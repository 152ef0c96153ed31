"""Own rules for manifests: every rule names what is wrong, and finds nothing in what is deployed.

They say what schemas and a general linter can not: that names fit together, and that they fit the programs.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import combinations

from tests.manifests.objects import (
    COMPONENT,
    PART_OF,
    Manifest,
    chosen,
    containers,
    labels,
    of_kind,
    pod,
    ports,
    room,
    title,
    workloads,
)

Findings = Iterator[str]
Rule = Callable[[Sequence[Manifest]], Findings]
RESOURCES = ("cpu", "memory", "ephemeral-storage")
UNITS = {"": Decimal(1), "m": Decimal("0.001"), "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30)}
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
USER = 10001
IMAGE = re.compile(r"(?:[a-z0-9.:/-]+/)?saras/(?P<room>[a-z-]+):(?P<tag>[A-Za-z0-9._-]+)")


def amount(text: str) -> Decimal:
    """A quantity of Kubernetes as a number: 100m of a core is 0.1, 1Ki is 1024."""
    match = re.fullmatch(r"([0-9.]+)(m|Ki|Mi|Gi|)", str(text))
    if match is None:
        raise ValueError(f"not a quantity: {text}")
    return Decimal(match[1]) * UNITS[match[2]]


def names_are_unique(manifests: Sequence[Manifest]) -> Findings:
    titles = [title(one) for one in manifests]
    yield from {f"{one} is there twice" for one in titles if titles.count(one) > 1}


def selectors_match(manifests: Sequence[Manifest]) -> Findings:
    """Every selector chooses pods that are there; no pod belongs to two Deployments."""
    for one in of_kind(manifests, "Deployment"):
        wanted = one["spec"]["selector"]["matchLabels"]
        if not wanted.items() <= labels(one).items():
            yield f"{title(one)} does not select its own pods"
        for constraint in pod(one).get("topologySpreadConstraints", []):
            if not constraint["labelSelector"]["matchLabels"].items() <= labels(one).items():
                yield f"{title(one)} spreads other pods than its own"
    for first, second in combinations(of_kind(manifests, "Deployment"), 2):
        if first["spec"]["selector"]["matchLabels"].items() <= labels(second).items():
            yield f"{title(first)} selects pods of {title(second)}"
    for one in manifests:
        for selector in _selectors(one):
            if not chosen(selector, manifests):
                yield f"{title(one)} selects no pod: {selector}"


def _selectors(manifest: Manifest) -> Iterator[Mapping[str, str]]:
    kind, spec = manifest["kind"], manifest.get("spec", {})
    if kind == "Service" and "saras/no-pods" not in manifest["metadata"].get("annotations", {}):
        yield spec["selector"]
    elif kind == "PodDisruptionBudget":
        yield spec["selector"]["matchLabels"]
    elif kind == "NetworkPolicy":
        yield spec["podSelector"]["matchLabels"]
        for peer in _peers(manifest):
            # Pods of other people (the database's, those of other namespaces) are not among these manifests.
            wanted = peer.get("podSelector", {}).get("matchLabels", {})
            if "namespaceSelector" not in peer and COMPONENT in wanted:
                yield wanted


def _peers(policy: Manifest) -> Iterator[Manifest]:
    for direction, key in (("ingress", "from"), ("egress", "to")):
        for one in policy["spec"].get(direction, []):
            yield from one.get(key, [])


def ports_resolve(manifests: Sequence[Manifest]) -> Findings:
    """Services, Ingresses, monitors and policies name ports that exist on the other side."""
    services = {one["metadata"]["name"]: one for one in of_kind(manifests, "Service")}
    for one in services.values():
        for port in one["spec"]["ports"]:
            for target in chosen(one["spec"]["selector"], manifests):
                if port["targetPort"] not in {*ports(target), *ports(target).values()}:
                    yield f"{title(one)}: {title(target)} has no port {port['targetPort']}"
    for one in of_kind(manifests, "Ingress"):
        for rule in one["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                offered = services.get(backend["name"], {"spec": {"ports": []}})["spec"]["ports"]
                if backend["port"]["number"] not in [port["port"] for port in offered]:
                    yield f"{title(one)}: no Service {backend['name']} with port {backend['port']['number']}"
    for one in of_kind(manifests, "ServiceMonitor"):
        wanted = one["spec"]["selector"]["matchLabels"]
        found = [s for s in services.values() if wanted.items() <= s["metadata"].get("labels", {}).items()]
        offered = {port["name"] for service in found for port in service["spec"]["ports"]}
        yield from (f"{title(one)}: no {e['port']}" for e in one["spec"]["endpoints"] if e["port"] not in offered)
    for one in of_kind(manifests, "NetworkPolicy"):
        yield from _policy_ports(one, manifests)


def _policy_ports(policy: Manifest, manifests: Sequence[Manifest]) -> Findings:
    own = chosen(policy["spec"]["podSelector"]["matchLabels"], manifests)
    for opening in policy["spec"].get("ingress", []):
        yield from _named_ports(policy, opening, own)
    for opening in policy["spec"].get("egress", []):
        for peer in opening["to"]:
            wanted = peer.get("podSelector", {}).get("matchLabels", {})
            yield from _named_ports(policy, opening, chosen(wanted, manifests) if COMPONENT in wanted else [])


def _named_ports(policy: Manifest, opening: Manifest, targets: Sequence[Manifest]) -> Findings:
    for port in opening["ports"]:
        for target in targets:
            if isinstance(port["port"], str) and port["port"] not in ports(target):
                yield f"{title(policy)}: {title(target)} has no port {port['port']}"


def probes_are_real(manifests: Sequence[Manifest]) -> Findings:
    """All three probes, on a named port of the container itself, at a path that the process answers."""
    for one in of_kind(manifests, "Deployment"):
        for container in pod(one)["containers"]:
            own = {port["name"] for port in container.get("ports", [])}
            for name in PROBES:
                if name not in container:
                    yield f"{title(one)} has no {name}"
                    continue
                get = container[name]["httpGet"]
                if get["port"] not in own:
                    yield f"{title(one)}: {name} asks port {get['port']}, which is not there"
                if get["path"] not in _paths(one, container):
                    yield f"{title(one)}: {name} asks {get['path']}, which nobody answers"


def _paths(workload: Manifest, container: Manifest) -> tuple[str, ...]:
    if "http" not in {port["name"] for port in container.get("ports", [])}:
        return ("/metrics",)
    return ("/simulator/health",) if room(workload) == "kite-simulator" else ("/health", "/health/ready")


def limits_cover_requests(manifests: Sequence[Manifest]) -> Findings:
    for one in workloads(manifests):
        for container in containers(one):
            resources = container.get("resources", {})
            for name in RESOURCES:
                asked, limit = (resources.get(part, {}).get(name) for part in ("requests", "limits"))
                if asked is None or limit is None:
                    yield f"{title(one)}: {container['name']} has no request or no limit of {name}"
                elif amount(asked) > amount(limit):
                    yield f"{title(one)}: {container['name']} asks for more {name} than its limit"


def references_resolve(manifests: Sequence[Manifest]) -> Findings:
    """ConfigMaps, accounts, claims, volumes and what a scaler scales are there. (Secrets: see settings.py.)"""
    there = {title(one) for one in manifests}
    for one in workloads(manifests):
        spec = pod(one)
        wanted = {f"ServiceAccount/{spec.get('serviceAccountName', 'default')}"}
        wanted |= {f"ConfigMap/{e['configMapRef']['name']}" for c in containers(one) for e in c.get("envFrom", [])}
        for volume in spec["volumes"]:
            if claim := volume.get("persistentVolumeClaim"):
                wanted.add(f"PersistentVolumeClaim/{claim['claimName']}")
        yield from (f"{title(one)} needs {name}, which is not there" for name in sorted(wanted - there))
        volumes = {volume["name"] for volume in spec["volumes"]}
        mounted = {mount["name"] for container in containers(one) for mount in container["volumeMounts"]}
        yield from (f"{title(one)}: volume {name} is not there or not mounted" for name in sorted(volumes ^ mounted))
    for one in of_kind(manifests, "HorizontalPodAutoscaler", "ScaledObject"):
        target = f"Deployment/{one['spec']['scaleTargetRef']['name']}"
        if target not in there:
            yield f"{title(one)} scales {target}, which is not there"
        for trigger in one["spec"].get("triggers", []):
            if f"TriggerAuthentication/{trigger['authenticationRef']['name']}" not in there:
                yield f"{title(one)}: its authentication is not there"


def pods_are_restricted(manifests: Sequence[Manifest]) -> Findings:
    """What the linter does not ask for: our user, no token, no variables of Services, a /tmp to write to."""
    for one in workloads(manifests):
        spec = pod(one)
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{title(one)} gets a token of the cluster"
        if spec.get("enableServiceLinks") is not False:
            yield f"{title(one)}: variables made for Services (USER_SERVICE_PORT) would be taken for settings"
        security = spec.get("securityContext", {})
        if (security.get("runAsUser"), security.get("runAsGroup"), security.get("fsGroup")) != (USER, USER, USER):
            yield f"{title(one)} does not run as {USER}"
        for container in containers(one):
            if "/tmp" not in {mount["mountPath"] for mount in container["volumeMounts"]}:
                yield f"{title(one)}: {container['name']} can write nowhere"
        if PART_OF not in labels(one):
            yield f"{title(one)} is outside of the network policies"


def images_are_ours(manifests: Sequence[Manifest]) -> Findings:
    """`<registry>/saras/<room>:<tag>`, the pod's own room, and a tag that means one build."""
    for one in workloads(manifests):
        for container in containers(one):
            match = IMAGE.fullmatch(container["image"])
            if match is None or match["room"] != room(one):
                yield f"{title(one)}: {container['image']} is not an image of {room(one)}"
            elif match["tag"] == "latest":
                yield f"{title(one)}: {container['image']} may be another build tomorrow"
    tags = {container["image"].rpartition(":")[2] for one in workloads(manifests) for container in containers(one)}
    if len(tags) > 1:
        yield f"images of several releases: {sorted(tags)}"


def copies_are_safe(manifests: Sequence[Manifest]) -> Findings:
    """Who decides the number of copies is one; what may exist once is ended before it is started again."""
    scalers = of_kind(manifests, "HorizontalPodAutoscaler", "ScaledObject")
    scaled = [one["spec"]["scaleTargetRef"]["name"] for one in scalers]
    budgets = {one["metadata"]["name"] for one in of_kind(manifests, "PodDisruptionBudget")}
    yield from {f"{name} has two scalers" for name in scaled if scaled.count(name) > 1}
    for one in of_kind(manifests, "Deployment"):
        name, spec = one["metadata"]["name"], one["spec"]
        copies = spec.get("replicas")
        if (copies is None) != (name in scaled):
            yield f"{name}: the number of copies is either written down or a scaler's"
        once = spec["strategy"]["type"] == "Recreate"
        if once and copies != 1:
            yield f"{name} may exist once only"
        if labels(one)[COMPONENT] in ("relay", "sweep", "loop") and name in scaled:
            yield f"{name}: more copies do not more work"
        if (name in budgets) != (name in scaled or (copies or 0) > 1):
            yield f"{name}: a disruption budget belongs to two or more copies, and to no single one"
        if not once and spec["strategy"]["rollingUpdate"]["maxUnavailable"] != 0:
            yield f"{name} is taken away before its successor is ready"


def migrations_come_first(manifests: Sequence[Manifest]) -> Findings:
    """Every room with migrations has its job, and its processes wait for it."""
    jobs = {room(one) for one in of_kind(manifests, "Job")}
    for one in of_kind(manifests, "Deployment"):
        waits = [
            c["command"][-1] for c in pod(one).get("initContainers", []) if "common.await_migrations" in c["command"]
        ]
        wanted = [room(one).replace("-", "_")] if room(one) in jobs else []
        if waits != wanted:
            yield f"{title(one)} waits for {waits}, not for {wanted}"


RULES: tuple[Rule, ...] = (
    names_are_unique, selectors_match, ports_resolve, probes_are_real, limits_cover_requests, references_resolve,
    pods_are_restricted, images_are_ours, copies_are_safe, migrations_come_first,
)  # fmt: skip
