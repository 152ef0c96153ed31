"""Orders that an administrator places for a user, through the same acceptance as the user's own."""

from typing import Annotated
from uuid import UUID, uuid5

from fastapi import APIRouter, Depends, Request, Response

from common import audit
from common.audit import CallerAddress
from common.auth import AdminUser
from common.db import SessionDep
from common.dependencies import ClockDep, DatabaseDep, MarketDep
from common.errors import Conflict
from common.idempotency import IdempotencyKey, answer_once
from common.standing import Standings
from portfolio_service.acceptance import accept, preview
from portfolio_service.dependencies import SettingsDep
from portfolio_service.ledger import NAMESPACE
from portfolio_service.market_view import observe
from portfolio_service.routes_orders import batch_out, batch_refused
from portfolio_service.schemas import BatchOut
from portfolio_service.schemas_admin_orders import AdminOrdersIn, OrderPreview, PreviewIn, PreviewOut
from portfolio_service.submissions import Refused, Submission

router = APIRouter(prefix="/api/v1/admin/orders", tags=["admin"])


class AccountNotActive(Conflict):
    """The user's account is suspended or closed: nobody trades in it."""


async def _standings(request: Request) -> Standings:
    standings: Standings = request.app.state.standings
    return standings


StandingsDep = Annotated[Standings, Depends(_standings)]


def _key_owner(user_id: UUID) -> UUID:
    """Whom keys belong to: never mixed with the user's own, and the same whichever administrator repeats a request."""
    return uuid5(NAMESPACE, f"admin-order-keys:{user_id}")


def _submission(body: PreviewIn, key: str, standings: Standings) -> Submission:
    standing = standings.of(body.user_id)
    if standing.status != "active":
        raise AccountNotActive(f"The account is {standing.status}; nothing can be traded in it.")
    requests = [order.request(order.side) for order in body.orders]
    # The allowance of submissions a minute is the user's, not the administrator's to use up.
    return Submission(body.user_id, standing.kyc, requests, key, atomic=body.atomic, counted=False)


@router.post("", status_code=202, responses={202: {"model": BatchOut}})
def place_for_user(
    body: AdminOrdersIn,
    admin: AdminUser,
    key: IdempotencyKey,
    session: SessionDep,
    settings: SettingsDep,
    market: MarketDep,
    clock: ClockDep,
    standings: StandingsDep,
    address: CallerAddress,
) -> Response:
    """Accept orders for a user in one transaction with the audit row that names the administrator.

    All or none unless `atomic` is false. Every check of the user's own orders holds. 404 `user_not_found`, 409
    `account_not_active`; a refused list leaves the key free.
    """
    submission = _submission(body, key, standings)
    view = observe(market, submission.requests)  # before the transaction: no lock is held while another room is asked

    def produce() -> tuple[int, BatchOut]:
        outcomes = accept(
            session,
            submission=submission,
            view=view,
            clock=clock,
            limits=settings.limits(),
            paper_cash_paise=settings.initial_paper_cash_rupees * 100,
        )
        if body.atomic and any(isinstance(outcome, Refused) for outcome in outcomes):
            raise batch_refused(outcomes)
        answer = batch_out(submission, outcomes)
        audit.record(
            session,
            audit.operator(admin.user_id),
            "orders.placed_for_user",
            target=f"user:{body.user_id}",
            address=address,
            at=clock.now(),
            submission_id=str(submission.submission_id),
            accepted=answer.accepted,
            refused=answer.refused,
            reason=body.reason,
        )
        return 202, answer

    return answer_once(session, _key_owner(body.user_id), key, "admin/orders", body, produce)


@router.post("/preview")
def preview_for_user(
    body: PreviewIn,
    _admin: AdminUser,
    db: DatabaseDep,
    settings: SettingsDep,
    market: MarketDep,
    clock: ClockDep,
    standings: StandingsDep,
) -> PreviewOut:
    """What would become of these orders now: judged like the real thing, against the same balances, nothing kept."""
    submission = _submission(body, "preview", standings)
    outcomes = preview(
        db,
        submission=submission,
        view=observe(market, submission.requests),
        clock=clock,
        limits=settings.limits(),
        paper_cash_paise=settings.initial_paper_cash_rupees * 100,
    )
    results = [OrderPreview.of(outcome) for outcome in outcomes]
    accepted = sum(result.status == "accepted" for result in results)
    return PreviewOut(accepted=accepted, refused=len(results) - accepted, results=results)
