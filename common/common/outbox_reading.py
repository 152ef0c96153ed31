"""A room's outbox read again by those who act on its facts: which messages there were, and any of them once more.

Ids and instants are given before the commit, so a row may become visible after younger ones. A page therefore ends before
the start of the oldest transaction that may still write: what is older than `settled_before` is complete for good.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Protocol
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel
from sqlalchemy.orm import Session

from common.auth import require_service
from common.clock import InstantInput
from common.db import SessionDep
from common.errors import Forbidden
from common.events import Envelope
from common.http import ServiceClient
from common.outbox import envelope_of, outbox

PAGE_MAX = 1000
BODIES_MAX = 100
GRACE_MIN_S = 0.5
"""Covers the instant between a transaction's start and its being seen by others."""
GRACE_MAX_S = 3600.0
PATH = "/internal/v1/outbox"

_SETTLED = sa.text(
    "SELECT least(clock_timestamp() - make_interval(secs => :grace_s), min(xact_start)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()"
)


class Position(BaseModel):
    """A place in an outbox: rows are read in this order."""

    recorded_at: AwareDatetime
    id: int = 0


class Recorded(Position):
    """That a message exists."""

    message_id: UUID


class Page(BaseModel):
    """Messages in order; a page that is not full ends at `settled_before`, and nothing older will ever appear."""

    messages: list[Recorded]
    settled_before: AwareDatetime


class Bodies(BaseModel):
    """Messages as they were sent."""

    messages: list[Envelope]


class OutboxSource(Protocol):
    """Another room's outbox."""

    def page(self, types: Sequence[str], after: Position, *, grace_s: float, limit: int = PAGE_MAX) -> Page:
        """Which messages of these types were recorded after a place and more than `grace_s` ago."""
        ...

    def bodies(self, message_ids: Sequence[UUID]) -> list[Envelope]:
        """Messages by id, at most BODIES_MAX; unknown ones are left out."""
        ...


class RemoteOutbox:
    """An outbox behind its room's internal route. Raises PeerUnavailable or PeerRefused."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    def page(self, types: Sequence[str], after: Position, *, grace_s: float, limit: int = PAGE_MAX) -> Page:
        query = {
            "type": list(types),
            "after": after.recorded_at.isoformat(),
            "after_id": after.id,
            "grace_s": grace_s,
            "limit": limit,
        }
        return Page.model_validate(self._client.get(PATH, query))

    def bodies(self, message_ids: Sequence[UUID]) -> list[Envelope]:
        answer = self._client.get(f"{PATH}/messages", {"id": [str(message_id) for message_id in message_ids]})
        return Bodies.model_validate(answer).messages


def read_page(session: Session, types: Sequence[str], after: Position, *, grace_s: float, limit: int) -> Page:
    """A page of this database's outbox; the isolation must be READ COMMITTED."""
    # First who still writes, then what is there: the other way round a commit in between would be missed.
    settled: datetime = session.execute(_SETTLED, {"grace_s": grace_s}).scalar_one()
    rows = session.execute(
        sa.select(outbox.c.id, outbox.c.recorded_at, outbox.c.message_id)
        .where(
            outbox.c.type.in_(types),
            sa.tuple_(outbox.c.recorded_at, outbox.c.id) > sa.tuple_(sa.literal(after.recorded_at), after.id),
            outbox.c.recorded_at < settled,
        )
        .order_by(outbox.c.recorded_at, outbox.c.id)
        .limit(limit)
    ).all()
    messages = [Recorded(id=row.id, recorded_at=row.recorded_at, message_id=row.message_id) for row in rows]
    return Page(messages=messages, settled_before=settled)


def read_bodies(session: Session, types: Sequence[str], message_ids: Sequence[UUID]) -> list[Envelope]:
    """Messages of these types by id, oldest first."""
    rows = session.execute(
        sa.select(outbox)
        .where(outbox.c.message_id.in_(message_ids), outbox.c.type.in_(types))
        .order_by(outbox.c.recorded_at, outbox.c.id)
    ).all()
    return [envelope_of(row) for row in rows]


def outbox_router(readers: Mapping[str, frozenset[str]]) -> APIRouter:
    """The internal route of a room: `readers` maps each room that may ask to the types it may read."""
    router = APIRouter(prefix=PATH, include_in_schema=False)
    Reader = Annotated[str, Depends(require_service(*readers))]  # noqa: N806  a type

    @router.get("")
    def page(
        session: SessionDep,
        reader: Reader,
        types: Annotated[list[str], Query(alias="type", min_length=1, max_length=50)],
        after: InstantInput,
        after_id: Annotated[int, Query(ge=0, lt=2**63)] = 0,
        grace_s: Annotated[float, Query(ge=GRACE_MIN_S, le=GRACE_MAX_S)] = GRACE_MIN_S,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_MAX,
    ) -> Page:
        if not readers[reader].issuperset(types):
            raise Forbidden("This room may not read these messages.")
        return read_page(session, types, Position(recorded_at=after, id=after_id), grace_s=grace_s, limit=limit)

    @router.get("/messages")
    def bodies(
        session: SessionDep,
        reader: Reader,
        ids: Annotated[list[UUID], Query(alias="id", min_length=1, max_length=BODIES_MAX)],
    ) -> Bodies:
        return Bodies(messages=read_bodies(session, sorted(readers[reader]), ids))

    return router
