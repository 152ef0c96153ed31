"""Idempotency keys: the same POST twice has one effect and one answer.

The key row is written in the transaction of the effect, so both exist or neither. A concurrent request with the same key
waits on the unique index until the first has committed, then reads its answer.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from fastapi import Depends, Header, Response
from pydantic import BaseModel
from sqlalchemy import MetaData, Table
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Session

from common.db import NAMING
from common.errors import AppError, Conflict, Unavailable

KEY_LENGTH_MAX = 128
CLAIM_ATTEMPTS = 3
REPLAYED_HEADER = "Idempotency-Replayed"
_KEY = re.compile(rf"[!-~]{{1,{KEY_LENGTH_MAX}}}\Z")

_metadata = MetaData(naming_convention=NAMING)
idempotency_key = Table(
    "idempotency_key",
    _metadata,
    sa.Column("owner_id", sa.Uuid, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("request_hash", sa.Text, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("body", JSONB),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
)


class IdempotencyKeyRequired(AppError):
    """The route moves money or shares and must carry the header."""

    status = 400


class IdempotencyKeyReused(Conflict):
    """The key was used with another request."""


@dataclass(frozen=True)
class StoredAnswer:
    """What the first request with this key was answered."""

    status: int
    body: Any


def add_tables(metadata: MetaData) -> None:
    """Make the table part of a service's metadata."""
    idempotency_key.to_metadata(metadata)


def create_tables(op: Any) -> None:
    """Create the table in a migration."""
    _metadata.create_all(op.get_bind(), tables=[idempotency_key])


def drop_tables(op: Any) -> None:
    """Drop the table in a migration's downgrade."""
    _metadata.drop_all(op.get_bind(), tables=[idempotency_key])


KeyHeader = Annotated[
    str | None, Header(alias="Idempotency-Key", description="A unique key per intended effect, 1 to 128 characters.")
]
"""The header as it came; see `required_key`."""


def required_key(given: str | None) -> str:
    """The key of a request that must have one; raises IdempotencyKeyRequired."""
    if given is None or not _KEY.match(given):
        raise IdempotencyKeyRequired(
            f"Send an Idempotency-Key header of 1 to {KEY_LENGTH_MAX} visible ASCII characters with this request."
        )
    return given


async def _key_of(idempotency_key: KeyHeader = None) -> str:
    return required_key(idempotency_key)


IdempotencyKey = Annotated[str, Depends(_key_of)]


def request_hash(*parts: BaseModel | Mapping[str, Any] | str) -> str:
    """SHA-256 of the canonical JSON of what was asked (include the route's name, so keys do not cross routes)."""
    canonical = [part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in parts]
    return hashlib.sha256(orjson.dumps(canonical, option=orjson.OPT_SORT_KEYS)).hexdigest()


def claim_key(session: Session, owner_id: UUID, key: str, hashed: str) -> StoredAnswer | None:
    """Take the key for this transaction (None) or answer what its first use was answered.

    Raises IdempotencyKeyReused when the first use asked for something else.
    """
    for _ in range(CLAIM_ATTEMPTS):
        inserted = session.execute(
            insert(idempotency_key)
            .values(owner_id=owner_id, key=key, request_hash=hashed)
            .on_conflict_do_nothing()
            .returning(idempotency_key.c.key)
        ).first()
        if inserted is not None:
            return None
        stored = find_answer(session, owner_id, key, hashed)
        if stored is not None:
            return stored
        # Freed between the two statements: the key can be taken now.
    raise Unavailable("This Idempotency-Key is in use by other requests at the moment; try again.")


def store_answer(session: Session, owner_id: UUID, key: str, status: int, body: Any) -> None:
    """Remember the answer beside the effect, in the same transaction."""
    session.execute(
        sa.update(idempotency_key)
        .where(idempotency_key.c.owner_id == owner_id, idempotency_key.c.key == key)
        .values(status=status, body=body)
    )


def find_answer(session: Session, owner_id: UUID, key: str, hashed: str) -> StoredAnswer | None:
    """What a key was answered, without taking it; raises IdempotencyKeyReused when it came with another request."""
    row = session.execute(
        sa.select(idempotency_key.c.request_hash, idempotency_key.c.status, idempotency_key.c.body).where(
            idempotency_key.c.owner_id == owner_id, idempotency_key.c.key == key
        )
    ).one_or_none()
    if row is None:
        return None
    if row.request_hash != hashed:
        raise IdempotencyKeyReused("This Idempotency-Key was already used for a different request; choose a new key.")
    return StoredAnswer(status=row.status, body=row.body)


