"""Booking facts into the read model. Every statement gives the same rows for repeats and for any order of arrival.

Facts that come by the thousand are booked many at a time: a statement for each table, its rows in the order of their keys,
so that two bookings never wait for each other in a circle.
"""

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.orm import Session

from analytics_service.models import BasketFact, CashFlow, OrderBlock, OrderFact, Trade
from common.bulk import given, insertion
from common.events import BasketUpdated, CashMoved, OrderUpdated, OrderWorking

_ORDERS = cast(sa.Table, OrderFact.__table__)
_TRADES = cast(sa.Table, Trade.__table__)
_BLOCKS = cast(sa.Table, OrderBlock.__table__)


def book_orders(session: Session, events: Sequence[OrderUpdated], *, repair: bool = False) -> None:
    """Keep the newest state of each order, and the trades that these versions added.

    Of one version told twice the first stays. `repair`: the events are the truth, rows that differ are made right and the
    last stays.
    """
    replaces = operator.le if repair else operator.lt
    states = [_state(event) for event in _one_each(events, _order, replaces)]
    if states:
        statement = insertion(_ORDERS, tuple(states[0]))
        new = statement.excluded
        changed = {column.name: new[column.name] for column in _ORDERS.columns if not column.primary_key}
        newer = replaces(_ORDERS.c.order_version, new.order_version)
        session.execute(
            statement.on_conflict_do_update(index_elements=[_ORDERS.c.order_id], set_=changed, where=newer),
            given(states),
        )
    trades = [_trade(event) for event in _one_each(filter(_adds, events), _version, replaces)]
    if trades:
        session.execute(_once(insertion(_TRADES, tuple(trades[0])), Trade, repair), given(trades))


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


def book_blocks(session: Session, events: Sequence[OrderWorking]) -> None:
    """Keep which blocks orders went to the broker in; of one told twice the first stays."""
    rows = [
        {"order_id": event.order_id, "block_id": event.block_id, "occurred_at": event.occurred_at}
        for event in sorted(events, key=lambda event: (event.order_id, event.block_id))
    ]
    if rows:
        session.execute(insertion(_BLOCKS, tuple(rows[0])).on_conflict_do_nothing(), given(rows))


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


def _one_each(
    events: Iterable[OrderUpdated], key: Callable[[OrderUpdated], Any], replaces: Callable[[int, int], bool]
) -> list[OrderUpdated]:
    """One event for each key, in the order of keys: which one `replaces` leaves when it is asked about their versions."""
    kept: dict[Any, OrderUpdated] = {}
    for event in events:
        known = kept.get(key(event))
        if known is None or replaces(known.order_version, event.order_version):
            kept[key(event)] = event
    return [kept[one] for one in sorted(kept)]


def _order(event: OrderUpdated) -> UUID:
    return event.order_id


def _version(event: OrderUpdated) -> tuple[UUID, int]:
    return event.order_id, event.order_version


def _adds(event: OrderUpdated) -> bool:
    """Charges may be corrected by a version that trades nothing; the sum over the trades must still be the order's."""
    return bool(event.last_fill_quantity or event.last_fill_amount_paise or event.last_fill_charges_paise)


def _state(event: OrderUpdated) -> dict[str, object]:
    return {
        **_known(event),
        "status": event.status,
        "quantity": event.quantity,
        "filled_quantity": event.filled_quantity,
        "amount_paise": event.amount_paise,
        "charges_paise": event.charges_paise,
        "reason_code": event.reason_code,
    }


def _trade(event: OrderUpdated) -> dict[str, object]:
    return {
        **_known(event),
        "quantity": event.last_fill_quantity,
        "amount_paise": event.last_fill_amount_paise,
        "charges_paise": event.last_fill_charges_paise,
    }


def _known(event: OrderUpdated) -> dict[str, object]:
    return {
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


def _once(statement: Insert, table: type[Trade] | type[CashFlow], repair: bool) -> Insert:
    if not repair:
        return statement.on_conflict_do_nothing()
    columns = table.__table__.columns
    return statement.on_conflict_do_update(
        index_elements=[column for column in columns if column.primary_key],
        set_={column.name: statement.excluded[column.name] for column in columns if not column.primary_key},
    )
