"""One commit for all requests that wait together: each judged alone, each answered after the commit that holds it.

A commit costs a flush to disk and half a dozen statements whether it holds one order or fifty. One thread takes all requests
that have come into one transaction; while it commits the next ones gather. Nobody waits for company, and no request has a
thread of its own. Requests are judged in the order they came, so one user's keep theirs; if the transaction fails each gets
one of its own, so that one bad request never fails its neighbours. A second such thread would make more commits of fewer
orders: a fifth fewer orders a second at 32 connections.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from fastapi import Response
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from common import idempotency
from common.clock import Clock
from common.db import Database, run_in_transaction
from common.errors import AppError
from common.idempotency import Claim, StoredAnswer
from common.logging import bound
from common.market_data import MarketData
from portfolio_service.acceptance import accept_all
from portfolio_service.config import NAME, Settings
from portfolio_service.market_view import MarketView, observe
from portfolio_service.submissions import Outcome, Submission

TOGETHER_MAX = 128
"""Requests that share a commit; more wait for the next."""
ORDERS_TOGETHER_MAX = 2_000

Result = StoredAnswer | Exception
Produce = Callable[[list[Outcome]], tuple[int, BaseModel]]
"""The answer of a request from what became of its orders; raises the AppError that refuses it."""


@dataclass(eq=False)
class Ask:
    """A request under its idempotency key, and the answer it will have."""

    submission: Submission
    request_hash: str
    produce: Produce
    answer: Future[Response] = field(default_factory=Future, init=False)

    @property
    def claim(self) -> Claim:
        """The key it comes with."""
        return Claim(self.submission.user_id, self.submission.key, self.request_hash)

    def tell(self, result: Result, *, replayed: bool = False) -> None:
        """Answer it: its transaction has ended."""
        if isinstance(result, Exception):
            self.answer.set_exception(result)
        else:
            self.answer.set_result(idempotency.respond(result.status, result.body, replayed=replayed))


class SharedCommit:
    """Takes requests for orders of one API process. Thread-safe; its thread makes one transaction at a time."""

    def __init__(self, db: Database, market: MarketData, clock: Clock, settings: Settings) -> None:
        self._db, self._market, self._clock, self._settings = db, market, clock, settings
        self._waiting: deque[Ask] = deque()
        self._lock = threading.Lock()
        self._working = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")

    @property
    def orders_max(self) -> int:
        """The most orders of one request."""
        return self._settings.batch_orders_max

    async def answer(self, submission: Submission, route: str, asked: BaseModel, produce: Produce) -> Response:
        """Judge and take a request's orders, answer after the commit; the same key is answered once.

        Raises what `produce` raises, IdempotencyKeyReused, and what the market or the database raise. A caller who leaves
        before its turn has asked for nothing; one who leaves later has the answer under its key.
        """
        return await asyncio.wrap_future(self.put(Ask(submission, idempotency.request_hash(route, asked), produce)))

    def put(self, ask: Ask) -> Future[Response]:
        """Add a request to those that wait."""
        with self._lock:
            self._waiting.append(ask)
            if not self._working:
                self._working = True
                self._thread.submit(self._work)
        return ask.answer

    def _work(self) -> None:
        with bound(service=NAME):
            while asks := self.take():
                self.serve(asks)

    def take(self) -> list[Ask]:
        """The next requests that may share a transaction: a key's repeat waits for what the first was answered."""
        taken: list[Ask] = []
        keys: set[tuple[object, str]] = set()
        orders = 0
        with self._lock:
            while self._waiting and len(taken) < TOGETHER_MAX:
                ask = self._waiting[0]
                key = (ask.submission.user_id, ask.submission.key)
                orders += len(ask.submission.requests)
                if taken and (key in keys or orders > ORDERS_TOGETHER_MAX):
                    break
                self._waiting.popleft()
                if ask.answer.set_running_or_notify_cancel():
                    keys.add(key)
                    taken.append(ask)
            self._working = bool(taken)
        return taken

    def serve(self, asks: Sequence[Ask]) -> None:
        """Judge requests and commit; every one of them is answered."""
        try:
            # Before the transaction: no lock of the database is held while another room is asked.
            view = observe(self._market, (request for ask in asks for request in ask.submission.requests))
            self._commit(asks, view)
        except Exception as error:  # noqa: BLE001  whatever it is, all who wait must hear it and the next be served
            for ask in asks:
                if not ask.answer.done():
                    ask.tell(error)

    def _commit(self, asks: Sequence[Ask], view: MarketView) -> None:
        try:
            results = run_in_transaction(self._db, lambda session: self._judge(session, asks, view))
        except Exception as error:  # noqa: BLE001  whatever it is, it must stay with the request it belongs to
            if len(asks) == 1 or _server_is_away(error):
                for ask in asks:
                    ask.tell(error)
                return
            for position, ask in enumerate(asks):
                self._commit([ask], view)
                failure = ask.answer.exception()
                if isinstance(failure, Exception) and _server_is_away(failure):
                    for rest in asks[position + 1 :]:
                        rest.tell(failure)
                    return
            return
        for ask, (result, replayed) in zip(asks, results, strict=True):
            ask.tell(result, replayed=replayed)

    def _judge(self, session: Session, asks: Sequence[Ask], view: MarketView) -> list[tuple[Result, bool]]:
        known = idempotency.claim_keys(session, [ask.claim for ask in asks])
        new = [ask for ask, stored in zip(asks, known, strict=True) if stored is None]
        answers = iter(
            accept_all(
                session,
                [ask.submission for ask in new],
                view=view,
                now=self._clock.now(),
                limits=self._settings.limits(),
                paper_cash_paise=self._settings.initial_paper_cash_rupees * 100,
            )
        )
        results: list[tuple[Result, bool]] = [
            (_produced(ask, next(answers)), False) if stored is None else (stored, True)
            for ask, stored in zip(asks, known, strict=True)
        ]
        made = [(ask.claim, result) for ask, (result, replayed) in zip(asks, results, strict=True) if not replayed]
        idempotency.store_answers(
            session, [(claim, result) for claim, result in made if isinstance(result, StoredAnswer)]
        )
        # A refusal has no effect: its key is free again.
        idempotency.forget_answers(session, [claim for claim, result in made if not isinstance(result, StoredAnswer)])
        return results


def _server_is_away(error: Exception) -> bool:
    """Whether no request can have another fate: the database did not say anything about this one."""
    if isinstance(error, PoolTimeout):
        return True
    return isinstance(error, DBAPIError) and getattr(error.orig, "pgcode", None) is None


def _produced(ask: Ask, outcomes: list[Outcome]) -> Result:
    try:
        status, answer = ask.produce(outcomes)
    except AppError as refusal:
        return refusal
    return StoredAnswer(status, answer.model_dump(mode="json"))
