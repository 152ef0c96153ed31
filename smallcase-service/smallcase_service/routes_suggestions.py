"""/api/v1/smallcases: suggestions for a new basket, and for rebalancing one. Nothing here is applied without the user."""

from dataclasses import replace
from datetime import date
from uuid import UUID

from fastapi import APIRouter, Response, status

from common.auth import User
from common.clock import trading_date
from common.db import SessionDep
from common.dependencies import ClockDep, DatabaseDep, MarketDep
from common.errors import Unavailable
from common.idempotency import IdempotencyKey, answer_once
from common.market_data import Key, MarketData
from smallcase_service import plan, planning, service, weighting
from smallcase_service.attributes import BENCHMARK_DEFAULT, Weighting
from smallcase_service.composition import Constituent, check_known
from smallcase_service.dependencies import DeskDep, OptimiserDep, SettingsDep
from smallcase_service.drafting import MarketValuesMissing, complete_histories, scheme_weights
from smallcase_service.methods import METHODS
from smallcase_service.plan import Allowance, Line
from smallcase_service.rebalancing import changes, current_weights, reason_of, reweighted
from smallcase_service.schemas import SmallcaseOut
from smallcase_service.schemas_suggestions import (
    RebalanceApplyIn,
    RebalanceSuggestion,
    RebalanceSuggestionIn,
    SuggestedChange,
    SuggestedShare,
    SuggestionIn,
    SuggestionOut,
    WholeSharePlan,
)
from smallcase_service.service import Draft, Snapshot
from smallcase_service.suggestions import UniverseSize, in_words, suggest
from smallcase_service.tracking import VERSIONS_MAX, track
from smallcase_service.universes import universes, without

router = APIRouter(prefix="/api/v1/smallcases", tags=["suggestions"])

NOT_ADVICE = "Arithmetic on past prices, not advice; nothing changes unless you apply it."
SCHEME_TITLES = {scheme.name: scheme.title for scheme in weighting.SCHEMES}


@router.post("/suggestions")
def suggest_basket(
    body: SuggestionIn,
    user: User,
    market: MarketDep,
    clock: ClockDep,
    settings: SettingsDep,
    desk: DeskDep,
    optimiser: OptimiserDep,
) -> SuggestionOut:
    """Suggest weights, with the whole-share plan for the budget and a walk-forward test; makes and orders nothing."""
    excluded = [(one.exchange, one.tradingsymbol) for one in body.exclusions]
    keys = without(_offered(body), excluded)
    check_known([Constituent(*key, 0) for key in keys], market.instruments(keys))
    suggestion = suggest(
        market,
        optimiser,
        trading_date(clock.now()),
        keys,
        body.chosen_method,
        max_weight_bps=body.max_weight_bps,
        risk_free=settings.risk_free_rate(),
    )
    shares, whole = _plan(market, suggestion.weights_bps, body.budget, desk.allowance)
    return SuggestionOut.of(suggestion, len(keys), shares, whole, BENCHMARK_DEFAULT)


def _offered(body: SuggestionIn) -> list[Key]:
    if body.shares is not None:
        return [(one.exchange, one.tradingsymbol) for one in body.shares]
    named = universes().get(body.universe or "")
    if named is None:
        raise UniverseSize(
            f"There is no universe of this name; there are {', '.join(universes())}.", code="unknown_universe"
        )
    return list(named.keys)


def _plan(
    market: MarketData, weights: dict[Key, int], budget_paise: int, allowance: Allowance
) -> tuple[list[SuggestedShare], WholeSharePlan]:
    try:
        prices = market.prices(weights)
    except Unavailable:
        prices = {}
    quantities: dict[Key, int] = {}
    minimum = cost = None
    note: str | None = None
    missing = [key for key in weights if key not in prices or prices[key].price_paise <= 0]
    if missing:
        note = f"{':'.join(missing[0])} has no price at the moment, so there is no plan."
    else:
        lines = [Line(key, weight, prices[key].price_paise) for key, weight in weights.items()]
        minimum = planning.minimum_amount(lines, allowance)
        if budget_paise < minimum:
            note = "The budget is below the smallest whole-share basket of these weights, charges included."
        else:
            bought = plan.invest(lines, allowance.budget(budget_paise, len(lines)))
            quantities = dict(zip(weights, bought, strict=True))
            cost = sum(quantities[line.key] * line.price_paise for line in lines)
    shares = [
        SuggestedShare(
            exchange=key[0],
            tradingsymbol=key[1],
            weight_bps=weight,
            price=prices[key].price_paise if key in prices else None,
            quantity=quantities.get(key),
            amount=quantities[key] * prices[key].price_paise if key in quantities else None,
        )
        for key, weight in sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    ]
    leftover = budget_paise - cost if cost is not None else None
    return shares, WholeSharePlan(minimum_investment=minimum, cost=cost, leftover=leftover, note=note)


