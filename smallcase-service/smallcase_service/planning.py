"""Plans of basket orders at live prices: the lines from composition and holding, the trades, and what they would cost.

Pure but for the objects it is handed: prices and estimates were asked for by the caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from common.errors import Conflict, Unprocessable
from common.market_data import Instrument, Key, Price
from common.money import BPS_ONE, format_rupees
from smallcase_service import plan
from smallcase_service.composition import Constituent, Problem, value
from smallcase_service.plan import Allowance, Line, Trade


class SmallcaseNotBuyable(Unprocessable):
    """A share of the basket is not traded any more or has no price."""


class AmountBelowMinimum(Unprocessable):
    """The amount does not reach the smallest whole-share basket and the charges of its orders."""


class AmountTooSmall(Unprocessable):
    """The amount is below the price of the share that would be next."""


class AmountAboveWorth(Unprocessable):
    """More is to be taken out than the investment is worth."""


class NothingHeld(Conflict):
    """The investment holds no shares."""


class NothingToRebalance(Conflict):
    """The holding is as close to the weights as whole shares allow, or what is left is below the filter."""


class NotEnoughShares(Unprocessable):
    """More shares are to be sold than the investment holds."""


@dataclass(frozen=True)
class Basket:
    """A composition at live prices with what is held of it; `leaving` are held shares that it does not have."""

    lines: Sequence[Line]
    leaving: Sequence[Line] = ()

    @property
    def worth_paise(self) -> int:
        """What is held is worth."""
        return sum(line.value_paise for line in self.every)

    @property
    def every(self) -> list[Line]:
        """All shares, those that leave last."""
        return [*self.lines, *self.leaving]

    @property
    def held(self) -> dict[Key, int]:
        """Shares by key, without those that are not held."""
        return {line.key: line.held for line in self.every if line.held}


@dataclass(frozen=True)
class Costs:
    """What portfolio-service says about a plan: charges of each trade, money held while buys work, cash that is free."""

    portfolio_id: UUID
    charges_paise: tuple[int, ...]
    hold_paise: int
    available_paise: int


@dataclass(frozen=True)
class Proposal:
    """A plan with its costs. `amount_paise` is the money named by the user, `minimum_paise` the smallest that is taken."""

    basket: Basket
    trades: Sequence[Trade]
    costs: Costs
    amount_paise: int | None = None
    minimum_paise: int | None = None

    @property
    def buys_paise(self) -> int:
        """Value of all buys at the prices of the plan."""
        return sum(trade.value_paise for trade in self.trades if trade.side == "BUY")

    @property
    def sells_paise(self) -> int:
        """Value of all sells at the prices of the plan."""
        return sum(trade.value_paise for trade in self.trades if trade.side == "SELL")

    @property
    def leftover_paise(self) -> int | None:
        """What is left of the amount after shares and charges."""
        if self.amount_paise is None:
            return None
        return self.amount_paise - self.buys_paise - sum(self.costs.charges_paise)


def weights_after(basket: Basket, trades: Sequence[Trade]) -> dict[Key, int]:
    """Weights in basis points of what is held once all trades are filled."""
    after = plan.holdings_of(trades, basket.held)
    lines = basket.every
    values = [after.get(line.key, 0) * line.price_paise for line in lines]
    return dict(zip((line.key for line in lines), plan.weights(values), strict=True))


def priced(
    constituents: Sequence[Constituent],
    held: Mapping[Key, int],
    instruments: Mapping[Key, Instrument],
    prices: Mapping[Key, Price],
) -> Basket:
    """The basket at live prices; raises SmallcaseNotBuyable naming every share without one, also among the held."""
    problems = list(value(constituents, instruments, prices).problems) if constituents else []
    keys = {constituent.key for constituent in constituents}
    problems += [
        Problem("price_missing", f"{key[0]}:{key[1]} has no price.", key)
        for key in held
        if key not in keys and (key not in prices or prices[key].price_paise <= 0)
    ]
    if problems:
        raise SmallcaseNotBuyable(
            f"The basket can not be traded now: {problems[0].message}",
            problems=[{"code": problem.code, "detail": problem.message} for problem in problems],
        )
    lines = [Line(one.key, one.weight_bps, prices[one.key].price_paise, held.get(one.key, 0)) for one in constituents]
    leaving = [Line(key, 0, prices[key].price_paise, units) for key, units in held.items() if key not in keys]
    return Basket(lines, leaving)


def minimum_amount(lines: Sequence[Line], allowance: Allowance) -> int:
    """The smallest amount of a first purchase: the published minimum and the allowance for charges."""
    return allowance.amount(plan.minimum_cost(lines), len(lines))


def first_purchase(basket: Basket, amount_paise: int, allowance: Allowance) -> list[Trade]:
    """Buys of a new investment; raises AmountBelowMinimum."""
    minimum = minimum_amount(basket.lines, allowance)
    if amount_paise < minimum:
        raise AmountBelowMinimum(
            f"The smallest amount is ₹{format_rupees(minimum)} at the moment, charges included;"
            f" ₹{format_rupees(amount_paise)} is below it.",
            minimum=format_rupees(minimum),
            amount=format_rupees(amount_paise),
        )
    quantities = plan.invest(basket.lines, allowance.budget(amount_paise, len(basket.lines)))
    return _buys(basket.lines, quantities)


def later_purchase(basket: Basket, amount_paise: int, allowance: Allowance) -> list[Trade]:
    """Buys of more of an investment; raises AmountTooSmall when the money buys no share."""
    budget = allowance.budget(amount_paise, len(basket.lines))
    quantities = plan.invest_more(basket.lines, budget) if budget > 0 else [0] * len(basket.lines)
    trades = _buys(basket.lines, quantities)
    if not trades:
        raise AmountTooSmall(
            f"₹{format_rupees(amount_paise)} buys no share that is under-weight; name a larger amount.",
            amount=format_rupees(amount_paise),
        )
    return trades


def rebalancing(basket: Basket, *, filtered: bool) -> list[Trade]:
    """Orders to the weights at net worth; raises NothingHeld, NothingToRebalance.

    Buys are paid by sells: where the filter would leave buys without any sell, it is left out.
    """
    if not basket.held:
        raise NothingHeld("The investment holds no shares.")
    trades = plan.rebalance(basket.lines, basket.leaving, filtered=filtered)
    if trades and not any(trade.side == "SELL" for trade in trades):
        trades = plan.rebalance(basket.lines, basket.leaving, filtered=False)
    if not any(trade.side == "SELL" for trade in trades):
        raise NothingToRebalance("The investment is as close to its weights as whole shares allow; nothing to order.")
    return trades


def part_of(basket: Basket, amount_paise: int | None, fraction_bps: int | None) -> list[Trade]:
    """Sells of a partial exit by amount or by fraction; raises NothingHeld, AmountAboveWorth, AmountTooSmall."""
    if not basket.held:
        raise NothingHeld("The investment holds no shares.")
    wanted = amount_paise if amount_paise is not None else basket.worth_paise * (fraction_bps or 0) // BPS_ONE
    if wanted > basket.worth_paise:
        raise AmountAboveWorth(
            f"The investment is worth ₹{format_rupees(basket.worth_paise)}; name less, or leave it completely.",
            worth=format_rupees(basket.worth_paise),
        )
    trades = plan.partial_exit(basket.every, wanted)
    if not trades:
        raise AmountTooSmall("This is less than half of a share of each; name more.", amount=format_rupees(wanted))
    return trades


def everything(basket: Basket) -> list[Trade]:
    """Sells of a complete exit; raises NothingHeld."""
    trades = plan.exit_all(basket.every)
    if not trades:
        raise NothingHeld("The investment holds no shares.")
    return trades


def own_changes(basket: Basket, changes: Mapping[Key, int]) -> list[Trade]:
    """Orders as the user names them (positive: buy, negative: sell); raises NotEnoughShares."""
    lines = {line.key: line for line in basket.every}
    trades = []
    for key, change in changes.items():
        line = lines[key]
        if -change > line.held:
            raise NotEnoughShares(
                f"The investment holds {line.held} {key[1]}; {-change} can not be sold.",
                tradingsymbol=key[1],
                held=line.held,
            )
        trades.append(Trade(key, "BUY" if change > 0 else "SELL", abs(change), line.price_paise))
    return trades


def _buys(lines: Sequence[Line], quantities: Sequence[int]) -> list[Trade]:
    return [
        Trade(line.key, "BUY", quantity, line.price_paise)
        for line, quantity in zip(lines, quantities, strict=True)
        if quantity
    ]
