"""Tax lots in SQL: every bought fill opens one, every sold fill takes from the oldest (rules: `lots`)."""

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common.events import OrderAllocated
from portfolio_service import lots
from portfolio_service.models import LotDisposal, TaxLot, UserOrder


def buy(session: Session, order: UserOrder, event: OrderAllocated, quantity: int, cost_paise: int) -> None:
    """Open the lot of a bought fill; its cost is the traded value without charges."""
    session.add(
        TaxLot(
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
    )


def sell(session: Session, order: UserOrder, event: OrderAllocated, quantity: int, proceeds_paise: int) -> None:
    """Take the sold units from the oldest lots. The account row is locked, so nobody else sells them."""
    rows = session.scalars(
        sa.select(TaxLot)
        .where(
            TaxLot.portfolio_id == order.portfolio_id,
            TaxLot.exchange == order.exchange,
            TaxLot.tradingsymbol == order.tradingsymbol,
            TaxLot.product == order.product,
            TaxLot.remaining_quantity > 0,
        )
        .order_by(TaxLot.acquired_on, TaxLot.acquired_at, TaxLot.lot_id)
        .execution_options(populate_existing=True)
    ).all()
    by_id = {row.lot_id: row for row in rows}
    open_lots = [
        lots.Lot(
            row.lot_id, row.acquired_on, row.remaining_quantity, row.remaining_cost_paise, row.quantity, row.cost_paise
        )
        for row in rows
    ]
    disposals, _ = lots.consume(open_lots, quantity)
    for disposal, proceeds in zip(disposals, lots.split_proceeds(disposals, proceeds_paise), strict=True):
        lot = by_id[disposal.lot_id]
        lot.remaining_quantity -= disposal.quantity
        lot.remaining_cost_paise -= disposal.cost_paise
        session.add(
            LotDisposal(
                allocation_id=event.allocation_id,
                lot_id=disposal.lot_id,
                portfolio_id=order.portfolio_id,
                exchange=order.exchange,
                tradingsymbol=order.tradingsymbol,
                product=order.product,
                acquired_on=disposal.acquired_on,
                disposed_on=event.trading_date,
                quantity=disposal.quantity,
                cost_paise=disposal.cost_paise,
                proceeds_paise=proceeds,
            )
        )
