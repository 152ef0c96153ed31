"""Every route: anonymous, somebody else's, valid, bad input, and repeats where money moves."""

from typing import Any
from uuid import uuid4

import pytest

from common.events import CashMoved
from common.testing import client_for

NOBODY = "00000000-0000-4000-8000-000000000000"

ROUTES = [
    ("POST", "/orders"), ("GET", "/orders"), ("GET", f"/orders/{NOBODY}"), ("PUT", f"/orders/{NOBODY}"),
    ("DELETE", f"/orders/{NOBODY}"), ("POST", "/orders/buy"), ("POST", "/orders/sell"), ("POST", "/orders/batch"),
    ("GET", "/trades"), ("GET", "/holdings"), ("GET", "/positions"), ("GET", "/portfolios"), ("POST", "/portfolios"),
    ("GET", f"/portfolios/{NOBODY}"), ("PUT", f"/portfolios/{NOBODY}"), ("DELETE", f"/portfolios/{NOBODY}"),
    ("GET", f"/portfolios/{NOBODY}/holdings"), ("GET", f"/portfolios/{NOBODY}/positions"),
    ("GET", f"/portfolios/{NOBODY}/transactions"), ("GET", "/funds"), ("POST", "/funds/topup"),
    ("GET", "/transactions"), ("GET", "/statement"), ("POST", "/charges/estimate"),
    ("POST", "/admin/funds/deposit"), ("POST", "/admin/funds/withdraw"), ("GET", "/admin/orders"),
    ("POST", "/admin/orders"), ("POST", "/admin/orders/preview"),
    ("GET", "/admin/ledger/check"), ("POST", f"/trades/{NOBODY}/exit"),
    ("GET", "/admin/audit/portfolio-service"), ("GET", "/admin/audit/portfolio-service/head"),
]  # fmt: skip


def test_nothing_answers_without_a_token_and_admin_routes_need_their_role(room: Any) -> None:
    user = room.customer()
    for method, path in ROUTES:
        anonymous = room.client.request(method, f"/api/v1{path}", json={} if method != "GET" else None)
        assert (anonymous.status_code, path) == (401, path)
    body = {"user_id": str(user.user_id), "amount": "1", "reason": "none"}
    for method, path in ROUTES:
        if path.startswith("/admin"):
            answer = room.client.request(
                method, f"/api/v1{path}", json=body if method == "POST" else None,
                headers={**user.headers, "Idempotency-Key": "k"},
            )  # fmt: skip
            assert (answer.status_code, path) == (403, path)
    ops = room.customer(roles=("ops",))
    assert room.get(ops, "/admin/orders").status_code == 200
    assert room.post(ops, "/admin/funds/deposit", body).status_code == 403
    paths = {(method, path) for method, path in ROUTES if not path.startswith("/admin")}
    served = {
        (method.upper(), path.removeprefix("/api/v1"))
        for path, item in room.client.app.openapi()["paths"].items()
        for method in item
    }
    assert len(served) == len(ROUTES), sorted(served)
    assert len(paths) == len(ROUTES) - 8


def test_foreign_orders_and_portfolios_are_not_there(room: Any) -> None:
    owner, other = room.customer(), room.customer()
    room.give(owner, "20000")
    order_id = room.accepted(owner)
    portfolio_id = room.funds(owner)["portfolio_id"]
    client = room.client
    for method, path, body in [
        ("GET", f"/orders/{order_id}", None),
        ("PUT", f"/orders/{order_id}", {"quantity": 2}),
        ("DELETE", f"/orders/{order_id}", None),
        ("GET", f"/portfolios/{portfolio_id}", None),
        ("PUT", f"/portfolios/{portfolio_id}", {"name": "mine now"}),
        ("DELETE", f"/portfolios/{portfolio_id}", None),
        ("GET", f"/portfolios/{portfolio_id}/holdings", None),
        ("GET", f"/portfolios/{portfolio_id}/positions", None),
        ("GET", f"/portfolios/{portfolio_id}/transactions", None),
        ("GET", f"/funds?portfolio_id={portfolio_id}", None),
        ("GET", f"/holdings?portfolio_id={portfolio_id}", None),
        ("GET", f"/transactions?portfolio_id={portfolio_id}", None),
        ("GET", f"/statement?portfolio_id={portfolio_id}", None),
    ]:
        foreign = client.request(method, f"/api/v1{path}", json=body, headers=other.headers)
        assert (foreign.status_code, path) == (404, path)
        assert foreign.json()["code"] in {"order_not_found", "portfolio_not_found"}
    assert room.order(other, portfolio_id=portfolio_id).json()["code"] == "portfolio_not_found"
    assert room.post(other, "/funds/topup", {"amount": "5", "portfolio_id": portfolio_id}).status_code == 404
    assert room.get(other, "/orders").json() == {"items": [], "next_cursor": None}
    assert room.get(other, "/trades").json()["items"] == []
    assert room.row(order_id).cancel_requested_at is None


