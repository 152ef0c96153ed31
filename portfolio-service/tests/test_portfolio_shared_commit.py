"""Requests that share a commit: each judged alone, answered after its own commit, in its turn, whatever the others are."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from common.auth import CurrentUser
from common.errors import AppError, Unavailable
from common.idempotency import IdempotencyKeyReused, idempotency_key
from portfolio_service import routes_orders, shared_commit
from portfolio_service.dependencies import Asking
from portfolio_service.models import UserOrder
from portfolio_service.schemas import OrderIn
from portfolio_service.shared_commit import SharedCommit


class Counter:
    """Requests that come while the commit's thread stands still."""

    def __init__(self, room: Any, **settings: Any) -> None:
        self.room = room
        self.commit = SharedCommit(room.db, room.market, room.clock, room.settings(**settings))
        self.open = threading.Event()
        self.commit._thread.submit(self.open.wait, 20)

    def asking(self, user_id: UUID, key: str) -> Asking:
        return Asking(CurrentUser(user_id, frozenset(), uuid4(), None, mfa=False, kyc="approved"), key, self.commit)

    def place(self, user_id: UUID, key: str, **body: Any) -> UUID:
        asked = OrderIn.model_validate({"tradingsymbol": "INFY", "side": "BUY", "quantity": 1, **body})
        answer = asyncio.run(routes_orders.place_order(asked, self.asking(user_id, key)))
        return UUID(orjson.loads(answer.body)["order_id"])

    def together(self, calls: list[Callable[[], UUID]]) -> tuple[list[Future[UUID]], int]:
        """Let all calls wait for one transaction in their order; answers their futures and how many commits were made."""
        commits: list[object] = []

        def count(connection: object) -> None:
            commits.append(connection)

        with ThreadPoolExecutor(len(calls)) as pool:
            futures = []
            for number, call in enumerate(calls, start=1):
                futures.append(pool.submit(call))
                self._arrived(number)
            event.listen(self.room.db.engine, "commit", count)
            self.open.set()
        event.remove(self.room.db.engine, "commit", count)
        return futures, len(commits)

    def _arrived(self, number: int) -> None:
        deadline = threading.Event()
        for _ in range(2_000):
            if len(self.commit._waiting) >= number:
                return
            deadline.wait(0.005)
        raise AssertionError(f"only {len(self.commit._waiting)} of {number} came")


@pytest.fixture
def counter(room: Any) -> Counter:
    return Counter(room)


def orders_of(room: Any, user_id: UUID) -> list[UserOrder]:
    with room.db.session() as session:
        return list(session.scalars(sa.select(UserOrder).where(UserOrder.user_id == user_id)))


def test_requests_of_many_users_share_one_commit(room: Any, counter: Counter) -> None:
    users = [room.customer() for _ in range(8)]
    for user in users:
        room.give(user, "5000")
    futures, commits = counter.together(
        [lambda user=user: counter.place(user.user_id, uuid4().hex) for user in users]  # type: ignore[misc]
    )
    assert commits == 1
    for user, future in zip(users, futures, strict=True):
        assert [order.order_id for order in orders_of(room, user.user_id)] == [future.result()]


def test_a_refused_request_fails_alone_and_frees_its_key(room: Any, counter: Counter) -> None:
    rich, poor = room.customer(), room.customer()
    room.give(rich, "5000")
    room.give(poor, "10")
    key = uuid4().hex
    futures, commits = counter.together(
        [
            lambda: counter.place(poor.user_id, key),
            lambda: counter.place(rich.user_id, uuid4().hex),
            lambda: counter.place(rich.user_id, uuid4().hex, tradingsymbol="NOSUCH"),
        ]
    )
    assert commits == 1
    assert refusal(futures[0]).code == "insufficient_funds"
    assert refusal(futures[2]).code == "unknown_instrument"
    assert [order.order_id for order in orders_of(room, rich.user_id)] == [futures[1].result()]
    assert orders_of(room, poor.user_id) == []
    with room.db.session() as session:
        kept = session.scalars(sa.select(idempotency_key.c.key).where(idempotency_key.c.owner_id == poor.user_id)).all()
    assert kept == []


def refusal(future: Future[UUID]) -> AppError:
    error = future.exception()
    assert isinstance(error, AppError)
    return error


