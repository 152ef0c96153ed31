"""Values nobody means well with, by the type a document gives a field, and fields no request should have."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

HOSTILE_TEXTS = ("a\x00b", "' OR '1'='1", "../../etc/passwd", "\u202egpj.exe", "x" * 10_000, "\r\nX-Injected: 1", "")
HOSTILE_NUMBERS: tuple[Any, ...] = (-1, 2**31, 2**63, 10**400, 1e308, 0.1, True, None)
HOSTILE_AMOUNTS = ("-1.00", "1e400", "NaN", "99999999999999999999.00", "१२.००", 0.1)
HOSTILE_DAYS = ("0001-01-01", "9999-12-31", "2026-02-30", -1)
HOSTILE_INSTANTS = (
    "0001-01-01T00:00:00+23:00",
    "9999-12-31T23:59:59-23:00",
    "2026-11-23T10:00:00",
    "2026-01-01T00:00Z!",
)
HOSTILE_IDS = ("00000000-0000-0000-0000-000000000000", "' OR 1=1 --", "\x00")
PRIVILEGED = {
    "user_id": "00000000-0000-0000-0000-000000000001", "role": "admin", "roles": ["admin"], "is_admin": True,
    "status": "approved", "kyc": "approved", "kyc_status": "approved", "balance": "1000000.00", "cash": "1000000.00",
    "price_paise": 1, "order_id": "00000000-0000-0000-0000-000000000001", "owner_id": "1", "mfa": True,
    "email_verified": True, "email_verified_at": "2026-01-01T00:00:00Z", "filled_quantity": 10, "visibility_": "published",
    "__proto__": {"admin": True}, "constructor": {}, "unheard_of": 1,
}  # fmt: skip
"""Fields that would be worth something if a room took them over unasked."""


def hostile_values(schema: dict[str, Any]) -> tuple[Any, ...]:
    """Values for a field of this schema."""
    kinds = [schema, *schema.get("anyOf", [])]
    forms = {kind.get("format") for kind in kinds}
    types = {kind.get("type") for kind in kinds}
    if "uuid" in forms:
        return HOSTILE_IDS
    if "date" in forms:
        return HOSTILE_DAYS
    if "date-time" in forms:
        return HOSTILE_INSTANTS
    if "integer" in types or "number" in types:
        return HOSTILE_NUMBERS
    if "string" in types:
        return (*HOSTILE_TEXTS, *HOSTILE_AMOUNTS)
    return (HOSTILE_TEXTS[0], None, [], {}, 7, True)


def objects_in(body: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a body there are objects: a field can be added to each of them."""
    if isinstance(body, dict):
        yield path
        for name, value in body.items():
            yield from objects_in(value, (*path, name))
    elif isinstance(body, list):
        for index, value in enumerate(body):
            yield from objects_in(value, (*path, index))


def with_field(body: Any, path: tuple[Any, ...], name: str, value: Any) -> Any:
    """A copy of a body with one field more in the object at `path`."""
    copy = deepcopy(body)
    place = copy
    for step in path:
        place = place[step]
    place[name] = value
    return copy
