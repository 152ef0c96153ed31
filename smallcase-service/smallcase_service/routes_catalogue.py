"""/api/v1/smallcases: lists, categories, regions, weighting schemes, named universes, publishing."""

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict

from common.auth import AdminUser, CurrentUser, User
from common.clock import trading_date
from common.db import Database, SessionDep
from common.dependencies import ClockDep, DatabaseDep, MarketDep
from common.idempotency import IdempotencyKey, answer_once
from common.money import parse_rupees
from common.text import printable_lines
from smallcase_service import service
from smallcase_service.attributes import RiskLevel
from smallcase_service.catalogue import CANDIDATES_MAX, Card, Sort, deck_of, mean_returns, page_of
from smallcase_service.methods import METHODS
from smallcase_service.schemas import (
    SEARCH_LENGTH_MAX,
    RegionOut,
    RegionsOut,
    ShowIn,
    SmallcaseCard,
    SmallcaseOut,
    SmallcasePage,
)
from smallcase_service.schemas_attributes import Slug
from smallcase_service.schemas_tracking import TRACKING_METHODS, CategoriesOut, CategoryPerformance
from smallcase_service.service import Snapshot, Visibility, Wanted
from smallcase_service.universes import universes
from smallcase_service.weighting import SCHEMES

router = APIRouter(prefix="/api/v1/smallcases", tags=["smallcases"])

Limit = Annotated[int, Query(ge=1, le=service.PAGE_MAX)]
Text = Annotated[
    str | None,
    Query(min_length=1, max_length=SEARCH_LENGTH_MAX, description="Part of the name or description."),
    AfterValidator(lambda text: text if text is None else printable_lines(text)),
]
MaximumQuery = Annotated[
    str | None,
    Query(pattern=r"^[0-9]{1,15}(\.[0-9]{1,2})?$", description="Rupees: only those whose minimum is at most this."),
]


class SchemeOut(BaseModel):
    """A weighting scheme; `needs`: `closes` of the last year, `market_values` from the maker, or `nothing`."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    title: str
    description: str
    needs: str


class MethodOut(BaseModel):
    """A method of suggestions and rebalancing that computes weights from past prices, and what can go wrong with it."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    title: str
    description: str
    danger: str


class SchemesOut(BaseModel):
    """The schemes of creating and rebalancing, and the methods of suggesting and rebalancing."""

    items: list[SchemeOut]
    methods: list[MethodOut]


class UniverseOut(BaseModel):
    """A named list of shares."""

    name: str
    title: str
    description: str
    symbols: list[str]


class UniversesOut(BaseModel):
    """The lists that suggestions can choose from."""

    items: list[UniverseOut]


