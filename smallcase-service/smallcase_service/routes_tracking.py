"""/api/v1/smallcases/{smallcase_id}: performance, chart, and how a user's own investment has done."""

from datetime import date
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query

from common.auth import User
from common.clock import DayInput, trading_date
from common.db import Database
from common.dependencies import ClockDep, DatabaseDep, MarketDep
from common.errors import Unavailable
from common.market_data import MarketData
from smallcase_service import baskets, investments, service
from smallcase_service.dependencies import SettingsDep
from smallcase_service.investment_flows import cash_flows
from smallcase_service.money_weighted import Flow, xirr
from smallcase_service.schemas_tracking import HistoryOut, InvestmentPerformance, Performance
from smallcase_service.tracking import VERSIONS_MAX, Basis, Tracked, track

router = APIRouter(prefix="/api/v1", tags=["performance"])

POINTS_MAX = 2_000
POINTS_DEFAULT = 400
BasisQuery = Annotated[
    Literal["auto", "live", "backtest"],
    Query(description="`live`: since the first version; `backtest`: today's composition before it existed;"
          " `auto`: live as soon as it has a month of closes."),
]  # fmt: skip
LIVE_VALUES_MIN = 21


@router.get("/smallcases/{smallcase_id}/performance")
def performance(
    smallcase_id: UUID,
    user: User,
    db: DatabaseDep,
    market: MarketDep,
    clock: ClockDep,
    settings: SettingsDep,
    basis: BasisQuery = "auto",
) -> Performance:
    """Returns, risk, volatility label, benchmark and what each share has contributed; from stored closes."""
    tracked = _tracked(db, market, trading_date(clock.now()), user.user_id, smallcase_id, basis)
    return Performance.of(smallcase_id, tracked, settings.risk_free_rate())


@router.get("/smallcases/{smallcase_id}/history")
def history(
    smallcase_id: UUID,
    user: User,
    db: DatabaseDep,
    market: MarketDep,
    clock: ClockDep,
    basis: BasisQuery = "auto",
    first: Annotated[DayInput | None, Query(alias="from")] = None,
    last: Annotated[DayInput | None, Query(alias="to")] = None,
    points: Annotated[int, Query(ge=2, le=POINTS_MAX)] = POINTS_DEFAULT,
) -> HistoryOut:
    """The chart: index and benchmark, one point a day, thinned to at most `points`."""
    tracked = _tracked(db, market, trading_date(clock.now()), user.user_id, smallcase_id, basis)
    return HistoryOut.of(smallcase_id, tracked, first, last, points)


def _tracked(
    db: Database,
    market: MarketData,
    today: date,
    user_id: UUID,
    smallcase_id: UUID,
    basis: Literal["auto", "live", "backtest"],
) -> Tracked:
    # A transaction of its own, over before market data is asked.
    with db.transaction() as session:
        versions = service.versions(session, user_id, smallcase_id, limit=VERSIONS_MAX)
    wanted: Basis = "live" if basis == "auto" else basis
    tracked = track(market, today, versions, wanted)
    if basis == "auto" and len(tracked.series.days) < LIVE_VALUES_MIN:
        return track(market, today, versions, "backtest")
    return tracked


@router.get("/investments/{investment_id}/performance")
def investment_performance(
    investment_id: UUID, user: User, db: DatabaseDep, market: MarketDep, clock: ClockDep
) -> InvestmentPerformance:
    """The caller's own return on an investment: XIRR over the fills, with charges, and the value now."""
    with db.transaction() as session:
        investments.investment_of(session, user.user_id, investment_id)
        flows = cash_flows(session, investment_id)
        money = investments.flows(session, [investment_id])[investment_id]
        held = baskets.holdings(session, [investment_id])[investment_id]
    today = trading_date(clock.now())
    value, rate, note = _value(market, held), None, None
    if value is None:
        note = "the investment can not be valued now: a price is missing"
    else:
        rate = xirr([Flow(on, paise) for on, paise in flows], value, today)
        if rate is None:
            note = "no rate solves these flows: nothing was bought, all happened on one day, or everything is lost"
    return InvestmentPerformance(
        investment_id=investment_id,
        as_of=today,
        invested=money.bought_paise,
        returned=money.sold_paise,
        charges=money.charges_paise,
        current_value=value,
        profit=value + money.sold_paise - money.bought_paise - money.charges_paise if value is not None else None,
        xirr=rate,
        note=note,
        flows=len(flows),
    )


def _value(market: MarketData, held: dict[tuple[str, str], int]) -> int | None:
    try:
        prices = market.prices(held)
    except Unavailable:
        return None
    if any(key not in prices for key in held):
        return None
    return sum(units * prices[key].price_paise for key, units in held.items())
