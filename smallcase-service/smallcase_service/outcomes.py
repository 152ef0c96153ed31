"""What becomes of basket orders: the answer of portfolio-service, news of legs, and all that follows from them.

Everything here runs in the caller's transaction and asks nobody, under the lock of the investment's row.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy import text
from sqlalchemy.orm import Session

from common import idempotency, outbox
from common.bulk import array_of
from common.errors import AppError
from common.events import BasketUpdated
from common.logging import current_correlation_id, get_logger
from smallcase_service.baskets import REQUEST_LEASE, add_legs, legs_of, lock_investment, refresh_investment
from smallcase_service.config import NAME
from smallcase_service.dues import ATTEMPT_PAUSE, AUTO_ATTEMPTS_FOR, DueState, attempts_left
from smallcase_service.models import (
    AutoRebalance,
    BasketLeg,
    BasketOrder,
    Investment,
    Sip,
    SipInstalment,
    Smallcase,
    SmallcaseVersion,
)
from smallcase_service.orders import (
    ENDED_STAGES,
    LIVE_LEGS,
    Fact,
    InvestmentStatus,
    Kind,
    Legs,
    LegState,
    Stage,
    Status,
    next_stage,
    status_of,
)
from smallcase_service.plan import Trade
from smallcase_service.portfolio_orders import OrderNews, Refusal
from smallcase_service.sip_schedule import Mode

log = get_logger(__name__)

CHANNEL = "basket"
"""Where the driver listens for work that has become due."""
NEWS_PAUSE = timedelta(seconds=60)
"""Legs that are silent for so long are asked about."""
SUBMISSIONS_MAX = 6
"""Submissions of one basket order: its first step and the attempts to buy."""
PASSING_REFUSALS = frozenset({"stale_price", "market_closed", "order_rate", "insufficient_funds"})
"""The buys of a second step are computed anew after these."""
NOT_ATTEMPTED = "not_attempted"
"""Reason of a leg that was refused for another one's sake: none to tell the user."""
PUT_OFF_PAUSE = timedelta(seconds=5)


# --- what portfolio-service answered ----------------------------------------------------------------------------------


def record_answer(
    session: Session, order_id: UUID, submission_id: UUID, refusals: Sequence[Refusal], now: datetime, *, told: bool
) -> None:
    """Record the answer to a submission once. `told`: the user hears of a refusal by the answer to the own request."""
    locked = _lock_order(session, order_id)
    if locked is None:
        return
    order, investment = locked
    if order.stage != Stage.INTENT or order.submission_id != submission_id:
        return
    legs = [leg for leg in legs_of(session, order_id) if leg.submission_id == submission_id]
    order.drives = 0
    if not refusals:
        _move(order, Fact.ACCEPTED)
        order.refusals = None
        for leg in legs:
            if leg.state == LegState.INTENT:
                leg.state, leg.order_version, leg.updated_at = LegState.ACCEPTED, max(1, leg.order_version), now
        order.due_at = now + NEWS_PAUSE
        if order.submissions == 1:
            _adopt(session, order, investment)
        _settle(session, order, investment, now)
        return
    order.refusals = [_refusal(refusal, legs) for refusal in refusals]
    log.info("basket.refused", basket_order_id=str(order_id), codes=sorted({refusal.code for refusal in refusals}))
    if order.submissions > 1 and _passes(refusals) and order.submissions < SUBMISSIONS_MAX:
        _move(order, Fact.BUYS_PUT_OFF)
        # These orders never existed: the next attempt has its own.
        session.execute(sa.delete(BasketLeg).where(BasketLeg.order_id.in_([leg.order_id for leg in legs])))
        order.due_at = now + PUT_OFF_PAUSE * order.submissions
        return
    codes = {refusal.index: refusal for refusal in refusals}
    for index, leg in enumerate(legs):
        refusal = codes.get(index)
        leg.state, leg.updated_at = LegState.REFUSED, now
        leg.reason_code = refusal.code if refusal else NOT_ATTEMPTED
        leg.reason = refusal.detail if refusal else "Another order of the basket was refused, so none was taken."
    if order.submissions > 1:
        _move(order, Fact.BUYS_REFUSED)
    else:
        _move(order, Fact.REFUSED)
        told = _give_back(session, order, investment, now, passes=_passes(refusals)) or told
    _settle(session, order, investment, now, told=told)


