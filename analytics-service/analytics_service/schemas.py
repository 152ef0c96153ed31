"""Answers of the analytics routes. Rupees are decimal strings and instants Indian time here."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, PlainSerializer

from analytics_service.schemas_performance import PerformanceBlock
from analytics_service.smallcase_results import Baskets
from analytics_service.summaries import PlatformSummary, ShareSummary, ShareVolume, Traded, UserSummary
from common.clock import to_ist
from common.money import SignedRupees

IstDateTime = Annotated[datetime, PlainSerializer(lambda instant: to_ist(instant).isoformat(), return_type=str)]


class TradedView(BaseModel):
    """Sums over trades; bought and sold are values without charges."""

    bought: SignedRupees
    sold: SignedRupees
    charges: SignedRupees
    trade_count: int

    @classmethod
    def of(cls, traded: Traded) -> Self:
        """From paise."""
        return cls(
            bought=traded.bought_paise,
            sold=traded.sold_paise,
            charges=traded.charges_paise,
            trade_count=traded.trade_count,
        )


class ShareView(BaseModel):
    """One share: units held by trades, and what they cost net of sales (without charges)."""

    exchange: str
    tradingsymbol: str
    quantity: int
    bought_quantity: int
    sold_quantity: int
    bought: SignedRupees
    sold: SignedRupees
    net_cost: SignedRupees
    charges: SignedRupees

    @classmethod
    def of(cls, share: ShareSummary) -> Self:
        """From paise."""
        return cls(
            exchange=share.exchange,
            tradingsymbol=share.tradingsymbol,
            quantity=share.quantity,
            bought_quantity=share.bought_quantity,
            sold_quantity=share.sold_quantity,
            bought=share.bought_paise,
            sold=share.sold_paise,
            net_cost=share.net_cost_paise,
            charges=share.charges_paise,
        )


class UserAnalytics(BaseModel):
    """One user's flows of money, trades, orders and shares, over all portfolios."""

    user_id: UUID
    as_of: IstDateTime
    deposits: SignedRupees
    withdrawals: SignedRupees
    traded: TradedView
    orders_by_status: dict[str, int]
    shares: list[ShareView]
    performance: PerformanceBlock

    @classmethod
    def of(cls, summary: UserSummary, performance: PerformanceBlock, as_of: datetime) -> Self:
        """From paise."""
        return cls(
            user_id=summary.user_id,
            as_of=as_of,
            deposits=summary.deposits_paise,
            withdrawals=summary.withdrawals_paise,
            traded=TradedView.of(summary.traded),
            orders_by_status=summary.orders_by_status,
            shares=[ShareView.of(share) for share in summary.shares],
            performance=performance,
        )


class ShareVolumeView(BaseModel):
    """What was traded of one share, both sides."""

    exchange: str
    tradingsymbol: str
    quantity: int
    volume: SignedRupees
    trade_count: int

    @classmethod
    def of(cls, share: ShareVolume) -> Self:
        """From paise."""
        return cls(
            exchange=share.exchange,
            tradingsymbol=share.tradingsymbol,
            quantity=share.quantity,
            volume=share.amount_paise,
            trade_count=share.trade_count,
        )


class SmallcaseView(BaseModel):
    """What basket orders of a smallcase bought and sold; `investment_id` is null for all investments together."""

    smallcase_id: UUID
    smallcase_name: str
    investment_id: UUID | None
    investors: int
    baskets: int
    orders: int
    orders_filled: int
    bought: SignedRupees
    sold: SignedRupees
    net_invested: SignedRupees
    charges: SignedRupees

    @classmethod
    def of(cls, sums: Baskets) -> Self:
        """From paise."""
        return cls(
            smallcase_id=sums.smallcase_id,
            smallcase_name=sums.smallcase_name,
            investment_id=sums.investment_id,
            investors=sums.investors,
            baskets=sums.baskets,
            orders=sums.orders,
            orders_filled=sums.orders_filled,
            bought=sums.bought_paise,
            sold=sums.sold_paise,
            net_invested=sums.bought_paise - sums.sold_paise,
            charges=sums.charges_paise,
        )


class SmallcasesAnswer(BaseModel):
    """A user's investments in smallcases. What each is worth now is at /api/v1/smallcases."""

    user_id: UUID
    items: list[SmallcaseView]


class AggregationView(BaseModel):
    """Users' orders that went to the broker in blocks; `ratio` is legs per block, null before the first."""

    user_legs: int
    blocks: int
    ratio: float | None


class PlatformAnalytics(BaseModel):
    """All users: who was active, what was traded, how orders ended and why they were rejected."""

    as_of: IstDateTime
    users_active: int
    traded: TradedView
    orders_by_status: dict[str, int]
    top_shares: list[ShareVolumeView]
    reject_reasons: dict[str, int]
    reject_rate: float | None
    """Rejected orders of all orders."""
    aggregation: AggregationView
    top_smallcases: list[SmallcaseView]

    @classmethod
    def of(cls, summary: PlatformSummary, as_of: datetime) -> Self:
        """From paise."""
        orders = sum(summary.orders_by_status.values())
        together = summary.aggregation
        return cls(
            as_of=as_of,
            users_active=summary.users_active,
            traded=TradedView.of(summary.traded),
            orders_by_status=summary.orders_by_status,
            top_shares=[ShareVolumeView.of(share) for share in summary.top_shares],
            reject_reasons=summary.reject_reasons,
            reject_rate=summary.orders_by_status.get("REJECTED", 0) / orders if orders else None,
            aggregation=AggregationView(user_legs=together.user_legs, blocks=together.blocks, ratio=together.ratio),
            top_smallcases=[SmallcaseView.of(sums) for sums in summary.top_smallcases],
        )
