"""/api/v1/investments and the investing part of /api/v1/smallcases: plans, basket orders, what the user has.

Every order of a basket takes an Idempotency-Key. Orders answer 202 with a receipt; what becomes of them is read under
/api/v1/investments/orders/{basket_order_id}.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Literal
from uuid import UUID, uuid5

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from common import idempotency
from common.auth import CurrentUser, User
from common.db import SessionDep
from common.dependencies import ClockDep, DatabaseDep, MarketDep
from common.errors import AppError, Unavailable
from common.idempotency import IdempotencyKey, request_hash, respond
from common.market_data import Key, MarketData, Price
from common.money import parse_rupees
from smallcase_service import auto_rebalance_consent, auto_rebalancing, baskets, investments, proposals
from smallcase_service.dependencies import DeskDep
from smallcase_service.desk import Desk, Proposed
from smallcase_service.investments import PAGE_DEFAULT, PAGE_MAX, Page
from smallcase_service.models import Investment
from smallcase_service.orders import REPAIRABLE, InvestmentStatus
from smallcase_service.proposals import Asker, checked
from smallcase_service.schemas_investments import (
    AutoRebalanceOut,
    AutoRebalanceSetting,
    InvestmentDetail,
    InvestmentOut,
    InvestmentPage,
    investment_fields,
    position_rows,
)
from smallcase_service.schemas_orders import (
    AutoRebalanceIn,
    BasketOrderOut,
    BasketOrderPage,
    BasketReceipt,
    BulkIn,
    BulkItem,
    BulkOut,
    CustomiseIn,
    InvestIn,
    InvestMoreIn,
    PartialExitIn,
    PlaceIn,
    PlanOut,
    RebalanceIn,
    RepairIn,
)

router = APIRouter(prefix="/api/v1", tags=["investments"])

Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]
Cursor = Annotated[UUID | None, Query(description="`next_cursor` of the page before.")]
AmountQuery = Annotated[
    str, Query(pattern=r"^[0-9]{1,15}(\.[0-9]{1,2})?$", description="Rupees, charges included.", examples=["11550.00"])
]
TAKEN: dict[int | str, dict[str, object]] = {202: {"model": BasketReceipt}}


def _placed(
    desk: Desk, user: CurrentUser, key: str, route: str, body: BaseModel, propose: Callable[[], Proposed]
) -> Response:
    placed = desk.place(user.user_id, key, request_hash(route, body), checked(desk, propose))
    return respond(202, BasketReceipt.of(placed).model_dump(mode="json"), replayed=placed.replayed)


def _asker(user: CurrentUser, body: PlaceIn | InvestIn | InvestMoreIn | None = None) -> Asker:
    return Asker(user.user_id, user.kyc, body.queue_when_closed if body is not None else False)


def _preview(proposed: Proposed, *, with_weights: bool = True) -> PlanOut:
    draft = proposed.draft
    return PlanOut.of(
        draft.kind,
        proposed.smallcase_id,
        proposed.investment_id,
        draft.version,
        proposed.proposal,
        with_weights=with_weights,
    )


# --- first purchase ---------------------------------------------------------------------------------------------------


@router.get("/smallcases/{smallcase_id}/plan")
def plan_investment(
    smallcase_id: UUID, amount: AmountQuery, user: User, desk: DeskDep, portfolio_id: UUID | None = None
) -> PlanOut:
    """What a first purchase of this amount would order now, with costs, charges and what is left; places nothing."""
    return _preview(
        proposals.first_purchase(desk, _asker(user), smallcase_id, parse_rupees(amount), portfolio_id=portfolio_id)
    )


@router.post("/smallcases/{smallcase_id}/invest", status_code=202, responses=TAKEN)
def invest(smallcase_id: UUID, body: InvestIn, user: User, key: IdempotencyKey, desk: DeskDep) -> Response:
    """Buy a smallcase: all its orders are accepted together, or none is."""

    def propose() -> Proposed:
        proposed = proposals.first_purchase(
            desk,
            _asker(user, body),
            smallcase_id,
            body.amount,
            portfolio_id=body.portfolio_id,
            version=body.version,
        )
        if not body.auto_rebalance:
            return proposed
        return replace(proposed, also=auto_rebalance_consent.given_with_purchase(user.user_id, desk.clock.now()))

    return _placed(desk, user, key, f"smallcases/{smallcase_id}/invest", body, propose)


# --- what the user has ------------------------------------------------------------------------------------------------


def _page(
    db: DatabaseDep,
    market: MarketData,
    user: CurrentUser,
    statuses: Sequence[str],
    cursor: UUID | None,
    limit: int,
) -> InvestmentPage:
    with db.transaction() as session:
        page = investments.investments_page(session, user.user_id, statuses=statuses, cursor=cursor, limit=limit)
        ids = [row.investment_id for row in page.items]
        held = baskets.holdings(session, ids)
        flows = investments.flows(session, ids)
        names = investments.names(session, [row.smallcase_id for row in page.items])
    prices = _prices(market, [key for shares in held.values() for key in shares])
    items = [
        InvestmentOut.of(row, names[row.smallcase_id], held[row.investment_id], flows[row.investment_id], prices)
        for row in page.items
    ]
    return InvestmentPage(items=items, next_cursor=page.next_cursor)


def _prices(market: MarketData, keys: Sequence[Key]) -> dict[Key, Price] | None:
    try:
        return dict(market.prices(keys))
    except Unavailable:
        return None


@router.get("/investments")
@router.get("/smallcases/user/investments")
def list_investments(
    db: DatabaseDep,
    market: MarketDep,
    user: User,
    status: Annotated[
        Literal["pending", "active", "closed", "archived", "failed"] | None,
        Query(description="Default: everything but archived and failed ones."),
    ] = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> InvestmentPage:
    """The caller's investments with live values, newest first."""
    default = (InvestmentStatus.PENDING, InvestmentStatus.ACTIVE, InvestmentStatus.CLOSED)
    return _page(db, market, user, (status,) if status else default, cursor, limit)


