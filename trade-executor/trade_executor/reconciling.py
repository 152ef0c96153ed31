"""The rules by which books are compared (execution.md 3.10): pure functions over what was read.

Reads are made one after the other while trades go on, and trades, positions and messages each have their own delay. So a
rule says what differs and also what cannot be judged now, and a difference becomes a break only when its instrument was
still, or when it stayed exactly the same for a while. Units are shares, amounts paise; keys of instruments `NSE:INFY`.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal
from uuid import UUID

from common.clock import trading_date
from common.market_data import SessionInfo
from trade_executor.brokers.base import BookHolding, BookOrder, BookPosition, BookTrade, Funds
from trade_executor.states import broker_end

Scope = Literal["quick", "full", "start_of_day", "end_of_day"]
INR = "INR"
INTRADAY = "MIS"
EXCHANGES = ("NSE", "BSE")


def key_of(exchange: str, tradingsymbol: str) -> str:
    """How an instrument is named here, in breaks and in the ledger."""
    return f"{exchange}:{tradingsymbol}"


@dataclass(frozen=True)
class BrokerView:
    """The broker's books, read in this order; trades once before and once after what they are compared with."""

    orders: Sequence[BookOrder]
    trades_before: Sequence[BookTrade]
    positions: Sequence[BookPosition]
    holdings: Sequence[BookHolding]
    funds: Funds
    trades: Sequence[BookTrade]

    def moving(self) -> frozenset[str]:
        """Instruments that traded while the books were read, or whose trades the broker has not listed in full."""
        return _traded(set(self.trades_before) ^ set(self.trades)) | self._incomplete()

    def _incomplete(self) -> frozenset[str]:
        listed: Counter[str] = Counter()
        for trade in self.trades:
            listed[trade.broker_order_id] += trade.quantity
        return frozenset(
            key_of(row.exchange, row.tradingsymbol)
            for row in self.orders
            if row.filled_quantity != listed[row.broker_order_id]
        )

    def day(self, today: date) -> date:
        """The trading day these books are of: the broker keeps a day's books until the next one begins."""
        return max((trading_date(trade.traded_at) for trade in self.trades), default=today)

    def has_open_orders(self) -> bool:
        """Whether money is blocked for orders that stand in the market."""
        return any(broker_end(row.status) is None for row in self.orders)


@dataclass(frozen=True)
class LedgerAsset:
    """One asset of the ledger: what users and the house have, and all that ever went to and came from the market."""

    users: int
    house: int
    to_market: int
    from_market: int

    @property
    def total(self) -> int:
        """What the broker should have of it."""
        return self.users + self.house


@dataclass(frozen=True)
class Books:
    """What a full run has read outside our database; no ledger where it cannot be asked."""

    view: BrokerView
    ledger: Mapping[str, LedgerAsset] | None
    isins: Mapping[str, str]
    info: SessionInfo | None


@dataclass
class Outcome:
    """What a run did; `books` is None for a quick run and for one that could not read everything."""

    run_id: UUID
    scope: Scope
    started_at: datetime
    good: bool = True
    detail: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    opened: int = 0
    cured: int = 0
    books: Books | None = None


@dataclass(frozen=True)
class Told:
    """What the executor has ever given out of one asset, to users and house: units or paise by direction."""

    to_market: int
    from_market: int


@dataclass(frozen=True)
class Difference:
    """Two books disagree about `key`; `amount` is by how much, so that the same difference can be recognised."""

    key: str
    amount: str
    detail: str
    freezes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judgement:
    """The outcome of one rule: what differs, and about which keys nothing can be said now. All other keys agree."""

    differences: tuple[Difference, ...] = ()
    undecided: frozenset[str] = frozenset()
    nothing: bool = False
    """Nothing at all could be judged: a part was not read."""


def judge_day_net(positions: Iterable[BookPosition], own_net: Mapping[str, int], moving: Collection[str]) -> Judgement:
    """B7: the day's net position at the broker against the net of our fills, users' and house's, of that day."""
    at_broker = day_net(positions)
    differences = [
        Difference(
            key,
            f"{at_broker[key]}/{own_net.get(key, 0)}",
            f"the broker's net position of the day in {key} is {at_broker[key]}, that of our fills {own_net.get(key, 0)}",
            (key,),
        )
        for key in sorted(set(at_broker) | set(own_net))
        if at_broker[key] != own_net.get(key, 0)
    ]
    return Judgement(tuple(one for one in differences if one.key not in moving), frozenset(moving))


def day_net(positions: Iterable[BookPosition]) -> Counter[str]:
    """Units bought less units sold today, over all products."""
    net: Counter[str] = Counter()
    for row in positions:
        net[key_of(row.exchange, row.tradingsymbol)] += row.quantity - row.overnight_quantity
    return net


def judge_units(
    view: BrokerView, ledger: Mapping[str, LedgerAsset], isins: Mapping[str, str], unready: Collection[str]
) -> Judgement:
    """B8: delivered, T1 and the day's net at the broker against the units of users and house.

    A share is one asset at the depository whichever exchange it was bought on, so instruments are compared by ISIN, or by
    symbol where no ISIN is known. `unready` are instruments that move, or of which the ledger has not heard everything.
    """
    known = {**{key_of(row.exchange, row.tradingsymbol): row.isin for row in view.holdings}, **isins}
    at_broker, in_ledger = day_net(view.positions), Counter[str]()
    for row in view.holdings:
        at_broker[key_of(row.exchange, row.tradingsymbol)] += row.quantity + row.t1_quantity
    for key, asset in ledger.items():
        if key != INR:
            in_ledger[key] += asset.total
    shares = _by_share(set(at_broker) | set(in_ledger), known)
    differences = []
    for share, keys in sorted(shares.items()):
        theirs, ours = sum(at_broker[key] for key in keys), sum(in_ledger[key] for key in keys)
        if theirs != ours:
            detail = f"the broker holds {theirs} units of {', '.join(keys)}, users and house have {ours}"
            symbols = {key.partition(":")[2] for key in keys}
            freezes = tuple(sorted(key_of(exchange, symbol) for exchange in EXCHANGES for symbol in symbols))
            differences.append(Difference(share, f"{theirs}/{ours}", detail, freezes))
    undecided = frozenset(share for share, keys in shares.items() if not set(keys).isdisjoint(unready))
    return Judgement(tuple(one for one in differences if one.key not in undecided), undecided)


