"""T3: take the oldest demand out of the pool and seal it into a block with its first attempt."""

import hashlib
import secrets
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common.bulk import array_of, insert_rows
from common.logging import get_logger
from common.money import rupees_decimal
from trade_executor import batching, breaks, counters, states, tags
from trade_executor.batching import BlockKey, Candidate, LiveBlock
from trade_executor.brokers.base import PlaceRequest
from trade_executor.config import SERVICE, Settings
from trade_executor.models import Block, BlockChild, BrokerOrder, ChildOrder

log = get_logger(__name__)

KEYS_MAX = 5_000
LIVE_BLOCKS_MAX = 10_000
_WITHOUT_LIMIT_PRICE = ("MARKET", "SL-M")
_KEY_COLUMNS = tuple(getattr(ChildOrder, name) for name in BlockKey._fields)
_now = sa.func.clock_timestamp()


def _ready(account: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        ChildOrder.account == account,
        ChildOrder.state == "ACCEPTED",
        sa.or_(ChildOrder.not_before.is_(None), ChildOrder.not_before <= _now),
    )


def candidates(session: Session, account: str, settings: Settings) -> list[tuple[Candidate, float]]:
    """The pool's demand by key with the seconds its longest-waiting order has been there."""
    waited = sa.func.extract("epoch", _now - sa.func.min(ChildOrder.pooled_at))
    rows = session.execute(
        sa.select(
            *_KEY_COLUMNS,
            sa.func.min(ChildOrder.seq).label("oldest"),
            sa.func.sum(ChildOrder.quantity - ChildOrder.filled_quantity).label("open_quantity"),
            sa.func.count().label("orders"),
            waited.label("waited_s"),
        )
        .where(*_ready(account))
        .group_by(*_KEY_COLUMNS)
        .having(waited >= settings.batch_wait_ms / 1000)
        .order_by("oldest")
        .limit(KEYS_MAX)
    )
    return [
        (
            Candidate(BlockKey(*row[: len(_KEY_COLUMNS)]), row.oldest, int(row.open_quantity), row.orders),
            float(row.waited_s),
        )
        for row in rows
    ]


def live_blocks(session: Session, account: str) -> list[LiveBlock]:
    """Blocks that are, or may be, in the broker's book."""
    age_s = sa.func.extract("epoch", _now - Block.created_at).cast(sa.Double)
    rows = session.execute(
        sa.select(
            Block.block_id,
            Block.exchange,
            Block.tradingsymbol,
            Block.side,
            Block.price_paise,
            age_s,
            Block.cancel_reason.is_not(None),
        )
        .where(Block.account == account, Block.state != "DONE")
        .limit(LIVE_BLOCKS_MAX)
    )
    return [LiveBlock(*row) for row in rows]


def choose(session: Session, account: str, settings: Settings) -> tuple[Candidate | None, list[UUID]]:
    """What to cut now, and the live blocks that have kept opposite demand waiting too long.

    A block keeps its place for that long too, or two sides would only push each other off the market. Demand of a
    frozen instrument waits and pushes nobody.
    """
    frozen = breaks.frozen(session, account)
    pool = [
        (candidate, waited_s)
        for candidate, waited_s in candidates(session, account, settings)
        if breaks.instrument(candidate.exchange, candidate.tradingsymbol) not in frozen
    ]
    if not pool:
        return None, []
    choice = batching.choose([candidate for candidate, _ in pool], live_blocks(session, account))
    waited = dict(pool)
    patience_s = settings.opposite_wait_seconds
    in_the_way = [
        block.block_id
        for candidate, block in choice.waiting
        if not block.leaving and waited[candidate] >= patience_s and block.age_s >= patience_s
    ]
    return choice.candidate, in_the_way


