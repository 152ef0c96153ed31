"""/api/v1/smallcases: make, find, read and change smallcases."""

from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Request, Response, status

from common.auth import CurrentUser, User, admit
from common.clock import trading_date
from common.db import SessionDep
from common.dependencies import ClockDep, DatabaseDep, MarketDep
from common.errors import Unavailable
from common.idempotency import IdempotencyKey, answer_once
from smallcase_service import service
from smallcase_service.composition import liquidity_warnings, not_valued, value
from smallcase_service.drafting import draft_of, histories_of
from smallcase_service.expected import expected_return
from smallcase_service.index_value import common_closes
from smallcase_service.schemas import (
    VERSION_MAX,
    Composition,
    SmallcaseChange,
    SmallcaseIn,
    SmallcaseOut,
    VersionList,
    VersionOut,
)
from smallcase_service.tracking import weights_of

PATH = "/api/v1/smallcases"

router = APIRouter(prefix=PATH, tags=["smallcases"])

Limit = Annotated[int, Query(ge=1, le=service.PAGE_MAX)]


def _may_publish(request: Request, user: CurrentUser, body: SmallcaseIn) -> None:
    # Offering a model portfolio to others needs a registration with SEBI: the operator's decision, not a user's.
    if body.visibility == "published":
        admit(request, user, "admin")


@router.post("", status_code=status.HTTP_201_CREATED, responses={201: {"model": SmallcaseOut}})
def create_smallcase(
    body: SmallcaseIn,
    request: Request,
    user: User,
    key: IdempotencyKey,
    session: SessionDep,
    market: MarketDep,
    clock: ClockDep,
) -> Response:
    """Make a smallcase; the same Idempotency-Key with the same body makes it once."""
    _may_publish(request, user, body)
    # Asked before the first statement: no connection is held while another room answers.
    draft = draft_of(body, market, trading_date(clock.now()))
    instruments = market.instruments(constituent.key for constituent in draft.constituents)

    def produce() -> tuple[int, SmallcaseOut]:
        snapshot = service.create(session, user.user_id, draft, instruments, clock.now())
        return status.HTTP_201_CREATED, SmallcaseOut.of_snapshot(snapshot, user.user_id)

    response = answer_once(session, user.user_id, key, "smallcases", body, produce)
    response.headers["Location"] = f"{PATH}/{orjson.loads(response.body)['smallcase_id']}"
    return response


@router.get("/{smallcase_id}")
@router.get("/{smallcase_id}/composition")
def read_smallcase(smallcase_id: UUID, user: User, db: DatabaseDep, market: MarketDep, clock: ClockDep) -> Composition:
    """Composition at live prices, minimum investment, expected returns, and whether it can be bought now."""
    # A transaction of its own, over before market data is asked: a slow peer must not hold a connection.
    with db.transaction() as session:
        snapshot = service.newest_version(session, user.user_id, smallcase_id)
    keys = [constituent.key for constituent in snapshot.constituents]
    try:
        instruments, prices = market.instruments(keys), market.prices(keys)
        histories = histories_of(market, keys, trading_date(clock.now()))
    except Unavailable:
        return Composition.of_valuation(snapshot, user.user_id, {}, {}, not_valued())
    return Composition.of_valuation(
        snapshot,
        user.user_id,
        instruments,
        prices,
        value(snapshot.constituents, instruments, prices),
        warnings=liquidity_warnings(snapshot.constituents, histories),
        expected=expected_return(common_closes(histories), weights_of(snapshot.constituents)),
    )


@router.put("/{smallcase_id}")
def change_smallcase(
    smallcase_id: UUID,
    body: SmallcaseChange,
    request: Request,
    user: User,
    session: SessionDep,
    market: MarketDep,
    clock: ClockDep,
) -> SmallcaseOut:
    """Make the next version; refused when `version` is not the newest one any more."""
    _may_publish(request, user, body)
    draft = draft_of(body, market, trading_date(clock.now()))
    instruments = market.instruments(constituent.key for constituent in draft.constituents)
    snapshot = service.revise(
        session,
        user.user_id,
        smallcase_id,
        draft,
        instruments,
        based_on=body.version,
        reason=body.reason,
        now=clock.now(),
    )
    return SmallcaseOut.of_snapshot(snapshot, user.user_id)


@router.get("/{smallcase_id}/versions")
def list_versions(
    smallcase_id: UUID,
    session: SessionDep,
    user: User,
    before: Annotated[int | None, Query(ge=1, le=VERSION_MAX, description="Only versions older than this.")] = None,
    limit: Limit = service.PAGE_DEFAULT,
) -> VersionList:
    """What the smallcase was before: every version with who made it and why, newest first."""
    found = service.versions(session, user.user_id, smallcase_id, before=before, limit=limit)
    return VersionList(items=[VersionOut.of(snapshot) for snapshot in found])
