"""Charts as Plotly figures: JSON that any Plotly draws. Colours suit light and dark pages, backgrounds are see-through."""

from typing import Any

import plotly.graph_objects as go
from plotly.io import to_json

from analytics_service.charts import (
    BarChart,
    Chart,
    HeatChart,
    TimeChart,
    as_text,
    percent_points,
    round_ticks,
    short_rupees,
    thinned,
)

POINTS_MAX = 1_300
"""Points of one line: what five years of days need, more than a screen shows."""
OWN, REFERENCE, GAIN, LOSS = "#2f7fd6", "#8a94a6", "#1f9d6b", "#d5524b"
SERIES = (OWN, "#e08a1e", "#7a63c9", "#1f9d6b")
GRID = "rgba(138,148,166,0.25)"
HEIGHT, HEIGHT_A_BAR, HEIGHT_A_ROW, HEIGHT_AROUND = 320, 26, 30, 70
TICKS = 4
_FORMAT = {"percent": ".3~%", "rupees": ",.0f", "index": ",.4~r"}


def figure_of(chart: Chart) -> go.Figure:
    """The figure of a chart."""
    traces: list[Any]
    if isinstance(chart, TimeChart):
        traces = _lines(chart)
    elif isinstance(chart, BarChart):
        traces = _bars(chart)
    else:
        traces = [_heat(chart)]
    return go.Figure(data=traces, layout=_layout(chart))


def figure_json(chart: Chart) -> str:
    """The figure as JSON text."""
    text: str = to_json(figure_of(chart), validate=False, engine="orjson")
    return text


def _layout(chart: Chart) -> dict[str, Any]:
    axis: dict[str, Any] = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": GRID, "automargin": True}
    values = {**axis, "tickformat": _FORMAT[chart.unit]}
    if chart.unit == "rupees":
        ticks = round_ticks(*_reach(chart), TICKS)
        values |= {"tickmode": "array", "tickvals": ticks, "ticktext": [short_rupees(tick) for tick in ticks]}
    labels = {**axis, "type": "category", "dtick": 1, "autorange": "reversed"}
    if isinstance(chart, TimeChart):
        height, across, up = HEIGHT, axis, values
    elif isinstance(chart, BarChart):
        height, across, up = HEIGHT_AROUND + HEIGHT_A_BAR * len(chart.labels), values, labels
    else:
        height, across, up = HEIGHT_AROUND + HEIGHT_A_ROW * len(chart.rows), {**axis, "dtick": 1}, labels
    return {
        "template": {},  # not Plotly's own white one
        "title": {"text": chart.title, "x": 0.01, "xanchor": "left", "font": {"size": 16}},
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 72, "b": 28},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 13, "color": "#5b6472"},
        "xaxis": across,
        "yaxis": up,
        "barmode": "relative",
        "hovermode": "x unified" if isinstance(chart, TimeChart) else "closest",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "showlegend": len(_names(chart)) > 1,
    }


def _reach(chart: Chart) -> tuple[float, float]:
    """The smallest and largest number on the axis of values, with 0."""
    if isinstance(chart, TimeChart):
        ends = [
            float(end) for line in chart.lines if len(line.values) for end in (line.values.min(), line.values.max())
        ]
    elif isinstance(chart, BarChart):
        by_label = list(zip(*(bars.values for bars in chart.series), strict=True))
        ends = [sum(value for value in row if (value > 0) == up) for row in by_label for up in (True, False)]
    else:
        ends = []
    return min(0.0, *ends, 0.0), max(0.0, *ends, 0.0)


def _names(chart: Chart) -> list[str]:
    if isinstance(chart, TimeChart):
        return [line.name for line in chart.lines]
    return [bars.name for bars in chart.series] if isinstance(chart, BarChart) else []


def _lines(chart: TimeChart) -> list[go.Scatter]:
    traces = []
    for number, line in enumerate(chart.lines):
        kept = thinned(line.values, POINTS_MAX)
        colour = REFERENCE if line.is_reference else SERIES[number % len(SERIES)]
        traces.append(
            go.Scatter(
                x=[str(line.days[at]) for at in kept],
                y=[float(line.values[at]) for at in kept],
                name=line.name,
                mode="lines",
                line={"color": colour, "width": 1.6 if line.is_reference else 2.2},
                fill="tozeroy" if chart.filled and number == 0 else None,
                text=[as_text(float(line.values[at]), chart.unit) for at in kept],
                hovertemplate="%{text}",
            )
        )
    return traces


def _bars(chart: BarChart) -> list[go.Bar]:
    alone = len(chart.series) == 1
    return [
        go.Bar(
            y=list(chart.labels),
            x=list(bars.values),
            name=bars.name,
            orientation="h",
            marker={
                "color": [GAIN if value >= 0 else LOSS for value in bars.values]
                if alone and min(bars.values, default=0) < 0
                else SERIES[number % len(SERIES)]
            },
            hovertext=[as_text(value, chart.unit) for value in bars.values],
            hovertemplate="%{y}: %{hovertext}<extra>%{fullData.name}</extra>",
        )
        for number, bars in enumerate(chart.series)
    ]


def _heat(chart: HeatChart) -> go.Heatmap:
    reach = max((abs(cell) for row in chart.cells for cell in row if cell is not None), default=1.0) or 1.0
    return go.Heatmap(
        x=list(chart.columns),
        y=list(chart.rows),
        z=[list(row) for row in chart.cells],
        text=[["" if cell is None else percent_points(cell) for cell in row] for row in chart.cells],
        texttemplate="%{text}",
        zmin=-reach,
        zmax=reach,
        colorscale=[[0, LOSS], [0.5, "rgba(138,148,166,0.12)"], [1, GAIN]],
        showscale=False,
        xgap=2,
        ygap=2,
        hovertemplate="%{x} %{y}: %{text} %<extra></extra>",
    )
