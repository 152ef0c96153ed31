"""Booking what the executor reports: an order is working, got a fill, is closed. Each fact is applied once, in any order.

The facts of one kind in a batch are booked together (`booking`). Facts are never refused. What can not belong to the user (more than was
ordered, after the end of the order, an order we do not know) goes to the house and opens a break.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from common import outbox
from common.clock import Clock
from common.events import Envelope, Event, OrderAllocated, OrderClosed, OrderUpdated, OrderWorking
from common.logging import bound, get_logger
from portfolio_service import charges, ledger
from portfolio_service.booking import Booking
from portfolio_service.breaks import SEVERITY_LOOK, SEVERITY_STOP, open_break
from portfolio_service.config import NAME
from portfolio_service.ledger import AccountKey, Fill, Hold, Transfer, TransferKind
from portfolio_service.models import OrderAllocation, UserOrder
from portfolio_service.orders import FACT_OF_OUTCOME, LIVE_STATES, OrderFact, OrderState, next_state

log = get_logger(__name__)

E = TypeVar("E", bound=Event)

SWEEP_FIRST_S = 120
"""What the bus has lost is fetched from the outbox within seconds. Asking sooner would only add to a backlog."""
SWEEP_MAX_S = 960
ANSWERED_SWEEP_COUNT = 1
"""An order the executor has answered for is asked about again after SWEEP_FIRST_S * 2**this seconds of silence."""


@dataclass(frozen=True)
class _Change:
    """What to say about an order after a change: the last fill's figures, if it was one."""

    trading_date: date
    quantity: int = 0
    amount_paise: int = 0
    charges_paise: int = 0


def sweep_delay_s(count: int) -> int:
    """Seconds until an order is asked about again after `count` times without an answer."""
    return min(SWEEP_MAX_S, SWEEP_FIRST_S * 2 ** min(count, 16))


def apply_working(session: Session, messages: Sequence[tuple[OrderWorking, Envelope]], clock: Clock) -> None:
    """These orders are in blocks that go to the broker."""
    _book_each(Booking(session, clock, [event.order_id for event, _ in messages]), messages, _work)


def apply_allocations(session: Session, messages: Sequence[tuple[OrderAllocated, Envelope]], clock: Clock) -> None:
    """Book fills: hold, money, shares, charges, tax lots, the order; then finish closes that waited for them."""
    booking = Booking(session, clock, [event.order_id for event, _ in messages])
    booking.know_allocations(event.allocation_id for event, _ in messages)
    expected = [
        order
        for event, _ in messages
        if (order := booking.order(event.order_id)) is not None
        and (order.state in LIVE_STATES or order.state == OrderState.FILLED)
    ]
    booking.lock_money(expected, {key for order in expected for key in _accounts(order)}, make=True)
    booking.load_lots(expected)
    _book_each(booking, messages, _allocate)


def apply_closed(session: Session, messages: Sequence[tuple[OrderClosed, Envelope]], clock: Clock) -> None:
    """Close orders once their allocations have all been booked; until then a close waits in its order's row."""
    booking = Booking(session, clock, [event.order_id for event, _ in messages])
    held = [
        order
        for event, _ in messages
        if (order := booking.order(event.order_id)) is not None
        and order.state in LIVE_STATES
        and order.hold_transfer_id is not None
    ]
    booking.lock_money(held, map(_held_account, held))
    _book_each(booking, messages, _close)


def _book_each(booking: Booking, messages: Sequence[tuple[E, Envelope]], book: Callable[[Booking, E], None]) -> None:
    for event, envelope in messages:
        with bound(correlation_id=envelope.correlation_id):
            book(booking, event)
    booking.write()


def _work(booking: Booking, event: OrderWorking) -> None:
    order = booking.order(event.order_id)
    if order is None:
        _unknown_order(booking, "working_unknown_order", event.order_id)
        return
    if order.state == OrderState.ACCEPTED:
        _move(booking, order, OrderFact.WORKING, event)
        _publish(booking, order, _Change(order.trading_date))
    if order.state in LIVE_STATES:
        _answered(booking, order)


