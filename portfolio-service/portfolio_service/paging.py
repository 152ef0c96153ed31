"""Cursors of list pages: opaque to clients, the position of the last row inside."""

import base64
import binascii
from datetime import datetime
from uuid import UUID

from common.clock import to_ist
from common.errors import Unprocessable

PAGE_MAX = 500
PAGE_DEFAULT = 50


class CursorInvalid(Unprocessable):
    """The cursor was not made by the page before."""


def time_cursor(at: datetime, row_id: UUID) -> str:
    """Position in a list by time, newest first; the id settles equal times."""
    return base64.urlsafe_b64encode(f"{at.isoformat()}|{row_id}".encode()).decode()


def read_time_cursor(cursor: str) -> tuple[datetime, UUID]:
    """The position in a cursor; raises CursorInvalid."""
    try:
        at, _, row_id = base64.b64decode(cursor, altchars=b"-_", validate=True).decode().partition("|")
        return to_ist(datetime.fromisoformat(at)), UUID(row_id)
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise CursorInvalid("Take the cursor from next_cursor of the page before, unchanged.") from None


def read_number_cursor(cursor: str) -> int:
    """The position in a list by number; raises CursorInvalid."""
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise CursorInvalid("Take the cursor from next_cursor of the page before, unchanged.")
    return int(cursor)
