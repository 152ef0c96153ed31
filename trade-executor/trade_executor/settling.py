"""What only a person can decide: a frozen block whose broker's books are gone or contradict ours."""

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common.errors import Conflict, NotFound
from common.logging import get_logger
from trade_executor import allocating, breaks, closing, states
from trade_executor.models import Block, BrokerOrder, Fill

log = get_logger(__name__)

ENDED_BY_OPERATOR = "ended_by_operator"


class BlockNotFrozen(Conflict):
    """Only a frozen block is decided by hand; the others decide themselves from the broker's books."""


class FillsExceedBlock(Conflict):
    """More shares were filled than the block asked for; the excess has to be dealt with outside first."""


def settle_frozen(session: Session, block_id: UUID, *, actor: str, reason: str) -> Block:
    """Declare that the fills on record are all that a frozen block got (the contract note says so).

    Fills not yet given out are allocated, the rest of its orders expires. Raises NotFound, BlockNotFrozen,
    FillsExceedBlock.
    """
    if session.get(Block, block_id) is None:
        raise NotFound(f"There is no block {block_id}.", code="block_not_found")
    block = closing.lock_block(session, block_id)
    if block.state != "FROZEN":
        raise BlockNotFrozen(f"The block is {block.state}.")
    filled = session.scalar(
        sa.select(sa.func.coalesce(sa.func.sum(Fill.quantity), 0)).where(
            Fill.block_id == block_id, Fill.booked_to == "block"
        )
    )
    if filled is None or filled > block.quantity:
        raise FillsExceedBlock(f"{filled} shares were filled, the block asked for {block.quantity}.")
    block.state = states.BLOCK.require(block.state, "WORKING")
    session.flush()
    allocating.allocate_new_fills(session, block)
    _end_attempt(session, block)
    rest = closing.Close("EXPIRED", ENDED_BY_OPERATOR, "The order was ended by the operator after a check of the day.")
    closing.end_block(session, block, rest, why=ENDED_BY_OPERATOR)
    breaks.cure(session, block.account, breaks.PAST_DAY, str(block_id), f"settled by {actor}: {reason}")
    log.warning("block.settled_by_hand", block_id=str(block_id), actor=actor, reason=reason)
    return block


def _end_attempt(session: Session, block: Block) -> None:
    attempt = session.scalars(
        sa.select(BrokerOrder)
        .where(BrokerOrder.block_id == block.block_id, BrokerOrder.state.in_(states.ATTEMPT_UNRESOLVED))
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()
    if attempt is None:
        return
    path = {
        "INTENT": ("VOID",),
        "SENDING": ("UNKNOWN", "LOST"),
        "UNKNOWN": ("LOST",),
        "ACKED": ("CANCELLED", "SETTLED"),
    }.get(attempt.state, ("SETTLED",))
    for state in path:
        attempt.state = states.ATTEMPT.require(attempt.state, state)
    attempt.outcome_code = ENDED_BY_OPERATOR
    session.flush()