def test_keys_are_required_where_money_or_shares_move(room: Any) -> None:
    admin = room.customer(roles=("admin",))
    for path in ("/orders", "/orders/buy", "/orders/sell", "/orders/batch", "/funds/topup", "/admin/funds/deposit",
                 "/admin/funds/withdraw"):  # fmt: skip
        answer = room.client.post(f"/api/v1{path}", json={}, headers=admin.headers)
        assert answer.status_code in (400, 422)
    answer = room.client.post("/api/v1/funds/topup", json={"amount": "5"}, headers=admin.headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_required")
    # the same key on another route is another request
    key = uuid4().hex
    assert room.post(admin, "/funds/topup", {"amount": "5"}, key).status_code == 201
    assert room.post(admin, "/orders/buy", {"symbol": "ITC", "quantity": 1}, key).json()["code"] == (
        "idempotency_key_reused"
    )


def test_buy_and_sell_are_orders_with_a_side(room: Any) -> None:
    user = room.customer()
    room.give(user, "20000")
    buy = room.post(user, "/orders/buy", {"symbol": "INFY", "quantity": 2, "product": "delivery"})
    assert (buy.status_code, buy.json()["side"], buy.json()["product"]) == (202, "BUY", "CNC")
    room.fill(buy.json()["order_id"], 150_000)
    sell = room.post(user, "/orders/sell", {"tradingsymbol": "INFY", "quantity": 1})
    assert (sell.status_code, sell.json()["side"]) == (202, "SELL")
    assert room.post(user, "/orders/sell", {"symbol": "INFY", "quantity": 5}).json()["code"] == "insufficient_shares"
    assert room.post(user, "/orders/buy", {"symbol": "INFY", "quantity": 1, "side": "SELL"}).status_code == 422


def test_exit_sells_what_is_left_of_a_purchase(room: Any) -> None:
    user, other = room.customer(), room.customer()
    room.bought(user, "INFY", 5, 150_000)
    trade_id = room.get(user, "/trades").json()["items"][0]["trade_id"]
    room.fill(room.accepted(user, side="SELL", quantity=2), 150_000)
    assert room.post(other, f"/trades/{trade_id}/exit", {}).status_code == 404
    key = uuid4().hex
    first, second = (room.post(user, f"/trades/{trade_id}/exit", {}, key) for _ in range(2))
    assert (first.status_code, first.json()["side"], first.json()["quantity"]) == (202, "SELL", 3)
    assert first.content == second.content
    room.fill(first.json()["order_id"], 150_000)
    # the key's answer stays the same after the shares are gone; a new wish has nothing to sell
    assert room.post(user, f"/trades/{trade_id}/exit", {}, key).content == first.content
    assert room.post(user, f"/trades/{trade_id}/exit", {}).json()["code"] == "quantity_invalid"
    assert room.post(user, f"/trades/{trade_id}/exit", {"quantity": 1}).json()["code"] == "invalid_request"
    room.sound()


def test_order_list_filters_and_pages(room: Any) -> None:
    user = room.customer()
    room.give(user, "50000")
    ids = []
    for number in range(5):
        ids.append(str(room.accepted(user, tradingsymbol=("INFY", "ITC")[number % 2])))
        room.clock.advance(1)
    room.fill(ids[0], 150_000)
    first = room.get(user, "/orders", limit=2).json()
    second = room.get(user, "/orders", limit=2, cursor=first["next_cursor"]).json()
    third = room.get(user, "/orders", limit=2, cursor=second["next_cursor"]).json()
    listed = [item["order_id"] for page in (first, second, third) for item in page["items"]]
    assert listed == ids[::-1]
    assert third["next_cursor"] is None
    assert [item["order_id"] for item in room.get(user, "/orders", status="executed").json()["items"]] == [ids[0]]
    assert len(room.get(user, "/orders", symbol="ITC").json()["items"]) == 2
    assert len(room.get(user, "/orders", side="SELL").json()["items"]) == 0
    assert len(room.get(user, "/orders", **{"from": "2026-11-23", "to": "2026-11-23"}).json()["items"]) == 5
    assert len(room.get(user, "/orders", **{"from": "2026-11-24"}).json()["items"]) == 0
    for bad in ({"status": "maybe"}, {"cursor": "AAAA"}, {"cursor": "é"}, {"limit": 501}, {"limit": 0}, {"from": "x"}):
        assert room.get(user, "/orders", **bad).status_code == 422, bad
    assert room.get(user, "/orders/not-a-uuid").status_code == 422


def test_batch_is_all_or_nothing_or_judged_one_by_one(room: Any) -> None:
    user = room.customer()
    room.give(user, "10000")
    orders = [
        {"tradingsymbol": "INFY", "side": "BUY", "quantity": 4},
        {"tradingsymbol": "INFY", "side": "BUY", "quantity": 0},
        {"tradingsymbol": "TCS", "side": "BUY", "quantity": 2},
        {"tradingsymbol": "ITC", "side": "BUY", "quantity": 1},
    ]
    refused = room.post(user, "/orders/batch", {"orders": orders})
    assert (refused.status_code, refused.json()["code"]) == (422, "batch_refused")
    assert [(error["index"], error["code"]) for error in refused.json()["errors"]] == [(1, "quantity_invalid")]
    del orders[1]
    refused = room.post(user, "/orders/batch", {"orders": orders})
    assert [(error["index"], error["code"]) for error in refused.json()["errors"]] == [(1, "insufficient_funds")]
    assert room.count("user_order") == 0
    assert room.funds(user)["blocked"] == "0.00"

    single = room.post(user, "/orders/batch", {"orders": orders, "atomic": False})
    assert single.status_code == 202
    assert [result["status"] for result in single.json()["results"]] == ["accepted", "refused", "accepted"]
    assert single.json()["results"][1]["code"] == "insufficient_funds"
    assert room.count("user_order") == 2
    room.sound()

    assert room.post(user, "/orders/batch", {"orders": []}).status_code == 422
    assert room.post(user, "/orders/batch", {"orders": [orders[0]] * 1_001}).status_code == 422
    newcomer = room.customer(kyc="none")
    assert room.post(newcomer, "/orders/batch", {"orders": orders}).json()["code"] == "kyc_required"


def test_portfolios_are_opened_named_and_deleted_when_empty(room: Any) -> None:
    room.use(portfolios_max=3)
    user = room.customer()
    created = room.client.post("/api/v1/portfolios", json={"name": " Growth "}, headers=user.headers)
    assert (created.status_code, created.json()["name"]) == (201, "Growth")
    portfolio_id = created.json()["portfolio_id"]
    again = room.client.post("/api/v1/portfolios", json={"name": "growth"}, headers=user.headers)
    assert (again.status_code, again.json()["code"]) == (409, "portfolio_name_taken")
    assert [item["name"] for item in room.get(user, "/portfolios").json()] == ["Default", "Growth"]
    third = room.client.post("/api/v1/portfolios", json={"name": "Third"}, headers=user.headers)
    limit = room.client.post("/api/v1/portfolios", json={"name": "Fourth"}, headers=user.headers)
    assert (third.status_code, limit.json()["code"]) == (201, "portfolio_limit")
    path = f"/api/v1/portfolios/{portfolio_id}"
    renamed = room.client.put(path, json={"name": "Value", "description": "cheap"}, headers=user.headers)
    assert (renamed.json()["name"], renamed.json()["description"]) == ("Value", "cheap")
    assert room.client.put(path, json={"name": "THIRD"}, headers=user.headers).status_code == 409
    assert room.client.put(path, json={"name": "  "}, headers=user.headers).status_code == 422

    room.post(user, "/funds/topup", {"amount": "2000", "portfolio_id": portfolio_id})
    full = room.client.delete(path, headers=user.headers)
    assert (full.status_code, full.json()["code"]) == (409, "portfolio_not_empty")
    order = room.order(user, portfolio_id=portfolio_id, tradingsymbol="ITC", quantity=2)
    assert order.json()["portfolio_id"] == portfolio_id
    assert room.order(user, tradingsymbol="ITC").json()["code"] == "insufficient_funds"
    room.tell(room.closed(order.json()["order_id"], "CANCELLED", 0, 0))
    body = {"user_id": str(user.user_id), "portfolio_id": portfolio_id, "amount": "2000", "reason": "give back"}
    assert room.post(room.customer(roles=("admin",)), "/admin/funds/withdraw", body).status_code == 201
    assert room.client.delete(path, headers=user.headers).status_code == 204
    assert room.get(user, f"/portfolios/{portfolio_id}").status_code == 404
    default = room.get(user, "/portfolios").json()[0]["portfolio_id"]
    assert room.client.delete(f"/api/v1/portfolios/{default}", headers=user.headers).json()["code"] == (
        "default_portfolio"
    )
    room.sound()


def test_money_comes_in_and_goes_out_within_its_limits(room: Any) -> None:
    user, admin = room.customer(), room.customer(roles=("admin",))
    assert room.post(user, "/funds/topup", {"amount": "1000000"}).status_code == 201
    assert room.post(user, "/funds/topup", {"amount": "1000000.01"}).json()["code"] == "topup_limit"
    for bad in ("0", "-5", "5.001", "1e5", "", 5, None):
        assert room.post(user, "/funds/topup", {"amount": bad}).status_code == 422, bad
    assert room.funds(user)["available"] == "1000000.00"
    room.accepted(user, quantity=100)
    free = room.funds(user)["available"]
    body = {"user_id": str(user.user_id), "amount": "999999", "reason": "payout"}
    refused = room.post(admin, "/admin/funds/withdraw", body)
    assert (refused.json()["code"], refused.json()["available"]) == ("insufficient_funds", free)
    assert room.post(admin, "/admin/funds/withdraw", {**body, "amount": free}).status_code == 201
    assert room.funds(user)["available"] == "0.00"
    assert room.post(admin, "/admin/funds/deposit", {**body, "reason": "x"}).status_code == 422
    key = uuid4().hex
    deposit = {**body, "amount": "10.50", "reason": "cheque 17"}
    first, second = (room.post(admin, "/admin/funds/deposit", deposit, key) for _ in range(2))
    assert first.content == second.content
    assert second.headers["Idempotency-Replayed"] == "true"
    assert room.funds(user)["available"] == "10.50"
    assert [event["kind"] for event in room.events(CashMoved)] == ["TOPUP", "WITHDRAWAL", "DEPOSIT"]
    room.use(trading_mode="live")
    assert room.post(user, "/funds/topup", {"amount": "5"}).json()["code"] == "topup_not_available"
    room.sound()


def test_initial_paper_cash_is_given_once_even_under_concurrency(room: Any) -> None:
    room.use(initial_paper_cash_rupees=100_000)
    user = room.customer()
    answers = room.at_once(12, lambda i: room.order(user) if i % 2 else room.get(user, "/funds"), threads=12)
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert room.funds(user)["cash"] == "100000.00"
    assert len(room.events(CashMoved)) == 1
    room.sound()


def test_transactions_and_statement_tell_the_same_story(room: Any) -> None:
    user = room.customer()
    room.give(user, "20000")
    room.next_day()
    order_id = room.accepted(user, quantity=2)
    room.fill(order_id, 150_000)
    charges = room.row(order_id).charges_paise
    rows = room.get(user, "/transactions").json()["items"]
    assert [(row["type"], row["amount"], row["quantity"]) for row in rows] == [
        ("BUY", None, 2),
        ("CHARGES", f"-{charges / 100:.2f}", None),
        ("BUY", "-3000.00", None),
        ("DEPOSIT", "20000.00", None),
    ]
    assert rows[0]["instrument"] == "NSE:INFY"
    with_holds = room.get(user, "/transactions", holds=True).json()["items"]
    assert [row["type"] for row in with_holds].count("HOLD") == 1
    paged, cursor = [], None
    while True:
        page = room.get(user, "/transactions", limit=1, **({"cursor": cursor} if cursor else {})).json()
        paged += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert paged == rows
    assert room.get(user, "/transactions", cursor="x").status_code == 422

    statement = room.get(user, "/statement", **{"from": "2026-11-24", "to": "2026-11-24"}).json()
    assert statement["opening_balance"] == "20000.00"
    assert [entry["amount"] for entry in statement["entries"]] == ["-3000.00", f"-{charges / 100:.2f}"]
    assert statement["entries"][0]["particulars"] == "Shares bought: NSE:INFY"
    assert statement["closing_balance"] == room.funds(user)["cash"]
    csv = room.client.get("/api/v1/statement", headers={**user.headers, "Accept": "text/csv"})
    assert csv.headers["content-type"].startswith("text/csv")
    assert csv.text.splitlines()[-1].endswith(room.funds(user)["cash"])
    for bad in ({"from": "2026-11-25", "to": "2026-11-24"}, {"from": "2020-01-01", "to": "2026-11-24"}):
        assert room.get(user, "/statement", **bad).json()["code"] == "period_invalid"


def test_holdings_positions_and_portfolio_value_follow_the_market(room: Any) -> None:
    user = room.customer()
    room.bought(user, "INFY", 10, 150_000)
    room.market.shares["NSE", "INFY"] = 165_000
    holdings = room.get(user, "/holdings").json()
    assert (holdings["items"][0]["pnl"], holdings["items"][0]["pnl_percent"]) == ("1500.00", "10.00")
    assert (holdings["total"]["value"], holdings["total"]["unpriced"]) == ("16500.00", 0)
    position = room.get(user, "/positions").json()
    assert (position["items"][0]["quantity"], position["pnl"], position["realised"]) == (10, "1500.00", "0.00")
    funds = room.funds(user)
    detail = room.get(user, f"/portfolios/{funds['portfolio_id']}").json()
    assert float(detail["value"]) == pytest.approx(float(funds["cash"]) + 16_500)
    del room.market.shares["NSE", "INFY"]
    unpriced = room.get(user, "/holdings").json()
    assert (unpriced["items"][0]["value"], unpriced["total"]["value"], unpriced["total"]["unpriced"]) == (None, None, 1)
    assert room.get(user, f"/portfolios/{funds['portfolio_id']}").json()["value"] is None


def test_charges_are_estimated_by_the_schedule(room: Any) -> None:
    user = room.customer()
    path = "/api/v1/charges/estimate"
    body = {"side": "BUY", "quantity": 10, "price": "1400"}
    answer = room.client.post(path, json=body, headers=user.headers)
    assert (answer.status_code, answer.json()["total"], answer.json()["stt"]) == (200, "16.62", "14.00")
    old = room.client.post(path, json={**body, "trade_date": "1999-01-01"}, headers=user.headers)
    assert (old.status_code, old.json()["code"]) == (422, "charges_unknown")
    assert room.client.post(path, json={**body, "quantity": 0}, headers=user.headers).status_code == 422


def test_operators_see_all_orders_and_the_proof_of_the_ledger(room: Any) -> None:
    one, two, ops = room.customer(), room.customer(), room.customer(roles=("ops",))
    for user in (one, two):
        room.give(user, "5000")
        room.accepted(user)
    page = room.get(ops, "/admin/orders").json()
    assert {item["user_id"] for item in page["items"]} == {str(one.user_id), str(two.user_id)}
    assert page["counts"]["ACCEPTED"] == 2
    assert page["counts"]["FILLED"] == 0
    assert len(room.get(ops, "/admin/orders", user_id=str(one.user_id)).json()["items"]) == 1
    proof = room.get(ops, "/admin/ledger/check").json()
    assert proof["ok"] is True
    assert proof["figures"]["orders"] == 2
    assert set(proof["problems"]) == {
        "asset_sums_to_zero", "balance_is_replay", "user_not_negative", "hold_has_live_order", "shares_equal_lots",
        "orders_equal_allocations",
    }  # fmt: skip


def test_health_tells_whether_migrations_are_at_head(room: Any) -> None:
    assert client_for(room.client.app).get("/health").json() == {"status": "ok"}
    assert room.client.get("/health/ready").status_code == 200