@router.get("/smallcases/user/positions/closed")
def list_closed(
    db: DatabaseDep, market: MarketDep, user: User, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT
) -> InvestmentPage:
    """The caller's investments that were sold completely, newest first."""
    return _page(db, market, user, (InvestmentStatus.CLOSED, InvestmentStatus.ARCHIVED), cursor, limit)


def _orders(session: Session, page: Page[baskets.BasketOrder]) -> BasketOrderPage:
    legs = investments.legs(session, [order.basket_order_id for order in page.items])
    items = [BasketOrderOut.of(order, legs[order.basket_order_id]) for order in page.items]
    return BasketOrderPage(items=items, next_cursor=page.next_cursor)


@router.get("/investments/orders")
@router.get("/smallcases/user/positions/history")
def list_all_orders(
    session: SessionDep, user: User, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT
) -> BasketOrderPage:
    """All basket orders of the caller, newest first."""
    return _orders(session, investments.orders_page(session, user.user_id, cursor=cursor, limit=limit))


@router.get("/investments/orders/{basket_order_id}")
def read_order(basket_order_id: UUID, session: SessionDep, user: User) -> BasketOrderOut:
    """One basket order with its legs."""
    order = investments.order_of(session, user.user_id, basket_order_id)
    return BasketOrderOut.of(order, investments.legs(session, [basket_order_id])[basket_order_id])


@router.get("/investments/{investment_id}")
def read_investment(investment_id: UUID, user: User, db: DatabaseDep, market: MarketDep) -> InvestmentDetail:
    """One investment share by share, with drift, and whether a newer composition or a repair waits."""
    with db.transaction() as session:
        investment = investments.investment_of(session, user.user_id, investment_id)
        positions = investments.positions(session, investment_id)
        followed = investments.followed(session, investment)
        newest, composition = investments.newest_composition(session, investment)
        flows = investments.flows(session, [investment_id])[investment_id]
        name = investments.names(session, [investment.smallcase_id])[investment.smallcase_id]
        working = baskets.live_order(session, investment_id)
        recent = investments.orders_page(session, user.user_id, investment_id=investment_id, limit=PAGE_MAX)
        automatic = [AutoRebalanceOut.of(row) for row in auto_rebalancing.latest(session, investment_id)]
        broken = [order.basket_order_id for order in recent.items if order.status in REPAIRABLE]
    held = {position.key: position.held for position in positions if position.held}
    prices = _prices(market, [*held, *(one.key for one in followed)])
    return InvestmentDetail.model_validate(
        {
            **investment_fields(investment, name, held, flows, prices),
            "newest_version": newest,
            "update_available": investment.target is None and composition != followed,
            "working_order_id": working.basket_order_id if working else None,
            "needs_repair": broken,
            "auto_rebalances": automatic,
            "positions": position_rows(positions, followed, prices),
        }
    )


