"""Routes that place orders, read without the framework's general machinery.

FastAPI solves a request's parameters anew each time; these routes always have the same: one JSON body, who asks, and the
key. Placing orders is what the platform is asked most, and the general way cost more than judging the order. Such a route is
declared and described in the OpenAPI document like every other.
"""

import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from common.errors import AppError
from portfolio_service.dependencies import Asking, asking

Endpoint = Callable[[Any, Asking], Awaitable[Response]]


class UnreadableBody(AppError):
    """What came is not the text of a request (400)."""


class OrderRoute(APIRoute):
    """A route whose endpoint is `async def (body: <model>, asking: AskingDep) -> Response`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What the router calls for a request; raises RequestValidationError and what the endpoint raises."""
        assert self.body_field is not None  # noqa: S101  the class is for routes with a body
        model = cast(type[BaseModel], self.body_field.field_info.annotation)
        endpoint = cast(Endpoint, self.endpoint)

        async def handle(request: Request) -> Response:
            asked = await _json_of(request)
            who = await asking(request, request.headers.get("idempotency-key"))
            return await endpoint(_read(model, asked), who)

        return handle


async def _json_of(request: Request) -> Any:
    try:
        body = await request.body()
    except ClientDisconnect:
        raise UnreadableBody("The request ended before its body was complete.") from None
    if not _is_json(request.headers.get("content-type", "")):
        raise _invalid("json_type", ("body",), "Send JSON, and say so: Content-Type: application/json.")
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        raise _invalid("json_invalid", ("body", error.pos), f"JSON decode error: {error.msg}") from None
    except (UnicodeDecodeError, RecursionError):
        raise UnreadableBody("The body is no JSON text.") from None


def _is_json(content_type: str) -> bool:
    kind, _, subtype = content_type.partition(";")[0].strip().lower().partition("/")
    return kind == "application" and (subtype == "json" or subtype.endswith("+json"))


def _read(model: type[BaseModel], asked: Any) -> BaseModel:
    try:
        return model.model_validate(asked)
    except ValidationError as error:
        found = [{**one, "loc": ("body", *one["loc"])} for one in error.errors(include_url=False)]
        raise RequestValidationError(found) from None


def _invalid(kind: str, place: tuple[str | int, ...], message: str) -> RequestValidationError:
    return RequestValidationError([{"type": kind, "loc": place, "msg": message}])
