"""Days and instants that a request may name."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from common.clock import DayInput, InstantInput

DAYS, INSTANTS = TypeAdapter[date](DayInput), TypeAdapter[datetime](InstantInput)


def test_an_instant_is_utc_from_the_door_on() -> None:
    given = INSTANTS.validate_python("2026-11-23T10:00:00+05:30")
    assert (given, given.tzinfo) == (datetime(2026, 11, 23, 4, 30, tzinfo=UTC), UTC)
    # PostgreSQL refuses such an offset, though ISO 8601 allows it.
    assert INSTANTS.validate_python("2026-11-23T10:00:00+23:56").tzinfo is UTC


@pytest.mark.parametrize(
    "given", ["2026-11-23T10:00:00", "0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00", "1969-12-31T23:59:59Z"]
)
def test_an_instant_without_offset_or_out_of_range_is_refused(given: Any) -> None:
    with pytest.raises(ValidationError):
        INSTANTS.validate_python(given)


@pytest.mark.parametrize("given", ["0001-01-01", "1899-12-31", "2200-01-01", "9999-12-31"])
def test_a_day_has_days_around_it(given: str) -> None:
    with pytest.raises(ValidationError):
        DAYS.validate_python(given)
    assert DAYS.validate_python("2199-12-31") == date(2199, 12, 31)