def forget_answer(session: Session, owner_id: UUID, key: str) -> None:
    """Free a key whose request turned out to have no effect."""
    session.execute(
        sa.delete(idempotency_key).where(idempotency_key.c.owner_id == owner_id, idempotency_key.c.key == key)
    )


def answer_once(
    session: Session,
    owner_id: UUID,
    key: str,
    route: str,
    asked: BaseModel,
    produce: Callable[[], tuple[int, BaseModel]],
) -> Response:
    """Produce and remember an answer, or repeat the one this key was given before.

    `produce` runs at most once per key that was answered; when it raises, the key is free again and nothing is written.
    Raises IdempotencyKeyReused when the key came with another request.
    """
    stored = claim_key(session, owner_id, key, request_hash(route, asked))
    if stored is not None:
        return respond(stored.status, stored.body, replayed=True)
    status, answer = produce()
    body = answer.model_dump(mode="json")
    store_answer(session, owner_id, key, status, body)
    return respond(status, body, replayed=False)


@dataclass(frozen=True)
class Claim:
    """A key with which somebody asks for something."""

    owner_id: UUID
    key: str
    request_hash: str


_CLAIM_MANY = sa.text(
    "INSERT INTO idempotency_key (owner_id, key, request_hash)"
    " SELECT * FROM unnest(CAST(:owners AS uuid[]), CAST(:keys AS text[]), CAST(:hashes AS text[]))"
    " ON CONFLICT DO NOTHING RETURNING owner_id, key"
).columns(sa.column("owner_id", sa.Uuid), sa.column("key", sa.Text))
_STORE_MANY = sa.text(
    "UPDATE idempotency_key AS stored SET status = given.status, body = given.body::jsonb"
    " FROM unnest(CAST(:owners AS uuid[]), CAST(:keys AS text[]), CAST(:statuses AS int[]), CAST(:bodies AS text[]))"
    " AS given (owner_id, key, status, body) WHERE stored.owner_id = given.owner_id AND stored.key = given.key"
)
_FORGET_MANY = sa.text(
    "DELETE FROM idempotency_key WHERE (owner_id, key) IN"
    " (SELECT * FROM unnest(CAST(:owners AS uuid[]), CAST(:keys AS text[])))"
)


def claim_keys(session: Session, claims: Sequence[Claim]) -> list[StoredAnswer | IdempotencyKeyReused | None]:
    """Take many different keys for this transaction in one statement, in one order of keys.

    In the order of `claims`: None for a key taken, otherwise what its first use was answered, or the refusal of a key that
    came with another request before. Raises Unavailable for a key that others fight for.
    """
    ordered = sorted(claims, key=lambda claim: (claim.owner_id, claim.key))
    values = {**_columns(ordered), "hashes": [claim.request_hash for claim in ordered]}
    taken = {(row.owner_id, row.key) for row in session.execute(_CLAIM_MANY, values)} if ordered else set()
    found: list[StoredAnswer | IdempotencyKeyReused | None] = []
    for claim in claims:
        if (claim.owner_id, claim.key) in taken:
            found.append(None)
            continue
        try:
            # None again: freed between the two statements, and taken by this.
            found.append(claim_key(session, claim.owner_id, claim.key, claim.request_hash))
        except IdempotencyKeyReused as refusal:
            found.append(refusal)
    return found


def store_answers(session: Session, answers: Sequence[tuple[Claim, StoredAnswer]]) -> None:
    """Remember many answers beside their effects, in the same transaction and one statement."""
    if answers:
        values = {
            **_columns([claim for claim, _ in answers]),
            "statuses": [answer.status for _, answer in answers],
            "bodies": [orjson.dumps(answer.body).decode() for _, answer in answers],
        }
        session.execute(_STORE_MANY, values)


def forget_answers(session: Session, claims: Sequence[Claim]) -> None:
    """Free many keys whose requests turned out to have no effect."""
    if claims:
        session.execute(_FORGET_MANY, _columns(claims))


def _columns(claims: Sequence[Claim]) -> dict[str, list[str]]:
    return {"owners": [str(claim.owner_id) for claim in claims], "keys": [claim.key for claim in claims]}


def respond(status: int, body: Any, *, replayed: bool) -> Response:
    """The JSON answer of a request with a key; a repeated one says so in a header."""
    # Sorted keys: the database keeps JSON values, not the order they were written in.
    content = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    headers = {REPLAYED_HEADER: "true"} if replayed else {}
    return Response(content, status_code=status, headers=headers, media_type="application/json")