def cut(session: Session, account: str, key: BlockKey, settings: Settings) -> int | None:
    """Seal pooled orders of one key into a block with an INTENT; answers the attempt, None when the pool has changed
    or the instrument is frozen.

    The children and their shares are written, and hashed into the block, before anything is sent: how fills will be
    divided is on record first (market.md section 7).
    """
    if breaks.instrument(key.exchange, key.tradingsymbol) in breaks.frozen(session, account):
        return None
    rows = session.execute(
        sa.select(ChildOrder.order_id, (ChildOrder.quantity - ChildOrder.filled_quantity).label("open_quantity"))
        .where(*_ready(account))
        .where(*(column.is_not_distinct_from(value) for column, value in zip(_KEY_COLUMNS, key, strict=True)))
        .order_by(ChildOrder.seq)
        .limit(settings.children_per_block)
        .with_for_update()
    ).all()
    children: list[tuple[UUID, int]] = batching.take(
        ((row.order_id, row.open_quantity) for row in rows),
        quantity_max=settings.block_quantity_max,
        price_paise=key.price_paise,
        value_max_paise=settings.block_value_max_paise,
    )
    if not children:
        return None
    block_id = uuid4()
    quantity = sum(share for _, share in children)
    session.execute(
        sa.insert(Block).values(
            block_id=block_id,
            account=account,
            **key._asdict(),
            quantity=quantity,
            state="SEALED",
            children_hash=children_hash(children),
        )
    )
    insert_rows(
        session,
        BlockChild,
        [{"block_id": block_id, "order_id": order_id, "quantity": share} for order_id, share in children],
    )
    moved: Any = session.execute(
        sa.update(ChildOrder)
        .where(ChildOrder.order_id == sa.any_(array_of([order_id for order_id, _ in children])))
        .where(ChildOrder.state.in_(states.CHILD.sources("BATCHED")))
        .values(state="BATCHED", block_id=block_id, not_before=None, version=ChildOrder.version + 1)
    )
    if moved.rowcount != len(children):
        raise states.IllegalTransition("a locked order left the pool")
    attempt_id = add_attempt(session, account, block_id, 1, request_of(key, quantity, settings), settings)
    counters.blocks_cut.labels(SERVICE).inc()
    counters.orders_in_blocks.labels(SERVICE).inc(len(children))
    log.info(
        "block.cut",
        block_id=str(block_id),
        tradingsymbol=key.tradingsymbol,
        side=key.side,
        quantity=quantity,
        orders=len(children),
    )
    return attempt_id


def children_hash(children: Sequence[tuple[UUID, int]]) -> str:
    """SHA-256 over the sorted `order:shares` lines: what the block was made of, fixed before sending."""
    lines = sorted(f"{order_id}:{share}" for order_id, share in children)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def request_of(key: BlockKey, quantity: int, settings: Settings) -> dict[str, Any]:
    """The broker's request of a block without its tag; paise become rupee decimals here, at the broker's edge."""
    protected = key.order_type in _WITHOUT_LIMIT_PRICE
    return {
        "exchange": key.exchange,
        "tradingsymbol": key.tradingsymbol,
        "side": key.side,
        "quantity": quantity,
        "product": key.product,
        "order_type": key.order_type,
        "price": _rupees_text(key.price_paise),
        "trigger_price": _rupees_text(key.trigger_price_paise),
        "validity": key.validity,
        "ttl_minutes": key.ttl_minutes,
        "market_protection": str(settings.market_protection_percent) if protected else None,
    }


def thaw(request: dict[str, Any], tag: str) -> PlaceRequest:
    """The frozen request of an attempt as the broker adapter takes it."""
    decimals = {
        name: None if request[name] is None else Decimal(request[name])
        for name in ("price", "trigger_price", "market_protection")
    }
    return PlaceRequest(**{**request, **decimals, "tag": tag})


def add_attempt(
    session: Session,
    account: str,
    block_id: UUID,
    attempt_no: int,
    request: dict[str, Any],
    settings: Settings,
    *,
    not_before_s: float = 0.0,
) -> int:
    """Insert an INTENT with a tag of its own; the partial unique index refuses a second undecided attempt."""
    # 63 random bits: an id that survives a restore of the database without meeting an older one.
    attempt_id = secrets.randbits(63)
    session.execute(
        sa.insert(BrokerOrder).values(
            attempt_id=attempt_id,
            account=account,
            block_id=block_id,
            attempt_no=attempt_no,
            tag=tags.make(settings.tag_env, attempt_id, settings.tag_key.get_secret_value().encode()),
            request=request,
            quantity=request["quantity"],
            not_before=_now + sa.func.make_interval(0, 0, 0, 0, 0, 0, not_before_s) if not_before_s else None,
        )
    )
    return attempt_id


def _rupees_text(paise: int | None) -> str | None:
    return None if paise is None else str(rupees_decimal(paise))
