"""What a user may still do with an accepted order: ask for its cancellation, or have it replaced.

Both are wishes. The executor may hold the order in a block at this moment, so nothing is changed in place: a replacement
first cancels the old order; when that has closed, what is left of the wanted quantity is accepted as a NEW order.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from uuid import UUID, uuid5

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common import outbox
from common.clock import Clock
from common.errors import Conflict, NotFound, Unprocessable
from common.events import OrderCancelRequested
from common.logging import get_logger
from portfolio_service import acceptance, fills, risk
from portfolio_service.config import NAME
from portfolio_service.ledger import NAMESPACE
from portfolio_service.market_view import MarketView
from portfolio_service.models import OrderHistory, UserOrder
from portfolio_service.orders import LIVE_STATES, OrderRequest, OrderState
from portfolio_service.risk import Limits, Refusal
from portfolio_service.submissions import Accepted, Refused, Submission

log = get_logger(__name__)

WAITING, DONE, REFUSED, DROPPED = "WAITING", "DONE", "REFUSED", "DROPPED"
"""States of a replacement: waits for the old order to close; became a new order; was refused; was not possible."""


class OrderNotFound(NotFound):
    """No such order of this user."""


class OrderClosedAlready(Conflict):
    """Nothing of the order is left to change."""

    default_code = "order_closed"


class ReplacementTooSmall(Unprocessable):
    """The wanted quantity is filled already."""

    default_code = "quantity_filled"


def order_of(session: Session, user_id: UUID, order_id: UUID, *, lock: bool = False) -> UserOrder:
    """One order of the user; raises OrderNotFound, also for somebody else's."""
    query = sa.select(UserOrder).where(UserOrder.order_id == order_id, UserOrder.user_id == user_id)
    if lock:
        query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    order = session.scalars(query).one_or_none()
    if order is None:
        raise OrderNotFound("There is no such order among yours.")
    return order


def request_cancel(session: Session, user_id: UUID, order_id: UUID, clock: Clock) -> UserOrder:
    """Ask for an order's cancellation; asking again changes nothing. Raises OrderNotFound, OrderClosedAlready."""
    order = order_of(session, user_id, order_id, lock=True)
    _refuse_closed(order)
    # A plain cancel takes back a replacement that was asked for before.
    if order.replacement_state == WAITING:
        order.replacement_state, order.replacement_detail = (
            DROPPED,
            {"code": "cancelled", "detail": "Cancelled instead."},
        )
    _ask_cancel(session, order, clock)
    return order


def replacement_request(order: UserOrder, changes: Mapping[str, Any]) -> OrderRequest:
    """The new order a change asks for: the old one's terms with the given ones in their place.

    `quantity` is the total wanted, what is filled already included. A price is dropped when the new type takes none.
    """
    terms: dict[str, Any] = {
        "exchange": order.exchange,
        "tradingsymbol": order.tradingsymbol,
        "side": order.side,
        "product": order.product,
        "order_type": order.order_type,
        "quantity": order.quantity,
        "price_paise": order.price_paise,
        "trigger_price_paise": order.trigger_price_paise,
        "validity": order.validity,
        "ttl_minutes": order.ttl_minutes,
        "portfolio_id": order.portfolio_id,
        "tag": order.tag,
        "confirm_duplicate": True,
    }
    terms.update(changes)
    if terms["order_type"] not in risk.ORDER_TYPES_WITH_PRICE and "price_paise" not in changes:
        terms["price_paise"] = None
    if terms["order_type"] not in risk.ORDER_TYPES_WITH_TRIGGER and "trigger_price_paise" not in changes:
        terms["trigger_price_paise"] = None
    if terms["validity"] != "TTL" and "ttl_minutes" not in changes:
        terms["ttl_minutes"] = None
    return OrderRequest(**terms)


def request_replacement(
    session: Session,
    user_id: UUID,
    order_id: UUID,
    request: OrderRequest,
    *,
    view: MarketView,
    limits: Limits,
    kyc: str,
    clock: Clock,
) -> UserOrder:
    """Ask for an order to be replaced; a second wish before the first is done takes its place.

    The new terms pass the market's checks now and all checks again when the new order is accepted. Raises
    OrderNotFound, OrderClosedAlready, ReplacementTooSmall and the refusals of `risk`.
    """
    order = order_of(session, user_id, order_id, lock=True)
    _refuse_closed(order)
    if request.quantity <= order.filled_quantity:
        raise ReplacementTooSmall(
            f"{order.filled_quantity} are filled already; ask for more than that in total, or cancel the rest.",
            filled_quantity=order.filled_quantity,
        )
    judged = risk.judge(request, view.of(request), limits, now=clock.now(), kyc=kyc)
    if isinstance(judged, Refusal):
        raise Refused(0, judged).error()
    terms = asdict(request)
    terms["portfolio_id"] = str(request.portfolio_id)
    order.replacement, order.replacement_state, order.replacement_detail = terms, WAITING, None
    _ask_cancel(session, order, clock)
    return order


