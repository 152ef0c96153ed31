"""Text of a request: PostgreSQL cannot store NUL, and control characters or direction overrides mislead who reads it."""

import unicodedata

from pydantic import AfterValidator


def printable(text: str) -> str:
    """The text; raises ValueError when it holds characters of Unicode's category C (control, format, unassigned)."""
    if any(unicodedata.category(character).startswith("C") for character in text):
        raise ValueError("must not contain control characters")
    return text


def printable_lines(text: str) -> str:
    """As `printable`, with line breaks."""
    printable(text.replace("\n", " "))
    return text


Printable = AfterValidator(printable)
"""For `Annotated[str, ...]` of one line."""
PrintableLines = AfterValidator(printable_lines)
"""For `Annotated[str, ...]` of several lines."""
