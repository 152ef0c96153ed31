"""HTML: a page with Plotly charts, and reports that are read without scripts and printed. Each is one file, nothing is
fetched from anywhere; colours follow the reader's light or dark scheme, every chart has a table of its numbers."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, select_autoescape

from analytics_service import drawn
from analytics_service.charts import Chart, is_empty, table_of
from analytics_service.plotly_figures import figure_json

WIDE = frozenset({"performance", "value", "months"})
REPORT_WIDE = frozenset({"months"})
PAPER_CSS = """
.cards { display: block; } .card { margin-bottom: 8pt; border-radius: 4pt; padding: 8pt; }
.card.chart { display: inline-block; width: 49%; vertical-align: top; margin-right: 0.6%; padding: 6pt; }
.card.chart.wide { display: block; width: 100%; }
.figures { display: flex; flex-wrap: wrap; gap: 5pt; } .figure { width: 24%; padding: 5pt 7pt; }
.figure dd { font-size: 10.5pt; } h2 { font-size: 10.5pt; }
table { font-size: 7.8pt; } th, td { padding: 2pt 4pt; }
"""
CSP = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)
REPORT_CSP = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Figure:
    """A labelled number of a page's head; `tone` is `up`, `down` or empty."""

    label: str
    text: str
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """A table of a report."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Page:
    """An HTML page and the policy that lets its own script run and no other."""

    html: str
    csp: str


def page(
    title: str,
    about: str,
    figures: Sequence[Figure],
    charts: Mapping[str, Chart],
    footer: str,
    *,
    nonce: str | None = None,
) -> Page:
    """The page of some charts, drawn by Plotly in the browser."""
    nonce = nonce or secrets.token_urlsafe(16)
    full = {key: chart for key, chart in charts.items() if not is_empty(chart)}
    # In a script element `<` could end it early; as an escape it is the same JSON.
    figures_json = "{" + ",".join(f'"{key}":{figure_json(chart)}' for key, chart in full.items()) + "}"
    html = (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            about=about,
            figures=figures,
            charts=[_described(chart) for chart in charts.values()],
            footer=footer,
            css=_css(),
            nonce=nonce,
            figures_json=figures_json.replace("<", "\\u003c"),
            plotly=_plotly(),
        )
    )
    return Page(html, CSP.format(nonce=nonce))


def report(
    title: str,
    about: str,
    *,
    notes: Sequence[str] = (),
    figures: Sequence[Figure] = (),
    charts: Sequence[Chart] = (),
    tables: Sequence[Table] = (),
    footer: str = "",
    on_paper: bool = False,
) -> str:
    """A report without scripts; `on_paper` for the PDF, whose maker knows neither variables nor dark."""
    shown = [
        {**_described(chart), "svg": drawn.svg_of(chart, on_paper=on_paper), "wide": chart.key in REPORT_WIDE}
        for chart in charts
        if not is_empty(chart)
    ]
    return (
        _environment()
        .get_template("report.html")
        .render(
            title=title,
            about=about,
            notes=notes,
            figures=figures,
            charts=shown,
            tables=tables,
            footer=footer,
            css=_css(),
            paper_css=PAPER_CSS if on_paper else "",
        )
    )


def _described(chart: Chart) -> dict[str, object]:
    heads, rows = table_of(chart)
    return {
        "key": chart.key,
        "title": chart.title,
        "heads": heads,
        "rows": rows,
        "wide": chart.key in WIDE,
        "is_empty": is_empty(chart),
    }


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("analytics_service", "templates"), autoescape=select_autoescape(), trim_blocks=True
    )


@cache
def _css() -> str:
    return resources.files("analytics_service").joinpath("templates/base.css").read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    return resources.files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")
