"""The broker's postback: checked, bounded, and used only as a nudge to read the order book.

Its checksum covers the order id and a timestamp, neither status nor quantities, and can be replayed (kite-connect.md
section 7). Therefore nothing but the id leaves this module: no number of a postback ever reaches an order.
"""

import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from typing import Final

from trade_executor.outcome import BROKER_ORDER_ID

POSTBACK_BYTES_MAX: Final = 16 * 1024
"""Largest body read; real ones have about one kilobyte."""

_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}\Z", re.ASCII)
_CHECKSUM = re.compile(r"[0-9a-f]{64}\Z")
_USER_ID = re.compile(r"[A-Za-z0-9]{1,32}\Z")


class PostbackMalformed(ValueError):
    """The body is not a postback of the documented form."""


@dataclass(frozen=True, slots=True)
class Postback:
    """What a body claims, unverified. `order_timestamp` stays the text it came as: the checksum is over that text."""

    broker_order_id: str
    order_timestamp: str
    checksum: str
    broker_user_id: str | None


def checksum(order_id: str, order_timestamp: str, api_secret: str) -> str:
    """hex(SHA-256(order_id + order_timestamp + api_secret)), the broker's rule."""
    return hashlib.sha256((order_id + order_timestamp + api_secret).encode()).hexdigest()


def read_postback(body: bytes) -> Postback:
    """Parse a raw body; raises PostbackMalformed for anything too large or of another form."""
    if len(body) > POSTBACK_BYTES_MAX:
        raise PostbackMalformed(f"a postback has at most {POSTBACK_BYTES_MAX} bytes")
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise PostbackMalformed("a postback is one JSON object") from None
    if not isinstance(fields, dict):
        raise PostbackMalformed("a postback is one JSON object")
    user_id = fields.get("user_id")
    return Postback(
        broker_order_id=_text(fields, "order_id", BROKER_ORDER_ID),
        order_timestamp=_text(fields, "order_timestamp", _TIMESTAMP),
        checksum=_text(fields, "checksum", _CHECKSUM),
        broker_user_id=user_id if isinstance(user_id, str) and _USER_ID.match(user_id) else None,
    )


def is_authentic(postback: Postback, api_secret: str) -> bool:
    """Whether the sender knew the secret; compares in constant time. An empty secret authenticates nobody."""
    if not api_secret:
        return False
    expected = checksum(postback.broker_order_id, postback.order_timestamp, api_secret)
    return hmac.compare_digest(expected, postback.checksum)


def _text(fields: dict[str, object], name: str, form: re.Pattern[str]) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not form.match(value):
        raise PostbackMalformed(f"a postback needs `{name}` in the documented form")
    return value
