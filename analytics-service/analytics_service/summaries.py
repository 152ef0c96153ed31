"""Reading the model: what one user did, and what the platform did. Amounts are integer paise, quantities units."""

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, cast, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from analytics_service import smallcase_results
from analytics_service.models import CashFlow, OrderBlock, OrderFact, Trade
from analytics_service.smallcase_results import Baskets

TOP_DEFAULT = 10
TOP_MAX = 100


@dataclass(frozen=True)
class Traded:
    """Sums over trades; bought and sold are values without charges."""

    bought_paise: int
    sold_paise: int
    charges_paise: int
    trade_count: int


@dataclass(frozen=True)
class ShareSummary:
    """One share of one user. `net_cost_paise` is what went in minus what came out, without charges."""

    exchange: str
    tradingsymbol: str
    bought_quantity: int
    sold_quantity: int
    bought_paise: int
    sold_paise: int
    charges_paise: int

    @property
    def quantity(self) -> int:
        """Units bought and not sold; negative while an intraday sale is open."""
        return self.bought_quantity - self.sold_quantity

    @property
    def net_cost_paise(self) -> int:
        """Negative when more came out than went in."""
        return self.bought_paise - self.sold_paise


@dataclass(frozen=True)
class UserSummary:
    """Everything the model says of one user without knowing a price."""

    user_id: UUID
    deposits_paise: int
    withdrawals_paise: int
    traded: Traded
    orders_by_status: dict[str, int]
    shares: list[ShareSummary]


@dataclass(frozen=True)
class ShareVolume:
    """What was traded of one share, both sides."""

    exchange: str
    tradingsymbol: str
    quantity: int
    amount_paise: int
    trade_count: int


@dataclass(frozen=True)
class Aggregation:
    """How many users' orders went to the broker together: legs of blocks, and blocks."""

    user_legs: int
    blocks: int

    @property
    def ratio(self) -> float | None:
        """User legs per block; None before the first block."""
        return self.user_legs / self.blocks if self.blocks else None


@dataclass(frozen=True)
class PlatformSummary:
    """What all users did since a day."""

    users_active: int
    traded: Traded
    orders_by_status: dict[str, int]
    top_shares: list[ShareVolume]
    reject_reasons: dict[str, int]
    aggregation: Aggregation
    top_smallcases: list[Baskets]


def _sum(column: InstrumentedAttribute[int], *conditions: ColumnElement[bool]) -> ColumnElement[int]:
    # PostgreSQL sums BIGINT to NUMERIC; a total of paise fits BIGINT by far.
    total = func.sum(column).filter(*conditions) if conditions else func.sum(column)
    return cast(func.coalesce(total, 0), BigInteger)


BUY = Trade.side == "BUY"
SELL = Trade.side == "SELL"
TRADED = Trade.quantity > 0


def _traded(session: Session, *conditions: ColumnElement[bool]) -> Traded:
    row = session.execute(
        select(
            _sum(Trade.amount_paise, BUY),
            _sum(Trade.amount_paise, SELL),
            _sum(Trade.charges_paise),
            func.count().filter(TRADED),
        ).where(*conditions)
    ).one()
    return Traded(*row)


def _orders_by_status(session: Session, *conditions: ColumnElement[bool]) -> dict[str, int]:
    statement = select(OrderFact.status, func.count()).where(*conditions).group_by(OrderFact.status)
    return dict(session.execute(statement.order_by(OrderFact.status)).all())


def user_summary(session: Session, user_id: UUID) -> UserSummary:
    """One user's flows, trades, orders and shares; zeros for a user who has done nothing yet."""
    deposits, withdrawals = session.execute(
        select(
            _sum(CashFlow.amount_paise, CashFlow.kind != "WITHDRAWAL"),
            _sum(CashFlow.amount_paise, CashFlow.kind == "WITHDRAWAL"),
        ).where(CashFlow.user_id == user_id)
    ).one()
    shares = session.execute(
        select(
            Trade.exchange,
            Trade.tradingsymbol,
            _sum(Trade.quantity, BUY),
            _sum(Trade.quantity, SELL),
            _sum(Trade.amount_paise, BUY),
            _sum(Trade.amount_paise, SELL),
            _sum(Trade.charges_paise),
        )
        .where(Trade.user_id == user_id)
        .group_by(Trade.exchange, Trade.tradingsymbol)
        .order_by(Trade.tradingsymbol, Trade.exchange)
    )
    return UserSummary(
        user_id=user_id,
        deposits_paise=deposits,
        withdrawals_paise=withdrawals,
        traded=_traded(session, Trade.user_id == user_id),
        orders_by_status=_orders_by_status(session, OrderFact.user_id == user_id),
        shares=[ShareSummary(*row) for row in shares],
    )


def platform_summary(session: Session, *, since: date | None = None, top: int = TOP_DEFAULT) -> PlatformSummary:
    """All users' orders and trades of trading days from `since` on; shares and reasons are the `top` most frequent."""
    of_orders = (OrderFact.trading_date >= since,) if since is not None else ()
    of_trades = (Trade.trading_date >= since,) if since is not None else ()
    volume = _sum(Trade.amount_paise)
    shares = session.execute(
        select(Trade.exchange, Trade.tradingsymbol, _sum(Trade.quantity), volume, func.count().filter(TRADED))
        .where(*of_trades)
        .group_by(Trade.exchange, Trade.tradingsymbol)
        .order_by(volume.desc(), Trade.tradingsymbol, Trade.exchange)
        .limit(top)
    )
    reason = func.coalesce(OrderFact.reason_code, "unknown")
    reasons = session.execute(
        select(reason, func.count())
        .where(OrderFact.status == "REJECTED", *of_orders)
        .group_by(reason)
        .order_by(func.count().desc(), reason)
        .limit(top)
    )
    users = select(func.count(OrderFact.user_id.distinct())).where(*of_orders)
    return PlatformSummary(
        users_active=session.execute(users).scalar_one(),
        traded=_traded(session, *of_trades),
        orders_by_status=_orders_by_status(session, *of_orders),
        top_shares=[ShareVolume(*row) for row in shares],
        reject_reasons=dict(reasons.all()),
        aggregation=_aggregation(session, since),
        top_smallcases=smallcase_results.of_platform(session, since, top),
    )


def _aggregation(session: Session, since: date | None) -> Aggregation:
    statement = select(func.count(OrderBlock.order_id), func.count(OrderBlock.block_id.distinct()))
    if since is not None:
        of_days = select(OrderFact.order_id).where(OrderFact.trading_date >= since)
        statement = statement.where(OrderBlock.order_id.in_(of_days))
    return Aggregation(*session.execute(statement).one())
