"""Answer bodies of performance. Returns are fractions (0.1 is 10 %), index values start at 100."""

from collections.abc import Mapping
from datetime import date
from typing import Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from common.money import SignedRupees
from smallcase_service.index_value import BASE, Values
from smallcase_service.returns import PeriodReturn, Risk, between, period_returns, risk
from smallcase_service.tracking import Basis, Benchmark, State, Tracked
from smallcase_service.universes import large_cap_bps
from smallcase_service.volatility_label import Label, volatility_label

EQUITY_BPS = 10_000
"""Every constituent is a share or a fund that trades like one."""
TRACKING_METHODS: Mapping[str, str] = {
    "live": (
        "Index from 100 at the close of the first day: split by the weights, held, split again at each new composition."
        " Closes only; without dividends, costs and taxes."
    ),
    "backtest": (
        "Today's composition held from the first day on which all its shares have closes. It was chosen knowing these"
        " prices, so nobody could have had this return. Closes only; without dividends, costs and taxes."
    ),
}


class PeriodOut(BaseModel):
    """A return: absolute below one year, otherwise a yearly rate (CAGR)."""

    model_config = ConfigDict(from_attributes=True)

    first: date
    last: date
    value: float
    is_annual: bool


class DrawdownOut(BaseModel):
    """The deepest fall from a peak."""

    model_config = ConfigDict(from_attributes=True)

    value: float
    peak: date
    trough: date


class RiskOut(BaseModel):
    """Risk of the daily returns; null where the figure can not be given."""

    model_config = ConfigDict(from_attributes=True)

    volatility: float
    sharpe: float | None
    max_drawdown: DrawdownOut
    beta: float | None
    alpha: float | None
    values: int


class LabelOut(BaseModel):
    """The measured volatility label and the ratio it comes from."""

    model_config = ConfigDict(from_attributes=True)

    label: Label
    ratio: float | None
    basis: str


class BenchmarkOut(BaseModel):
    """The index that is compared with: the wanted one, or another and why; its returns of the same periods."""

    wanted: str
    name: str | None
    note: str | None
    returns: dict[str, PeriodOut | None]
    since_start: PeriodOut | None


class AttributionOut(BaseModel):
    """Index points that a share has contributed since the start; they sum to the value less 100."""

    exchange: str
    tradingsymbol: str
    points: float
    weight_now_bps: int | None


class Performance(BaseModel):
    """How the smallcase has done on one basis. `state`: `ok`; `collecting` while candles still arrive (ask again); or why
    there is nothing yet: `too_young` (no close since the first version), `no_closes` (a share has none)."""

    smallcase_id: UUID
    basis: Basis
    state: State
    method: str
    first: date | None
    as_of: date | None
    value: float | None
    returns: dict[str, PeriodOut | None]
    since_start: PeriodOut | None
    risk: RiskOut | None
    risk_free_rate: float
    volatility_label: LabelOut
    benchmark: BenchmarkOut
    attribution: list[AttributionOut]
    rebalanced_on: list[date]

    @classmethod
    def of(cls, smallcase_id: UUID, tracked: Tracked, risk_free: float) -> Self:
        """From the tracked index."""
        series, benchmark = tracked.series, tracked.benchmark
        days, values = series.days, series.values
        live = tracked.basis == "live"
        label = volatility_label(
            values if live else values[:0],
            benchmark.values if live else None,
            equity_bps=EQUITY_BPS,
            large_cap_bps=large_cap_bps(tracked.weights_bps),
        )
        figures: Risk | None = risk(days, values, risk_free, benchmark.values)
        return cls.model_validate(
            {
                "smallcase_id": smallcase_id,
                "basis": tracked.basis,
                "state": tracked.state,
                "method": TRACKING_METHODS[tracked.basis],
                "first": days[0] if days else None,
                "as_of": days[-1] if days else None,
                "value": float(values[-1]) if days else None,
                "returns": _periods(days, values),
                "since_start": _since_start(days, values),
                "risk": RiskOut.model_validate(figures) if figures else None,
                "risk_free_rate": risk_free,
                "volatility_label": LabelOut.model_validate(label),
                "benchmark": _benchmark(benchmark, days),
                "attribution": _attribution(tracked),
                "rebalanced_on": list(series.splits[1:]),
            }
        )


