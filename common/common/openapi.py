"""What a room's OpenAPI document says of refusals: every operation may answer a problem, and in no other shape."""

from typing import Any

from fastapi import FastAPI

from common.errors import PROBLEM_JSON

Document = dict[str, Any]

OPERATION_METHODS = ("get", "put", "post", "delete", "patch")
_NOT_OURS = ("HTTPValidationError", "ValidationError")
"""FastAPI documents these shapes for a refused request; `common.errors` answers with a problem."""

PROBLEM_SCHEMA: Document = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457 problem; `code` is stable, further members carry facts.",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
    },
    "additionalProperties": True,
}


def with_problems(document: Document) -> Document:
    """The document with `default: Problem` at every operation in place of the framework's own 422."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in _NOT_OURS:
        schemas.pop(name, None)
    schemas["Problem"] = PROBLEM_SCHEMA
    problem = {
        "description": "A problem.",
        "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for item in document.get("paths", {}).values():
        for method in OPERATION_METHODS:
            if (operation := item.get(method)) is not None:
                operation["responses"].pop("422", None)
                operation["responses"].setdefault("default", problem)
    return document


def describe_problems(app: FastAPI) -> None:
    """Make an app's document say how it refuses."""
    plain = app.openapi

    def described() -> Document:
        if app.openapi_schema is None:
            app.openapi_schema = with_problems(plain())
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]