def _give_back(session: Session, order: BasketOrder, investment: Investment, now: datetime, *, passes: bool) -> bool:
    """Free what a refused order was for; answers whether the user does not have to be told, as it is tried again."""
    if order.idempotency_ref is not None:
        # As everywhere: a request that was refused has left nothing, and its key is free for the next attempt.
        idempotency.forget_answer(session, order.user_id, order.idempotency_ref)
    if order.sip_id is not None:
        return _give_back_instalment(session, order, now, passes=passes)
    return _give_back_rebalance(session, order, investment, now, passes=passes)


def _give_back_instalment(session: Session, order: BasketOrder, now: datetime, *, passes: bool) -> bool:
    """A refused instalment waits again, unless the next one does already; answers whether the platform tries it again."""
    placed = SipInstalment.basket_order_id == order.basket_order_id
    instalment = session.scalar(sa.select(SipInstalment).where(placed).with_for_update(key_share=True))
    if instalment is None:
        return False
    first = (order.refusals or [{}])[0]
    instalment.reason_code, instalment.reason = first.get("code"), first.get("detail")
    waits = sa.select(SipInstalment.sip_id).where(
        SipInstalment.sip_id == order.sip_id, SipInstalment.state == DueState.DUE
    )
    if session.scalar(waits) is not None:
        instalment.state = DueState.FAILED
        return False
    sip = session.get_one(Sip, instalment.sip_id)
    instalment.state, instalment.basket_order_id, instalment.decided_at = DueState.DUE, None, None
    again = passes and sip.mode == Mode.AUTO and now - instalment.created_at < AUTO_ATTEMPTS_FOR
    # Without another try it waits for its user, who can still confirm it.
    instalment.next_try_at = now + ATTEMPT_PAUSE if again else None
    return again


def _give_back_rebalance(
    session: Session, order: BasketOrder, investment: Investment, now: datetime, *, passes: bool
) -> bool:
    """A refused automatic rebalance is due again if the reason passes, and has failed otherwise; answers which."""
    placed = AutoRebalance.basket_order_id == order.basket_order_id
    row = session.scalar(sa.select(AutoRebalance).where(placed).with_for_update(key_share=True))
    if row is None:
        return False
    first = (order.refusals or [{}])[0]
    row.reason_code, row.reason = first.get("code"), first.get("detail")
    if passes and investment.auto_rebalance and attempts_left(row.attempts):
        row.state, row.basket_order_id, row.decided_at = DueState.DUE, None, None
        row.next_try_at = now + ATTEMPT_PAUSE
        return True
    row.state, row.decided_at = DueState.FAILED, now
    return False


def _refusal(refusal: Refusal, legs: Sequence[BasketLeg]) -> dict[str, Any]:
    leg = legs[refusal.index] if refusal.index < len(legs) else None
    return {
        "exchange": leg.exchange if leg else None,
        "tradingsymbol": leg.tradingsymbol if leg else None,
        "code": refusal.code,
        "detail": refusal.detail,
    }


def _passes(refusals: Sequence[Refusal]) -> bool:
    return all(refusal.code in PASSING_REFUSALS for refusal in refusals)


def _adopt(session: Session, order: BasketOrder, investment: Investment) -> None:
    """What an accepted order changes at once: the composition that is followed, the order it repairs."""
    investment.version = order.version
    if "target" in order.wanted:
        investment.target = order.wanted["target"]
    if order.repairs is not None:
        repaired = session.get_one(BasketOrder, order.repairs)
        repaired.repaired_by = order.basket_order_id
        repaired.status = _status(repaired, _legs(session, repaired.basket_order_id))


def record_given_up(
    session: Session, investment: Investment, kind: Kind, version: int, error: AppError, now: datetime
) -> BasketOrder:
    """An order of a locked investment that the platform wanted to place and could not plan: refused, without legs.

    So the user finds it among the orders of the investment, and is told of it, like any other that was refused.
    """
    order = BasketOrder(
        basket_order_id=uuid4(),
        investment_id=investment.investment_id,
        user_id=investment.user_id,
        kind=kind,
        stage=Stage.REFUSED,
        status=Status.REFUSED,
        kyc="unknown",
        queue_when_closed=False,
        version=version,
        wanted={},
        submission_id=uuid4(),
        submissions=0,
        refusals=[{"exchange": None, "tradingsymbol": None, "code": error.code, "detail": error.detail}],
        planned_cost_paise=0,
        planned_charges_paise=0,
        created_at=now,
        ended_at=now,
        due_at=now,
        drives=0,
        correlation_id=current_correlation_id(),
    )
    session.add(order)
    session.flush()
    log.warning("basket.given_up", basket_order_id=str(order.basket_order_id), kind=kind, code=error.code)
    _tell(session, order, investment)
    return order


