"""One OpenAPI document out of the rooms' documents. Pure: dictionaries in, a dictionary out.

Rooms name their schemas freely, so every component gets its room's name in front; the security of an operation is
stated from the gateway's own tables, because the gateway is what enforces it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from api_gateway.routing import (
    EXACT_ALIASES,
    PREFIX_ALIASES,
    PUBLIC_PATHS,
    resolve,
)
from common.openapi import PROBLEM_SCHEMA

Document = dict[str, Any]

OPENAPI_VERSION = "3.1.0"
SECURITY_SCHEME = "accessToken"
OPERATION_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
PROBLEM = "Problem"
_COMPONENT_REF = "#/components/"
_MERGED_KINDS = ("schemas", "responses", "parameters", "examples", "requestBodies", "headers", "links", "pathItems")

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9]+")


def merge(documents: Mapping[str, Document], *, title: str, version: str, missing: Mapping[str, str]) -> Document:
    """The public document of the platform: `documents` by room; `missing` tells why a room is not in it."""
    paths: Document = {}
    components: Document = {"schemas": {PROBLEM: PROBLEM_SCHEMA}}
    for room, document in documents.items():
        for kind, name, component in _components(document):
            components.setdefault(kind, {})[_prefixed(room, name)] = _with_refs(component, room)
        for path, item in document.get("paths", {}).items():
            if _is_public(room, path):
                paths[path] = _path_item(_with_refs(item, room), room, path)
    _add_aliases(paths)
    components["securitySchemes"] = {
        SECURITY_SCHEME: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    }
    document = {
        "openapi": OPENAPI_VERSION,
        "info": {"title": title, "version": version, "description": _description(missing)},
        "paths": dict(sorted(paths.items())),
        "components": components,
        "security": [{SECURITY_SCHEME: []}],
        "tags": [{"name": tag} for tag in sorted(_tags(paths))],
    }
    if missing:
        document["info"]["x-missing-rooms"] = dict(missing)
    return document


def _description(missing: Mapping[str, str]) -> str:
    text = (
        "All rooms of the platform behind one door. Amounts are rupees as decimal strings. Every POST that moves money "
        "or shares takes an Idempotency-Key. Errors are problem+json with a stable code."
    )
    if missing:
        text += f" Not described at the moment, because they do not answer: {', '.join(sorted(missing))}."
    return text


def _components(document: Document) -> Iterator[tuple[str, str, Any]]:
    for kind, named in document.get("components", {}).items():
        if kind in _MERGED_KINDS:
            for name, component in named.items():
                yield kind, name, component


def _prefixed(room: str, name: str) -> str:
    return f"{room}.{name}"


def _is_public(room: str, path: str) -> bool:
    target = resolve("GET", path)
    # A room may describe only what is routed to it: no internal routes, nobody else's paths.
    return target is not None and target.room == room and target.path == path


def _with_refs(node: Any, room: str) -> Any:
    """A copy with every reference into components pointing to the room's own names."""
    if isinstance(node, dict):
        copy = {key: _with_refs(value, room) for key, value in node.items()}
        if isinstance(node.get("$ref"), str):
            copy["$ref"] = _ref(node["$ref"], room)
        mapping = node.get("discriminator")
        if isinstance(mapping, dict) and isinstance(mapping.get("mapping"), dict):
            targets = {value: _ref(ref, room) for value, ref in mapping["mapping"].items()}
            copy["discriminator"] = {**mapping, "mapping": targets}
        return copy
    if isinstance(node, list):
        return [_with_refs(value, room) for value in node]
    return node


def _ref(ref: str, room: str) -> str:
    if not ref.startswith(_COMPONENT_REF):
        return ref
    kind, _, name = ref[len(_COMPONENT_REF) :].partition("/")
    return f"{_COMPONENT_REF}{kind}/{_prefixed(room, name)}"


def _path_item(item: Document, room: str, path: str) -> Document:
    return {
        key: _operation(value, room, path, key) if key in OPERATION_METHODS else value for key, value in item.items()
    }


def _operation(operation: Document, room: str, path: str, method: str) -> Document:
    name = operation.get("operationId") or f"{method}_{path}"
    problem = {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{PROBLEM}"}}}
    responses = dict(operation.get("responses", {}))
    responses.setdefault("default", {"description": "A problem.", "content": problem})
    return {
        **operation,
        "operationId": f"{room}.{name}",
        "tags": operation.get("tags") or [room],
        "responses": responses,
        "security": [] if path in PUBLIC_PATHS else [{SECURITY_SCHEME: []}],
    }


def _add_aliases(paths: Document) -> None:
    for path, item in list(paths.items()):
        for alias in _aliases(path):
            # The short name answers in the same way: the room never sees which name was used.
            paths[alias] = {
                key: _alias(value, alias, path) if key in OPERATION_METHODS else value for key, value in item.items()
            }


def _alias(operation: Document, alias: str, path: str) -> Document:
    return {
        **operation,
        "operationId": f"{operation['operationId']}.as{_NOT_IN_NAMES.sub('_', alias)}",
        "description": f"Short name of `{path}`.",
        "tags": ["short names"],
    }


def _aliases(path: str) -> Iterator[str]:
    for alias, full in EXACT_ALIASES.items():
        if path == full:
            yield alias
    for alias, full in PREFIX_ALIASES.items():
        if path == full or path.startswith(full + "/"):
            yield alias + path[len(full) :]


def _tags(paths: Document) -> set[str]:
    return {
        tag
        for item in paths.values()
        for method, operation in item.items()
        if method in OPERATION_METHODS
        for tag in operation["tags"]
    }
