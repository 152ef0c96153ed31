"""Answers about how portfolios did. Amounts are rupee strings; ratios are numbers, 0.0123 for 1.23 %, null when unknown."""

from dataclasses import asdict
from datetime import date
from typing import Self
from uuid import UUID

import numpy as np
from pydantic import BaseModel

from analytics_service import returns, risk
from analytics_service.analysis import Analysis, ShareResult
from analytics_service.returns import MonthReturn, PeriodReturn, Series, to_date
from analytics_service.risk import Against, Drawdown, ValueAtRisk
from analytics_service.trade_statistics import statistics
from common.money import SignedRupees


class Asked(BaseModel):
    """Whose figures of which days an answer is about. `first` and `last` are null while nothing has happened."""

    user_id: UUID
    portfolio_id: UUID | None
    first: date | None
    last: date | None


class PerformanceBlock(BaseModel):
    """The few figures that say most."""

    value: SignedRupees
    cash: SignedRupees
    put_in: SignedRupees
    profit: SignedRupees
    total_return: float
    cagr: float | None
    xirr: float | None
    volatility: float | None
    sharpe: float | None
    max_drawdown: float | None

    @classmethod
    def of(cls, analysis: Analysis, risk_free: float) -> Self:
        """Of all days."""
        moves = analysis.series.returns
        return cls(
            value=analysis.value_paise,
            cash=analysis.cash_paise,
            put_in=analysis.put_in_paise,
            profit=analysis.value_paise - analysis.put_in_paise,
            total_return=returns.total_return(analysis.series),
            cagr=returns.cagr_of(analysis.series),
            xirr=returns.xirr(analysis.cash_flows()),
            volatility=risk.volatility(moves),
            sharpe=risk.sharpe(moves, risk_free),
            max_drawdown=risk.max_drawdown(analysis.series),
        )


class PeriodView(BaseModel):
    """The return of a period since the end of `since`; `annual` where it is a year or longer."""

    name: str
    since: date
    total: float
    annual: float | None
    benchmark_total: float | None = None

    @classmethod
    def of(cls, period: PeriodReturn, benchmark: Series) -> Self:
        """With the benchmark's return from the same day on."""
        at = int((benchmark.days <= np.datetime64(period.since)).sum()) - 1
        other = float(benchmark.index[-1] / benchmark.index[at] - 1) if len(benchmark) and at >= 0 else None
        if period.name == "all" and len(benchmark):
            other = returns.total_return(benchmark)
        return cls(**asdict(period), benchmark_total=other)


class MonthView(BaseModel):
    """The return of a calendar month."""

    year: int
    month: int
    total: float

    @classmethod
    def of(cls, month: MonthReturn) -> Self:
        """As computed."""
        return cls(**asdict(month))


class ReturnsAnswer(Asked):
    """Returns: time-weighted over the days asked for, money-weighted, by period and month."""

    total_return: float
    cagr: float | None
    xirr: float | None
    modified_dietz: float | None
    periods: list[PeriodView]
    months: list[MonthView]


class DrawdownView(BaseModel):
    """A fall from a peak; `recovered` is null while it lasts."""

    depth: float
    peak: date
    trough: date
    recovered: date | None

    @classmethod
    def of(cls, fall: Drawdown) -> Self:
        """As computed."""
        return cls(**asdict(fall))


class ValueAtRiskView(BaseModel):
    """One day's loss as a positive ratio."""

    var_95: float
    cvar_95: float
    var_99: float
    cvar_99: float

    @classmethod
    def of(cls, value: ValueAtRisk | None) -> Self | None:
        """As computed."""
        return cls(**asdict(value)) if value is not None else None


class AgainstView(BaseModel):
    """Beside a benchmark, on common days."""

    days: int
    beta: float | None
    alpha: float | None
    tracking_error: float | None
    information_ratio: float | None
    correlation: float | None

    @classmethod
    def of(cls, against: Against) -> Self:
        """As computed."""
        return cls(**asdict(against))


class RiskAnswer(Asked):
    """Risk of the days asked for."""

    risk_free: float
    volatility: float | None
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    max_drawdown: float | None
    drawdowns: list[DrawdownView]
    benchmark: str
    against_benchmark: AgainstView
    var_historical: ValueAtRiskView | None
    var_normal: ValueAtRiskView | None
    diversification: float | None
    effective_shares: float | None


class HoldingPart(BaseModel):
    """A part of what is held; `weight` of all that is worth anything, cash included."""

    name: str
    value: SignedRupees
    weight: float


class AllocationAnswer(Asked):
    """What the money is in, largest first."""

    value: SignedRupees
    cash: SignedRupees
    by_share: list[HoldingPart]
    by_sector: list[HoldingPart]
    diversification: float | None
    effective_shares: float | None

    @classmethod
    def of(cls, asked: Asked, analysis: Analysis) -> Self:
        """Of the last day."""
        held = [share for share in analysis.shares if share.quantity]
        spread = risk.diversification([share.value_paise for share in held])
        total = analysis.value_paise
        by_sector: dict[str, int] = {}
        for share in held:
            by_sector[share.sector] = by_sector.get(share.sector, 0) + share.value_paise
        return cls(
            **asked.model_dump(),
            value=total,
            cash=analysis.cash_paise,
            by_share=_parts([(share_name(share), share.value_paise) for share in held], total),
            by_sector=_parts(list(by_sector.items()), total),
            diversification=spread[0] if spread else None,
            effective_shares=spread[1] if spread else None,
        )


