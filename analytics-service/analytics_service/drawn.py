"""Charts drawn by matplotlib: a PNG, or an SVG inside a report that takes the page's own colours.

In an SVG every colour is one of a few marks that are replaced by CSS variables afterwards, so one drawing serves light
and dark. Figures are small on purpose: text keeps its size on a phone.
"""

import io
import re
from collections.abc import Mapping
from typing import Any

from analytics_service.charts import (
    BarChart,
    Chart,
    HeatChart,
    TimeChart,
    as_text,
    percent_points,
    short_rupees,
    thinned,
)

WIDTH_IN, HEIGHT_IN, HEIGHT_A_ROW_IN = 5.0, 2.5, 0.23
PAPER_WIDTH_IN, PAPER_HEIGHT_IN, PAPER_HEAT_WIDTH_IN = 3.5, 2.0, 7.1
"""Half of a page's width, where text keeps the size it is drawn in; a heat map takes all of it."""
POINTS_MAX = 700
PNG_DPI = 200
INK, FAINT, GRID, OWN, REFERENCE, GAIN, LOSS = (
    "#010101", "#020202", "#030303", "#040404", "#050505", "#060606", "#070707",
)  # fmt: skip
MORE = ("#080808", "#090909", "#0a0a0a")
SERIES = (OWN, *MORE)
LIGHT = {
    INK: "#1d2430", FAINT: "#5b6472", GRID: "#dfe3ea", OWN: "#2368b8", REFERENCE: "#8a94a6", GAIN: "#1b8a5d",
    LOSS: "#c4423b", MORE[0]: "#c77512", MORE[1]: "#6a54b5", MORE[2]: "#1b8a5d",
}  # fmt: skip
VARIABLES = {
    INK: "var(--ink)", FAINT: "var(--faint)", GRID: "var(--grid)", OWN: "var(--own)", REFERENCE: "var(--reference)",
    GAIN: "var(--gain)", LOSS: "var(--loss)", MORE[0]: "var(--more1)", MORE[1]: "var(--more2)",
    MORE[2]: "var(--more3)",
}  # fmt: skip


def png_of(chart: Chart) -> bytes:
    """The chart as a picture on white."""
    out = io.BytesIO()
    _figure(chart, LIGHT).savefig(out, format="png", dpi=PNG_DPI, facecolor="white")
    return out.getvalue()


def svg_of(chart: Chart, *, on_paper: bool) -> str:
    """The chart as an SVG element; `on_paper` with fixed colours, otherwise with the page's CSS variables."""
    import matplotlib as mpl  # half a second that only those who draw pay

    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": chart.key}):
        _figure(chart, LIGHT if on_paper else {}, on_paper=on_paper).savefig(
            out, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    text = out.getvalue()
    text = text[text.index("<svg") :]
    # The page's own font, and a size that follows its place.
    text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'width="100%"', text, count=1)
    for mark, variable in VARIABLES.items():
        text = text.replace(mark, variable)
    label = f'role="img" aria-label="{_escaped(chart.title)}"'
    return text.replace("<svg", f"<svg {label}", 1)


