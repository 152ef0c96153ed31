"""States of a user order, the one table of transitions, and the words other systems use for them."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class OrderState(StrEnum):
    """Where an order stands. Only the executor's facts move it on after acceptance."""

    ACCEPTED = "ACCEPTED"
    WORKING = "WORKING"
    PARTIAL = "PARTIAL"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"


class OrderFact(StrEnum):
    """What happened to an order."""

    WORKING = "working"
    PARTLY_FILLED = "partly_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    FAILED = "failed"


LIVE_STATES = frozenset({OrderState.ACCEPTED, OrderState.WORKING, OrderState.PARTIAL})
TERMINAL_STATES = frozenset(OrderState) - LIVE_STATES


class IllegalTransition(Exception):
    """A pair of state and fact that the table does not know."""

    def __init__(self, state: OrderState, fact: OrderFact) -> None:
        super().__init__(f"an order in state {state} can not become {fact}")


def _table() -> dict[tuple[OrderState, OrderFact], OrderState]:
    table: dict[tuple[OrderState, OrderFact], OrderState] = {
        (OrderState.ACCEPTED, OrderFact.WORKING): OrderState.WORKING,
        (OrderState.WORKING, OrderFact.WORKING): OrderState.WORKING,
        (OrderState.PARTIAL, OrderFact.WORKING): OrderState.PARTIAL,
    }
    for state in LIVE_STATES:
        table[state, OrderFact.PARTLY_FILLED] = OrderState.PARTIAL
        table[state, OrderFact.FILLED] = OrderState.FILLED
        table[state, OrderFact.CANCELLED] = OrderState.CANCELLED
        table[state, OrderFact.REJECTED] = OrderState.REJECTED
        table[state, OrderFact.EXPIRED] = OrderState.EXPIRED
        table[state, OrderFact.FAILED] = OrderState.FAILED
    # Messages overtake each other: news of the block may come after the end of the order, and changes nothing then.
    for state in TERMINAL_STATES:
        table[state, OrderFact.WORKING] = state
    return table


TRANSITIONS = _table()
"""(state, fact) -> state. A pair that is absent is an error."""


def next_state(state: OrderState, fact: OrderFact) -> OrderState:
    """The state after `fact`; raises IllegalTransition for a pair outside the table."""
    try:
        return TRANSITIONS[state, fact]
    except KeyError:
        raise IllegalTransition(state, fact) from None


FACT_OF_OUTCOME = {
    "FILLED": OrderFact.FILLED,
    "CANCELLED": OrderFact.CANCELLED,
    "REJECTED": OrderFact.REJECTED,
    "EXPIRED": OrderFact.EXPIRED,
    "FAILED": OrderFact.FAILED,
}
"""The executor's word for the end of an order -> our fact."""

STATUS_WORDS: dict[str, frozenset[OrderState]] = {
    **{state.value: frozenset({state}) for state in OrderState},
    # words of other desks and of the broker, accepted wherever a status is asked for
    "CREATED": frozenset({OrderState.ACCEPTED}),
    "QUEUED": frozenset({OrderState.ACCEPTED}),
    "PENDING": frozenset({OrderState.ACCEPTED, OrderState.WORKING}),
    "SENT": frozenset({OrderState.WORKING}),
    "PLACED": frozenset({OrderState.WORKING}),
    "BATCHED": frozenset({OrderState.WORKING}),
    "EXECUTING": frozenset({OrderState.WORKING, OrderState.PARTIAL}),
    "OPEN": frozenset({OrderState.WORKING, OrderState.PARTIAL}),
    "LIVE": LIVE_STATES,
    "CLOSED": TERMINAL_STATES,
    "EXECUTED": frozenset({OrderState.FILLED}),
    "COMPLETE": frozenset({OrderState.FILLED}),
    "COMPLETED": frozenset({OrderState.FILLED}),
    "ERROR": frozenset({OrderState.FAILED}),
    "UNKNOWN": frozenset({OrderState.FAILED}),
}
"""Every public word for a status and the states it stands for."""


def states_for(word: str) -> frozenset[OrderState]:
    """States meant by a public status word in any case; raises KeyError for a word nobody uses."""
    return STATUS_WORDS[word.strip().upper()]


PRODUCT_WORDS = {
    "CNC": "CNC",
    "DELIVERY": "CNC",
    "MIS": "MIS",
    "INTRADAY": "MIS",
}
"""Product words of other desks -> the broker's word, which is what we store. Anything else is not offered."""


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """What a user asks for. Prices in paise, quantity in units, `product` already in the broker's words if known.

    `portfolio_id` None means the user's default portfolio. `queue_when_closed` lets the order wait for the next session.
    """

    exchange: str
    tradingsymbol: str
    side: str
    product: str
    order_type: str
    quantity: int
    price_paise: int | None = None
    trigger_price_paise: int | None = None
    validity: str = "DAY"
    ttl_minutes: int | None = None
    portfolio_id: UUID | None = None
    tag: str | None = None
    queue_when_closed: bool = False
    confirm_duplicate: bool = False

    @property
    def instrument(self) -> tuple[str, str]:
        """(exchange, tradingsymbol)"""
        return self.exchange, self.tradingsymbol
