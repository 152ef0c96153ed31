"""The desk of basket orders: from a proposal to rows, to portfolio-service, to an answer; the same for users and driver.

Rows first, in one transaction with the idempotency key; then the call; then its result. Whoever dies in between is
followed by the driver, which repeats the call under the same submission id.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from common import idempotency
from common.clock import Clock
from common.db import Database
from common.errors import AppError, Forbidden, NotFound, TooManyRequests, Unprocessable
from common.http import PeerUnavailable
from common.logging import get_logger
from common.market_data import Key, MarketData
from common.money import format_rupees
from smallcase_service import baskets, investments, outcomes
from smallcase_service.baskets import Draft
from smallcase_service.composition import Constituent
from smallcase_service.models import BasketLeg, BasketOrder, Investment
from smallcase_service.orders import LegState, Stage
from smallcase_service.plan import Allowance, Trade
from smallcase_service.planning import Basket, Costs, Proposal, priced
from smallcase_service.portfolio_orders import PlacedOrder, PortfolioOrders, Submission

log = get_logger(__name__)

RATE_WAIT_S = 60


class BasketRefused(Unprocessable):
    """Orders of the basket can not be taken, so none was."""


class InsufficientFunds(Unprocessable):
    """The cash that is free does not cover the buys at their worst prices."""


class MarketClosed(Unprocessable):
    """Nothing trades now."""


@dataclass(frozen=True)
class Proposed:
    """A basket order that could be written: of an investment, or of a new one in a smallcase."""

    draft: Draft
    proposal: Proposal
    smallcase_id: UUID
    investment_id: UUID | None = None
    also: Callable[[Session, BasketOrder], None] | None = None
    """What else becomes true in the transaction that writes it."""


@dataclass(frozen=True)
class Placed:
    """A basket order that was taken: what the request for it is answered with."""

    order: BasketOrder
    investment: Investment
    legs: Sequence[BasketLeg]
    replayed: bool


@dataclass(frozen=True)
class Desk:
    """The collaborators of everything that places baskets."""

    db: Database
    market: MarketData
    portfolio: PortfolioOrders
    clock: Clock
    allowance: Allowance

    # --- asking -----------------------------------------------------------------------------------------------------

    def basket(self, constituents: Sequence[Constituent], held: dict[Key, int]) -> Basket:
        """Composition and holding at live prices; raises SmallcaseNotBuyable."""
        keys = [*(one.key for one in constituents), *held]
        return priced(constituents, held, self.market.instruments(keys), self.market.prices(keys))

    def costs(self, user_id: UUID, portfolio_id: UUID | None, trades: Sequence[Trade]) -> Costs:
        """What these trades cost; raises PeerRefused for a portfolio that is not the user's."""
        estimate = self.portfolio.estimate(user_id, portfolio_id, trades)
        return Costs(estimate.portfolio_id, estimate.charges_paise, estimate.hold_paise, estimate.available_paise)

    def check_open(self, queue_when_closed: bool) -> None:
        """Raise MarketClosed unless orders trade now or may wait."""
        if not queue_when_closed and not self.market.session().is_open:
            raise MarketClosed(
                "The market is closed. Send the request again with queue_when_closed to have it wait for the next session."
            )

    # --- placing ----------------------------------------------------------------------------------------------------

    def place(
        self, owner_id: UUID, key: str, asked: str, propose: Callable[[], Proposed], *, told: bool = True
    ) -> Placed:
        """Place a basket order once per key. `asked` is the hash of the request.

        Raises what `propose` raises, AlreadyInvested, BasketWorking, InvestmentChanged, and the refusals of acceptance
        when the user is told so.
        """
        with self.db.transaction() as session:
            known = idempotency.find_answer(session, owner_id, key, asked)
        order_id = UUID(known.body["basket_order_id"]) if known else None
        if order_id is None:
            proposed = propose()
            order_id, replayed = self._write(proposed, owner_id, key, asked)
        else:
            replayed = True
        try:
            self.submit(order_id, told=told)
        except PeerUnavailable as error:
            # Unknown what became of it: the driver asks again under the same id.
            log.warning("basket.answer_unknown", basket_order_id=str(order_id), detail=error.detail)
        return self._placed(order_id, replayed=replayed)

    def write(self, session: Session, proposed: Proposed) -> BasketOrder:
        """Write a proposal down; see `baskets.write_order` for what is raised."""
        now = self.clock.now()
        draft, held = proposed.draft, proposed.proposal.basket.held
        if proposed.investment_id is None:
            investment = baskets.open_investment(
                session,
                draft.user_id,
                proposed.smallcase_id,
                proposed.proposal.costs.portfolio_id,
                draft.version,
                now,
            )
        else:
            investment = baskets.lock_investment(session, proposed.investment_id)
        order = baskets.write_order(session, investment, draft, now, held=held)
        if proposed.also is not None:
            proposed.also(session, order)
        return order

    def _write(self, proposed: Proposed, owner_id: UUID, key: str, asked: str) -> tuple[UUID, bool]:
        with self.db.transaction() as session:
            stored = idempotency.claim_key(session, owner_id, key, asked)
            if stored is not None:
                return UUID(stored.body["basket_order_id"]), True
            order = self.write(session, proposed)
            order.idempotency_ref = key
            body = {"basket_order_id": str(order.basket_order_id)}
            idempotency.store_answer(session, owner_id, key, 202, body)
        return order.basket_order_id, False

    def submit(self, order_id: UUID, *, told: bool = False) -> None:
        """Have the legs that wait for it accepted, and record the answer; nothing to do is fine.

        Raises PeerUnavailable when it is unknown what portfolio-service has done.
        """
        with self.db.transaction() as session:
            submission = _submission(session, order_id)
        if submission is None:
            return
        refusals = self.portfolio.accept(submission)
        with self.db.transaction() as session:
            outcomes.record_answer(session, order_id, submission.submission_id, refusals, self.clock.now(), told=told)

    def _placed(self, order_id: UUID, *, replayed: bool) -> Placed:
        with self.db.transaction() as session:
            order = session.get_one(BasketOrder, order_id)
            investment = session.get_one(Investment, order.investment_id)
            legs = investments.legs(session, [order_id])[order_id]
        if order.stage == Stage.REFUSED:
            raise refusal_error(order)
        return Placed(order, investment, first_step(order, legs), replayed)