# --- the second step ----------------------------------------------------------------------------------------------------


def write_buys(session: Session, order_id: UUID, trades: Sequence[Trade], now: datetime) -> bool:
    """Write the buys of a second step, or end the order when there are none; answers whether there is one to submit."""
    locked = _lock_order(session, order_id)
    if locked is None or locked[0].stage != Stage.SOLD:
        return False
    order, investment = locked
    if not trades:
        _move(order, Fact.NOTHING_TO_BUY)
        _settle(session, order, investment, now)
        return False
    _move(order, Fact.BUYS_WRITTEN)
    order.submission_id, order.submissions = uuid4(), order.submissions + 1
    order.due_at, order.drives = now + REQUEST_LEASE, 0
    add_legs(session, order, trades, now)
    return True


# --- news of legs -----------------------------------------------------------------------------------------------------


def legs_among(session: Session, order_ids: Collection[UUID]) -> set[UUID]:
    """Which of these orders are legs of baskets. Every order of the platform passes here: one statement for any number."""
    return set(session.scalars(sa.select(BasketLeg.order_id).where(BasketLeg.order_id == sa.any_(array_of(order_ids)))))


def apply_news(session: Session, news: OrderNews, now: datetime) -> bool:
    """Apply one version of a leg's order; older and repeated news change nothing. Answers whether the leg is ours.

    A busy basket has hundreds of news: two statements for one that is on its way, three for a fill in the middle.
    """
    known = session.execute(
        sa.select(
            BasketLeg.order_version, BasketLeg.filled_quantity, BasketLeg.basket_order_id, BasketLeg.investment_id
        )
        .join(Investment, Investment.investment_id == BasketLeg.investment_id)
        .where(BasketLeg.order_id == news.order_id)
        .with_for_update(of=Investment, key_share=True)
    ).one_or_none()
    if known is None:
        return False
    if news.version <= known.order_version:
        return True
    # Judged again on the row itself: the lock may have been waited for, and `known` be older than it.
    changed = session.execute(
        sa.update(BasketLeg)
        .where(
            BasketLeg.order_id == news.order_id,
            BasketLeg.order_version < news.version,
            BasketLeg.state.in_(LIVE_LEGS),
        )
        .values(
            state=LegState(news.state),
            order_version=news.version,
            filled_quantity=news.filled_quantity,
            amount_paise=news.amount_paise,
            charges_paise=news.charges_paise,
            reason_code=news.reason_code,
            reason=news.reason,
            updated_at=now,
        )
        .execution_options(synchronize_session=False)
    ).rowcount  # type: ignore[attr-defined]
    on_its_way = news.filled_quantity == known.filled_quantity and LegState(news.state) in LIVE_LEGS
    if changed and not on_its_way:
        stage, status, legs = _standing(session, known.basket_order_id)
        ended = stage is Stage.WORKING and not legs.live
        if ended or status_of(stage, legs) is not status:
            investment = session.get_one(Investment, known.investment_id)
            _settle(session, session.get_one(BasketOrder, known.basket_order_id), investment, now)
    return True


# --- what follows from the legs ---------------------------------------------------------------------------------------


def _lock_order(session: Session, order_id: UUID) -> tuple[BasketOrder, Investment] | None:
    """The order and its investment, whose row is locked."""
    investment_id = session.scalar(sa.select(BasketOrder.investment_id).where(BasketOrder.basket_order_id == order_id))
    if investment_id is None:
        return None
    investment = lock_investment(session, investment_id)
    return session.get_one(BasketOrder, order_id, populate_existing=True), investment


def _move(order: BasketOrder, fact: Fact) -> None:
    order.stage = next_stage(Stage(order.stage), fact)


