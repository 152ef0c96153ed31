"""What a text of a request may hold."""

from typing import Annotated

import pytest
from pydantic import TypeAdapter, ValidationError

from common.text import Printable, PrintableLines

LINE, LINES = TypeAdapter(Annotated[str, Printable]), TypeAdapter(Annotated[str, PrintableLines])


@pytest.mark.parametrize("given", ["a\x00b", "\x1b[31m", "a\u202eb", "a\x7f", "\ufeff", "tab\there"])
def test_control_characters_are_refused(given: str) -> None:
    for kind in (LINE, LINES):
        with pytest.raises(ValidationError):
            kind.validate_python(given)


def test_only_a_text_of_lines_has_line_breaks() -> None:
    assert LINE.validate_python("₹ 1,00,000 — größer 寿") == "₹ 1,00,000 — größer 寿"
    assert LINES.validate_python("one\ntwo") == "one\ntwo"
    with pytest.raises(ValidationError):
        LINE.validate_python("one\ntwo")
