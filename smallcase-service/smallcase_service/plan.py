"""Whole-share plans of basket orders. Pure; prices and amounts in paise, weights in basis points, quantities in shares.

**Distance.** A plan wants every share at its target value `total * weight / 10,000`, where `total` is all the money the
basket is about: the budget of a first purchase, current value plus new money of a later one, the net worth of a rebalance.
The distance of a holding is the sum over all shares of (value - target value)²; it is computed in whole numbers. Money left
over is a distance too: what is not spent is missing somewhere.

Every plan here is such that no single-share change brings it closer: buying one share more (if the money allows it), one
share less (if it may be less), or one share more of one and one less of another (if the money allows it). It never costs
more than its money. The start is the exact solution without whole shares, which is also "most under-weight first": money
raises the largest gaps to one common level. Then changes follow, each of which brings the plan closer, until none does:
single-share changes, and one share more that is paid for by several others.

Sources: the published algorithm of the minimum (`smallcase_service.minimum`); help.smallcase.com 4649201 (invest more),
5621774 and publisherhelp.smallcase.com 82000887016 (which orders of a rebalance are dropped).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.market_data import Key
from common.money import BPS_ONE, split_by_largest_remainder
from smallcase_service.minimum import Leg, minimum_investment

SMALL_ORDER_PAISE = 500_00
SMALL_ORDER_BPS = 100
"""Orders of a rebalance below 500 rupees or below 1 % of the net worth are dropped."""
FUNDING_SHARES_MAX = 100
"""So many shares are given up at most for one share more of another."""


@dataclass(frozen=True)
class Line:
    """One share of the wanted basket: its weight, its price, and how many are held."""

    key: Key
    weight_bps: int
    price_paise: int
    held: int = 0

    @property
    def value_paise(self) -> int:
        """What is held of it is worth."""
        return self.held * self.price_paise


@dataclass(frozen=True)
class Trade:
    """One order of a plan."""

    key: Key
    side: str
    quantity: int
    price_paise: int

    @property
    def value_paise(self) -> int:
        """At the price of the plan."""
        return self.quantity * self.price_paise


@dataclass(frozen=True)
class Allowance:
    """Money kept aside for charges: a share of the amount, and a fixed sum for each order of the basket."""

    rate_bps: int
    per_order_paise: int

    def budget(self, amount_paise: int, orders: int) -> int:
        """What is left of an amount to buy shares with; negative when the amount does not even cover the charges."""
        return amount_paise - -(-amount_paise * self.rate_bps // BPS_ONE) - self.per_order_paise * orders

    def amount(self, budget_paise: int, orders: int) -> int:
        """The smallest amount that leaves this budget."""
        kept = budget_paise + self.per_order_paise * orders
        return -(-kept * BPS_ONE // (BPS_ONE - self.rate_bps))


def minimum_cost(lines: Sequence[Line]) -> int:
    """What the smallest basket of these shares costs, by the published algorithm, without charges."""
    return minimum_investment([Leg(line.weight_bps, line.price_paise) for line in lines]).amount_paise


def invest(lines: Sequence[Line], budget_paise: int) -> list[int]:
    """Shares of a first purchase: at least one of each, at most `budget_paise`, no single-share change closer.

    Raises ValueError when the budget is below the minimum of the basket.
    """
    if budget_paise < minimum_cost(lines):
        raise ValueError("the budget is below the minimum of the basket")
    lowest = [1] * len(lines)
    money = budget_paise - sum(line.price_paise for line in lines)
    return _nearest(lines, budget_paise, lowest, money)


def invest_more(lines: Sequence[Line], money_paise: int) -> list[int]:
    """Shares to buy with new money: only of under-weight shares, the most under-weight first; nothing is sold."""
    held = [line.held for line in lines]
    total = sum(line.value_paise for line in lines) + money_paise
    wanted = _nearest(lines, total, held, money_paise)
    return [quantity - line.held for quantity, line in zip(wanted, lines, strict=True)]


def target_quantities(lines: Sequence[Line], net_worth_paise: int) -> list[int]:
    """The whole-share basket that is closest to the weights at this net worth; at least one of each if it reaches that."""
    lowest = [1 if net_worth_paise >= minimum_cost(lines) else 0] * len(lines)
    money = net_worth_paise - sum(line.price_paise * least for line, least in zip(lines, lowest, strict=True))
    return _nearest(lines, net_worth_paise, lowest, money)


def rebalance(
    lines: Sequence[Line], leaving: Sequence[Line], *, filtered: bool = True, extra_paise: int = 0
) -> list[Trade]:
    """Orders that bring a holding to the weights at its net worth (plus `extra_paise` of new money).

    `leaving` are held shares that the basket no longer has: they are sold completely. With `filtered` small orders are
    dropped, except those of new shares.
    """
    worth = sum(line.value_paise for line in (*lines, *leaving)) + extra_paise
    wanted = target_quantities(lines, worth)
    trades = [_trade(line, -line.held) for line in leaving if line.held]
    changes = [(line, quantity - line.held) for line, quantity in zip(lines, wanted, strict=True)]
    return trades + [
        _trade(line, change)
        for line, change in changes
        if change and not (filtered and _is_dropped(line, change, worth))
    ]


def buys_after_sells(lines: Sequence[Line], money_paise: int, *, filtered: bool = True) -> list[Trade]:
    """Buys of a rebalance when the sells have ended: `money_paise` is what they have freed, lines hold what is left.

    New shares come first, one of each as far as the money goes, in the order of their weights.
    """
    worth = sum(line.value_paise for line in lines) + money_paise
    lowest = [line.held for line in lines]
    money = money_paise
    for index in sorted(range(len(lines)), key=lambda index: (-lines[index].weight_bps, index)):
        if not lines[index].held and lines[index].price_paise <= money:
            lowest[index] = 1
            money -= lines[index].price_paise
    wanted = _nearest(lines, worth, lowest, money)
    changes = [(line, quantity - line.held) for line, quantity in zip(lines, wanted, strict=True)]
    return [
        _trade(line, change)
        for line, change in changes
        if change and not (filtered and _is_dropped(line, change, worth))
    ]


def partial_exit(lines: Sequence[Line], amount_paise: int) -> list[Trade]:
    """Sells that free close to `amount_paise`, never more, and leave the proportions of the holding as they are.

    Weights of the lines do not count. Raises ValueError when the holding is worth less than the amount.
    """
    worth = sum(line.value_paise for line in lines)
    if amount_paise > worth:
        raise ValueError("the holding is worth less than the amount")
    shares = _search(
        [line.price_paise * worth for line in lines],
        # Of every share the same part: amount * value / worth, times `worth` to stay whole.
        [amount_paise * line.value_paise for line in lines],
        [line.price_paise for line in lines],
        [0] * len(lines),
        amount_paise,
    )
    return [_trade(line, -quantity) for line, quantity in zip(lines, shares, strict=True) if quantity]


def exit_all(lines: Sequence[Line]) -> list[Trade]:
    """Sells of everything held."""
    return [_trade(line, -line.held) for line in lines if line.held]


def weights(values: Sequence[int]) -> list[int]:
    """Weights of these values in basis points that sum to 10,000; all zero when nothing has a value."""
    return split_by_largest_remainder(BPS_ONE, values) if any(values) else [0] * len(values)


def distance(lines: Sequence[Line], quantities: Sequence[int], total_paise: int) -> int:
    """The distance of the module's head, times 10,000² to be a whole number."""
    return sum(
        (BPS_ONE * quantity * line.price_paise - total_paise * line.weight_bps) ** 2
        for line, quantity in zip(lines, quantities, strict=True)
    )


