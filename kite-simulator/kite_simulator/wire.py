"""Envelopes and the one error handler of the REST side (Kite docs, response structure)."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from kite_simulator.config import Settings
from kite_simulator.engine import Engine, Refused

log = structlog.get_logger()
Endpoint = Callable[[Request], Awaitable[Response]]


def success(data: Any) -> Response:
    """`{"status":"success","data":...}`."""
    return success_bytes(orjson.dumps(data))


def success_bytes(data: bytes) -> Response:
    """The success envelope around JSON that is ready."""
    return Response(b'{"status":"success","data":' + data + b"}", media_type="application/json")


def success_rows(rows: list[bytes]) -> Response:
    """The success envelope around a list of ready rows; never null (fact sheet 2.3)."""
    return success_bytes(b"[" + b",".join(rows) + b"]")


def failure(message: str, error_type: str, status: int) -> Response:
    """`{"status":"error",...}`, always with an error_type (fact sheet 2.3)."""
    body = {"status": "error", "message": message, "data": None, "error_type": error_type}
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")


async def render_refusal(request: Request, error: Exception) -> Response:
    """Refusals of the engine as Kite shows them."""
    if not isinstance(error, Refused):
        raise error
    return failure(error.message, error.error_type, error.status)


async def render_http_error(request: Request, error: Exception) -> Response:
    """Unknown routes and wrong methods in Kite's envelope."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    text = "Route not found" if status == 404 else "Method not allowed" if status == 405 else "Something went wrong"
    return failure(text, "GeneralException", status)


async def render_defect(request: Request, error: Exception) -> Response:
    """A defect of the simulator: full log line, generic body."""
    log.error("request.failed", path=request.url.path, exc_info=error)
    return failure("Something went wrong", "GeneralException", 500)


def engine_of(request: Request) -> Engine:
    """The engine of this application."""
    engine: Engine = request.app.state.engine
    return engine


def settings_of(request: Request) -> Settings:
    """The settings of this application."""
    settings: Settings = request.app.state.settings
    return settings


async def form_of(request: Request) -> dict[str, str]:
    """Form fields as text; of a repeated field the last one counts."""
    form = await request.form()
    return {name: value for name, value in form.items() if isinstance(value, str)}