def _allocate(booking: Booking, event: OrderAllocated) -> None:
    order = booking.order(event.order_id)
    known = booking.allocation(event.allocation_id)
    if known is not None:
        if (known.order_id, known.quantity, known.amount_paise) != (event.order_id, event.quantity, event.amount_paise):
            open_break(
                booking.session,
                kind="allocation_changed",
                key=str(event.allocation_id),
                severity=SEVERITY_STOP,
                detail=f"{known.quantity} for {known.amount_paise} was booked, {event.quantity} for {event.amount_paise} came",
                now=booking.now,
            )
        return
    own_quantity = _own_quantity(booking, order, event)
    own_amount = event.amount_paise * own_quantity // event.quantity
    transfers: list[Transfer] = []
    charge = 0
    if order is not None and own_quantity:
        charge = _charge(order, own_quantity, own_amount, event)
        transfers += _settle(booking, order, own_quantity, own_amount, charge, event)
    if own_quantity < event.quantity:
        transfers += ledger.book_to_house(
            event.allocation_id,
            event.order_id,
            event.side,
            ledger.asset_of(event.exchange, event.tradingsymbol),
            event.quantity - own_quantity,
            event.amount_paise - own_amount,
        )
    booking.move_money(transfers)
    booking.allocate(_allocation_row(order, event, own_quantity, own_amount, charge))
    if order is None or not own_quantity:
        return
    if order.side == "BUY":
        booking.lots.buy(order, event, own_quantity, own_amount)
    else:
        booking.lots.sell(order, event, own_quantity, own_amount)
    order.filled_quantity += own_quantity
    order.amount_paise += own_amount
    order.charges_paise += charge
    filled = order.filled_quantity == order.quantity
    _move(booking, order, OrderFact.FILLED if filled else OrderFact.PARTLY_FILLED, event)
    _remember_hold(order, transfers)
    if filled:
        order.closed_at = event.executed_at
    _answered(booking, order)
    _publish(booking, order, _Change(event.trading_date, own_quantity, own_amount, charge))
    if order.closing_outcome is not None:
        _finish_close(booking, order)


def _close(booking: Booking, event: OrderClosed) -> None:
    order = booking.order(event.order_id)
    if order is None:
        _unknown_order(booking, "closed_unknown_order", event.order_id)
        return
    if order.state not in LIVE_STATES:
        if (order.filled_quantity, order.amount_paise) != (event.filled_quantity, event.amount_paise):
            _contradiction(booking, order, event.filled_quantity, event.amount_paise)
        return
    order.closing_outcome = event.outcome
    order.closing_quantity = event.filled_quantity
    order.closing_amount_paise = event.amount_paise
    order.closing_at = event.occurred_at
    order.closing_reason_code = event.reason_code
    order.closing_reason = event.reason
    _answered(booking, order)
    _finish_close(booking, order)


def _finish_close(booking: Booking, order: UserOrder) -> None:
    """Close a live order whose closing totals are reached; a FILLED one is closed already by its last fill."""
    wanted, paid = order.closing_quantity or 0, order.closing_amount_paise or 0
    if order.filled_quantity < wanted:
        log.info("order.close_waits", order_id=order.order_id, filled=order.filled_quantity, wanted=wanted)
        return
    if (order.filled_quantity, order.amount_paise) != (wanted, paid):
        _contradiction(booking, order, wanted, paid)
    if order.state not in LIVE_STATES:
        return
    fact = FACT_OF_OUTCOME[order.closing_outcome or ""]
    if fact is OrderFact.FILLED:
        # Told "filled" for less than the quantity: the rest will not come, but it was not filled either.
        _contradiction(booking, order, wanted, paid)
        fact = OrderFact.FAILED
    order.reason_code, order.reason = order.closing_reason_code, order.closing_reason
    if order.hold_transfer_id is not None:
        hold = Hold(order.hold_transfer_id, order.hold_amount)
        booking.move_money([ledger.release(order.order_id, _held_account(order), hold)])
        order.hold_transfer_id, order.hold_amount = None, 0
    order.closed_at = order.closing_at
    _move(booking, order, fact, None)
    _publish(booking, order, _Change(order.trading_date))
    log.info("order.closed", order_id=order.order_id, state=order.state, filled=order.filled_quantity)


