"""Answer bodies of investments. Rupees are decimal strings here, instants Indian time."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel

from common.market_data import Key, Price
from common.money import SignedRupees, round_paise
from smallcase_service import plan
from smallcase_service.composition import Constituent
from smallcase_service.investments import Flows, Position
from smallcase_service.models import AutoRebalance, Investment
from smallcase_service.schemas import IstDateTime
from smallcase_service.schemas_orders import average_price


class InvestmentOut(BaseModel):
    """A user's shares in one smallcase. `current_value` is null while prices can not be read.

    `profit` is value and sales less purchases and all charges.
    """

    investment_id: UUID
    smallcase_id: UUID
    smallcase_name: str
    portfolio_id: UUID
    version: int
    customised: bool
    auto_rebalance: bool
    status: str
    bought: SignedRupees
    sold: SignedRupees
    charges: SignedRupees
    current_value: SignedRupees | None
    profit: SignedRupees | None
    profit_bps: int | None
    created_at: IstDateTime
    closed_at: IstDateTime | None

    @classmethod
    def of(
        cls,
        investment: Investment,
        name: str,
        held: Mapping[Key, int],
        flows: Flows,
        prices: Mapping[Key, Price] | None,
    ) -> Self:
        """The public form of an investment at these prices."""
        return cls.model_validate(investment_fields(investment, name, held, flows, prices))


def investment_fields(
    investment: Investment, name: str, held: Mapping[Key, int], flows: Flows, prices: Mapping[Key, Price] | None
) -> dict[str, Any]:
    """The members that list and detail share."""
    value = None
    if prices is not None and all(key in prices for key in held):
        value = sum(units * prices[key].price_paise for key, units in held.items())
    profit = value + flows.sold_paise - flows.bought_paise - flows.charges_paise if value is not None else None
    bps = None
    if profit is not None and flows.bought_paise:
        bps = round_paise(Decimal(profit) * 10_000 / flows.bought_paise)
    return {
        "investment_id": investment.investment_id,
        "smallcase_id": investment.smallcase_id,
        "smallcase_name": name,
        "portfolio_id": investment.portfolio_id,
        "version": investment.version,
        "customised": investment.target is not None,
        "auto_rebalance": investment.auto_rebalance,
        "status": investment.status,
        "bought": flows.bought_paise,
        "sold": flows.sold_paise,
        "charges": flows.charges_paise,
        "current_value": value,
        "profit": profit,
        "profit_bps": bps,
        "created_at": investment.created_at,
        "closed_at": investment.closed_at,
    }


class InvestmentPage(BaseModel):
    """Newest first; ask for the rest with `cursor=<next_cursor>`."""

    items: list[InvestmentOut]
    next_cursor: UUID | None


class PositionOut(BaseModel):
    """One share of an investment; `drift_bps` is its weight less the weight that is followed."""

    exchange: str
    tradingsymbol: str
    held: int
    bought: int
    average_buy_price: str | None
    sold: int
    average_sell_price: str | None
    price: SignedRupees | None
    value: SignedRupees | None
    weight_bps: int | None
    target_weight_bps: int
    drift_bps: int | None


class AutoRebalanceOut(BaseModel):
    """What became of the automatic rebalance to one version. `next_try_at`: it could not be placed yet, or waits."""

    version: int
    status: str
    basket_order_id: UUID | None
    reason_code: str | None
    reason: str | None
    next_try_at: IstDateTime | None
    decided_at: IstDateTime | None

    @classmethod
    def of(cls, row: AutoRebalance) -> Self:
        """The public form of an automatic rebalance."""
        return cls(
            version=row.version,
            status=row.state,
            basket_order_id=row.basket_order_id,
            reason_code=row.reason_code,
            reason=row.reason,
            next_try_at=row.next_try_at,
            decided_at=row.decided_at,
        )


class AutoRebalanceSetting(BaseModel):
    """Whether an investment is rebalanced automatically, and when that was last switched."""

    investment_id: UUID
    auto_rebalance: bool
    changed_at: IstDateTime | None

    @classmethod
    def of(cls, investment: Investment, changed_at: datetime | None) -> Self:
        """The public form of the setting."""
        return cls(
            investment_id=investment.investment_id, auto_rebalance=investment.auto_rebalance, changed_at=changed_at
        )


class InvestmentDetail(InvestmentOut):
    """An investment share by share, and whether the smallcase has a newer composition than the one it follows.

    `auto_rebalances` are the latest versions it was to follow by itself, newest first.
    """

    newest_version: int
    update_available: bool
    working_order_id: UUID | None
    needs_repair: list[UUID]
    auto_rebalances: list[AutoRebalanceOut]
    positions: list[PositionOut]


def position_rows(
    positions: Sequence[Position], targets: Sequence[Constituent], prices: Mapping[Key, Price] | None
) -> list[PositionOut]:
    """Shares that are or were held and shares that are wanted, with their drift."""
    known = {position.key: position for position in positions}
    weights = {one.key: one.weight_bps for one in targets}
    keys = [*weights, *(key for key in known if key not in weights)]
    held = {key: known[key].held if key in known else 0 for key in keys}
    values: dict[Key, int] | None = None
    if prices is not None and all(key in prices for key, units in held.items() if units):
        values = {key: units * prices[key].price_paise if units else 0 for key, units in held.items()}
    shares = dict(zip(keys, plan.weights([values[key] for key in keys]), strict=True)) if values else {}
    rows = []
    for key in keys:
        position = known.get(key) or Position(key, 0, 0, 0, 0, 0)
        price = prices.get(key) if prices is not None else None
        target = weights.get(key, 0)
        rows.append(
            PositionOut(
                exchange=key[0],
                tradingsymbol=key[1],
                held=position.held,
                bought=position.bought,
                average_buy_price=average_price(position.bought_paise, position.bought),
                sold=position.sold,
                average_sell_price=average_price(position.sold_paise, position.sold),
                price=price.price_paise if price else None,
                value=values[key] if values else None,
                weight_bps=shares.get(key),
                target_weight_bps=target,
                drift_bps=shares[key] - target if key in shares else None,
            )
        )
    return rows
