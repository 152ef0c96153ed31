"""Answers of routes that move money or shares: the same Idempotency-Key gets the same answer, byte for byte."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import orjson
from fastapi import Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from common.idempotency import claim_key, request_hash, store_answer

REPLAYED_HEADER = "Idempotency-Replayed"


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
        return _json(stored.status, stored.body, replayed=True)
    status, answer = produce()
    body = answer.model_dump(mode="json")
    store_answer(session, owner_id, key, status, body)
    return _json(status, body, replayed=False)


def _json(status: int, body: Any, *, replayed: bool) -> Response:
    # Sorted keys: the database keeps JSON values, not the order they were written in.
    content = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    headers = {REPLAYED_HEADER: "true"} if replayed else {}
    return Response(content, status_code=status, headers=headers, media_type="application/json")
