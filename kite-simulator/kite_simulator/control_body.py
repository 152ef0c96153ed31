"""Reading the requests of the control endpoints; raises Refused naming the field."""

from decimal import Decimal, InvalidOperation
from typing import Any

import orjson
from starlette.requests import Request

from kite_simulator.engine import Refused
from kite_simulator.engine.instruments import to_paise


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object of a control request; an empty body is an empty object."""
    raw = await request.body()
    try:
        body = orjson.loads(raw) if raw else {}
    except orjson.JSONDecodeError as error:
        raise Refused("Invalid JSON in the request body.") from error
    if not isinstance(body, dict):
        raise Refused("A JSON object is expected.")
    return body


def text_of(body: dict[str, Any], name: str) -> str:
    """A required text."""
    value = body.get(name)
    if not isinstance(value, str):
        raise Refused(f"Missing or empty field `{name}`")
    return value


def paise_of(body: dict[str, Any], name: str) -> int:
    """A required amount in rupees, as paise."""
    try:
        return to_paise(Decimal(str(body[name])))
    except (KeyError, InvalidOperation, ValueError) as error:
        raise Refused(f"Invalid `{name}`.") from error


def number_of(request: Request, name: str, default: int) -> int:
    """A query parameter that counts."""
    text = request.query_params.get(name, str(default))
    if not text.isdigit():
        raise Refused(f"Invalid `{name}`.")
    return int(text)