def _parts(values: list[tuple[str, int]], total: int) -> list[HoldingPart]:
    return [
        HoldingPart(name=name, value=paise, weight=paise / total if total > 0 else 0.0)
        for name, paise in sorted(values, key=lambda part: (-part[1], part[0]))
    ]


def share_name(share: ShareResult) -> str:
    """The symbol, with its exchange where that is not NSE."""
    return share.tradingsymbol if share.exchange == "NSE" else f"{share.exchange}:{share.tradingsymbol}"


class SharePnl(BaseModel):
    """What one share gained. `net` is after all charges."""

    exchange: str
    tradingsymbol: str
    sector: str
    quantity: int
    cost: SignedRupees
    price: SignedRupees
    value: SignedRupees
    realised: SignedRupees
    unrealised: SignedRupees
    charges: SignedRupees
    net: SignedRupees
    contribution: float | None
    """Its part of the return on the mean capital at work (Modified Dietz); the parts add up to the whole."""

    @classmethod
    def of(cls, share: ShareResult, capital: float | None) -> Self:
        """From paise; `capital` is the mean capital at work."""
        return cls(
            exchange=share.exchange,
            tradingsymbol=share.tradingsymbol,
            sector=share.sector,
            quantity=share.quantity,
            cost=share.cost_paise,
            price=share.price_paise,
            value=share.value_paise,
            realised=share.realised_paise,
            unrealised=share.unrealised_paise,
            charges=share.realised_charges_paise + share.open_charges_paise,
            net=share.net_paise,
            contribution=share.net_paise / capital if capital else None,
        )


class PnlAnswer(Asked):
    """Profit and loss since the beginning: `net` = realised + unrealised - charges, and = value - put in."""

    realised: SignedRupees
    unrealised: SignedRupees
    charges: SignedRupees
    net: SignedRupees
    shares: list[SharePnl]


class ContributionAnswer(Asked):
    """What each share added to the return since the beginning, most first."""

    modified_dietz: float | None
    mean_capital: SignedRupees | None
    shares: list[SharePnl]


class TradesAnswer(Asked):
    """How well closed trades went, after charges. A trade is an order that closed lots."""

    closed: int
    wins: int
    losses: int
    win_rate: float | None
    gross_win: SignedRupees
    gross_loss: SignedRupees
    profit_factor: float | None
    expectancy: SignedRupees | None
    average_win: SignedRupees | None
    average_loss: SignedRupees | None
    best: SignedRupees | None
    worst: SignedRupees | None
    average_days_held: float | None

    @classmethod
    def of(cls, asked: Asked, analysis: Analysis) -> Self:
        """Of trades closed on the days asked for."""
        found = statistics(analysis.closed.between(asked.first, asked.last))
        return cls(
            **asked.model_dump(),
            closed=found.closed_count,
            wins=found.win_count,
            losses=found.loss_count,
            win_rate=found.win_rate,
            gross_win=found.gross_win_paise,
            gross_loss=found.gross_loss_paise,
            profit_factor=found.profit_factor,
            expectancy=found.expectancy_paise,
            average_win=found.average_win_paise,
            average_loss=found.average_loss_paise,
            best=found.best_paise,
            worst=found.worst_paise,
            average_days_held=found.average_days_held,
        )


class BenchmarkAnswer(Asked):
    """The portfolio beside the benchmark over the same days."""

    benchmark: str
    total_return: float
    benchmark_total_return: float | None
    excess_return: float | None
    volatility: float | None
    benchmark_volatility: float | None
    max_drawdown: float | None
    benchmark_max_drawdown: float | None
    against: AgainstView


class DayValue(BaseModel):
    """The end of one day; `index` starts from 1 before the first day asked for."""

    date: date
    value: SignedRupees
    cash: SignedRupees
    flow: SignedRupees
    daily_return: float
    index: float


class HistoryAnswer(Asked):
    """Daily values, oldest first; `next` is the `from` of the next page, null at the end."""

    items: list[DayValue]
    next: date | None

    @classmethod
    def of(cls, asked: Asked, analysis: Analysis, series: Series, limit: int) -> Self:
        """The first `limit` days asked for."""
        if not len(series):
            return cls(**asked.model_dump(), items=[], next=None)
        begin = int((analysis.days < series.days[0]).sum())
        items = [
            DayValue(
                date=to_date(series.days[at]),
                value=int(analysis.values[begin + at]),
                cash=int(analysis.cash[begin + at]),
                flow=int(analysis.flows[begin + at]),
                daily_return=float(series.returns[at]),
                index=float(series.index[at]),
            )
            for at in range(min(limit, len(series)))
        ]
        more = to_date(series.days[limit]) if len(series) > limit else None
        return cls(**asked.model_dump(), items=items, next=more)