# --- one fill -------------------------------------------------------------------------------------------------------


def _own_quantity(booking: Booking, order: UserOrder | None, event: OrderAllocated) -> int:
    """How much of the allocation is the user's; the rest opens a break."""
    if order is None:
        own, kind = 0, "allocation_unknown_order"
    elif (order.exchange, order.tradingsymbol, order.side, order.product) != (
        event.exchange,
        event.tradingsymbol,
        event.side,
        event.product,
    ):
        own, kind = 0, "allocation_other_instrument"
    elif order.state not in LIVE_STATES and order.state != OrderState.FILLED:
        own, kind = 0, "allocation_after_close"
    else:
        own, kind = min(event.quantity, order.quantity - order.filled_quantity), "allocation_beyond_quantity"
    if own < event.quantity:
        open_break(
            booking.session,
            kind=kind,
            key=str(event.allocation_id),
            severity=SEVERITY_STOP,
            detail=f"order {event.order_id}: {event.side} {event.quantity - own} of {event.quantity}"
            f" {event.exchange}:{event.tradingsymbol} went to the house",
            now=booking.now,
        )
    return own


def _charge(order: UserOrder, quantity: int, amount_paise: int, event: OrderAllocated) -> int:
    """Charge of a fill: the estimate of everything filled so far less what was charged, so the sum has no path."""
    total_quantity, total_amount = order.filled_quantity + quantity, order.amount_paise + amount_paise
    if total_amount == 0:
        return 0
    total = charges.estimate(
        exchange=order.exchange,
        side=order.side,
        product=order.product,
        quantity=total_quantity,
        value_paise=total_amount,
        trade_date=event.trading_date,
    ).total_paise
    return max(0, total - order.charges_paise)


def _accounts(order: UserOrder) -> tuple[AccountKey, ...]:
    """Whatever a fill of this order may move."""
    asset = ledger.asset_of(order.exchange, order.tradingsymbol)
    return (
        ledger.cash_account(order.portfolio_id),
        ledger.due_account(order.portfolio_id),
        ledger.shares_account(order.portfolio_id, asset, order.product),
        ledger.clearing_account(ledger.INR),
        ledger.clearing_account(asset),
        ledger.charges_account(),
    )


def _settle(
    booking: Booking, order: UserOrder, quantity: int, amount_paise: int, charge: int, event: OrderAllocated
) -> list[Transfer]:
    fill = Fill(
        allocation_id=event.allocation_id,
        order_id=order.order_id,
        portfolio_id=order.portfolio_id,
        asset=ledger.asset_of(order.exchange, order.tradingsymbol),
        product=order.product,
        quantity=quantity,
        amount_paise=amount_paise,
        charges_paise=charge,
    )
    hold = Hold(order.hold_transfer_id, order.hold_amount) if order.hold_transfer_id else None
    cash = booking.balance(ledger.cash_account(order.portfolio_id))
    left = order.quantity - order.filled_quantity - quantity
    if order.side == "SELL":
        due = booking.balance(ledger.due_account(order.portfolio_id))
        return ledger.settle_sell(fill, hold, cash, due, next_hold_units=left)
    # The charges of the whole order are at most hold_charges_paise, so this much is enough for what is still to come.
    charges_left = max(0, order.hold_charges_paise - order.charges_paise - charge)
    next_hold = order.hold_price_paise * left + charges_left if left else 0
    return ledger.settle_buy(fill, hold, cash, next_hold_paise=next_hold)


def _remember_hold(order: UserOrder, transfers: list[Transfer]) -> None:
    pending = next((transfer for transfer in transfers if transfer.kind is TransferKind.PENDING), None)
    order.hold_transfer_id = pending.id if pending else None
    order.hold_amount = pending.amount if pending else 0