def _settle(session: Session, order: BasketOrder, investment: Investment, now: datetime, *, told: bool = False) -> None:
    """Derive everything that follows from the legs: stage, status, the investment, and what the user is told."""
    legs = _legs(session, order.basket_order_id)
    if order.stage == Stage.WORKING and not legs.live:
        _move(order, Fact.SELLS_ENDED if order.wanted.get("then") and legs.only_sells else Fact.ALL_ENDED)
        if order.stage == Stage.SOLD:
            order.due_at, order.drives = now, 0
            wake(session)
    before = order.status
    order.status = _status(order, legs)
    if order.stage in ENDED_STAGES and order.ended_at is None:
        order.ended_at = now
        log.info("basket.ended", basket_order_id=str(order.basket_order_id), kind=order.kind, status=order.status)
        if not told:
            _tell(session, order, investment)
    elif order.status != before:
        log.info("basket.moved", basket_order_id=str(order.basket_order_id), status=order.status)
    session.flush()
    # While an order works, the only thing that can change is that the first share has come.
    if order.stage in ENDED_STAGES or investment.status != InvestmentStatus.ACTIVE:
        refresh_investment(session, investment, now)


def _legs(session: Session, basket_order_id: UUID) -> Legs:
    return _standing(session, basket_order_id)[2]


def _standing(session: Session, basket_order_id: UUID) -> tuple[Stage, Status, Legs]:
    """Stage and status as they are written, and the legs as they are."""
    state, filled = BasketLeg.state, BasketLeg.filled_quantity
    row = session.execute(
        sa.select(
            BasketOrder.stage,
            BasketOrder.status,
            sa.func.count().filter(state.in_(LIVE_LEGS)),
            sa.func.bool_and(state == LegState.INTENT),
            sa.func.sum(filled),
            sa.func.bool_and(filled == BasketLeg.quantity),
            sa.func.bool_and(BasketLeg.side == "SELL"),
        )
        .join(BasketLeg, BasketLeg.basket_order_id == BasketOrder.basket_order_id)
        .where(BasketOrder.basket_order_id == basket_order_id)
        .group_by(BasketOrder.basket_order_id)
    ).one()
    legs = Legs(
        live=row[2], untouched=bool(row[3]), units=int(row[4] or 0), complete=bool(row[5]), only_sells=bool(row[6])
    )
    return Stage(row[0]), Status(row[1]), legs


def _status(order: BasketOrder, legs: Legs) -> Status:
    return status_of(Stage(order.stage), legs, repaired=order.repaired_by is not None)


def wake(session: Session) -> None:
    """Wake the driver when this transaction commits."""
    session.execute(text(f"NOTIFY {CHANNEL}"))


def _tell(session: Session, order: BasketOrder, investment: Investment) -> None:
    legs = legs_of(session, order.basket_order_id)
    first = (order.refusals or [{}])[0]
    failed = next((leg for leg in legs if leg.reason_code not in (None, NOT_ATTEMPTED)), None)
    event = BasketUpdated.model_validate(
        {
            "basket_order_id": order.basket_order_id,
            "user_id": order.user_id,
            "investment_id": order.investment_id,
            "smallcase_id": investment.smallcase_id,
            "smallcase_name": smallcase_name(session, investment.smallcase_id),
            "kind": order.kind,
            "status": order.status,
            "orders": len(legs),
            "orders_filled": sum(leg.filled_quantity == leg.quantity for leg in legs),
            "bought_paise": sum(leg.amount_paise for leg in legs if leg.side == "BUY"),
            "sold_paise": sum(leg.amount_paise for leg in legs if leg.side == "SELL"),
            "charges_paise": sum(leg.charges_paise for leg in legs),
            "reason_code": failed.reason_code if failed else first.get("code"),
            "reason": failed.reason if failed else first.get("detail"),
        }
    )
    outbox.record(session, event, source=NAME, aggregate_id=order.basket_order_id, correlation_id=order.correlation_id)


def smallcase_name(session: Session, smallcase_id: UUID) -> str:
    """The newest name of a smallcase."""
    newest = (SmallcaseVersion.smallcase_id == Smallcase.smallcase_id) & (SmallcaseVersion.version == Smallcase.version)
    name = session.scalar(
        sa.select(SmallcaseVersion.name).join(Smallcase, newest).where(Smallcase.smallcase_id == smallcase_id)
    )
    return name or ""