def _by_share(keys: Collection[str], isins: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    # A symbol is nearly always the same on both exchanges: an ISIN known for one of them is known for the other.
    by_symbol = {key.partition(":")[2]: isin for key, isin in sorted(isins.items())}
    shares: dict[str, tuple[str, ...]] = {}
    for key in sorted(keys):
        symbol = key.partition(":")[2]
        share = isins.get(key) or by_symbol.get(symbol) or symbol
        shares[share] = (*shares.get(share, ()), key)
    return shares


def judge_cash(
    at_broker_paise: int,
    at_broker_then_paise: int,
    in_ledger_paise: int,
    in_ledger_then_paise: int,
    *,
    tolerance_paise: int,
) -> Judgement:
    """B9: money moved at the broker since the start of the day against money moved by trades in the ledger."""
    theirs, ours = at_broker_paise - at_broker_then_paise, in_ledger_paise - in_ledger_then_paise
    if abs(theirs - ours) <= tolerance_paise:
        return Judgement()
    detail = f"the broker's cash has moved by {theirs} paise today, the ledger's trades by {ours} paise"
    return Judgement((Difference(INR, str(theirs - ours), detail),))


def cash_is_comparable(view: BrokerView) -> bool:
    """Whether free money at the broker moves by trades alone.

    It does not while orders block money, with intraday positions (margin is blocked, profits count only after
    settlement), and after a sale of T1 shares (their proceeds are not usable the same day).
    """
    if view.has_open_orders() or any(row.product == INTRADAY for row in view.positions):
        return False
    net = day_net(view.positions)
    return not any(
        -sum(units for key, units in net.items() if key.partition(":")[2] == row.tradingsymbol) > row.quantity
        for row in view.holdings
        if row.t1_quantity
    )


def movable_paise(funds: Funds) -> int:
    """Free money at the broker without what the owner paid in today."""
    return funds.net_paise - funds.payin_paise


def unheard(told: Mapping[str, Told], ledger: Mapping[str, LedgerAsset]) -> frozenset[str]:
    """Assets of which the ledger has not booked everything yet: the messages are on their way."""
    return frozenset(one.key for one in judge_ledger(told, ledger, "behind").differences)


def judge_ledger(
    told: Mapping[str, Told], ledger: Mapping[str, LedgerAsset], side: Literal["behind", "beyond"]
) -> Judgement:
    """B6 across rooms: what the executor gave out against what the ledger has booked with the market.

    The ledger may be behind, because messages take time. It can never be beyond: `told` is read after `ledger`.
    """
    differences = []
    for key in sorted(set(told) | set(ledger)):
        ours, theirs = told.get(key, Told(0, 0)), ledger.get(key, LedgerAsset(0, 0, 0, 0))
        pairs = ((ours.to_market, theirs.to_market), (ours.from_market, theirs.from_market))
        wrong = (
            any(booked < given for given, booked in pairs)
            if side == "behind"
            else any(booked > given for given, booked in pairs)
        )
        if wrong:
            detail = (
                f"{key}: given out {ours.to_market} to and {ours.from_market} from the market,"
                f" booked {theirs.to_market} and {theirs.from_market}"
            )
            differences.append(Difference(key, f"{ours}/{theirs}", detail))
    return Judgement(tuple(differences))


def _traded(trades: Iterable[BookTrade]) -> frozenset[str]:
    return frozenset(key_of(trade.exchange, trade.tradingsymbol) for trade in trades)


@dataclass(frozen=True)
class Suspect:
    """A difference seen before: how much it was and for how many seconds it has been exactly that."""

    amount: str
    age_s: float


@dataclass(frozen=True)
class Ripened:
    """What one run makes of a judgement: breaks to open, suspects to keep (new ones start their age), keys that agree."""

    breaks: tuple[Difference, ...]
    suspects: tuple[Difference, ...]
    agreed: frozenset[str]


def ripen(
    judgement: Judgement,
    suspects: Mapping[str, Suspect],
    open_keys: Collection[str],
    *,
    still: Collection[str] | None,
    patience_s: float,
) -> Ripened:
    """Decide which differences are breaks now.

    `still` are keys whose instruments had nothing under way for a while (None: no key is judged by stillness, only by
    age). Everything else waits until it has been the same for `patience_s`. Keys neither different nor undecided agree:
    their suspicion ends and their break is cured.
    """
    if judgement.nothing:
        return Ripened((), (), frozenset())
    different = {one.key: one for one in judgement.differences}
    ripe = []
    for key, one in different.items():
        seen = suspects.get(key)
        same_long_enough = seen is not None and seen.amount == one.amount and seen.age_s >= patience_s
        if same_long_enough or (still is not None and key in still):
            ripe.append(one)
    agreed = frozenset((set(suspects) | set(open_keys)) - set(different) - judgement.undecided)
    return Ripened(tuple(ripe), tuple(different.values()), agreed)