def test_requests_of_one_user_are_judged_in_their_order(room: Any, counter: Counter) -> None:
    """Money for two orders: the first two get it, whoever came later does not."""
    user = room.customer()
    room.give(user, "3200")
    futures, commits = counter.together(
        [
            lambda number=number: counter.place(user.user_id, f"key-{number}", confirm_duplicate=True)
            for number in range(4)
        ]  # type: ignore[misc]
    )
    assert commits == 1
    assert [future.exception() is None for future in futures] == [True, True, False, False]
    assert refusal(futures[2]).code == "insufficient_funds"


def test_one_key_twice_at_once_is_one_order(room: Any, counter: Counter) -> None:
    user = room.customer()
    room.give(user, "9000")
    futures, _ = counter.together(
        [
            lambda: counter.place(user.user_id, "same"),
            lambda: counter.place(user.user_id, "same"),
            lambda: counter.place(user.user_id, "same", quantity=2),
        ]
    )
    assert futures[0].result() == futures[1].result()
    assert isinstance(futures[2].exception(), IdempotencyKeyReused)
    assert len(orders_of(room, user.user_id)) == 1


def test_the_same_order_of_two_requests_in_one_commit_is_a_duplicate(room: Any) -> None:
    counter = Counter(room, duplicate_window_s=10)
    user = room.customer()
    room.give(user, "9000")
    futures, _ = counter.together(
        [lambda: counter.place(user.user_id, "one"), lambda: counter.place(user.user_id, "two")]
    )
    assert futures[0].exception() is None
    assert refusal(futures[1]).code == "duplicate_order"


def test_a_request_that_breaks_the_transaction_breaks_only_its_own(
    room: Any, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = room.customer(), room.customer()
    for user in (good, bad):
        room.give(user, "9000")
    real = shared_commit.accept_all

    def accept_all(session: Any, submissions: Any, **rest: Any) -> Any:
        if any(submission.user_id == bad.user_id for submission in submissions):
            session.execute(sa.text("SELECT 1 / 0"))
        return real(session, submissions, **rest)

    monkeypatch.setattr(shared_commit, "accept_all", accept_all)
    futures, commits = counter.together(
        [
            lambda: counter.place(good.user_id, "first"),
            lambda: counter.place(bad.user_id, "second"),
            lambda: counter.place(good.user_id, "third", quantity=2),
        ]
    )
    assert commits == 2
    assert isinstance(futures[1].exception(), sa.exc.DBAPIError)
    assert {order.order_id for order in orders_of(room, good.user_id)} == {futures[0].result(), futures[2].result()}
    assert orders_of(room, bad.user_id) == []


def test_a_market_that_is_away_refuses_all_and_keeps_nothing(
    room: Any, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = room.customer()
    room.give(user, "9000")

    def away(*_: Any) -> None:
        raise Unavailable("market data does not answer")

    monkeypatch.setattr(shared_commit, "observe", away)
    futures, commits = counter.together(
        [lambda: counter.place(user.user_id, "one"), lambda: counter.place(user.user_id, "two")]
    )
    assert commits == 0
    assert [type(future.exception()) for future in futures] == [Unavailable, Unavailable]
    assert orders_of(room, user.user_id) == []


def test_a_defect_while_serving_is_told_to_all_and_the_next_are_served(
    room: Any, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = room.customer()
    room.give(user, "9000")
    real, failed = shared_commit.observe, []

    def failing(*given: Any) -> Any:
        if not failed:
            failed.append(True)
            raise ZeroDivisionError
        return real(*given)

    monkeypatch.setattr(shared_commit, "observe", failing)
    futures, _ = counter.together(
        [lambda: counter.place(user.user_id, "one"), lambda: counter.place(user.user_id, "two")]
    )
    assert [type(future.exception()) for future in futures] == [ZeroDivisionError, ZeroDivisionError]
    again = counter.place(user.user_id, "one")
    assert [order.order_id for order in orders_of(room, user.user_id)] == [again]


def test_a_caller_who_leaves_before_its_turn_has_asked_for_nothing(room: Any, counter: Counter) -> None:
    user = room.customer()
    room.give(user, "9000")

    async def leave() -> None:
        task = asyncio.create_task(asyncio.to_thread(counter.place, user.user_id, "stays"))
        asked = OrderIn.model_validate({"tradingsymbol": "INFY", "side": "BUY", "quantity": 2})
        leaver = asyncio.create_task(routes_orders.place_order(asked, counter.asking(user.user_id, "leaves")))
        await asyncio.to_thread(counter._arrived, 2)
        leaver.cancel()
        await asyncio.wait([leaver])
        counter.open.set()
        await task

    asyncio.run(leave())
    assert [order.quantity for order in orders_of(room, user.user_id)] == [1]
