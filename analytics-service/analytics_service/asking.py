"""What the analytics routes share: whose figures are asked for, of which days, and in which form they are shown."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel
from sqlalchemy.orm import Session

from analytics_service import drawn, pages
from analytics_service.analyses import Analyses, subject_portfolios
from analytics_service.answers import View, view_of
from analytics_service.charts import is_empty
from analytics_service.config import Settings
from analytics_service.figures import FOOTER, about, key_figures
from analytics_service.pictures import charts_of
from analytics_service.plotly_figures import figure_json
from analytics_service.schemas_performance import Asked
from common.auth import User, admit
from common.clock import DayInput
from common.db import SessionDep
from common.errors import NotFound, Unprocessable

OPERATOR_ROLES = frozenset({"ops", "admin"})

Form = Literal["json", "figure", "html", "png"]
OWN: dict[int | str, dict[str, Any]] = {404: {"description": "No such user or portfolio, or somebody else's."}}
BPS_ONE = 10_000


class UserNotFound(NotFound):
    """Absent, or somebody else."""


class PortfolioNotFound(NotFound):
    """Absent, somebody else's, or nothing happened in it yet."""


class SpanInvalid(Unprocessable):
    """The first day is after the last."""


class ChartUnknown(Unprocessable):
    """This answer has no such chart, or has no picture yet."""


async def subject_of(
    request: Request,
    user: User,
    user_id: Annotated[UUID | None, Query(description="Whose; default: the caller's own. Others': operators.")] = None,
) -> UUID:
    """Whose figures are asked for: one's own, or anybody's for operators; raises UserNotFound."""
    if user_id is None or user_id == user.user_id:
        return user.user_id
    if not user.roles & OPERATOR_ROLES:
        raise UserNotFound("There is no such user.")
    admit(request, user, *OPERATOR_ROLES)  # refuses an operator without the second factor where one is mandatory
    return user_id


Subject = Annotated[UUID, Depends(subject_of)]
PortfolioQuery = Annotated[
    UUID | None,
    Query(description="One portfolio, also an imported one; default: all of the platform together."),
]


def settings_of(request: Request) -> Settings:
    """The room's settings."""
    settings: Settings = request.app.state.settings
    return settings


SettingsDep = Annotated[Settings, Depends(settings_of)]


def analyses_of(request: Request) -> Analyses:
    """The process's kept analyses."""
    analyses: Analyses = request.app.state.analyses
    return analyses


AnalysesDep = Annotated[Analyses, Depends(analyses_of)]


def whole_view(
    session: SessionDep,
    subject: Subject,
    settings: SettingsDep,
    analyses: AnalysesDep,
    portfolio_id: PortfolioQuery = None,
) -> View:
    """All days of a subject's portfolios; raises UserNotFound or PortfolioNotFound."""
    return look(session, settings, analyses, Asked(user_id=subject, portfolio_id=portfolio_id, first=None, last=None))


def view_of_days(
    session: SessionDep,
    subject: Subject,
    settings: SettingsDep,
    analyses: AnalysesDep,
    portfolio_id: PortfolioQuery = None,
    first: Annotated[
        DayInput | None, Query(alias="from", description="First day; default: the first there is.")
    ] = None,
    last: Annotated[DayInput | None, Query(alias="to", description="Last day; default: the newest there is.")] = None,
) -> View:
    """The days asked for of a subject's portfolios."""
    if first is not None and last is not None and first > last:
        raise SpanInvalid("`from` must not be after `to`.")
    return look(session, settings, analyses, Asked(user_id=subject, portfolio_id=portfolio_id, first=first, last=last))


def look(session: Session, settings: Settings, analyses: Analyses, asked: Asked) -> View:
    """The view of what is asked; raises PortfolioNotFound."""
    portfolios = subject_portfolios(session, asked.user_id, asked.portfolio_id)
    if portfolios is None:
        raise PortfolioNotFound("There is no such portfolio, or nothing has happened in it yet.")
    analysis = analyses.of(session, portfolios, settings.benchmark_key)
    return view_of(asked, analysis, settings.benchmark_key[1], settings.risk_free_bps / BPS_ONE)


WholeViewDep = Annotated[View, Depends(whole_view)]
ViewDep = Annotated[View, Depends(view_of_days)]


class Shape(BaseModel):
    """The form of an answer."""

    form: Form
    chart: str | None


def shape_of(
    form: Annotated[
        Form,
        Query(alias="format", description="`figure`: Plotly figures as JSON; `html`: a page; `png`: one picture."),
    ] = "json",
    chart: Annotated[
        str | None, Query(max_length=40, description="Which chart, for `png`; default: the first.")
    ] = None,
) -> Shape:
    """How the answer is to be shown."""
    return Shape(form=form, chart=chart)


FormatQuery = Annotated[Shape, Depends(shape_of)]


def shown(
    view: View, shape: Shape | Form, title: str, parts: Sequence[str], answer: Callable[[], BaseModel | None]
) -> Any:
    """An answer in the form asked for. Raises ChartUnknown."""
    form, wanted = (shape.form, shape.chart) if isinstance(shape, Shape) else (shape, None)
    if form == "json":
        return answer()
    charts = {key: chart for key, chart in charts_of(view).items() if key in parts}
    if form == "figure":
        body = ",".join(f'"{key}":{figure_json(chart)}' for key, chart in charts.items())
        return Response(f'{{"figures":{{{body}}}}}', media_type="application/json")
    if form == "html":
        made = pages.page(title, about(view), key_figures(view), charts, FOOTER)
        return HTMLResponse(made.html, headers={"Content-Security-Policy": made.csp, "Cache-Control": "no-store"})
    key = wanted or parts[0]
    if key not in charts or is_empty(charts[key]):
        raise ChartUnknown(
            f"No picture of that name here, or nothing to draw yet; charts are {', '.join(charts)}.",
            charts=list(charts),
        )
    return Response(drawn.png_of(charts[key]), media_type="image/png")