def _figure(chart: Chart, colours: Mapping[str, str], *, on_paper: bool = False) -> Any:
    from matplotlib.figure import Figure

    width, height = (PAPER_WIDTH_IN, PAPER_HEIGHT_IN) if on_paper else (WIDTH_IN, HEIGHT_IN)
    if on_paper and isinstance(chart, HeatChart):
        width = PAPER_HEAT_WIDTH_IN
    if isinstance(chart, BarChart):
        height = max(1.2, 0.55 + HEIGHT_A_ROW_IN * len(chart.labels))
    elif isinstance(chart, HeatChart):
        height = max(0.8, 0.45 + HEIGHT_A_ROW_IN * len(chart.rows))
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    paint = _Paint(colours)
    if isinstance(chart, TimeChart):
        _draw_lines(axes, chart, paint)
    elif isinstance(chart, BarChart):
        _draw_bars(axes, chart, paint)
    else:
        _draw_heat(axes, chart, paint)
    axes.tick_params(colors=paint(FAINT), labelsize=8, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


class _Paint:
    """Colours by mark; the marks themselves when nothing replaces them yet."""

    def __init__(self, colours: Mapping[str, str]) -> None:
        self._colours = colours

    def __call__(self, mark: str) -> str:
        return self._colours.get(mark, mark)


def _draw_lines(axes: Any, chart: TimeChart, paint: _Paint) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for number, line in enumerate(chart.lines):
        kept = list(thinned(line.values, POINTS_MAX))
        colour = paint(REFERENCE if line.is_reference else SERIES[number % len(SERIES)])
        days, values = line.days[kept].astype("datetime64[s]").astype(object), line.values[kept]
        axes.plot(days, values, color=colour, linewidth=1.0 if line.is_reference else 1.4, label=line.name,
                  zorder=1 if line.is_reference else 2)  # fmt: skip
        if chart.filled and number == 0:
            axes.fill_between(days, values, 0, color=colour, alpha=0.18, linewidth=0)
    locator = AutoDateLocator(minticks=3, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, chart)))
    axes.grid(axis="y", color=paint(GRID), linewidth=0.6)
    axes.margins(x=0.01)
    if len(chart.lines) > 1:
        _legend(axes, paint, len(chart.lines))


def _draw_bars(axes: Any, chart: BarChart, paint: _Paint) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    places = list(range(len(chart.labels)))
    above, below = [0.0] * len(places), [0.0] * len(places)
    for number, bars in enumerate(chart.series):
        colour = paint(SERIES[number % len(SERIES)])
        signed = len(chart.series) == 1 and min(bars.values, default=0) < 0
        colours = [paint(GAIN if value >= 0 else LOSS) for value in bars.values] if signed else colour
        starts = [above[at] if value >= 0 else below[at] for at, value in enumerate(bars.values)]
        axes.barh(places, bars.values, left=starts, color=colours, height=0.62, label=bars.name, zorder=2)
        for at, value in enumerate(bars.values):
            (above if value >= 0 else below)[at] += value
    axes.set_yticks(places, chart.labels)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, chart)))
    axes.grid(axis="x", color=paint(GRID), linewidth=0.6, zorder=0)
    if len(chart.series) > 1:
        _legend(axes, paint, len(chart.series))


def _draw_heat(axes: Any, chart: HeatChart, paint: _Paint) -> None:
    from matplotlib.patches import Rectangle

    reach = max((abs(cell) for row in chart.cells for cell in row if cell is not None), default=1.0) or 1.0
    for row, cells in enumerate(chart.cells):
        for column, cell in enumerate(cells):
            if cell is None:
                continue
            colour = paint(GAIN if cell >= 0 else LOSS)
            strength = 0.08 + 0.5 * min(1.0, abs(cell) / reach)
            axes.add_patch(Rectangle((column + 0.03, row + 0.05), 0.94, 0.9, color=colour, alpha=strength, linewidth=0))
            axes.text(column + 0.5, row + 0.52, percent_points(cell), ha="center", va="center", fontsize=6.5,
                      color=paint(INK))  # fmt: skip
    axes.set_xlim(0, len(chart.columns))
    axes.set_ylim(len(chart.rows), 0)
    axes.set_xticks([number + 0.5 for number in range(len(chart.columns))], chart.columns)
    axes.set_yticks([number + 0.5 for number in range(len(chart.rows))], chart.rows)
    axes.xaxis.tick_top()


def _legend(axes: Any, paint: _Paint, count: int) -> None:
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=count, frameon=False, fontsize=8, labelcolor=paint(INK),
        borderaxespad=0.2, handlelength=1.4,
    )  # fmt: skip


def _tick(value: float, chart: Chart) -> str:
    if chart.unit == "rupees":
        return short_rupees(value)
    if chart.unit == "percent":
        return f"{value * 100:.3g} %"
    return as_text(value, chart.unit).removesuffix(".0")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
