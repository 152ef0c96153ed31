"""docs/api.md lists exactly the routes that the merged OpenAPI document has."""

from pathlib import Path

from scripts.api_reference import render
from tests.security.house import House
from tests.security.matrix import merged_document

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"


def test_the_page_is_what_the_document_says(house: House) -> None:
    assert PAGE.read_text() == render(merged_document(house)), "run `make run`, then `python -m scripts.api_reference`"
