"""The kustomize base and overlays, rendered from the Helm chart: `python -m scripts.render_manifests [--check]`.

The chart is the one source. The base is the chart with its own values; an overlay holds what an environment's values
(`k8s/environments/<name>.yaml`) change in it, as JSON patches, so that `kubectl kustomize k8s/overlays/<name>` gives what
`helm template -f k8s/environments/<name>.yaml` gives, and the namespace besides. Runs where Helm's SDK is installed
(`make manifests`).
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
K8S = ROOT / "k8s"
CHART = K8S / "chart"
ENVIRONMENTS = K8S / "environments"
NAMESPACES = {"dev": "saras-dev", "staging": "saras-staging", "production": "saras"}
RELEASE = "saras"
HEADER = "# Rendered from k8s/chart by `make manifests`; do not edit.\n"
DIGEST = K8S / "rendered.sha256"
HOOK_PREFIX = "helm.sh/"

Manifest = dict[str, Any]
Key = tuple[str, str]


def key_of(manifest: Manifest) -> Key:
    """What names an object inside one namespace."""
    return manifest["kind"], manifest["metadata"]["name"]


def parse(text: str) -> list[Manifest]:
    """The objects of a YAML text, in its order."""
    return [document for document in yaml.safe_load_all(text) if document]


def helm(values: Mapping[str, Any], namespace: str) -> list[Manifest]:
    """What `helm template` gives; raises HelmRenderError or HelmValuesError of the SDK for values that do not fit."""
    from helm_python import Chart  # heavy, and only in the environment of `make manifests`

    rendered = Chart.load(str(CHART)).render(dict(values), name=RELEASE, namespace=namespace)
    texts = [text for path, text in sorted(rendered.items()) if path.endswith(".yaml")]
    return [manifest for text in texts for manifest in parse(text)]


def values_of(environment: str) -> dict[str, Any]:
    """What an environment changes in the chart's values."""
    loaded: dict[str, Any] = yaml.safe_load((ENVIRONMENTS / f"{environment}.yaml").read_text())
    return loaded


def plain(manifests: Sequence[Manifest]) -> list[Manifest]:
    """The objects as somebody without Helm applies them: no hooks, the namespace left to kustomize."""
    result = []
    for manifest in json.loads(json.dumps(manifests)):
        metadata = manifest["metadata"]
        metadata.pop("namespace", None)
        annotations = {k: v for k, v in metadata.get("annotations", {}).items() if not k.startswith(HOOK_PREFIX)}
        metadata.pop("annotations", None)
        if annotations:
            metadata["annotations"] = annotations
        result.append(manifest)
    return result


def patch(old: Any, new: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """JSON patch (RFC 6902) from one value to another; lists of unequal length are replaced whole."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            at = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
            if name not in new:
                yield {"op": "remove", "path": at}
            elif name not in old:
                yield {"op": "add", "path": at, "value": new[name]}
            else:
                yield from patch(old[name], new[name], at)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from patch(before, after, f"{path}/{number}")
    elif old != new:
        yield {"op": "replace", "path": path, "value": new}


def _images(manifests: Sequence[Manifest]) -> dict[str, str]:
    """Every image of the pods, by its name without registry and tag."""
    images: dict[str, str] = {}
    for manifest in manifests:
        spec = manifest.get("spec", {}).get("template", {}).get("spec", {})
        for container in [*spec.get("initContainers", []), *spec.get("containers", [])]:
            full = container["image"]
            images["saras/" + full.rpartition("saras/")[2].partition(":")[0]] = full
    return images


def _with_images(manifests: Sequence[Manifest], images: Mapping[str, str]) -> list[Manifest]:
    """The same objects with other images: what the overlay's `images` does before patches count."""
    text = json.dumps(manifests)
    for name, full in _images(manifests).items():
        text = text.replace(json.dumps(full), json.dumps(images.get(name, full)))
    result: list[Manifest] = json.loads(text)
    return result


def _dump(documents: Sequence[Any]) -> str:
    return HEADER + yaml.safe_dump_all(documents, sort_keys=False, width=1_000)


def base_files(base: Sequence[Manifest]) -> dict[str, str]:
    """Files of the base by name: a file for each room, one for what belongs to all."""
    groups: dict[str, list[Manifest]] = {}
    for manifest in base:
        room = manifest["metadata"].get("labels", {}).get("app.kubernetes.io/name", "shared")
        groups.setdefault(f"{room}.yaml", []).append(manifest)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": sorted(groups),
    }  # fmt: skip
    return {"kustomization.yaml": _dump([kustomization]), **{name: _dump(group) for name, group in groups.items()}}