@router.get("")
def list_smallcases(
    db: DatabaseDep,
    user: User,
    market: MarketDep,
    clock: ClockDep,
    q: Text = None,
    category: Annotated[Slug | None, Query()] = None,
    region: Annotated[str | None, Query(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f]+$")] = None,
    risk: Annotated[RiskLevel | None, Query(description="What the maker says.")] = None,
    own: Annotated[bool | None, Query(description="true: only the caller's own; false: only others'.")] = None,
    maximum_amount: MaximumQuery = None,
    sort: Sort = "newest",
    cursor: Annotated[UUID | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Limit = service.PAGE_DEFAULT,
) -> SmallcasePage:
    """The caller's own smallcases and published ones."""
    wanted = Wanted(search=q, category=category, region=region, risk_level=risk, own=own)
    today = trading_date(clock.now())
    if sort == "newest" and maximum_amount is None:
        with db.transaction() as session:
            page = service.find(session, user.user_id, wanted, cursor=cursor, limit=limit)
        return SmallcasePage(items=_cards(deck_of(market, today, page.items).cards, user), next_cursor=page.next_cursor)
    candidates, is_partial = _candidates(db, user, wanted)
    maximum = parse_rupees(maximum_amount) if maximum_amount is not None else None
    cards, following = page_of(
        deck_of(market, today, candidates).cards, sort, maximum_paise=maximum, cursor=cursor, limit=limit
    )
    return SmallcasePage(items=_cards(cards, user), next_cursor=following, is_partial=is_partial)


def _candidates(db: Database, user: CurrentUser, wanted: Wanted) -> tuple[list[Snapshot], bool]:
    with db.transaction() as session:
        found = service.newest_first(session, user.user_id, wanted, CANDIDATES_MAX + 1)
    return found[:CANDIDATES_MAX], len(found) > CANDIDATES_MAX


def _cards(cards: Sequence[Card], user: CurrentUser) -> list[SmallcaseCard]:
    return [SmallcaseCard.of_figures(card.snapshot, user.user_id, card.minimum_paise, card.return_1y) for card in cards]


def _published(db: Database, user: CurrentUser, wanted: Wanted) -> tuple[list[Snapshot], bool]:
    found, is_partial = _candidates(db, user, wanted)
    return [one for one in found if one.content.visibility == "published"], is_partial


@router.get("/categories/performance")
def categories(db: DatabaseDep, user: User, market: MarketDep, clock: ClockDep) -> CategoriesOut:
    """Mean returns of the published smallcases of each category."""
    found, is_partial = _published(db, user, Wanted())
    deck = deck_of(market, trading_date(clock.now()), found)

    def category(card: Card) -> str:
        return card.snapshot.content.category

    items = []
    for name, group in groupby(sorted(deck.cards, key=category), key=category):
        cards = list(group)
        returns, measured = mean_returns(cards)
        items.append(
            CategoryPerformance(
                category=name, smallcases=len(cards), basis="backtest", returns=returns, measured=measured
            )
        )
    return CategoriesOut(items=items, method=TRACKING_METHODS["backtest"], is_partial=is_partial or deck.is_collecting)


@router.get("/regional")
def regional(
    db: DatabaseDep,
    user: User,
    market: MarketDep,
    clock: ClockDep,
    region: Annotated[str | None, Query(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f]+$")] = None,
) -> RegionsOut:
    """Published smallcases by region."""
    found, is_partial = _published(db, user, Wanted(region=region))
    deck = deck_of(market, trading_date(clock.now()), found)

    def where(card: Card) -> str:
        return card.snapshot.content.region

    items = [
        RegionOut(region=name, smallcases=_cards(list(group), user))
        for name, group in groupby(sorted(deck.cards, key=where), key=where)
    ]
    return RegionsOut(items=items, is_partial=is_partial)


@router.get("/strategies")
def strategies(user: User) -> SchemesOut:
    """Weighting schemes for new smallcases and for rebalancing."""
    return SchemesOut(
        items=[SchemeOut.model_validate(scheme) for scheme in SCHEMES],
        methods=[MethodOut.model_validate(method) for method in METHODS.values()],
    )


@router.get("/universes")
def named_universes(user: User) -> UniversesOut:
    """Named lists of shares that suggestions can choose from."""
    return UniversesOut(
        items=[
            UniverseOut(
                name=one.name, title=one.title, description=one.description, symbols=[key[1] for key in one.keys]
            )
            for one in universes().values()
        ]
    )


def _show(
    smallcase_id: UUID,
    body: ShowIn,
    visibility: Visibility,
    admin: CurrentUser,
    key: str,
    session: SessionDep,
    clock: ClockDep,
) -> Response:
    def produce() -> tuple[int, SmallcaseOut]:
        snapshot = service.show(
            session,
            admin.user_id,
            smallcase_id,
            visibility,
            based_on=body.version,
            reason=body.reason,
            now=clock.now(),
            any_owner=visibility == "private",
        )
        return 200, SmallcaseOut.of_snapshot(snapshot, admin.user_id)

    return answer_once(session, admin.user_id, key, f"smallcases/{smallcase_id}/{visibility}", body, produce)


@router.post("/{smallcase_id}/publish", responses={200: {"model": SmallcaseOut}})
def publish(
    smallcase_id: UUID, body: ShowIn, admin: AdminUser, key: IdempotencyKey, session: SessionDep, clock: ClockDep
) -> Response:
    """Show an own smallcase to everybody: a new version with the same content."""
    return _show(smallcase_id, body, "published", admin, key, session, clock)


@router.post("/{smallcase_id}/unpublish", responses={200: {"model": SmallcaseOut}})
def unpublish(
    smallcase_id: UUID, body: ShowIn, admin: AdminUser, key: IdempotencyKey, session: SessionDep, clock: ClockDep
) -> Response:
    """Withdraw a published smallcase, also somebody else's; investors keep what they have."""
    return _show(smallcase_id, body, "private", admin, key, session, clock)
