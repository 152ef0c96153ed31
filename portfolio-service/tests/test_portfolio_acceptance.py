"""Acceptance and postings without the HTTP layer: a shared commit of many users' requests, causes written twice."""

from typing import Any
from uuid import uuid4

from common.db import count_statements
from portfolio_service import funds, portfolios
from portfolio_service.acceptance import accept_all
from portfolio_service.market_view import observe
from portfolio_service.orders import OrderRequest
from portfolio_service.submissions import Accepted, Outcome, Submission

ONE = OrderRequest("NSE", "INFY", "BUY", "CNC", "LIMIT", 1, price_paise=150_000)


def _submit(room: Any, submissions: list[Submission], **limits: Any) -> list[list[Outcome]]:
    view = observe(room.market, [request for submission in submissions for request in submission.requests])
    with room.db.transaction() as session:
        return accept_all(
            session, submissions, view=view, now=room.clock.now(), limits=room.settings(**limits).limits()
        )


def _codes(answers: list[Outcome]) -> list[str]:
    return ["ok" if isinstance(answer, Accepted) else answer.refusal.code for answer in answers]


def test_requests_of_many_users_share_a_commit_and_each_is_judged_alone(room: Any) -> None:
    rich, poor, newcomer = room.customer(), room.customer(), room.customer()
    room.give(rich, "100000")
    room.give(poor, "2000")
    submissions = [
        Submission(poor.user_id, "approved", [ONE, ONE], "a"),
        Submission(rich.user_id, "approved", [ONE, ONE], "b"),
        Submission(poor.user_id, "approved", [ONE], "c"),
        Submission(poor.user_id, "approved", [ONE], "d"),
        Submission(newcomer.user_id, "none", [ONE], "e"),
        Submission(rich.user_id, "approved", [OrderRequest("NSE", "NOSUCH", "BUY", "CNC", "MARKET", 1), ONE], "f"),
        Submission(
            rich.user_id, "approved", [OrderRequest("NSE", "INFY", "SELL", "CNC", "MARKET", 1), ONE], "g", False
        ),
    ]
    with count_statements(room.db) as statements:
        answers = _submit(room, submissions)
    assert [_codes(answer) for answer in answers] == [
        ["not_attempted", "insufficient_funds"],
        ["ok", "ok"],
        ["ok"],
        ["insufficient_funds"],
        ["kyc_required"],
        ["unknown_instrument", "not_attempted"],
        ["insufficient_shares", "ok"],
    ]
    assert len(statements) <= 10, statements
    assert room.count("user_order") == 4
    assert room.count("transfer") == 2 + 4
    room.sound()


def test_an_atomic_list_that_fails_gives_its_rate_token_and_daily_value_back(room: Any) -> None:
    user = room.customer()
    room.give(user, "2000")
    lists = [[ONE, ONE]] * 5 + [[ONE]]
    submissions = [Submission(user.user_id, "approved", requests, uuid4().hex) for requests in lists]
    answers = _submit(room, submissions, submissions_per_minute=2, daily_value_max_rupees=3_000)
    assert [_codes(answer) for answer in answers] == [["not_attempted", "insufficient_funds"]] * 5 + [["ok"]]


def test_the_same_cause_moves_money_once_even_without_an_idempotency_key(room: Any) -> None:
    user, admin = room.customer(), uuid4()
    for _ in range(3):
        with room.db.transaction() as session:
            portfolio = portfolios.portfolio_of(session, user.user_id, None, room.clock.now())
            funds.move_cash(
                session, portfolio, "DEPOSIT", 5_000, key="k", actor_id=admin, reason=None, now=room.clock.now()
            )
    assert room.funds(user)["cash"] == "50.00"
    assert room.count("transfer") == 1
    room.sound()


def test_parallel_shared_commits_of_overlapping_users_do_not_deadlock(room: Any) -> None:
    users = [room.customer() for _ in range(6)]
    for user in users:
        room.give(user, "20000")

    def commit(turn: int) -> int:
        order = users[turn % 6 :] + users[: turn % 6]
        answers = _submit(room, [Submission(user.user_id, "approved", [ONE], uuid4().hex) for user in order])
        return sum(_codes(answer) == ["ok"] for answer in answers)

    # 13 orders of 1,502.74 fit into 20,000.00 for each of the six users.
    assert sum(room.at_once(24, commit, threads=8)) == 6 * 13
    room.sound()
