"""The environment that a container gets, and whether its room's own Settings class takes it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

from common.config import InvalidSettings, ServiceSettings
from kite_simulator.config import load_settings
from scripts.settings_reference import ROOMS, all_variables
from tests.manifests.objects import Manifest, containers, find, of_kind, pod, room, title, workloads

MOUNTED_AT = "/run/saras"
OF_LIBRARIES = frozenset({"SECRETS_DIR", "PROMETHEUS_MULTIPROC_DIR"})
"""Read by common/config.py before there are settings, and by prometheus_client."""
CLASSES = dict(ROOMS)


def environment(container: Manifest, manifests: Sequence[Manifest]) -> dict[str, str]:
    """Variables of a container: ConfigMaps in their order, then its own."""
    values: dict[str, str] = {}
    for source in container.get("envFrom", []):
        values |= find(manifests, "ConfigMap", source["configMapRef"]["name"])["data"]
    return values | {one["name"]: one["value"] for one in container.get("env", [])}


def secret_keys(workload: Manifest, *, optional: bool | None = None) -> dict[str, list[str]]:
    """Keys that a pod takes from each Secret: all, only those that may be missing, or only the others."""
    taken: dict[str, list[str]] = {}
    for volume in pod(workload)["volumes"]:
        for source in volume.get("projected", {}).get("sources", []):
            secret = source["secret"]
            if optional in (None, secret.get("optional", False)):
                taken.setdefault(secret["name"], []).extend(item["key"] for item in secret["items"])
    return taken


def unknown_names(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Variables and secret files that no room reads."""
    known = all_variables() | OF_LIBRARIES
    files = {name.lower() for name in known}
    for one in of_kind(manifests, "ConfigMap"):
        yield from (f"{title(one)}: no setting is called {name}" for name in one["data"] if name not in known)
    for one in workloads(manifests):
        own = {variable["name"] for container in containers(one) for variable in container.get("env", [])}
        yield from (f"{title(one)}: no setting is called {name}" for name in sorted(own - known))
        for keys in secret_keys(one).values():
            plain = [key for key in keys if "." not in key]
            yield from (f"{title(one)}: no setting is read from {key}" for key in plain if key not in files)


def secrets_are_described(manifests: Sequence[Manifest], described: Mapping[str, set[str]]) -> Iterator[str]:
    """Secrets come from elsewhere: every key that is taken is described, and nothing is described that nobody takes."""
    taken: dict[str, set[str]] = {}
    for one in workloads(manifests):
        for name, keys in secret_keys(one).items():
            taken.setdefault(name, set()).update(keys)
    for one in of_kind(manifests, "TriggerAuthentication"):
        for reference in one["spec"]["secretTargetRef"]:
            taken.setdefault(reference["name"], set()).add(reference["key"])
    for name, keys in taken.items():
        for key in sorted(keys - described.get(name, set())):
            yield f"Secret {name} is taken to have {key}, which nobody describes"
    for name in taken.keys() & described.keys():
        yield from (f"Secret {name}: nobody takes {key}" for key in sorted(described[name] - taken[name]))


def refused(manifests: Sequence[Manifest], secrets: Path, scratch: Path) -> Iterator[str]:
    """Containers whose environment their room's Settings refuse; `secrets` has a folder of real ones per room."""
    for one in workloads(manifests):
        folder = scratch / title(one).replace("/", "-")
        folder.mkdir()
        for name, keys in secret_keys(one, optional=False).items():
            for key in keys:
                if not (secrets / name / key).exists():
                    yield f"{title(one)}: {key} is in no Secret {name}"
                else:
                    (folder / key).write_text((secrets / name / key).read_text())
        for container in containers(one):
            values = environment(container, manifests)
            mounted = {name: value.replace(MOUNTED_AT, str(folder)) for name, value in values.items()}
            files = [value for name, value in mounted.items() if name.endswith("_FILE")]
            yield from (f"{title(one)}: {file} is not mounted" for file in files if not Path(file).exists())
            with patch.dict(os.environ, mounted, clear=True), patch("common.config.DOTENV", folder / "none"):
                try:
                    _load(room(one))
                except (InvalidSettings, ValueError) as error:
                    yield f"{title(one)}: {error}"


def _load(name: str) -> None:
    settings = CLASSES[name]
    if issubclass(settings, ServiceSettings):
        settings.load()
    else:
        load_settings()