def _held_account(order: UserOrder) -> AccountKey:
    if order.side == "BUY":
        return ledger.cash_account(order.portfolio_id)
    asset = ledger.asset_of(order.exchange, order.tradingsymbol)
    return ledger.shares_account(order.portfolio_id, asset, order.product)


def _allocation_row(
    order: UserOrder | None, event: OrderAllocated, own_quantity: int, own_amount: int, charge: int
) -> OrderAllocation:
    return OrderAllocation(
        allocation_id=event.allocation_id,
        order_id=event.order_id,
        user_id=order.user_id if order else event.user_id,
        portfolio_id=order.portfolio_id if order else None,
        block_id=event.block_id,
        round_no=event.round_no,
        exchange=event.exchange,
        tradingsymbol=event.tradingsymbol,
        side=event.side,
        product=event.product,
        quantity=event.quantity,
        amount_paise=event.amount_paise,
        charges_paise=charge,
        house_quantity=event.quantity - own_quantity,
        house_amount_paise=event.amount_paise - own_amount,
        executed_at=event.executed_at,
        trading_date=event.trading_date,
    )


# --- the order's row ------------------------------------------------------------------------------------------------


def _move(booking: Booking, order: UserOrder, fact: OrderFact, event: OrderWorking | OrderAllocated | None) -> None:
    before = OrderState(order.state)
    order.state = next_state(before, fact).value
    order.version += 1
    booking.touch(order)
    booking.tell_history(
        order_id=order.order_id,
        version=order.version,
        fact=fact.value,
        from_state=before.value,
        to_state=order.state,
        filled_quantity=order.filled_quantity,
        reason_code=order.reason_code,
        reason=order.reason,
        at=event.occurred_at if event is not None else order.closing_at,
    )


def _answered(booking: Booking, order: UserOrder) -> None:
    order.sweep_count = ANSWERED_SWEEP_COUNT
    order.next_sweep_at = booking.now + timedelta(seconds=sweep_delay_s(ANSWERED_SWEEP_COUNT))
    booking.touch(order)


def _publish(booking: Booking, order: UserOrder, change: _Change) -> None:
    publish_update(
        booking.session, order, change.trading_date, change.quantity, change.amount_paise, change.charges_paise
    )


def publish_update(
    session: Session,
    order: UserOrder,
    trading_date: date,
    fill_quantity: int = 0,
    fill_amount_paise: int = 0,
    fill_charges_paise: int = 0,
) -> None:
    """Tell the other rooms how an order stands now."""
    event = OrderUpdated.model_validate(
        {
            "order_id": order.order_id,
            "user_id": order.user_id,
            "portfolio_id": order.portfolio_id,
            "exchange": order.exchange,
            "tradingsymbol": order.tradingsymbol,
            "side": order.side,
            "product": order.product,
            "status": order.state,
            "order_version": order.version,
            "quantity": order.quantity,
            "filled_quantity": order.filled_quantity,
            "amount_paise": order.amount_paise,
            "charges_paise": order.charges_paise,
            "last_fill_quantity": fill_quantity,
            "last_fill_amount_paise": fill_amount_paise,
            "last_fill_charges_paise": fill_charges_paise,
            "trading_date": trading_date,
            "reason_code": order.reason_code,
            "reason": order.reason,
        }
    )
    outbox.record(session, event, source=NAME, aggregate_id=order.order_id, correlation_id=order.correlation_id)


def _unknown_order(booking: Booking, kind: str, order_id: UUID) -> None:
    open_break(
        booking.session,
        kind=kind,
        key=str(order_id),
        severity=SEVERITY_LOOK,
        detail=f"the executor speaks of order {order_id}, which was never accepted here",
        now=booking.now,
    )


def _contradiction(booking: Booking, order: UserOrder, quantity: int, amount_paise: int) -> None:
    open_break(
        booking.session,
        kind="close_contradicts_fills",
        key=str(order.order_id),
        severity=SEVERITY_LOOK,
        detail=f"closed with {quantity} for {amount_paise} paise,"
        f" booked {order.filled_quantity} for {order.amount_paise} paise",
        now=booking.now,
    )
