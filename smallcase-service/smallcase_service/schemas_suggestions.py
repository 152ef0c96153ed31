"""Requests and answers of suggestions, and of rebalancing a smallcase by a strategy."""

from datetime import date
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field, model_validator

from common.money import BPS_ONE, Rupees, SignedRupees
from smallcase_service.attributes import RiskLevel
from smallcase_service.composition import CONSTITUENTS_MAX
from smallcase_service.methods import METHOD_OF_RISK, METHODS, MethodName
from smallcase_service.returns import between
from smallcase_service.schemas import VERSION_MAX, Body, ConstituentIn, Exchange, ExpectedOut, Reason, Symbol
from smallcase_service.schemas_tracking import PeriodOut, RiskOut
from smallcase_service.suggestions import UNIVERSE_MAX, Line, Suggestion, WalkForward, in_words
from smallcase_service.weighting import CAP_DEFAULT_BPS

CHART_POINTS_MAX = 200

Strategy = Literal[
    "equal", "market_cap", "inverse_volatility", "momentum", "minimum_variance", "hierarchical_risk_parity",
    "maximum_sharpe",
]  # fmt: skip


class Share(Body):
    """One share."""

    exchange: Exchange = "NSE"
    tradingsymbol: Symbol


class SuggestionIn(Body):
    """What to choose from (a named universe or own shares), for how much money, at which risk.

    The risk level picks the method (low: minimum variance, medium: hierarchical risk parity, high: maximum Sharpe) unless
    one is named. No weight is above `max_weight_bps`, or 1.5 times the equal weight where that is more.
    """

    universe: Annotated[str | None, Field(max_length=40, pattern=r"^[a-z0-9_]+$")] = None
    shares: Annotated[list[Share] | None, Field(min_length=1, max_length=UNIVERSE_MAX)] = None
    exclusions: Annotated[tuple[Share, ...], Field(max_length=UNIVERSE_MAX)] = ()
    budget: Rupees
    risk_level: RiskLevel = "medium"
    method: MethodName | None = None
    max_weight_bps: Annotated[int, Field(strict=True, ge=100, le=BPS_ONE)] = 2_500

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.universe is None) == (self.shares is None):
            raise ValueError("name either `universe` or `shares`")
        return self

    @property
    def chosen_method(self) -> MethodName:
        """The method named, or that of the risk level."""
        return self.method or METHOD_OF_RISK[self.risk_level]


class SuggestedShare(BaseModel):
    """One share, its weight, and what the budget buys of it now."""

    exchange: str
    tradingsymbol: str
    weight_bps: int
    price: SignedRupees | None
    quantity: int | None
    amount: SignedRupees | None


class WholeSharePlan(BaseModel):
    """Whole shares for the budget, or why there is none. Money is kept aside for charges."""

    minimum_investment: SignedRupees | None
    cost: SignedRupees | None
    leftover: SignedRupees | None
    note: str | None


class FrontierPoint(BaseModel):
    """Yearly in-sample return and volatility of one point of the efficient frontier."""

    mean: float
    volatility: float


class ChartPoint(BaseModel):
    """Closing values of one day, all from 100."""

    date: date
    suggestion: float
    equal_weight: float
    benchmark: float | None


class LineOut(BaseModel):
    """The whole test of one line."""

    total: PeriodOut
    risk: RiskOut | None

    @classmethod
    def of(cls, line: Line, days: tuple[date, ...]) -> Self:
        """From its values."""
        total = between(days, line.values, 0, len(days) - 1)
        return cls(total=PeriodOut.model_validate(total), risk=RiskOut.model_validate(line.risk) if line.risk else None)


class BacktestOut(BaseModel):
    """The walk-forward test beside equal weights of all offered shares and the index, thinned for a chart."""

    kind: Literal["walk_forward"] = "walk_forward"
    first: date
    last: date
    refits: int
    suggestion: LineOut
    equal_weight: LineOut
    benchmark_name: str | None
    benchmark: LineOut | None
    points: list[ChartPoint]

    @classmethod
    def of(cls, walked: WalkForward, benchmark_name: str) -> Self:
        """At most CHART_POINTS_MAX points, the last day among them."""
        days, last = walked.days, len(walked.days) - 1
        step = -(-len(days) // CHART_POINTS_MAX)
        market = walked.benchmark
        return cls(
            first=days[0],
            last=days[-1],
            refits=walked.refits,
            suggestion=LineOut.of(walked.suggestion, days),
            equal_weight=LineOut.of(walked.equal, days),
            benchmark_name=benchmark_name if market else None,
            benchmark=LineOut.of(market, days) if market else None,
            points=[
                ChartPoint(
                    date=days[place],
                    suggestion=round(float(walked.suggestion.values[place]), 4),
                    equal_weight=round(float(walked.equal.values[place]), 4),
                    benchmark=round(float(market.values[place]), 4) if market else None,
                )
                for place in range(len(days))
                if (last - place) % step == 0
            ],
        )


class SuggestionOut(BaseModel):
    """Suggested weights and what they are worth; nothing has been made or ordered."""

    method: MethodName
    title: str
    in_words: list[str]
    first: date
    last: date
    values: int
    offered: int
    constituents: list[SuggestedShare]
    expected_returns: ExpectedOut | None
    frontier: list[FrontierPoint]
    backtest: BacktestOut
    plan: WholeSharePlan

    @classmethod
    def of(
        cls, suggestion: Suggestion, offered: int, shares: list[SuggestedShare], plan: WholeSharePlan, benchmark: str
    ) -> Self:
        """The public form."""
        return cls(
            method=suggestion.method,
            title=METHODS[suggestion.method].title,
            in_words=in_words(suggestion),
            first=suggestion.first,
            last=suggestion.last,
            values=suggestion.values,
            offered=offered,
            constituents=shares,
            expected_returns=ExpectedOut.model_validate(suggestion.expected) if suggestion.expected else None,
            frontier=[FrontierPoint(mean=mean, volatility=volatility) for mean, volatility in suggestion.frontier],
            backtest=BacktestOut.of(suggestion.walk_forward, benchmark),
            plan=plan,
        )


class MarketValueIn(Share):
    """The free-float market value of a share."""

    market_value: Rupees


class RebalanceSuggestionIn(Body):
    """The strategy; `market_cap` takes a market value of every share and the largest weight."""

    strategy: Strategy
    cap_bps: Annotated[int, Field(strict=True, ge=1, le=BPS_ONE)] = CAP_DEFAULT_BPS
    market_values: Annotated[tuple[MarketValueIn, ...], Field(max_length=CONSTITUENTS_MAX)] = ()


class SuggestedChange(BaseModel):
    """One share: weights in basis points. `current_weight` has drifted with the prices since the last composition."""

    exchange: str
    tradingsymbol: str
    version_weight: int
    current_weight: int
    suggested_weight: int
    weight_change: int
    action: Literal["increase", "decrease", "hold"]
    reason: str


class RebalanceSuggestion(BaseModel):
    """What a strategy would make of a smallcase; apply it with POST .../rebalance/apply."""

    smallcase_id: UUID
    version: int
    strategy: Strategy
    note: str
    in_words: list[str]
    changes: list[SuggestedChange]


class RebalanceApplyIn(Body):
    """The weights that were seen and are wanted, the version they are for, and why."""

    version: int = Field(strict=True, ge=1, le=VERSION_MAX)
    strategy: Strategy
    constituents: Annotated[list[ConstituentIn], Field(min_length=1, max_length=CONSTITUENTS_MAX)]
    reason: Reason
