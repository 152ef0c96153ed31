"""Proposals: for each kind of basket order what would be traded now. They ask the market and portfolio-service, and
write nothing; no connection is held while others are asked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from common.errors import Conflict
from common.market_data import Key
from common.money import BPS_ONE
from smallcase_service import baskets, investments, planning, service
from smallcase_service.baskets import Draft
from smallcase_service.composition import CONSTITUENTS_MAX, Constituent, check_composition, check_known
from smallcase_service.desk import Desk, Proposed, check_funds
from smallcase_service.models import BasketOrder, Investment
from smallcase_service.orders import LIVE_LEGS, REPAIRABLE, InvestmentStatus, Kind, LegState
from smallcase_service.plan import Trade
from smallcase_service.planning import Basket, NothingHeld, Proposal
from smallcase_service.service import SmallcaseChanged


class NothingToRepair(Conflict):
    """Every leg was filled, or another order has taken up what was not."""


class InvestmentArchived(Conflict):
    """The investment was put away."""


class TooManyShares(Conflict):
    """The investment would have more shares than a smallcase may have."""


@dataclass(frozen=True)
class Asker:
    """Who asks for a basket order, and how it may be placed."""

    user_id: UUID
    kyc: str
    queue_when_closed: bool = False


@dataclass(frozen=True)
class _Seen:
    """An investment as a plan finds it."""

    investment: Investment
    constituents: Sequence[Constituent]
    held: dict[Key, int]
    newest: int
    newest_constituents: Sequence[Constituent]


def first_purchase(
    desk: Desk,
    asker: Asker,
    smallcase_id: UUID,
    amount_paise: int,
    *,
    portfolio_id: UUID | None = None,
    version: int | None = None,
    kind: Kind = Kind.INVEST,
    sip: tuple[UUID, date] | None = None,
) -> Proposed:
    """A new investment in a smallcase; raises SmallcaseNotFound, SmallcaseChanged, AmountBelowMinimum."""
    with desk.db.transaction() as session:
        snapshot = service.newest_version(session, asker.user_id, smallcase_id)
    _check_version(version, snapshot.content.version)
    basket = desk.basket(snapshot.constituents, {})
    trades = planning.first_purchase(basket, amount_paise, desk.allowance)
    minimum = planning.minimum_amount(basket.lines, desk.allowance)
    costs = desk.costs(asker.user_id, portfolio_id, trades)
    proposal = Proposal(basket, trades, costs, amount_paise, minimum)
    draft = Draft(
        kind=kind,
        user_id=asker.user_id,
        kyc=asker.kyc,
        version=snapshot.content.version,
        trades=trades,
        charges_paise=sum(costs.charges_paise),
        amount_paise=amount_paise,
        queue_when_closed=asker.queue_when_closed,
        sip=sip,
    )
    return Proposed(draft, proposal, smallcase_id)


def later_purchase(
    desk: Desk,
    asker: Asker,
    investment_id: UUID,
    amount_paise: int,
    *,
    kind: Kind = Kind.INVEST_MORE,
    sip: tuple[UUID, date] | None = None,
) -> Proposed:
    """More of an investment by the weights it follows; of one that holds nothing it is a first purchase again.

    Raises InvestmentNotFound, AmountTooSmall, AmountBelowMinimum.
    """
    seen = _seen(desk, asker.user_id, investment_id)
    basket = desk.basket(seen.constituents, seen.held)
    if basket.held:
        trades = planning.later_purchase(basket, amount_paise, desk.allowance)
    else:
        trades = planning.first_purchase(basket, amount_paise, desk.allowance)
    return _of(
        desk, asker, seen, basket, trades, kind, amount_paise=amount_paise, sip=sip,
    )  # fmt: skip


def rebalance(desk: Desk, asker: Asker, investment_id: UUID, *, version: int | None = None) -> Proposed:
    """Orders to the newest composition, or back to the own weights of a customised investment.

    Raises InvestmentNotFound, SmallcaseChanged, NothingHeld, NothingToRebalance.
    """
    seen = _seen(desk, asker.user_id, investment_id)
    _check_version(version, seen.newest)
    own = seen.investment.target is not None
    constituents = seen.constituents if own else seen.newest_constituents
    basket = desk.basket(constituents, seen.held)
    trades = planning.rebalancing(basket, filtered=True)
    wanted = {"then": "weights", "weights": _rows(constituents), "filtered": True}
    number = seen.investment.version if own else seen.newest
    return _of(desk, asker, seen, basket, trades, Kind.REBALANCE, wanted=wanted, version=number)


def follow_again(desk: Desk, asker: Asker, investment_id: UUID) -> Proposed:
    """Orders of a customised investment back to the newest composition; raises as `rebalance`."""
    seen = _seen(desk, asker.user_id, investment_id)
    basket = desk.basket(seen.newest_constituents, seen.held)
    trades = planning.rebalancing(basket, filtered=True)
    wanted = {"then": "weights", "weights": _rows(seen.newest_constituents), "filtered": True, "target": None}
    return _of(desk, asker, seen, basket, trades, Kind.REBALANCE, wanted=wanted, version=seen.newest)


def own_weights(desk: Desk, asker: Asker, investment_id: UUID, weights: Sequence[Constituent]) -> Proposed:
    """Orders to the user's own weights, without the filter for small orders.

    Raises WeightsNotWhole, DuplicateConstituent, UnknownInstrument, InvestmentNotFound, NothingHeld,
    NothingToRebalance.
    """
    check_composition(weights)
    seen = _seen(desk, asker.user_id, investment_id)
    check_known(weights, desk.market.instruments([one.key for one in weights]))
    basket = desk.basket(weights, seen.held)
    trades = planning.rebalancing(basket, filtered=False)
    wanted = {"then": "weights", "weights": _rows(weights), "filtered": False, "target": _rows(weights)}
    return _of(desk, asker, seen, basket, trades, Kind.CUSTOMISE, wanted=wanted)


def own_changes(desk: Desk, asker: Asker, investment_id: UUID, changes: Mapping[Key, int]) -> Proposed:
    """Orders as the user names them; the weights they lead to are followed from then on.

    Raises InvestmentNotFound, UnknownInstrument, NotEnoughShares, TooManyShares.
    """
    seen = _seen(desk, asker.user_id, investment_id)
    if not seen.held:
        raise NothingHeld("The investment holds no shares.")
    check_known([Constituent(*key, 0) for key in changes], desk.market.instruments(list(changes)))
    basket = desk.basket([], {**dict.fromkeys(changes, 0), **seen.held})
    trades = planning.own_changes(basket, changes)
    target = _whole({key: weight for key, weight in planning.weights_after(basket, trades).items() if weight})
    if len(target) > CONSTITUENTS_MAX:
        raise TooManyShares(f"An investment may have at most {CONSTITUENTS_MAX} shares.")
    sells, buys = _by_side(trades)
    wanted: dict[str, Any] = {"target": target or None}
    if sells and buys:
        wanted |= {"then": "buys", "buys": _trade_rows(buys)}
    return _of(desk, asker, seen, basket, trades, Kind.CUSTOMISE, wanted=wanted)


def partial_exit(
    desk: Desk, asker: Asker, investment_id: UUID, *, amount_paise: int | None, fraction_bps: int | None
) -> Proposed:
    """Sells of a part; raises InvestmentNotFound, NothingHeld, AmountAboveWorth, AmountTooSmall."""
    seen = _seen(desk, asker.user_id, investment_id)
    basket = desk.basket([], seen.held)
    trades = planning.part_of(basket, amount_paise, fraction_bps)
    return _of(desk, asker, seen, basket, trades, Kind.PARTIAL_EXIT, amount_paise=amount_paise)


def complete_exit(desk: Desk, asker: Asker, investment_id: UUID) -> Proposed:
    """Sells of everything held; raises InvestmentNotFound, NothingHeld."""
    seen = _seen(desk, asker.user_id, investment_id)
    basket = desk.basket([], seen.held)
    return _of(desk, asker, seen, basket, planning.everything(basket), Kind.EXIT)


def repair(desk: Desk, asker: Asker, investment_id: UUID, basket_order_id: UUID | None = None) -> Proposed:
    """What is missing of the legs that failed, and only that; of the newest order that needs it unless one is named.

    Raises InvestmentNotFound, BasketOrderNotFound, NothingToRepair.
    """
    seen = _seen(desk, asker.user_id, investment_id)
    with desk.db.transaction() as session:
        order = _to_repair(session, asker.user_id, investment_id, basket_order_id)
        missing: dict[tuple[Key, str], int] = {}
        for leg in baskets.legs_of(session, order.basket_order_id):
            if LegState(leg.state) not in LIVE_LEGS and leg.filled_quantity < leg.quantity:
                what = ((leg.exchange, leg.tradingsymbol), leg.side)
                missing[what] = missing.get(what, 0) + leg.quantity - leg.filled_quantity
    held = {**dict.fromkeys((key for key, _ in missing), 0), **seen.held}
    basket = desk.basket([], held)
    prices = {line.key: line.price_paise for line in basket.every}
    trades = [Trade(key, side, quantity, prices[key]) for (key, side), quantity in missing.items()]
    sells, buys = _by_side(trades)
    wanted: dict[str, Any] = {}
    if sells and buys:
        wanted = {"then": "buys", "buys": _trade_rows(buys)}
    return _of(desk, asker, seen, basket, trades, Kind.REPAIR, wanted=wanted, repairs=order.basket_order_id)


def _to_repair(session: Session, user_id: UUID, investment_id: UUID, basket_order_id: UUID | None) -> BasketOrder:
    if basket_order_id is not None:
        order = investments.order_of(session, user_id, basket_order_id, investment_id)
        if order.status in REPAIRABLE:
            return order
    else:
        page = investments.orders_page(session, user_id, investment_id=investment_id, limit=investments.PAGE_MAX)
        for order in page.items:
            if order.status in REPAIRABLE:
                return order
    raise NothingToRepair("No order of this investment needs repair.")


def _of(
    desk: Desk,
    asker: Asker,
    seen: _Seen,
    basket: Basket,
    trades: Sequence[Trade],
    kind: Kind,
    *,
    wanted: Mapping[str, Any] | None = None,
    version: int | None = None,
    amount_paise: int | None = None,
    repairs: UUID | None = None,
    sip: tuple[UUID, date] | None = None,
) -> Proposed:
    investment = seen.investment
    costs = desk.costs(asker.user_id, investment.portfolio_id, trades)
    sells, _ = _by_side(trades)
    draft = Draft(
        kind=kind,
        user_id=asker.user_id,
        kyc=asker.kyc,
        version=version or investment.version,
        # Where sells pay for buys, they go first and alone.
        trades=sells if (wanted or {}).get("then") else trades,
        charges_paise=sum(costs.charges_paise),
        wanted=wanted or {},
        amount_paise=amount_paise,
        queue_when_closed=asker.queue_when_closed,
        repairs=repairs,
        sip=sip,
    )
    proposal = Proposal(basket, trades, costs, amount_paise)
    return Proposed(draft, proposal, investment.smallcase_id, investment.investment_id)


def checked(desk: Desk, propose: Callable[[], Proposed]) -> Callable[[], Proposed]:
    """The proposal, once it could be accepted now: raises MarketClosed, InsufficientFunds before anything is written."""

    def check() -> Proposed:
        proposed = propose()
        desk.check_open(proposed.draft.queue_when_closed)
        if not any(trade.side == "SELL" for trade in proposed.draft.trades):
            check_funds(proposed.proposal.costs)
        return proposed

    return check


def _seen(desk: Desk, user_id: UUID, investment_id: UUID) -> _Seen:
    with desk.db.transaction() as session:
        investment = investments.investment_of(session, user_id, investment_id)
        if baskets.live_order(session, investment_id) is not None:
            raise baskets.BasketWorking("An order of this basket still works; wait until it has ended.")
        if investment.status == InvestmentStatus.ARCHIVED:
            raise InvestmentArchived("The investment is archived; invest in the smallcase again instead.")
        newest, constituents = investments.newest_composition(session, investment)
        return _Seen(
            investment,
            investments.followed(session, investment),
            baskets.holdings(session, [investment_id])[investment_id],
            newest,
            constituents,
        )


def _check_version(asked: int | None, newest: int) -> None:
    if asked is not None and asked != newest:
        raise SmallcaseChanged(
            f"The smallcase is at version {newest} now; look at it again and repeat the request.", version_now=newest
        )


def _by_side(trades: Sequence[Trade]) -> tuple[list[Trade], list[Trade]]:
    return [one for one in trades if one.side == "SELL"], [one for one in trades if one.side == "BUY"]


def _rows(constituents: Sequence[Constituent]) -> list[dict[str, Any]]:
    return [
        {"exchange": one.exchange, "tradingsymbol": one.tradingsymbol, "weight_bps": one.weight_bps}
        for one in constituents
    ]


def _trade_rows(trades: Sequence[Trade]) -> list[dict[str, Any]]:
    return [{"exchange": one.key[0], "tradingsymbol": one.key[1], "quantity": one.quantity} for one in trades]


def _whole(weights: Mapping[Key, int]) -> list[dict[str, Any]]:
    """Weights of a holding as a composition; what rounding has dropped goes to the largest."""
    rows = _rows([Constituent(*key, weight) for key, weight in weights.items()])
    if rows:
        largest = max(rows, key=lambda row: row["weight_bps"])
        largest["weight_bps"] += BPS_ONE - sum(row["weight_bps"] for row in rows)
    return rows
