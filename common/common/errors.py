"""One class hierarchy of errors with stable codes, rendered once as problem+json (RFC 9457)."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from common.logging import current_correlation_id

log = structlog.get_logger("common.errors")

PROBLEM_JSON = "application/problem+json"
WAITED_TOO_LONG = frozenset({"55P03", "57014", "40P01"})
"""lock_not_available, query_canceled, deadlock_detected."""
SHUTTING_DOWN = frozenset({"57P01", "57P02", "57P03"})
"""admin_shutdown, crash_shutdown, cannot_connect_now."""
RETRY_AFTER_S = "1"


class AppError(Exception):
    """A fact that ends a request with a 4xx or 5xx problem; `facts` become members of the problem body.

    The code is the snake_case name of the class unless the class or the caller sets one; clients may rely on it.
    """

    status: ClassVar[int] = 400
    default_code: ClassVar[str | None] = None

    def __init__(
        self, detail: str, *, code: str | None = None, headers: Mapping[str, str] | None = None, **facts: Any
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).default_code or _snake_case(type(self).__name__)
        self.headers = dict(headers or {})
        self.facts = facts


class Unauthorized(AppError):
    """No valid credentials (401)."""

    status = 401

    def __init__(self, detail: str, **facts: Any) -> None:
        facts.setdefault("headers", {"WWW-Authenticate": "Bearer"})
        super().__init__(detail, **facts)


class Forbidden(AppError):
    """Known caller, not allowed (403)."""

    status = 403


class NotFound(AppError):
    """Absent, or somebody else's: both look the same (404)."""

    status = 404


class Conflict(AppError):
    """The state of the thing forbids it (409)."""

    status = 409


class Unprocessable(AppError):
    """Well-formed but refused by a rule (422)."""

    status = 422


class TooManyRequests(AppError):
    """A limit was reached; `retry_after` in seconds (429)."""

    status = 429

    def __init__(self, detail: str, *, retry_after: int, **facts: Any) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)}, retry_after=retry_after, **facts)


class Unavailable(AppError):
    """A dependency is missing; the same request may succeed later (503)."""

    status = 503


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def problem_body(status: int, code: str, detail: str, facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The one shape of an error body."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    if request_id := current_correlation_id():
        body["request_id"] = request_id
    body.update(facts or {})
    return body


def problem_response(
    status: int,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> JSONResponse:
    """A problem+json answer; also an ASGI app, so pure-ASGI code can `await` it."""
    return JSONResponse(
        problem_body(status, code, detail, facts),
        status_code=status,
        headers=dict(headers or {}),
        media_type=PROBLEM_JSON,
    )


async def send_problem(error: AppError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with an AppError from pure-ASGI code."""
    response = problem_response(error.status, error.code, error.detail, headers=error.headers, facts=error.facts)
    await response(scope, receive, send)


async def _app_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AppError)  # noqa: S101  registered for AppError only
    level = log.warning if error.status >= 500 else log.info
    level("http.problem", status=error.status, code=error.code, detail=error.detail)
    return problem_response(error.status, error.code, error.detail, headers=error.headers, facts=error.facts)


async def _http_exception(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    code = _snake_case(HTTPStatus(error.status_code).phrase.title().replace(" ", "").replace("-", ""))
    return problem_response(error.status_code, code, str(error.detail), headers=error.headers)


async def _validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    # The input value stays out of the answer: it may be a password.
    errors = [{"field": ".".join(str(part) for part in item["loc"]), "message": item["msg"]} for item in error.errors()]
    return problem_response(
        422, "invalid_request", "The request does not have the documented form.", facts={"errors": errors}
    )


async def _database_error(request: Request, error: Exception) -> JSONResponse:
    code = getattr(getattr(error, "orig", None), "pgcode", None)
    if isinstance(error, PoolTimeout) or code in WAITED_TOO_LONG:
        # Rows or connections were taken for too long: nothing was written, the same request may be sent again.
        log.warning("http.database_busy", error=type(error).__name__)
        return _later("busy", "Too many requests for the same data at once; nothing was changed, send it again.")
    if isinstance(error, DBAPIError) and _has_no_database(error, code):
        log.warning("http.database_unavailable", error=type(error).__name__, detail=str(error.orig))
        return _later(
            "database_unavailable",
            "The database does not answer at the moment. Send the same request again, under the same Idempotency-Key:"
            " it may have been carried out.",
        )
    return await _unknown_error(request, error)


def _has_no_database(error: DBAPIError, code: str | None) -> bool:
    """Whether the connection is gone or could not be made; a server that is not there tells no code."""
    return (
        code in SHUTTING_DOWN or error.connection_invalidated or (code is None and isinstance(error, OperationalError))
    )


def _later(code: str, detail: str) -> JSONResponse:
    return problem_response(503, code, detail, headers={"Retry-After": RETRY_AFTER_S})


async def _unknown_error(_: Request, error: Exception) -> JSONResponse:
    log.error("http.unhandled_error", error=type(error).__name__, exc_info=error)
    return problem_response(
        500, "internal_error", "Something went wrong on our side; the request id finds it in the logs."
    )


def install_error_handlers(app: FastAPI) -> None:
    """Make every error of an app leave as one problem+json shape."""
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(OperationalError, _database_error)
    app.add_exception_handler(InterfaceError, _database_error)
    app.add_exception_handler(PoolTimeout, _database_error)
    app.add_exception_handler(Exception, _unknown_error)