def first_step(order: BasketOrder, legs: Sequence[BasketLeg]) -> list[BasketLeg]:
    """The legs an order began with; buys that were computed later are not among them."""
    return [leg for leg in legs if leg.side == "SELL"] if order.wanted.get("then") else list(legs)


def refusal_error(order: BasketOrder) -> AppError:
    """The refusal of a basket order as an HTTP problem: the code of a reason that all refusals share is kept."""
    refusals: list[dict[str, Any]] = order.refusals or []
    codes = {refusal["code"] for refusal in refusals}
    first = refusals[0] if refusals else {"code": "basket_refused", "detail": "The basket was refused."}
    if len(codes) == 1:
        code, detail = first["code"], first["detail"]
        if code == "order_rate":
            return TooManyRequests(detail, retry_after=RATE_WAIT_S, code=code)
        kind = {"kyc_required": Forbidden, "portfolio_not_found": NotFound}.get(code, BasketRefused)
        return kind(detail, code=code, errors=refusals)
    return BasketRefused(
        f"{len(refusals)} orders of the basket can not be taken, so none was. The first: {first['detail']}",
        errors=refusals,
    )


def check_funds(costs: Costs) -> None:
    """Raise InsufficientFunds when the buys would not fit while they work: they are held at their worst prices."""
    if costs.hold_paise > costs.available_paise:
        raise InsufficientFunds(
            f"While the buys work, ₹{format_rupees(costs.hold_paise)} are held (worst prices and charges);"
            f" ₹{format_rupees(costs.available_paise)} is available. Add money or name a smaller amount.",
            needed=format_rupees(costs.hold_paise),
            available=format_rupees(costs.available_paise),
        )


def _submission(session: Session, order_id: UUID) -> Submission | None:
    order = session.get(BasketOrder, order_id)
    if order is None or order.stage != Stage.INTENT:
        return None
    investment = session.get_one(Investment, order.investment_id)
    legs = [leg for leg in baskets.legs_of(session, order_id) if leg.submission_id == order.submission_id]
    return Submission(
        submission_id=order.submission_id,
        user_id=order.user_id,
        kyc=order.kyc,
        portfolio_id=investment.portfolio_id,
        queue_when_closed=order.queue_when_closed and order.submissions == 1,
        counted=order.submissions == 1 and order.idempotency_ref is not None,
        orders=[
            PlacedOrder(leg.order_id, leg.exchange, leg.tradingsymbol, leg.side, leg.quantity)
            for leg in legs
            if leg.state != LegState.REFUSED
        ],
    )