@router.post("/{smallcase_id}/rebalance/suggestions")
def suggest_rebalance(
    smallcase_id: UUID,
    body: RebalanceSuggestionIn,
    user: User,
    db: DatabaseDep,
    market: MarketDep,
    clock: ClockDep,
    settings: SettingsDep,
    optimiser: OptimiserDep,
) -> RebalanceSuggestion:
    """What a strategy would make of the weights; changes nothing."""
    with db.transaction() as session:
        versions = service.versions(session, user.user_id, smallcase_id, limit=VERSIONS_MAX)
    newest, today = versions[0], trading_date(clock.now())
    tracked = track(market, today, versions, "live")
    current = current_weights(newest.constituents, tracked.series.weights_now)
    keys = [one.key for one in newest.constituents]
    words = [NOT_ADVICE]
    if body.strategy in METHODS:
        suggestion = suggest(
            market,
            optimiser,
            today,
            keys,
            METHODS[body.strategy].name,  # type: ignore[index]
            max_weight_bps=body.cap_bps,
            risk_free=settings.risk_free_rate(),
            keep_all=True,
        )
        weights = [suggestion.weights_bps[key] for key in keys]
        words = in_words(suggestion)
        title, note = METHODS[suggestion.method].title, f"{suggestion.values} daily returns to {suggestion.last}"
    else:
        weights, note = _scheme(body, keys, market, today)
        title = SCHEME_TITLES[body.strategy]
    rows = changes(newest.constituents, current, weights)
    return RebalanceSuggestion(
        smallcase_id=smallcase_id,
        version=newest.content.version,
        strategy=body.strategy,
        note=note,
        in_words=words,
        changes=[
            SuggestedChange(
                exchange=row.key[0],
                tradingsymbol=row.key[1],
                version_weight=row.version_weight,
                current_weight=row.current_weight,
                suggested_weight=row.suggested_weight,
                weight_change=row.difference,
                action=row.action,
                reason=reason_of(row, title),
            )
            for row in rows
        ],
    )


def _scheme(body: RebalanceSuggestionIn, keys: list[Key], market: MarketData, today: date) -> tuple[list[int], str]:
    if body.strategy == "equal":
        return weighting.equal(len(keys)), "the same for every share"
    if body.strategy == "market_cap":
        values = {(one.exchange, one.tradingsymbol): one.market_value for one in body.market_values}
        if any(not values.get(key) for key in keys):
            raise MarketValuesMissing(
                "Name market_values, in rupees above 0, of every share: the platform has no source of market values."
            )
        note = f"free-float market values as named, at most {body.cap_bps} basis points each"
        return weighting.market_cap([values[key] for key in keys], body.cap_bps), note
    return scheme_weights(body.strategy, keys, complete_histories(market, keys, today))


@router.post(
    "/{smallcase_id}/rebalance/apply",
    status_code=status.HTTP_201_CREATED,
    responses={201: {"model": SmallcaseOut}},
)
def apply_rebalance(
    smallcase_id: UUID,
    body: RebalanceApplyIn,
    user: User,
    key: IdempotencyKey,
    db: DatabaseDep,
    session: SessionDep,
    market: MarketDep,
    clock: ClockDep,
) -> Response:
    """Make the weights the next version; refused when `version` is not the newest one any more."""
    with db.transaction() as reading:
        newest = service.newest_version(reading, user.user_id, smallcase_id)
    draft = _reweighted(newest, body)
    instruments = market.instruments(one.key for one in draft.constituents)

    def produce() -> tuple[int, SmallcaseOut]:
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
        return status.HTTP_201_CREATED, SmallcaseOut.of_snapshot(snapshot, user.user_id)

    return answer_once(session, user.user_id, key, f"smallcases/{smallcase_id}/rebalance", body, produce)


def _reweighted(newest: Snapshot, body: RebalanceApplyIn) -> Draft:
    wanted = {(one.exchange, one.tradingsymbol): one.weight_bps for one in body.constituents}
    scheme: Weighting = "optimised" if body.strategy in METHODS else body.strategy  # type: ignore[assignment]
    content = newest.content
    attributes = replace(
        service.stored_attributes(content), weighting=scheme, weighting_note=f"applied by the maker: {body.strategy}"
    )
    return Draft(
        content.name,
        content.description,
        content.visibility,  # type: ignore[arg-type]
        reweighted(newest.constituents, wanted),
        attributes,
    )
