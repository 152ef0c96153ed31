"""Basket orders: the one table of their stages, and what legs say about an order and an investment. Pure.

A basket order is one submission to portfolio-service, or two where shares are sold first: the buys are computed and
submitted when the sells have ended. Its stage says which step comes next; its status is derived from its legs.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Why a basket order exists."""

    INVEST = "INVEST"
    INVEST_MORE = "INVEST_MORE"
    SIP = "SIP"
    REBALANCE = "REBALANCE"
    CUSTOMISE = "CUSTOMISE"
    PARTIAL_EXIT = "PARTIAL_EXIT"
    EXIT = "EXIT"
    REPAIR = "REPAIR"


class Stage(StrEnum):
    """Where the work on a basket order stands."""

    INTENT = "INTENT"
    """Legs are written; portfolio-service is not known to have judged them."""
    WORKING = "WORKING"
    """Accepted; legs are on their way."""
    SOLD = "SOLD"
    """The sells have ended; the buys are still to be computed."""
    DONE = "DONE"
    REFUSED = "REFUSED"
    """Refused before anything was placed."""


class Fact(StrEnum):
    """What happened to a basket order."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    BUYS_REFUSED = "buys_refused"
    BUYS_PUT_OFF = "buys_put_off"
    """Refused for a reason that passes; they are computed anew."""
    SELLS_ENDED = "sells_ended"
    ALL_ENDED = "all_ended"
    BUYS_WRITTEN = "buys_written"
    NOTHING_TO_BUY = "nothing_to_buy"


class Status(StrEnum):
    """What users see."""

    PLACING = "placing"
    PLACED = "placed"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    UNFILLED = "unfilled"
    NEEDS_REPAIR = "needs_repair"
    REPAIRED = "repaired"
    REFUSED = "refused"


class LegState(StrEnum):
    """A leg before its order exists, or the state of its order in portfolio-service."""

    INTENT = "INTENT"
    REFUSED = "REFUSED"
    ACCEPTED = "ACCEPTED"
    WORKING = "WORKING"
    PARTIAL = "PARTIAL"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"


class InvestmentStatus(StrEnum):
    """What a user has in a smallcase."""

    PENDING = "pending"
    """The first order works; nothing is held yet."""
    ACTIVE = "active"
    CLOSED = "closed"
    """Everything was sold."""
    FAILED = "failed"
    """Nothing was ever bought."""
    ARCHIVED = "archived"


KINDS = tuple(Kind)
STAGES = tuple(Stage)
ORDER_STATUSES = tuple(Status)
LEG_STATES = tuple(LegState)
INVESTMENT_STATUSES = tuple(InvestmentStatus)
ENDED_STAGES = frozenset({Stage.DONE, Stage.REFUSED})
OPEN_INVESTMENTS = frozenset({InvestmentStatus.PENDING, InvestmentStatus.ACTIVE})
LIVE_LEGS = frozenset({LegState.INTENT, LegState.ACCEPTED, LegState.WORKING, LegState.PARTIAL})
REPAIRABLE = frozenset({Status.NEEDS_REPAIR, Status.UNFILLED})

TRANSITIONS: dict[tuple[Stage, Fact], Stage] = {
    (Stage.INTENT, Fact.ACCEPTED): Stage.WORKING,
    (Stage.INTENT, Fact.REFUSED): Stage.REFUSED,
    (Stage.INTENT, Fact.BUYS_REFUSED): Stage.DONE,
    (Stage.INTENT, Fact.BUYS_PUT_OFF): Stage.SOLD,
    (Stage.WORKING, Fact.SELLS_ENDED): Stage.SOLD,
    (Stage.WORKING, Fact.ALL_ENDED): Stage.DONE,
    (Stage.SOLD, Fact.BUYS_WRITTEN): Stage.INTENT,
    (Stage.SOLD, Fact.NOTHING_TO_BUY): Stage.DONE,
}
"""(stage, fact) -> stage. A pair that is absent is an error."""


class IllegalTransition(Exception):
    """A pair of stage and fact that the table does not know."""

    def __init__(self, stage: Stage, fact: Fact) -> None:
        super().__init__(f"a basket order in stage {stage} can not become {fact}")


def next_stage(stage: Stage, fact: Fact) -> Stage:
    """The stage after `fact`; raises IllegalTransition for a pair outside the table."""
    try:
        return TRANSITIONS[stage, fact]
    except KeyError:
        raise IllegalTransition(stage, fact) from None


@dataclass(frozen=True)
class Legs:
    """What the rules below look at in the legs of an order, all of them together."""

    live: int
    """Legs to which something may still happen."""
    untouched: bool
    """No leg is known to have been accepted."""
    units: int
    """Shares filled, of all legs."""
    complete: bool
    """Every leg is filled to its last share."""
    only_sells: bool


def status_of(stage: Stage, legs: Legs, *, repaired: bool = False) -> Status:
    """The status of a basket order: the one rule.

    Refused orders are refused. An order that has ended is filled when every leg is, unfilled when none of them has a
    single share, repaired when another order has taken up the rest, and needs repair otherwise. One that has not ended is
    partially filled from the first share on, placed before that, and placing while portfolio-service has not answered.
    """
    if stage is Stage.REFUSED:
        return Status.REFUSED
    if stage is Stage.DONE:
        if legs.complete:
            return Status.FILLED
        if repaired:
            return Status.REPAIRED
        return Status.NEEDS_REPAIR if legs.units else Status.UNFILLED
    if legs.units:
        return Status.PARTIALLY_FILLED
    return Status.PLACING if legs.untouched else Status.PLACED


def investment_status(*, held: bool, ever_held: bool, working: bool) -> InvestmentStatus:
    """What an investment is, unless it was archived; `working`: a basket order of it has not ended."""
    if held or (working and ever_held):
        return InvestmentStatus.ACTIVE
    if working:
        return InvestmentStatus.PENDING
    return InvestmentStatus.CLOSED if ever_held else InvestmentStatus.FAILED