def overlay_files(environment: str, base: Sequence[Manifest], wanted: Sequence[Manifest]) -> dict[str, str]:
    """Files of an overlay by name."""
    namespace = NAMESPACES[environment]
    images = _images(wanted)
    old = {key_of(one): one for one in _with_images(base, images)}
    new = {key_of(one): one for one in wanted}
    patches = [
        {"target": {"kind": kind, "name": name}, "patch": _dump_patch(steps)}
        for (kind, name), one in sorted(old.items())
        if (kind, name) in new and (steps := list(patch(one, new[kind, name])))
    ]
    patches += [
        {"patch": yaml.safe_dump({**_identity(one), "$patch": "delete"}, sort_keys=False)}
        for key, one in sorted(old.items())
        if key not in new
    ]
    added = [one for key, one in sorted(new.items()) if key not in old]
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "resources": ["../../base", "namespace.yaml", *(["added.yaml"] if added else [])],
        "images": [_image_entry(name, full) for name, full in sorted(images.items())],
        "patches": patches,
    }
    files = {"kustomization.yaml": _dump([kustomization]), "namespace.yaml": _dump([_namespace(namespace)])}
    return {**files, **({"added.yaml": _dump(added)} if added else {})}


def _dump_patch(steps: Sequence[dict[str, Any]]) -> str:
    return yaml.safe_dump(steps, sort_keys=False, width=1_000)


def _identity(manifest: Manifest) -> Manifest:
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "metadata": {"name": manifest["metadata"]["name"]},
    }


def _image_entry(name: str, full: str) -> dict[str, str]:
    new_name, _, tag = full.rpartition(":")
    return {"name": name, "newName": new_name, "newTag": tag}


def _namespace(name: str) -> Manifest:
    """The namespace itself, which Helm leaves to `--create-namespace`: only restricted pods may run in it."""
    level = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": level}}


def digest() -> str:
    """One line for everything that the rendered files come from."""
    sources = [path for folder in (CHART, ENVIRONMENTS) for path in sorted(folder.rglob("*")) if path.is_file()]
    total = hashlib.sha256()
    for path in [*sources, Path(__file__)]:
        total.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest() + "\n"


def wanted_files() -> dict[Path, str]:
    """Every rendered file with the text it has to have."""
    base = plain(helm({}, RELEASE))
    files = {K8S / "base" / name: text for name, text in base_files(base).items()}
    for environment, namespace in NAMESPACES.items():
        wanted = plain(helm(values_of(environment), namespace))
        overlay = overlay_files(environment, base, wanted)
        files |= {K8S / "overlays" / environment / name: text for name, text in overlay.items()}
    return {**files, DIGEST: digest()}


def rendered_files() -> set[Path]:
    """The rendered files that are there."""
    found = {path for folder in ("base", "overlays") for path in (K8S / folder).rglob("*") if path.is_file()}
    return found | ({DIGEST} if DIGEST.exists() else set())


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or with --check tell which differ; answers the exit code."""
    parser = argparse.ArgumentParser(description="Render the kustomize base and overlays from the chart.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a file is not as rendered")
    check = parser.parse_args(arguments).check
    wanted = wanted_files()
    stale = rendered_files() - wanted.keys()
    differing = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if check:
        for path in sorted([*differing, *stale]):
            sys.stderr.write(f"{path.relative_to(ROOT)}: not as the chart renders it; run `make manifests`\n")
        return 1 if differing or stale else 0
    for path in stale:
        path.unlink()
    for path in differing:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path])
    sys.stdout.write(f"{len(wanted)} files, {len(differing)} written, {len(stale)} removed\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
