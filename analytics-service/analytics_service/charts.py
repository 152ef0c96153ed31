"""What a chart shows, apart from who draws it: Plotly, a PNG, a report's SVG, or a table for those who see none. Pure.

Values are ratios (`percent`: 0.01 is 1 %), rupees, or an index that starts at 100.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analytics_service.returns import Days, Floats, to_date
from common.money import indian_number

Unit = Literal["percent", "rupees", "index"]
TABLE_ROWS_MAX = 60
"""A chart's table shows at most so many rows of a long series, evenly chosen and always with the last."""


@dataclass(frozen=True)
class Line:
    """A named course over days."""

    name: str
    days: Days
    values: Floats
    is_reference: bool = False
    """Drawn behind and lighter: a benchmark, the money put in."""


@dataclass(frozen=True)
class TimeChart:
    """Lines over days; `filled` fills the first one down to zero."""

    key: str
    title: str
    unit: Unit
    lines: tuple[Line, ...]
    filled: bool = False


@dataclass(frozen=True)
class Bars:
    """One number for every label of a bar chart."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class BarChart:
    """Bars by label, lying; several series are stacked."""

    key: str
    title: str
    unit: Unit
    labels: tuple[str, ...]
    series: tuple[Bars, ...]


@dataclass(frozen=True)
class HeatChart:
    """A number for every row and column, None where there is none."""

    key: str
    title: str
    unit: Unit
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[float | None, ...], ...]


Chart = TimeChart | BarChart | HeatChart


def as_text(value: float | None, unit: Unit) -> str:
    """A number for people: `12.34 %`, `₹1,23,457`, `104.2`; a dash for none."""
    if value is None or not np.isfinite(value):
        return "–"
    if unit == "percent":
        return f"{value * 100:.2f} %"
    if unit == "rupees":
        whole = round(value)
        return f"{'-' if whole < 0 else ''}₹{indian_number(abs(whole))}"
    return f"{value:.1f}"


def table_of(chart: Chart) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(column heads, rows) that say in text what the chart shows."""
    if isinstance(chart, HeatChart):
        rows = [
            (label, *(as_text(cell, chart.unit) for cell in cells))
            for label, cells in zip(chart.rows, chart.cells, strict=True)
        ]
        return ("", *chart.columns), rows
    if isinstance(chart, BarChart):
        rows = [
            (label, *(as_text(bars.values[number], chart.unit) for bars in chart.series))
            for number, label in enumerate(chart.labels)
        ]
        return ("", *(bars.name for bars in chart.series)), rows
    return ("Day", *(line.name for line in chart.lines)), _time_rows(chart)


def is_empty(chart: Chart) -> bool:
    """Whether there is nothing to draw."""
    if isinstance(chart, TimeChart):
        return not any(len(line.days) for line in chart.lines)
    return not (chart.labels if isinstance(chart, BarChart) else chart.rows)


def thinned(values: Floats, most: int) -> Sequence[int]:
    """Positions of at most `most` numbers (and two): evenly spread, with the last, the lowest and the highest."""
    if len(values) <= most:
        return range(len(values))
    even = np.linspace(0, len(values) - 1, most).round().astype(int)
    return [int(at) for at in np.unique(np.concatenate((even, [np.argmin(values), np.argmax(values)])))]


def percent_points(value: float) -> str:
    """A ratio as percent with one decimal and no sign before a zero: `-1.4`, `0.0`."""
    return f"{round(value * 100, 1) + 0.0:.1f}"


def short_rupees(value: float) -> str:
    """Rupees in lakh and crore, as India reads large sums: `₹1.5 Cr`."""
    for size, word in ((1e7, " Cr"), (1e5, " L"), (1e3, " k")):
        if abs(value) >= size:
            return f"{'-' if value < 0 else ''}₹{abs(value) / size:.4g}{word}"
    return f"{'-' if value < 0 else ''}₹{abs(value):.0f}"


def round_ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from about `low` to about `high`."""
    reach = high - low
    if reach <= 0:
        return [low]
    raw = reach / about
    size = 10.0 ** np.floor(np.log10(raw))
    step = float(size * next(nice for nice in (1, 2, 2.5, 5, 10) if nice * size >= raw))
    return [step * at for at in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


def _time_rows(chart: TimeChart) -> list[tuple[str, ...]]:
    first = chart.lines[0]
    rows = []
    for position in thinned(first.values, TABLE_ROWS_MAX):
        day = first.days[position]
        cells = []
        for line in chart.lines:
            at = int(np.searchsorted(line.days, day, side="right")) - 1
            cells.append(as_text(float(line.values[at]) if at >= 0 else None, chart.unit))
        rows.append((to_date(day).strftime("%d %b %Y"), *cells))
    return rows
