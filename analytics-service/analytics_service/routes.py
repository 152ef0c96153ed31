"""/api/v1/analytics: what one user did and how it went, as JSON, figures, a page or a picture; the platform's for operators."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from analytics_service import smallcase_results
from analytics_service.answers import (
    benchmark_answer,
    contribution_answer,
    pnl_answer,
    returns_answer,
    risk_answer,
)
from analytics_service.asking import OWN, FormatQuery, Subject, ViewDep, WholeViewDep, shown
from analytics_service.pictures import PARTS
from analytics_service.schemas import PlatformAnalytics, SmallcasesAnswer, SmallcaseView, UserAnalytics
from analytics_service.schemas_performance import (
    AllocationAnswer,
    BenchmarkAnswer,
    ContributionAnswer,
    HistoryAnswer,
    PerformanceBlock,
    PnlAnswer,
    ReturnsAnswer,
    RiskAnswer,
    TradesAnswer,
)
from analytics_service.summaries import TOP_DEFAULT, TOP_MAX, platform_summary, user_summary
from common.auth import OpsUser
from common.clock import DayInput
from common.db import SessionDep
from common.dependencies import ClockDep

router = APIRouter(prefix="/api/v1/analytics", tags=["analytics"])

HISTORY_MAX, HISTORY_DEFAULT = 5_000, 1_000


@router.get("", response_model=UserAnalytics, responses=OWN)
@router.get("/summary", response_model=UserAnalytics, responses=OWN)
def summary(session: SessionDep, clock: ClockDep, view: WholeViewDep, form: FormatQuery) -> Any:
    """Deposits, trades, charges, orders by status, shares, and the figures that say most of how it went."""

    def answer() -> UserAnalytics:
        return UserAnalytics.of(
            user_summary(session, view.asked.user_id),
            PerformanceBlock.of(view.analysis, view.risk_free),
            clock.now(),
        )

    return shown(view, form, "Portfolio", PARTS, answer)


@router.get("/returns", response_model=ReturnsAnswer, responses=OWN)
@router.get("/performance", response_model=ReturnsAnswer, responses=OWN)
def returns(view: ViewDep, form: FormatQuery) -> Any:
    """Time-weighted and money-weighted returns, by period (1d to all) and calendar month, beside the benchmark."""
    return shown(view, form, "Returns", ("performance", "months", "value"), lambda: returns_answer(view))


@router.get("/risk", response_model=RiskAnswer, responses=OWN)
def risk(view: ViewDep, form: FormatQuery) -> Any:
    """Volatility, Sharpe, Sortino, Calmar, the deepest drawdowns with dates, beta, alpha, VaR and CVaR."""
    return shown(view, form, "Risk", ("drawdown", "rolling", "months"), lambda: risk_answer(view))


@router.get("/allocation", response_model=AllocationAnswer, responses=OWN)
def allocation(view: WholeViewDep, form: FormatQuery) -> Any:
    """What the money is in now, by share and by sector."""
    return shown(
        view, form, "Allocation", ("shares", "sectors"), lambda: AllocationAnswer.of(view.asked, view.analysis)
    )


@router.get("/contribution", response_model=ContributionAnswer, responses=OWN)
def contribution(view: WholeViewDep, form: FormatQuery) -> Any:
    """What every share added to the return since the beginning."""
    return shown(view, form, "Contribution", ("contribution",), lambda: contribution_answer(view))


@router.get("/pnl", response_model=PnlAnswer, responses=OWN)
def pnl(view: WholeViewDep, form: FormatQuery) -> Any:
    """Realised and unrealised profit and loss by share, charges beside them, since the beginning."""
    return shown(view, form, "Profit and loss", ("pnl", "contribution"), lambda: pnl_answer(view))


@router.get("/trades", responses=OWN)
def trades(view: ViewDep) -> TradesAnswer:
    """Win rate, profit factor and expectancy of closed trades, after charges."""
    return TradesAnswer.of(view.asked, view.analysis)


@router.get("/benchmark", response_model=BenchmarkAnswer, responses=OWN)
def benchmark(view: ViewDep, form: FormatQuery) -> Any:
    """The portfolio beside the benchmark (NIFTY 50) over the same days."""
    return shown(view, form, "Beside the benchmark", ("performance", "rolling"), lambda: benchmark_answer(view))


@router.get("/history", responses=OWN)
def history(
    view: ViewDep, limit: Annotated[int, Query(ge=1, le=HISTORY_MAX, description="Days at most.")] = HISTORY_DEFAULT
) -> HistoryAnswer:
    """Value, cash, flow and return of every day, oldest first."""
    return HistoryAnswer.of(view.asked, view.analysis, view.series, limit)


@router.get("/page", response_class=Response, responses={200: {"content": {"text/html": {}}}, **OWN})
def page(view: ViewDep) -> Response:
    """All charts on one self-contained HTML page."""
    return shown(view, "html", "Portfolio", PARTS, lambda: None)


@router.get("/smallcases", responses=OWN)
def smallcases(session: SessionDep, subject: Subject) -> SmallcasesAnswer:
    """What was put into smallcases and taken out, by investment."""
    items = [SmallcaseView.of(sums) for sums in smallcase_results.of_user(session, subject)]
    return SmallcasesAnswer(user_id=subject, items=items)


@router.get("/platform")
def platform(
    session: SessionDep,
    clock: ClockDep,
    _: OpsUser,
    since: Annotated[DayInput | None, Query(description="First trading day; default: all days.")] = None,
    top: Annotated[int, Query(ge=1, le=TOP_MAX, description="How many shares and reasons at most.")] = TOP_DEFAULT,
) -> PlatformAnalytics:
    """What all users did together; for operators."""
    return PlatformAnalytics.of(platform_summary(session, since=since, top=top), clock.now())
