"""Tax lots in SQL: every bought fill opens one, every sold fill takes from the oldest (rules: `lots`)."""

from collections.abc import Iterable
from typing import cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common.bulk import insert_rows, update_rows
from common.events import OrderAllocated
from portfolio_service import lots
from portfolio_service.models import LotDisposal, TaxLot, UserOrder

Holding = tuple[UUID, str, str, str]
"""Portfolio, exchange, tradingsymbol and product: what lots of are sold oldest first."""


def holding_of(order: UserOrder) -> Holding:
    """What an order buys or sells."""
    return (order.portfolio_id, order.exchange, order.tradingsymbol, order.product)


class OpenLots:
    """The open lots of everything the given orders sell, as fills change them; `write` at the end.

    The holdings' accounts are locked before, so nobody else sells these lots.
    """

    def __init__(self, session: Session, orders: Iterable[UserOrder]) -> None:
        self._lots: dict[Holding, list[TaxLot]] = {holding_of(order): [] for order in orders if order.side == "SELL"}
        self._new: list[TaxLot] = []
        self._sold_from: dict[UUID, TaxLot] = {}
        self._disposals: list[dict[str, object]] = []
        if self._lots:
            self._load(session)

    def _load(self, session: Session) -> None:
        rows = session.scalars(
            sa.select(TaxLot)
            .where(
                sa.tuple_(TaxLot.portfolio_id, TaxLot.exchange, TaxLot.tradingsymbol, TaxLot.product).in_(self._lots),
                TaxLot.remaining_quantity > 0,
            )
            .execution_options(populate_existing=True)
        ).all()
        for row in rows:
            # Written by `write`, all at once; the session would write each by itself.
            session.expunge(row)
            self._lots[row.portfolio_id, row.exchange, row.tradingsymbol, row.product].append(row)
        for holding in self._lots.values():
            holding.sort(key=_oldest_first)

    def buy(self, order: UserOrder, event: OrderAllocated, quantity: int, cost_paise: int) -> None:
        """Open the lot of a bought fill; its cost is the traded value without charges."""
        lot = TaxLot(
            lot_id=event.allocation_id,
            portfolio_id=order.portfolio_id,
            exchange=order.exchange,
            tradingsymbol=order.tradingsymbol,
            product=order.product,
            acquired_on=event.trading_date,
            acquired_at=event.executed_at,
            quantity=quantity,
            cost_paise=cost_paise,
            remaining_quantity=quantity,
            remaining_cost_paise=cost_paise,
        )
        self._new.append(lot)
        if (held := self._lots.get(holding_of(order))) is not None:
            held.append(lot)
            held.sort(key=_oldest_first)

    def sell(self, order: UserOrder, event: OrderAllocated, quantity: int, proceeds_paise: int) -> None:
        """Take the sold units from the oldest lots."""
        by_id = {row.lot_id: row for row in self._lots[holding_of(order)] if row.remaining_quantity > 0}
        open_lots = [
            lots.Lot(
                row.lot_id,
                row.acquired_on,
                row.remaining_quantity,
                row.remaining_cost_paise,
                row.quantity,
                row.cost_paise,
            )
            for row in by_id.values()
        ]
        disposals, _ = lots.consume(open_lots, quantity)
        for disposal, proceeds in zip(disposals, lots.split_proceeds(disposals, proceeds_paise), strict=True):
            lot = by_id[disposal.lot_id]
            lot.remaining_quantity -= disposal.quantity
            lot.remaining_cost_paise -= disposal.cost_paise
            self._sold_from[lot.lot_id] = lot
            self._disposals.append(
                {
                    "allocation_id": event.allocation_id,
                    "lot_id": disposal.lot_id,
                    "portfolio_id": order.portfolio_id,
                    "exchange": order.exchange,
                    "tradingsymbol": order.tradingsymbol,
                    "product": order.product,
                    "acquired_on": disposal.acquired_on,
                    "disposed_on": event.trading_date,
                    "quantity": disposal.quantity,
                    "cost_paise": disposal.cost_paise,
                    "proceeds_paise": proceeds,
                }
            )

    def write(self, session: Session) -> None:
        """Insert new lots as they are now, update those that were sold from, insert what sales took."""
        columns = cast(sa.Table, TaxLot.__table__).columns
        insert_rows(
            session, TaxLot, [{column.name: getattr(lot, column.name) for column in columns} for lot in self._new]
        )
        new = {lot.lot_id for lot in self._new}
        update_rows(
            session,
            TaxLot,
            "lot_id",
            [
                {
                    "lot_id": lot.lot_id,
                    "remaining_quantity": lot.remaining_quantity,
                    "remaining_cost_paise": lot.remaining_cost_paise,
                }
                for lot in self._sold_from.values()
                if lot.lot_id not in new
            ],
        )
        insert_rows(session, LotDisposal, self._disposals)


def _oldest_first(lot: TaxLot) -> tuple[object, ...]:
    return (lot.acquired_on, lot.acquired_at, lot.lot_id)