@router.put("/investments/{investment_id}/auto-rebalance")
def set_auto_rebalance(
    investment_id: UUID, body: AutoRebalanceIn, user: User, session: SessionDep, clock: ClockDep
) -> AutoRebalanceSetting:
    """Have the investment rebalanced to new published versions without being asked, or not any more."""
    investment = auto_rebalance_consent.change(session, user.user_id, investment_id, body.auto_rebalance, clock.now())
    return AutoRebalanceSetting.of(investment, auto_rebalance_consent.changed_at(session, investment_id))


@router.get("/investments/{investment_id}/orders")
def list_orders(
    investment_id: UUID, session: SessionDep, user: User, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT
) -> BasketOrderPage:
    """The basket orders of one investment, newest first."""
    investments.investment_of(session, user.user_id, investment_id)
    page = investments.orders_page(session, user.user_id, investment_id=investment_id, cursor=cursor, limit=limit)
    return _orders(session, page)


# --- later orders -----------------------------------------------------------------------------------------------------


@router.get("/investments/{investment_id}/plan")
def plan_more(investment_id: UUID, amount: AmountQuery, user: User, desk: DeskDep) -> PlanOut:
    """What investing this amount more would order now; places nothing."""
    return _preview(proposals.later_purchase(desk, _asker(user), investment_id, parse_rupees(amount)))


@router.post("/investments/{investment_id}/invest-more", status_code=202, responses=TAKEN)
def invest_more(investment_id: UUID, body: InvestMoreIn, user: User, key: IdempotencyKey, desk: DeskDep) -> Response:
    """Buy more of the under-weight shares, the most under-weight first."""
    return _placed(
        desk,
        user,
        key,
        f"investments/{investment_id}/invest-more",
        body,
        lambda: proposals.later_purchase(desk, _asker(user, body), investment_id, body.amount),
    )


def _rebalancing(desk: Desk, asker: Asker, investment_id: UUID, version: int | None, *, follow: bool) -> Proposed:
    if follow:
        return proposals.follow_again(desk, asker, investment_id)
    return proposals.rebalance(desk, asker, investment_id, version=version)


@router.get("/investments/{investment_id}/rebalance")
def plan_rebalance(investment_id: UUID, user: User, desk: DeskDep, follow: bool = False) -> PlanOut:
    """What a rebalance to the newest composition would order now, with weights before and after; places nothing."""
    return _preview(_rebalancing(desk, _asker(user), investment_id, None, follow=follow))


@router.post("/investments/{investment_id}/rebalance", status_code=202, responses=TAKEN)
def rebalance(investment_id: UUID, body: RebalanceIn, user: User, key: IdempotencyKey, desk: DeskDep) -> Response:
    """Go to the newest composition: sells first, then buys with the cash they have freed."""
    return _placed(
        desk,
        user,
        key,
        f"investments/{investment_id}/rebalance",
        body,
        lambda: _rebalancing(desk, _asker(user, body), investment_id, body.version, follow=body.follow),
    )


@router.post("/investments/{investment_id}/customise", status_code=202, responses=TAKEN)
def customise(investment_id: UUID, body: CustomiseIn, user: User, key: IdempotencyKey, desk: DeskDep) -> Response:
    """Go to own weights, or change single shares; the investment follows the own weights from then on."""

    def propose() -> Proposed:
        if body.constituents is not None:
            return proposals.own_weights(desk, _asker(user, body), investment_id, body.weights())
        return proposals.own_changes(desk, _asker(user, body), investment_id, body.units())

    return _placed(desk, user, key, f"investments/{investment_id}/customise", body, propose)


@router.post("/investments/{investment_id}/partial-exit", status_code=202, responses=TAKEN)
def partial_exit(investment_id: UUID, body: PartialExitIn, user: User, key: IdempotencyKey, desk: DeskDep) -> Response:
    """Sell a part of every share, in whole shares, never worth more than asked for."""
    return _placed(
        desk,
        user,
        key,
        f"investments/{investment_id}/partial-exit",
        body,
        lambda: proposals.partial_exit(
            desk, _asker(user, body), investment_id, amount_paise=body.amount, fraction_bps=body.fraction_bps
        ),
    )