def holdings_of(trades: Sequence[Trade], held: Mapping[Key, int]) -> dict[Key, int]:
    """What is held once all these orders are filled."""
    after = dict(held)
    for trade in trades:
        after[trade.key] = after.get(trade.key, 0) + (trade.quantity if trade.side == "BUY" else -trade.quantity)
    return {key: quantity for key, quantity in after.items() if quantity}


def _trade(line: Line, change: int) -> Trade:
    return Trade(line.key, "BUY" if change > 0 else "SELL", abs(change), line.price_paise)


def _is_dropped(line: Line, change: int, worth_paise: int) -> bool:
    if not line.held or line.held + change == 0:
        return False
    value = abs(change) * line.price_paise
    return value < SMALL_ORDER_PAISE or value * BPS_ONE < worth_paise * SMALL_ORDER_BPS


def _nearest(lines: Sequence[Line], total_paise: int, lowest: Sequence[int], money_paise: int) -> list[int]:
    """Quantities, each at least its lowest, whose shares above that cost at most `money_paise`."""
    return _search(
        [line.price_paise * BPS_ONE for line in lines],
        [total_paise * line.weight_bps for line in lines],
        [line.price_paise for line in lines],
        lowest,
        money_paise,
    )


def _search(
    steps: Sequence[int], targets: Sequence[int], prices: Sequence[int], lowest: Sequence[int], money: int
) -> list[int]:
    """Quantities that minimise the distance as the module's head says.

    `steps` and `targets` are the price and the target value of each share in one common unit, `prices` and `money` paise.
    Ends because every change makes the distance, a whole number, smaller.
    """
    quantities = list(lowest)
    while True:
        money = _fill(steps, targets, prices, quantities, money)
        best, change = 0, (-1, -1)
        adds, removes = [(0, -1)], [(0, -1)]
        for index, step in enumerate(steps):
            gap = targets[index] - quantities[index] * step
            if (gain := step * (step - 2 * gap)) < 0:
                adds.append((gain, index))
            # A removal that makes the plan worse may still pay for a better purchase.
            if quantities[index] > lowest[index]:
                removes.append((step * (step + 2 * gap), index))
        for gain, index in adds:
            for loss, other in removes:
                cost = (prices[index] if index >= 0 else 0) - (prices[other] if other >= 0 else 0)
                if gain + loss < best and cost <= money:
                    best, change = gain + loss, (index, other)
        if best == 0:
            left = _trade_several(steps, targets, prices, lowest, quantities, money)
            if left is None:
                return quantities
            money = left
            continue
        added, removed = change
        if added >= 0:
            quantities[added] += 1
            money -= prices[added]
        if removed >= 0:
            quantities[removed] -= 1
            money += prices[removed]


