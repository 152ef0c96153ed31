"""Which block is cut next: oldest demand first, sides never mixed, and never a chance to trade with ourselves.

Natural batching (design.md section 3): a block is cut when a send token is free, so an idle system sends an order alone
at once and a busy one merges whatever arrived meanwhile. Prices are paise, quantities shares.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar
from uuid import UUID


class BlockKey(NamedTuple):
    """What orders must have in common to go out as one order."""

    exchange: str
    tradingsymbol: str
    side: str
    product: str
    order_type: str
    price_paise: int | None
    trigger_price_paise: int | None
    validity: str
    ttl_minutes: int | None


class Priced(Protocol):
    """Anything that stands, or wants to stand, in an order book."""

    @property
    def exchange(self) -> str: ...
    @property
    def tradingsymbol(self) -> str: ...
    @property
    def side(self) -> str: ...
    @property
    def price_paise(self) -> int | None: ...


@dataclass(frozen=True)
class Candidate:
    """The pooled demand of one key; `oldest` is the age order of its oldest order."""

    key: BlockKey
    oldest: int
    quantity: int
    orders: int

    @property
    def exchange(self) -> str:
        return self.key.exchange

    @property
    def tradingsymbol(self) -> str:
        return self.key.tradingsymbol

    @property
    def side(self) -> str:
        return self.key.side

    @property
    def price_paise(self) -> int | None:
        return self.key.price_paise


@dataclass(frozen=True)
class LiveBlock:
    """A block that may be in the broker's book."""

    block_id: UUID
    exchange: str
    tradingsymbol: str
    side: str
    price_paise: int | None
    age_s: float = 0.0
    """Seconds since it was cut."""
    leaving: bool = False
    """Whether it has been asked to leave the market."""


@dataclass(frozen=True)
class Choice:
    """The demand to cut now, and which live blocks older demand is waiting for."""

    candidate: Candidate | None
    waiting: tuple[tuple[Candidate, LiveBlock], ...]


def can_cross(one: Priced, other: Priced) -> bool:
    """Whether two orders of one account could trade with each other.

    Same instrument, opposite sides, and the buyer pays at least what the seller asks; an order without a limit price
    (MARKET, SL-M) meets everything. Exchanges refuse or cancel such pairs as self-trades.
    """
    if (one.exchange, one.tradingsymbol) != (other.exchange, other.tradingsymbol) or one.side == other.side:
        return False
    buy, sell = (one, other) if one.side == "BUY" else (other, one)
    if buy.price_paise is None or sell.price_paise is None:
        return True
    return buy.price_paise >= sell.price_paise


def choose(candidates: Iterable[Candidate], live: Sequence[LiveBlock]) -> Choice:
    """The oldest demand that can cross no live block and no older demand that is itself waiting.

    The second condition keeps a steady flow of one side from starving the other: younger orders do not overtake an
    older opposite one that waits for its turn.
    """
    waiting: list[tuple[Candidate, LiveBlock]] = []
    held_back: list[Candidate] = []
    by_instrument: dict[tuple[str, str], list[LiveBlock]] = {}
    for block in live:
        by_instrument.setdefault((block.exchange, block.tradingsymbol), []).append(block)
    for candidate in sorted(candidates, key=lambda one: one.oldest):
        rivals = by_instrument.get((candidate.exchange, candidate.tradingsymbol), ())
        crossing = next((block for block in rivals if can_cross(candidate, block)), None)
        if crossing is not None:
            waiting.append((candidate, crossing))
        elif not any(can_cross(candidate, older) for older in held_back):
            return Choice(candidate, tuple(waiting))
        held_back.append(candidate)
    return Choice(None, tuple(waiting))


OrderT = TypeVar("OrderT", bound=Hashable)


def take(
    pooled: Iterable[tuple[OrderT, int]], *, quantity_max: int, price_paise: int | None, value_max_paise: int
) -> list[tuple[OrderT, int]]:
    """Orders (oldest first, with open shares) that fit into one block, with the shares each brings.

    The last one may enter with a part of its shares: what is left goes out with a later block. A single share dearer
    than `value_max_paise` still goes: the limit splits, it never refuses.
    """
    room = quantity_max
    if price_paise:
        room = min(room, max(1, value_max_paise // price_paise))
    taken: list[tuple[OrderT, int]] = []
    for order, open_quantity in pooled:
        if room <= 0:
            break
        share = min(open_quantity, room)
        taken.append((order, share))
        room -= share
    return taken