@router.get("/investments/{investment_id}/exit")
@router.get("/smallcases/investments/{investment_id}/closure-preview")
def plan_exit(investment_id: UUID, user: User, desk: DeskDep) -> PlanOut:
    """What a complete exit would sell now, and its charges; places nothing."""
    return _preview(proposals.complete_exit(desk, _asker(user), investment_id), with_weights=False)


@router.post("/investments/{investment_id}/exit", status_code=202, responses=TAKEN)
@router.post("/smallcases/investments/{investment_id}/close", status_code=202, responses=TAKEN)
def leave(investment_id: UUID, body: PlaceIn, user: User, key: IdempotencyKey, desk: DeskDep) -> Response:
    """Sell everything the investment holds."""
    return _placed(
        desk,
        user,
        key,
        f"investments/{investment_id}/exit",
        body,
        lambda: proposals.complete_exit(desk, _asker(user, body), investment_id),
    )


@router.post("/investments/{investment_id}/repair", status_code=202, responses=TAKEN)
def repair(investment_id: UUID, body: RepairIn, user: User, key: IdempotencyKey, desk: DeskDep) -> Response:
    """Place again what is missing of the orders that failed, and nothing else."""
    return _placed(
        desk,
        user,
        key,
        f"investments/{investment_id}/repair",
        body,
        lambda: proposals.repair(desk, _asker(user, body), investment_id, body.basket_order_id),
    )


@router.post("/investments/{investment_id}/archive")
def archive(investment_id: UUID, user: User, key: IdempotencyKey, session: SessionDep, clock: ClockDep) -> Response:
    """Put an investment away that holds nothing and has no order that works."""

    def produce() -> tuple[int, InvestmentOut]:
        investment = baskets.archive(session, user.user_id, investment_id, clock.now())
        return 200, _closed_out(session, investment)

    return idempotency.answer_once(
        session, user.user_id, key, f"investments/{investment_id}/archive", PlaceIn(), produce
    )


def _closed_out(session: Session, investment: Investment) -> InvestmentOut:
    flows = investments.flows(session, [investment.investment_id])[investment.investment_id]
    name = investments.names(session, [investment.smallcase_id])[investment.smallcase_id]
    return InvestmentOut.of(investment, name, {}, flows, {})


# --- many at once -----------------------------------------------------------------------------------------------------


def _bulk(
    desk: Desk,
    user: CurrentUser,
    key: str,
    route: str,
    body: BulkIn,
    propose: Callable[[UUID], Proposed],
) -> BulkOut:
    with desk.db.transaction() as session:
        if idempotency.claim_key(session, user.user_id, key, request_hash(route, body)) is None:
            idempotency.store_answer(session, user.user_id, key, 202, {"investments": len(body.investment_ids)})
    results = []
    for investment_id in body.investment_ids:
        # One key each, derived from the caller's: a repeated request finds every order it has made.
        own = uuid5(investment_id, key).hex
        asked = request_hash(route, PlaceIn(queue_when_closed=body.queue_when_closed))

        def one(investment_id: UUID = investment_id) -> Proposed:
            return propose(investment_id)

        try:
            placed = desk.place(user.user_id, own, asked, checked(desk, one))
        except AppError as error:
            results.append(
                BulkItem(
                    investment_id=investment_id, status="refused", order=None, code=error.code, detail=error.detail
                )
            )
        else:
            receipt = BasketReceipt.of(placed)
            results.append(
                BulkItem(investment_id=investment_id, status="accepted", order=receipt, code=None, detail=None)
            )
    accepted = sum(result.status == "accepted" for result in results)
    return BulkOut(accepted=accepted, refused=len(results) - accepted, results=results)


@router.post("/smallcases/bulk/rebalance", status_code=202)
def rebalance_many(body: BulkIn, user: User, key: IdempotencyKey, desk: DeskDep) -> BulkOut:
    """Rebalance several investments; each is judged for itself."""
    asker = _asker(user, body)
    return _bulk(desk, user, key, "smallcases/bulk/rebalance", body, lambda one: proposals.rebalance(desk, asker, one))


@router.post("/smallcases/bulk/close", status_code=202)
def close_many(body: BulkIn, user: User, key: IdempotencyKey, desk: DeskDep) -> BulkOut:
    """Leave several investments completely; each is judged for itself."""
    asker = _asker(user, body)
    return _bulk(desk, user, key, "smallcases/bulk/close", body, lambda one: proposals.complete_exit(desk, asker, one))