def _trade_several(
    steps: Sequence[int],
    targets: Sequence[int],
    prices: Sequence[int],
    lowest: Sequence[int],
    quantities: list[int],
    money: int,
) -> int | None:
    """Buy one share more of something by giving up several others, if that is closer; answers the money left, or None.

    Given up is what costs the least distance for its money, at most FUNDING_SHARES_MAX shares.
    """
    for index, step in enumerate(steps):
        change = step * (step - 2 * (targets[index] - quantities[index] * step))
        if change >= 0:
            continue
        after, left = list(quantities), money - prices[index]
        after[index] += 1
        for _ in range(FUNDING_SHARES_MAX):
            if left >= 0 or change >= 0:
                break
            losses = [
                (other_step * (other_step + 2 * (targets[other] - after[other] * other_step)), other)
                for other, other_step in enumerate(steps)
                if other != index and after[other] > lowest[other]
            ]
            if not losses:
                break
            loss, other = min(losses, key=lambda one: (one[0] // prices[one[1]], one[1]))
            change += loss
            after[other] -= 1
            left += prices[other]
        if left >= 0 and change < 0:
            quantities[:] = after
            return left
    return None


def _fill(
    steps: Sequence[int], targets: Sequence[int], prices: Sequence[int], quantities: list[int], money: int
) -> int:
    """Raise the largest gaps to one common level with the money there is, in whole shares; answers the money left."""
    while True:
        gaps = [
            (targets[index] - quantities[index] * step, index)
            for index, step in enumerate(steps)
            if prices[index] <= money and targets[index] - quantities[index] * step >= step
        ]
        if not gaps:
            return money
        # All steps are prices in the same unit, so one factor brings the money into it.
        unit = steps[0] // prices[0]
        level = _level([gap for gap, _ in gaps], money * unit)
        bought = 0
        for gap, index in gaps:
            quantity = min((gap - level) // steps[index], money // prices[index])
            if quantity > 0:
                quantities[index] += quantity
                money -= quantity * prices[index]
                bought += quantity
        if not bought:
            return money


def _level(gaps: Sequence[int], money: int) -> int:
    """The smallest whole level, not below 0, to which this money can lower all gaps above it."""
    ordered = sorted(gaps, reverse=True)
    total = 0
    for count, gap in enumerate(ordered, start=1):
        total += gap
        following = ordered[count] if count < len(ordered) else 0
        if total - count * following >= money:
            return max(0, -(-(total - money) // count))
    return 0