class HistoryPoint(BaseModel):
    """Closing value of one day; the benchmark starts at 100 with the smallcase."""

    date: date
    value: float
    benchmark: float | None


class HistoryOut(BaseModel):
    """The chart of a smallcase, oldest first; with many days only every n-th, always the last."""

    smallcase_id: UUID
    basis: Basis
    state: State
    method: str
    benchmark: str | None
    benchmark_note: str | None
    days: int
    points: list[HistoryPoint]

    @classmethod
    def of(cls, smallcase_id: UUID, tracked: Tracked, first: date | None, last: date | None, most: int) -> Self:
        """The points of the days asked for, at most `most`."""
        days, market = tracked.series.days, tracked.benchmark.values
        inside = [i for i, day in enumerate(days) if (first is None or day >= first) and (last is None or day <= last)]
        step = -(-len(inside) // most)
        shown = [place for place in inside if (inside[-1] - place) % step == 0] if inside else []
        return cls(
            smallcase_id=smallcase_id,
            basis=tracked.basis,
            state=tracked.state,
            method=TRACKING_METHODS[tracked.basis],
            benchmark=tracked.benchmark.used,
            benchmark_note=tracked.benchmark.note,
            days=len(inside),
            points=[
                HistoryPoint(
                    date=days[place],
                    value=round(float(tracked.series.values[place]), 4),
                    benchmark=round(float(market[place] / market[0] * BASE), 4) if market is not None else None,
                )
                for place in shown
            ],
        )


class CategoryPerformance(BaseModel):
    """Mean returns of the published smallcases of one category; `measured` of them have the figure."""

    category: str
    smallcases: int
    basis: Literal["backtest"]
    returns: dict[str, float | None]
    measured: dict[str, int]


class CategoriesOut(BaseModel):
    """Categories by name. `is_partial`: candles still arrive, or there are more smallcases than are looked at."""

    items: list[CategoryPerformance]
    method: str
    is_partial: bool


class InvestmentPerformance(BaseModel):
    """How the user's own money has done: XIRR of all fills with charges, the present value as last flow.

    `xirr` is null when no rate solves it (all on one day, nothing left and nothing back), `note` says why.
    """

    investment_id: UUID
    as_of: date
    invested: SignedRupees
    returned: SignedRupees
    charges: SignedRupees
    current_value: SignedRupees | None
    profit: SignedRupees | None
    xirr: float | None
    note: str | None
    flows: int


def _periods(days: tuple[date, ...], values: Values) -> dict[str, PeriodOut | None]:
    found: dict[str, PeriodReturn | None] = period_returns(days, values)
    return {name: PeriodOut.model_validate(period) if period else None for name, period in found.items()}


def _since_start(days: tuple[date, ...], values: Values) -> PeriodOut | None:
    return PeriodOut.model_validate(between(days, values, 0, len(days) - 1)) if len(days) > 1 else None


def _benchmark(benchmark: Benchmark, days: tuple[date, ...]) -> BenchmarkOut:
    values = benchmark.values
    return BenchmarkOut(
        wanted=benchmark.wanted,
        name=benchmark.used,
        note=benchmark.note,
        returns=_periods(days, values) if values is not None else {},
        since_start=_since_start(days, values) if values is not None else None,
    )


def _attribution(tracked: Tracked) -> list[AttributionOut]:
    points = sorted(tracked.series.contributions.items(), key=lambda item: -item[1])
    now = tracked.series.weights_now
    return [
        AttributionOut(
            exchange=key[0],
            tradingsymbol=key[1],
            points=round(gained, 6),
            weight_now_bps=round(now[key] * EQUITY_BPS) if key in now else None,
        )
        for key, gained in points
    ]
