"""The body of a sign-in: JSON, or the form of OAuth2's password grant, told apart by the content type."""

from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from common.errors import AppError
from user_service.login import Credentials
from user_service.schemas import LoginBody, LoginForm

FORM = "application/x-www-form-urlencoded"
BODY_BYTES_MAX = 16_384
FORM_FIELDS_MAX = 10


class BodyTooLarge(AppError):
    """No sign-in needs that many bytes."""

    status = 413


async def read_credentials(request: Request) -> Credentials:
    """Dependency: the credentials of a sign-in; the only asynchronous piece, because it reads the body."""
    body = await _read(request)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if media_type == FORM:
            form = LoginForm.model_validate(_fields(body))
            return Credentials(form.username, form.password.get_secret_value(), form.totp_code)
        given = LoginBody.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_input=False)) from None
    return Credentials(given.email, given.password.get_secret_value(), given.totp_code)


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise BodyTooLarge(f"A sign-in has at most {BODY_BYTES_MAX} bytes.")
    return bytes(body)


def _fields(body: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX, errors="strict")
    except ValueError:
        raise _malformed() from None
    if len({name for name, _ in pairs}) != len(pairs):
        raise _malformed()
    # An empty optional field is what a form sends for "not given".
    return {name: value for name, value in pairs if value or name in ("username", "password")}


def _malformed() -> RequestValidationError:
    return RequestValidationError([{"loc": ("body",), "msg": "not a URL-encoded form", "type": "value_error"}])


def openapi_body() -> dict[str, Any]:
    """Both forms of the body, for the OpenAPI document."""
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": LoginBody.model_json_schema()},
                FORM: {"schema": LoginForm.model_json_schema()},
            },
        }
    }
