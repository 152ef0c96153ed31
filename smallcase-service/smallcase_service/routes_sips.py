"""/api/v1/sips: the same amount again and again; what is due, and the user's word on it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from common.auth import User
from common.db import SessionDep
from common.dependencies import ClockDep
from common.idempotency import IdempotencyKey, answer_once, request_hash, respond
from smallcase_service import instalments, investments, proposals, sips
from smallcase_service.dependencies import DeskDep
from smallcase_service.desk import Proposed
from smallcase_service.instalments import NothingDue
from smallcase_service.investments import PAGE_DEFAULT, PAGE_MAX
from smallcase_service.models import Sip
from smallcase_service.proposals import Asker, checked
from smallcase_service.routes_investments import TAKEN, Cursor
from smallcase_service.schemas_orders import BasketReceipt, PlaceIn
from smallcase_service.schemas_sips import SipDetail, SipIn, SipOut, SipPage
from smallcase_service.sip_schedule import Frequency, Mode, SipState

router = APIRouter(prefix="/api/v1/sips", tags=["sips"])

Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]


@router.post("", status_code=201, responses={201: {"model": SipOut}})
def make_sip(
    body: SipIn, user: User, key: IdempotencyKey, session: SessionDep, desk: DeskDep, clock: ClockDep
) -> Response:
    """Make a SIP. The amount must reach the minimum of the smallcase now, so that the first instalment can be placed."""
    # Refused like a purchase of that amount would be; asked before the first statement of this request's session.
    proposals.first_purchase(
        desk, Asker(user.user_id, user.kyc), body.smallcase_id, body.amount, portfolio_id=body.portfolio_id
    )
    wanted = sips.Wanted(
        body.smallcase_id,
        body.portfolio_id,
        body.amount,
        Frequency(body.frequency),
        body.day,
        body.start_on,
        Mode(body.mode),
    )

    def produce() -> tuple[int, SipOut]:
        return 201, _out(session, sips.create(session, user.user_id, wanted, clock.now()))

    return answer_once(session, user.user_id, key, "sips", body, produce)


def _out(session: Session, sip: Sip) -> SipOut:
    name = investments.names(session, [sip.smallcase_id])[sip.smallcase_id]
    return SipOut.of(sip, name, sips.waiting(session, [sip.sip_id]).get(sip.sip_id))


def _page(session: Session, user_id: UUID, cursor: UUID | None, limit: int, *, due_only: bool) -> SipPage:
    page = sips.page(session, user_id, cursor=cursor, limit=limit, due_only=due_only)
    names = investments.names(session, [sip.smallcase_id for sip in page.items])
    due = sips.waiting(session, [sip.sip_id for sip in page.items])
    items = [SipOut.of(sip, names[sip.smallcase_id], due.get(sip.sip_id)) for sip in page.items]
    return SipPage(items=items, next_cursor=page.next_cursor)


@router.get("")
def list_sips(session: SessionDep, user: User, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT) -> SipPage:
    """The caller's SIPs, newest first."""
    return _page(session, user.user_id, cursor, limit, due_only=False)


@router.get("/due")
def list_due(session: SessionDep, user: User, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT) -> SipPage:
    """The caller's SIPs with an instalment that waits."""
    return _page(session, user.user_id, cursor, limit, due_only=True)


@router.get("/{sip_id}")
def read_sip(sip_id: UUID, session: SessionDep, user: User) -> SipDetail:
    """One SIP with its latest due dates."""
    sip = instalments.sip_of(session, user.user_id, sip_id)
    return SipDetail.of(_out(session, sip), sips.latest(session, sip_id))


@router.post("/{sip_id}/confirm", status_code=202, responses=TAKEN)
def confirm(sip_id: UUID, body: PlaceIn, user: User, key: IdempotencyKey, desk: DeskDep) -> Response:
    """Place the instalment that waits: a basket order like any other."""

    def propose() -> Proposed:
        with desk.db.transaction() as session:
            sip = instalments.sip_of(session, user.user_id, sip_id)
            due = instalments.waiting(session, sip_id)
        if due is None:
            raise NothingDue("No instalment of this SIP waits.")
        proposed = instalments.proposal(desk, sip, due.due_on, user.kyc, queue_when_closed=body.queue_when_closed)
        return replace(proposed, also=instalments.mark_placed(sip_id, due.due_on, desk.clock.now()))

    placed = desk.place(user.user_id, key, request_hash(f"sips/{sip_id}/confirm", body), checked(desk, propose))
    return respond(202, BasketReceipt.of(placed).model_dump(mode="json"), replayed=placed.replayed)


def _changed(session: Session, user_id: UUID, key: str, route: str, change: Callable[[], Sip]) -> Response:
    return answer_once(session, user_id, key, route, PlaceIn(), lambda: (200, _out(session, change())))


@router.post("/{sip_id}/skip")
def skip(sip_id: UUID, session: SessionDep, user: User, key: IdempotencyKey, clock: ClockDep) -> Response:
    """Leave out the instalment that waits, or the next one when none does."""
    return _changed(
        session,
        user.user_id,
        key,
        f"sips/{sip_id}/skip",
        lambda: sips.skip(session, user.user_id, sip_id, clock.now()),
    )


def _moved(
    session: Session, user_id: UUID, key: str, sip_id: UUID, word: str, state: SipState, now: datetime
) -> Response:
    return _changed(
        session, user_id, key, f"sips/{sip_id}/{word}", lambda: sips.change_state(session, user_id, sip_id, state, now)
    )


@router.post("/{sip_id}/pause")
def pause(sip_id: UUID, session: SessionDep, user: User, key: IdempotencyKey, clock: ClockDep) -> Response:
    """Make no instalments until it is resumed; one that waits is left out."""
    return _moved(session, user.user_id, key, sip_id, "pause", SipState.PAUSED, clock.now())


@router.post("/{sip_id}/resume")
def resume(sip_id: UUID, session: SessionDep, user: User, key: IdempotencyKey, clock: ClockDep) -> Response:
    """Make instalments again, from the next date on."""
    return _moved(session, user.user_id, key, sip_id, "resume", SipState.ACTIVE, clock.now())


@router.post("/{sip_id}/stop")
def stop(sip_id: UUID, session: SessionDep, user: User, key: IdempotencyKey, clock: ClockDep) -> Response:
    """Make no instalments any more; what was bought stays."""
    return _moved(session, user.user_id, key, sip_id, "stop", SipState.STOPPED, clock.now())
