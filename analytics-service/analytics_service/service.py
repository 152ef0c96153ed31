"""Booking facts into the read model. Every statement gives the same rows for repeats and for any order of arrival."""

from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.orm import Session

from analytics_service.models import BasketFact, CashFlow, OrderBlock, OrderFact, Trade
from common.events import BasketUpdated, CashMoved, OrderUpdated, OrderWorking


def book_order(session: Session, event: OrderUpdated, *, repair: bool = False) -> None:
    """Keep the order's newest state, and the trade this version added if it added one.

    `repair`: the event is the truth, rows that differ from it are made right.
    """
    known = {
        "order_id": event.order_id,
        "order_version": event.order_version,
        "user_id": event.user_id,
        "portfolio_id": event.portfolio_id,
        "exchange": event.exchange,
        "tradingsymbol": event.tradingsymbol,
        "side": event.side,
        "product": event.product,
        "trading_date": event.trading_date,
        "occurred_at": event.occurred_at,
    }
    statement = insert(OrderFact).values(
        **known,
        status=event.status,
        quantity=event.quantity,
        filled_quantity=event.filled_quantity,
        amount_paise=event.amount_paise,
        charges_paise=event.charges_paise,
        reason_code=event.reason_code,
    )
    new = statement.excluded
    changed = {column.name: new[column.name] for column in OrderFact.__table__.columns if not column.primary_key}
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[OrderFact.order_id],
            set_=changed,
            where=OrderFact.order_version <= new.order_version
            if repair
            else OrderFact.order_version < new.order_version,
        )
    )
    # Charges may be corrected by a version that trades nothing; the sum over the trades must still be the order's.
    if event.last_fill_quantity or event.last_fill_amount_paise or event.last_fill_charges_paise:
        trade = insert(Trade).values(
            **known,
            quantity=event.last_fill_quantity,
            amount_paise=event.last_fill_amount_paise,
            charges_paise=event.last_fill_charges_paise,
        )
        session.execute(_once(trade, Trade, repair))


def book_cash(session: Session, event: CashMoved, *, repair: bool = False) -> None:
    """Keep one flow of money; its transfer id makes it unique."""
    statement = insert(CashFlow).values(
        transfer_id=event.transfer_id,
        user_id=event.user_id,
        portfolio_id=event.portfolio_id,
        kind=event.kind,
        amount_paise=event.amount_paise,
        occurred_at=event.occurred_at,
    )
    session.execute(_once(statement, CashFlow, repair))


def book_block(session: Session, event: OrderWorking) -> None:
    """Keep that an order went to the broker in a block."""
    statement = insert(OrderBlock).values(
        order_id=event.order_id, block_id=event.block_id, occurred_at=event.occurred_at
    )
    session.execute(statement.on_conflict_do_nothing())


def book_basket(session: Session, event: BasketUpdated) -> None:
    """Keep the newest state of a basket order. Told twice at one instant it is the same."""
    statement = insert(BasketFact).values(
        basket_order_id=event.basket_order_id,
        user_id=event.user_id,
        investment_id=event.investment_id,
        smallcase_id=event.smallcase_id,
        smallcase_name=event.smallcase_name,
        kind=event.kind,
        status=event.status,
        orders=event.orders,
        orders_filled=event.orders_filled,
        bought_paise=event.bought_paise,
        sold_paise=event.sold_paise,
        charges_paise=event.charges_paise,
        occurred_at=event.occurred_at,
    )
    new = statement.excluded
    columns = [column.name for column in BasketFact.__table__.columns if not column.primary_key]
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[BasketFact.basket_order_id],
            set_={name: new[name] for name in columns},
            where=BasketFact.occurred_at <= new.occurred_at,
        )
    )


def _once(statement: Insert, table: type[Trade] | type[CashFlow], repair: bool) -> Insert:
    if not repair:
        return statement.on_conflict_do_nothing()
    columns = table.__table__.columns
    return statement.on_conflict_do_update(
        index_elements=[column for column in columns if column.primary_key],
        set_={column.name: statement.excluded[column.name] for column in columns if not column.primary_key},
    )