def finish_replacement(
    session: Session, order_id: UUID, *, view: MarketView, limits: Limits, clock: Clock
) -> str | None:
    """Accept what is left of a replacement whose old order has closed; answers its new state, None if not its turn.

    The new order's id is derived from the old one's, so however often this runs there is one.
    """
    order = session.scalars(
        sa.select(UserOrder)
        .where(UserOrder.order_id == order_id, UserOrder.replacement_state == WAITING)
        .where(UserOrder.state.notin_(LIVE_STATES))
        .with_for_update(key_share=True, skip_locked=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if order is None:
        return None
    request = stored_request(order)
    left = request.quantity - order.filled_quantity
    if order.state != OrderState.CANCELLED or left <= 0:
        _end_replacement(
            session, order, DROPPED, "not_cancelled", f"The order ended as {order.state} before it could be replaced."
        )
        return order.replacement_state
    submission = Submission(
        user_id=order.user_id,
        kyc="approved",  # was checked when the replacement was asked for
        requests=[OrderRequest(**{**asdict(request), "quantity": left})],
        key=f"replace:{order.order_id}",
        counted=False,
        order_ids=[uuid5(NAMESPACE, f"replacement:{order.order_id}")],
        replaces=order.order_id,
        correlation_id=order.correlation_id,
    )
    (outcome,) = acceptance.accept(session, submission=submission, view=view, clock=clock, limits=limits)
    if isinstance(outcome, Accepted):
        order.replaced_by = outcome.order.order_id
        order.replacement_state = DONE
        log.info("order.replaced", order_id=order.order_id, replaced_by=order.replaced_by)
    else:
        _end_replacement(session, order, REFUSED, outcome.refusal.code, outcome.refusal.detail)
    session.flush()
    return order.replacement_state


def stored_request(order: UserOrder) -> OrderRequest:
    """The replacement an order waits for."""
    terms = dict(order.replacement or {})
    return OrderRequest(**{**terms, "portfolio_id": UUID(terms["portfolio_id"])})


def _end_replacement(session: Session, order: UserOrder, state: str, code: str, detail: str) -> None:
    order.replacement_state, order.replacement_detail = state, {"code": code, "detail": detail}
    order.reason_code, order.reason = f"replacement_{state.lower()}", detail
    order.version += 1
    _note(session, order, "replacement_" + state.lower(), order.closed_at)
    fills.publish_update(session, order, order.trading_date)
    session.flush()


def _refuse_closed(order: UserOrder) -> None:
    if order.state not in LIVE_STATES:
        raise OrderClosedAlready(
            f"The order is {order.state}; nothing of it is left to change.", status_word=order.state
        )


def _ask_cancel(session: Session, order: UserOrder, clock: Clock) -> None:
    if order.cancel_requested_at is None:
        order.cancel_requested_at = clock.now()
        order.version += 1
        _note(session, order, "cancel_requested", order.cancel_requested_at)
        outbox.record(session, cancel_event(order), source=NAME, aggregate_id=order.order_id)
        log.info("order.cancel_requested", order_id=order.order_id)
    session.flush()


def cancel_event(order: UserOrder) -> OrderCancelRequested:
    """What the executor is told, at the request and again by the sweep."""
    if order.cancel_requested_at is None:
        raise ValueError(f"nobody asked to cancel {order.order_id}")
    return OrderCancelRequested(order_id=order.order_id, requested_at=order.cancel_requested_at)


def _note(session: Session, order: UserOrder, fact: str, at: Any) -> None:
    session.add(
        OrderHistory(
            order_id=order.order_id,
            version=order.version,
            fact=fact,
            from_state=order.state,
            to_state=order.state,
            filled_quantity=order.filled_quantity,
            reason_code=order.reason_code,
            reason=order.reason,
            at=at,
        )
    )
