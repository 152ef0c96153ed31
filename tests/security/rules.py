"""Who may call what: one rule for every route of every room, with a request that a permitted caller succeeds with.

The matrix is generated from the routes themselves; a route without a rule here fails it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any
from uuid import uuid4

from api_gateway import routing
from common.clock import trading_date
from tests.security import people
from tests.security.house import API_SECRET, new_email
from tests.security.people import Person
from trade_executor import breaks
from trade_executor.postback import checksum
from trade_executor.routes_broker import login_mark
from trade_executor.testing import ACCOUNT

Make = Callable[[Person], Any]
V1 = "/api/v1"
STATEMENT = "The money in this account is my own; I do not trade with money of third parties."
SMALLCASE = ("smallcase-service",)
MARKET_READERS = ("portfolio-service", "smallcase-service", "trade-executor")


class Access(Enum):
    """Who a route is for."""

    PUBLIC = "anybody"
    USER = "whoever is signed in; sees nothing but what is everybody's or his own"
    OWN = "the owner of the object in the path; for everybody else it does not exist"
    OPS = "roles ops and admin"
    ADMIN = "role admin"
    SERVICE = "named rooms, never through the gateway"


@dataclass(frozen=True)
class Rule:
    """Access to one route and a good request. `path`, `body` and `query` are made for the person who owns the things;
    `fresh` makes the object first where the request uses it up; `spends`: the caller's session or account is used up."""

    access: Access
    status: int = 200
    body: Make | None = None
    path: Make | None = None
    query: Make | None = None
    fresh: Make | None = None
    spends: bool = False
    callers: tuple[str, ...] = ()
    statuses: Mapping[str, int] = field(default_factory=dict)
    """What single callers get who pass the door but are refused by a rule of the business."""


def own(name: str) -> Make:
    """The path parameter of something the person owns."""
    return lambda person: {name: person.things[name]}


def _new_name(person: Person) -> str:
    return f"Name {uuid4().hex}"


def _fresh_order(person: Person) -> None:
    person.things["order_id"] = person.post("/orders/buy", people.limit_order(person.house))["order_id"]


def _fresh_portfolio(person: Person) -> None:
    person.things["portfolio_id"] = person.post("/portfolios", {"name": _new_name(person)})["portfolio_id"]


def _fresh_smallcase(person: Person) -> None:
    person.things["smallcase_id"] = person.post("/smallcases", people.basket(_new_name(person)))["smallcase_id"]


def _fresh_published(person: Person) -> None:
    body = {**people.basket(_new_name(person)), "visibility": "published"}
    person.things["smallcase_id"] = person.post("/smallcases", body)["smallcase_id"]


def _fresh_trade(person: Person) -> None:
    _switch("ACTIVE")(person)
    person.things["trade_id"] = people.buy_shares(person, 1)


def _fresh_notification(person: Person) -> None:
    person.post("/funds/topup", {"amount": "1.00"})
    person.house.settle()
    person.things["notification_id"] = person.get("/notifications")["items"][0]["notification_id"]


def _finish_jobs(person: Person) -> None:
    people.finish_analytics_jobs(person.house)


def _fresh_report(person: Person) -> None:
    person.things["report_id"] = people.ask_report(person)
    _finish_jobs(person)


def _fresh_import(person: Person) -> None:
    person.things["import_id"] = people.ask_import(person)
    _finish_jobs(person)
    person.things["imported_id"] = person.get("/analytics/portfolios")["items"][0]["portfolio_id"]


def _fresh_contact(person: Person) -> None:
    person.things["contact_id"] = person.post("/notifications/channels", people.device())["contact_id"]


def _fresh_alert(person: Person) -> None:
    person.things["alert_id"] = person.post("/notifications/alerts", people.PRICE_ALERT)["alert_id"]


def _delivery(person: Person) -> dict[str, str]:
    [row] = person.house.rows(
        routing.NOTIFICATION, "SELECT delivery_id FROM delivery ORDER BY created_at, delivery_id LIMIT 1"
    )
    return {"delivery_id": str(row["delivery_id"])}


def _fresh_target(person: Person) -> None:
    person.things["target_id"] = str(people.new_user(person.house).user_id)


def _fresh_applicant(person: Person) -> None:
    applicant = people.new_user(person.house)
    people.hand_in_kyc(applicant)
    person.things["target_id"] = str(applicant.user_id)


def _target(person: Person) -> dict[str, str]:
    return {"user_id": person.things.get("target_id", person.things["user_id"])}


def _fresh_break(person: Person) -> None:
    db = person.house.databases[routing.EXECUTOR]
    with db.transaction() as session:
        breaks.open_break(session, ACCOUNT, breaks.FOREIGN_ORDER, uuid4().hex, "placed by hand")
    [row] = person.house.rows(routing.EXECUTOR, "SELECT break_id FROM recon_break ORDER BY opened_at DESC LIMIT 1")
    person.things["break_id"] = str(row["break_id"])


def _fresh_run(person: Person) -> None:
    person.things["run_id"] = person.post("/ops/reconciliation")["run_id"]


def _fresh_investment(person: Person) -> None:
    person.things |= people.invest(person)


def _fresh_update(person: Person) -> None:
    _fresh_investment(person)
    constituents = [{"tradingsymbol": "INFY", "weight_bps": 2_000}, {"tradingsymbol": "ITC", "weight_bps": 8_000}]
    smallcase_id = person.get(f"/investments/{person.things['investment_id']}")["smallcase_id"]
    body = {**people.basket(_new_name(person)), "constituents": constituents, "version": 1, "reason": "a test"}
    person.call("PUT", f"/smallcases/{smallcase_id}", body)


def _fresh_closed(person: Person) -> None:
    receipt = people.invest(person)
    people.leave(person, receipt)
    person.things["investment_id"] = receipt["investment_id"]


def _fresh_broken(person: Person) -> None:
    simulator = person.house.simulator
    simulator.call(lambda engine: engine.control.refuse_symbol("NSE:ITC", "not today"))
    try:
        _fresh_investment(person)
    finally:
        simulator.call(lambda engine: engine.control.refuse_symbol("NSE:ITC", None))


def _fresh_sip(person: Person) -> None:
    person.things["sip_id"] = people.make_sip(person)


def _sip(person: Person) -> dict[str, Any]:
    smallcase_id = person.post("/smallcases", people.basket(_new_name(person)))["smallcase_id"]
    return {"smallcase_id": smallcase_id, "amount": "6000", "frequency": "WEEKLY", "day": 1}


def _switch(state: str) -> Make:
    statement = (
        "UPDATE control SET trading_state = :state, resume_requested_by = NULL, resume_requested_at = NULL,"
        " resume_reason = NULL"
    )
    return lambda person: person.house.run(routing.EXECUTOR, statement, state=state)


def _block(person: Person) -> dict[str, str]:
    [row] = person.house.rows(routing.EXECUTOR, "SELECT block_id FROM block ORDER BY created_at LIMIT 1")
    return {"block_id": str(row["block_id"])}


def _postback(person: Person) -> dict[str, str]:
    order_id, timestamp = "220303000308932", "2026-11-23 09:24:25"
    return {
        "order_id": order_id,
        "order_timestamp": timestamp,
        "checksum": checksum(order_id, timestamp, API_SECRET),
        "status": "COMPLETE",
    }


def _callback(person: Person) -> dict[str, str]:
    house = person.house
    mark = login_mark(house.desk.settings, house.clock, str(person.user_id))
    return {"request_token": house.request_token(), "state": mark}


def _mail_token(purpose: str) -> Make:
    def make(person: Person) -> str:
        user = people.new_user(person.house)
        if purpose == "reset_password":
            user.post("/auth/forgot-password", {"email": user.email})
        [row] = person.house.rows(
            routing.USER, "SELECT id FROM mail_tokens WHERE user_id = :id AND purpose = :what", id=user.user_id,
            what=purpose,
        )  # fmt: skip
        return str(person.house.sealer.mail_token(row["id"]))

    return make


def _mail_token_id(person: Person) -> dict[str, str]:
    user = people.new_user(person.house)
    [row] = person.house.rows(routing.USER, "SELECT id FROM mail_tokens WHERE user_id = :id", id=user.user_id)
    return {"token_id": str(row["id"])}


def _session(person: Person) -> dict[str, str]:
    [row] = person.house.rows(
        routing.USER,
        "SELECT id FROM auth_sessions WHERE user_id = :id ORDER BY authenticated_at LIMIT 1",
        id=person.user_id,
    )
    return {"session_id": str(row["id"])}


def _set_up_totp(person: Person) -> None:
    if person.totp_secret is None:
        person.totp_secret = person.post("/auth/totp/setup")["secret"]


def _enable_totp(person: Person) -> None:
    if person.totp_secret is None:
        person.enable_totp()


def _override(person: Person) -> dict[str, str]:
    # A weekday far from the other days that the tests look at.
    return {"date": "2027-03-04", "kind": "holiday", "reason": "a test"}


def _fresh_override(person: Person) -> None:
    headers = {"date": "2027-03-04", "kind": "holiday", "reason": "a test"}
    person.call("PUT", "/calendar/overrides", headers)


def _corporate_action(person: Person) -> dict[str, Any]:
    share = {"exchange": "NSE", "tradingsymbol": "INFY", "ex_date": "2027-03-04", "kind": "BONUS"}
    return {**share, "new_shares": 2, "old_shares": 1, "reason": "a test"}


def _fresh_corporate_action(person: Person) -> None:
    person.things["action_id"] = person.post("/market/corporate-actions", _corporate_action(person))["action_id"]


def _action(person: Person) -> dict[str, str]:
    return {"action_id": person.things.get("action_id", str(uuid4()))}


def _candle_days(person: Person) -> dict[str, str]:
    today = trading_date(person.house.clock.now()).isoformat()
    return {"i": "NSE:INFY", "from": today, "to": today}


def _past_days(person: Person) -> dict[str, str]:
    yesterday = (trading_date(person.house.clock.now()) - timedelta(days=1)).isoformat()
    return {"i": "NSE:INFY", "from": yesterday, "to": yesterday}


def _named(**given: Any) -> Make:
    return lambda person: given


def _deposit(person: Person) -> dict[str, str]:
    return {"user_id": person.things["user_id"], "amount": "1.00", "reason": "test money"}


def _orders_for(person: Person) -> dict[str, Any]:
    return {"user_id": person.things["user_id"], "orders": [{**people.limit_order(person.house), "side": "BUY"}]}


def _basket_of_orders(person: Person) -> dict[str, Any]:
    order = {"order_id": str(uuid4()), "exchange": "NSE", "tradingsymbol": "INFY", "side": "BUY", "quantity": 1}
    return {"submission_id": str(uuid4()), "user_id": str(person.user_id), "kyc": "approved", "orders": [order]}


def _estimate(person: Person) -> dict[str, Any]:
    order = {"exchange": "NSE", "side": "BUY", "quantity": 1, "price_paise": 100_00}
    return {"user_id": str(person.user_id), "orders": [order]}


def _change_password(person: Person) -> dict[str, str]:
    return {"current_password": person.password, "new_password": uuid4().hex}


PUBLIC, USER, OWN, OPS, ADMIN, SERVICE = Access
REASON = _named(reason="a reason of the tests")
SHOWN = _named(version=1, reason="a reason of the tests")
INFY = {"exchange": "NSE", "symbol": "INFY", "tradingsymbol": "INFY"}
SHARE = {"path": _named(**INFY)}
RATES = {"query": _named(i="NSE:INFY")}
ALREADY_ENABLED = {"admin": 409, "ops": 409}

RULES: dict[tuple[str, str], Rule] = {
    # --- user-service ---
    ("POST", f"{V1}/auth/register"): Rule(
        PUBLIC, 201, body=lambda p: {"email": new_email(), "password": people.PASSWORD, "full_name": "New"}
    ),
    ("POST", f"{V1}/auth/login"): Rule(
        PUBLIC, body=lambda p: {"email": people.new_user(p.house).email, "password": people.PASSWORD}
    ),
    ("POST", f"{V1}/auth/refresh"): Rule(
        PUBLIC, body=lambda p: {"refresh_token": people.new_user(p.house).tokens["refresh_token"]}
    ),
    ("POST", f"{V1}/auth/logout"): Rule(USER, 204, spends=True),
    ("POST", f"{V1}/auth/logout-all"): Rule(USER, 204, spends=True),
    ("GET", f"{V1}/auth/me"): Rule(USER),
    ("POST", f"{V1}/auth/validate-token"): Rule(
        PUBLIC, body=lambda p: {"token": people.new_user(p.house).tokens["access_token"]}
    ),
    ("POST", f"{V1}/auth/change-password"): Rule(USER, 204, body=_change_password, spends=True),
    ("POST", f"{V1}/auth/forgot-password"): Rule(PUBLIC, 202, body=lambda p: {"email": new_email()}),
    ("POST", f"{V1}/auth/reset-password"): Rule(
        PUBLIC, 204, body=lambda p: {"token": _mail_token("reset_password")(p), "new_password": uuid4().hex}
    ),
    ("POST", f"{V1}/auth/totp/setup"): Rule(USER, spends=True, statuses=ALREADY_ENABLED),
    ("POST", f"{V1}/auth/totp/confirm"): Rule(
        USER, 204, fresh=_set_up_totp, body=lambda p: {"code": p.code()}, spends=True, statuses=ALREADY_ENABLED
    ),
    ("POST", f"{V1}/auth/totp/disable"): Rule(
        USER, 204, fresh=_enable_totp, body=lambda p: {"password": p.password, "code": p.code(1)}, spends=True
    ),
    ("GET", f"{V1}/users/profile"): Rule(USER),
    ("PUT", f"{V1}/users/profile"): Rule(USER, body=lambda p: {"full_name": p.name}),
    ("GET", f"{V1}/users/stats"): Rule(USER),
    ("POST", f"{V1}/users/verify-email"): Rule(PUBLIC, 204, body=lambda p: {"token": _mail_token("verify_email")(p)}),
    ("POST", f"{V1}/users/verify-email/resend"): Rule(USER, 202),
    ("DELETE", f"{V1}/users/account"): Rule(USER, 204, body=lambda p: {"password": p.password}, spends=True),
    ("POST", f"{V1}/kyc"): Rule(USER, 201, body=people.kyc_body, spends=True),
    ("GET", f"{V1}/kyc"): Rule(USER),
    ("GET", f"{V1}/admin/users"): Rule(ADMIN),
    ("GET", f"{V1}/admin/users/{{user_id}}"): Rule(ADMIN, path=own("user_id")),
    ("GET", f"{V1}/admin/users/{{user_id}}/actions"): Rule(ADMIN, path=own("user_id")),
    ("PUT", f"{V1}/admin/users/{{user_id}}/kyc-status"): Rule(
        ADMIN, path=_target, body=_named(status="approved"), fresh=_fresh_applicant
    ),
    ("PUT", f"{V1}/admin/users/{{user_id}}/status"): Rule(
        ADMIN, path=_target, body=_named(status="suspended", reason="a test"), fresh=_fresh_target
    ),
    ("PUT", f"{V1}/admin/users/{{user_id}}/roles"): Rule(
        ADMIN, path=_target, body=_named(roles=["user", "ops"]), fresh=_fresh_target
    ),
    ("GET", f"{V1}/security/metrics"): Rule(ADMIN),
    ("GET", routing.JWKS_PATH): Rule(PUBLIC),
    ("GET", "/internal/v1/sessions/{session_id}"): Rule(SERVICE, path=_session, callers=("api-gateway",)),
    ("GET", "/internal/v1/mail-tokens/{token_id}"): Rule(
        SERVICE, path=_mail_token_id, callers=("notification-service",)
    ),
    ("GET", "/internal/v1/contacts"): Rule(
        SERVICE, query=lambda p: {"user_id": str(p.user_id)}, callers=("notification-service",)
    ),
    ("GET", "/internal/v1/role-holders"): Rule(SERVICE, query=_named(role="admin"), callers=("notification-service",)),
    ("GET", "/internal/v1/standing/{user_id}"): Rule(
        SERVICE, path=own("user_id"), callers=("portfolio-service", "smallcase-service")
    ),
    # --- audit logs ---
    ("GET", f"{V1}/admin/audit/user-service"): Rule(ADMIN),
    ("GET", f"{V1}/admin/audit/user-service/head"): Rule(ADMIN),
    ("GET", f"{V1}/admin/audit/portfolio-service"): Rule(OPS),
    ("GET", f"{V1}/admin/audit/portfolio-service/head"): Rule(OPS),
    ("GET", f"{V1}/admin/audit/trade-executor"): Rule(OPS),
    ("GET", f"{V1}/admin/audit/trade-executor/head"): Rule(OPS),
    # --- portfolio-service ---
    ("POST", f"{V1}/orders"): Rule(USER, 202, body=lambda p: {**people.limit_order(p.house), "side": "BUY"}),
    ("POST", f"{V1}/orders/buy"): Rule(USER, 202, body=lambda p: people.limit_order(p.house)),
    ("POST", f"{V1}/orders/sell"): Rule(USER, 202, body=_named(tradingsymbol="INFY", quantity=1)),
    ("POST", f"{V1}/orders/batch"): Rule(
        USER, 202, body=lambda p: {"orders": [{**people.limit_order(p.house), "side": "BUY"}] * 2}
    ),
    ("GET", f"{V1}/orders"): Rule(USER),
    ("GET", f"{V1}/orders/{{order_id}}"): Rule(OWN, path=own("order_id")),
    ("PUT", f"{V1}/orders/{{order_id}}"): Rule(
        OWN, 202, path=own("order_id"), body=_named(quantity=2), fresh=_fresh_order
    ),
    ("DELETE", f"{V1}/orders/{{order_id}}"): Rule(OWN, 202, path=own("order_id"), fresh=_fresh_order),
    ("GET", f"{V1}/trades"): Rule(USER),
    ("POST", f"{V1}/trades/{{trade_id}}/exit"): Rule(OWN, 202, path=own("trade_id"), body=_named(), fresh=_fresh_trade),
    ("GET", f"{V1}/portfolios"): Rule(USER),
    ("POST", f"{V1}/portfolios"): Rule(USER, 201, body=lambda p: {"name": _new_name(p)}),
    ("GET", f"{V1}/portfolios/{{portfolio_id}}"): Rule(OWN, path=own("portfolio_id"), fresh=_fresh_portfolio),
    ("PUT", f"{V1}/portfolios/{{portfolio_id}}"): Rule(
        OWN, path=own("portfolio_id"), body=lambda p: {"name": _new_name(p)}, fresh=_fresh_portfolio
    ),
    ("DELETE", f"{V1}/portfolios/{{portfolio_id}}"): Rule(OWN, 204, path=own("portfolio_id"), fresh=_fresh_portfolio),
    ("GET", f"{V1}/portfolios/{{portfolio_id}}/holdings"): Rule(OWN, path=own("portfolio_id"), fresh=_fresh_portfolio),
    ("GET", f"{V1}/portfolios/{{portfolio_id}}/positions"): Rule(OWN, path=own("portfolio_id"), fresh=_fresh_portfolio),
    ("GET", f"{V1}/portfolios/{{portfolio_id}}/transactions"): Rule(
        OWN, path=own("portfolio_id"), fresh=_fresh_portfolio
    ),
    ("GET", f"{V1}/holdings"): Rule(USER),
    ("GET", f"{V1}/positions"): Rule(USER),
    ("GET", f"{V1}/funds"): Rule(USER),
    ("POST", f"{V1}/funds/topup"): Rule(USER, 201, body=_named(amount="1.00")),
    ("GET", f"{V1}/transactions"): Rule(USER),
    ("GET", f"{V1}/statement"): Rule(USER),
    ("POST", f"{V1}/charges/estimate"): Rule(USER, body=_named(side="BUY", quantity=1, price="100.00")),
    ("POST", f"{V1}/admin/funds/deposit"): Rule(ADMIN, 201, body=_deposit),
    ("POST", f"{V1}/admin/funds/withdraw"): Rule(ADMIN, 201, body=_deposit),
    ("GET", f"{V1}/admin/orders"): Rule(OPS),
    ("POST", f"{V1}/admin/orders"): Rule(ADMIN, 202, body=lambda p: {**_orders_for(p), "reason": "a test"}),
    ("POST", f"{V1}/admin/orders/preview"): Rule(ADMIN, body=lambda p: _orders_for(p)),
    ("GET", f"{V1}/admin/ledger/check"): Rule(OPS),
    ("GET", "/internal/v1/ledger/totals"): Rule(SERVICE, callers=("trade-executor",)),
    ("POST", "/internal/v1/baskets"): Rule(SERVICE, callers=SMALLCASE, body=_basket_of_orders),
    ("POST", "/internal/v1/baskets/estimate"): Rule(SERVICE, callers=SMALLCASE, body=_estimate),
    ("GET", "/internal/v1/orders"): Rule(SERVICE, callers=SMALLCASE, query=lambda p: {"id": p.things["order_id"]}),
    # --- smallcase-service ---
    ("POST", f"{V1}/smallcases"): Rule(USER, 201, body=lambda p: people.basket(_new_name(p))),
    ("GET", f"{V1}/smallcases"): Rule(USER),
    ("GET", f"{V1}/smallcases/{{smallcase_id}}"): Rule(OWN, path=own("smallcase_id")),
    ("PUT", f"{V1}/smallcases/{{smallcase_id}}"): Rule(
        OWN,
        path=own("smallcase_id"),
        fresh=_fresh_smallcase,
        body=lambda p: {**people.basket(_new_name(p)), "version": 1, "reason": "a test"},
    ),
    **{
        ("GET", f"{V1}/smallcases/{{smallcase_id}}/{part}"): Rule(OWN, path=own("smallcase_id"))
        for part in ("versions", "composition", "performance", "history")
    },
    **{
        ("GET", f"{V1}/smallcases/{name}"): Rule(USER)
        for name in ("categories/performance", "regional", "strategies", "universes")
    },
    # Another administrator's private one does not exist; a published one may be withdrawn by any of them.
    ("POST", f"{V1}/smallcases/{{smallcase_id}}/publish"): Rule(
        ADMIN, 404, path=own("smallcase_id"), fresh=_fresh_smallcase, body=SHOWN
    ),
    ("POST", f"{V1}/smallcases/{{smallcase_id}}/unpublish"): Rule(
        ADMIN, path=own("smallcase_id"), fresh=_fresh_published, body=SHOWN
    ),
    # Nobody has candles here, so the last question is answered: they are too few.
    ("POST", f"{V1}/smallcases/suggestions"): Rule(USER, 422, body=_named(universe="banking", budget="1000.00")),
    ("POST", f"{V1}/smallcases/{{smallcase_id}}/rebalance/suggestions"): Rule(
        OWN, path=own("smallcase_id"), body=_named(strategy="equal")
    ),
    ("POST", f"{V1}/smallcases/{{smallcase_id}}/rebalance/apply"): Rule(
        OWN,
        201,
        path=own("smallcase_id"),
        fresh=_fresh_smallcase,
        body=lambda p: {
            "version": 1,
            "strategy": "equal",
            "reason": "a test",
            "constituents": people.basket()["constituents"],
        },
    ),
    ("GET", f"{V1}/smallcases/{{smallcase_id}}/plan"): Rule(
        OWN, path=own("smallcase_id"), query=_named(amount="6000.00")
    ),
    ("POST", f"{V1}/smallcases/{{smallcase_id}}/invest"): Rule(
        OWN, 202, path=own("smallcase_id"), fresh=_fresh_smallcase, body=_named(amount="6000.00")
    ),
    **{
        ("GET", f"{V1}{path}"): Rule(USER)
        for path in (
            "/investments",
            "/investments/orders",
            "/smallcases/user/investments",
            "/smallcases/user/positions/closed",
            "/smallcases/user/positions/history",
            "/sips",
            "/sips/due",
        )
    },
    **{
        ("POST", f"{V1}/smallcases/bulk/{word}"): Rule(USER, 202, body=lambda p: {"investment_ids": [str(uuid4())]})
        for word in ("rebalance", "close")
    },
    ("GET", f"{V1}/investments/{{investment_id}}"): Rule(OWN, path=own("investment_id")),
    ("GET", f"{V1}/investments/{{investment_id}}/orders"): Rule(OWN, path=own("investment_id")),
    ("GET", f"{V1}/investments/{{investment_id}}/performance"): Rule(OWN, path=own("investment_id")),
    ("PUT", f"{V1}/investments/{{investment_id}}/auto-rebalance"): Rule(
        OWN, path=own("investment_id"), body=_named(auto_rebalance=True)
    ),
    ("GET", f"{V1}/investments/orders/{{basket_order_id}}"): Rule(OWN, path=own("basket_order_id")),
    ("GET", f"{V1}/investments/{{investment_id}}/plan"): Rule(
        OWN, path=own("investment_id"), query=_named(amount="6000.00"), fresh=_fresh_investment
    ),
    **{
        ("GET", f"{V1}{path}"): Rule(OWN, path=own("investment_id"), fresh=_fresh_update)
        for path in (
            "/investments/{investment_id}/rebalance",
            "/investments/{investment_id}/exit",
            "/smallcases/investments/{investment_id}/closure-preview",
        )
    },
    **{
        ("POST", f"{V1}/investments/{{investment_id}}/{word}"): Rule(
            OWN, status, path=own("investment_id"), fresh=fresh, body=_named(**body)
        )
        for word, status, fresh, body in (
            ("invest-more", 202, _fresh_investment, {"amount": "6000.00"}),
            ("rebalance", 202, _fresh_update, {}),
            ("customise", 202, _fresh_investment, {"changes": [{"tradingsymbol": "ITC", "units": 1}]}),
            ("partial-exit", 202, _fresh_investment, {"fraction_bps": 5_000}),
            ("exit", 202, _fresh_investment, {}),
            ("repair", 202, _fresh_broken, {}),
            ("archive", 200, _fresh_closed, {}),
        )
    },
    ("POST", f"{V1}/smallcases/investments/{{investment_id}}/close"): Rule(
        OWN, 202, path=own("investment_id"), fresh=_fresh_investment, body=_named()
    ),
    ("POST", f"{V1}/sips"): Rule(USER, 201, body=_sip),
    ("GET", f"{V1}/sips/{{sip_id}}"): Rule(OWN, path=own("sip_id")),
    ("POST", f"{V1}/sips/{{sip_id}}/confirm"): Rule(OWN, 202, path=own("sip_id"), fresh=_fresh_sip, body=_named()),
    **{
        ("POST", f"{V1}/sips/{{sip_id}}/{word}"): Rule(OWN, path=own("sip_id"), fresh=_fresh_sip)
        for word in ("skip", "pause", "resume", "stop")
    },
    # --- notification-service ---
    ("GET", f"{V1}/notifications"): Rule(USER),
    ("GET", f"{V1}/notifications/unread-count"): Rule(USER),
    ("PUT", f"{V1}/notifications/read-all"): Rule(USER),
    ("PUT", f"{V1}/notifications/{{notification_id}}/read"): Rule(
        OWN, path=own("notification_id"), fresh=_fresh_notification
    ),
    ("GET", f"{V1}/notifications/{{notification_id}}"): Rule(
        OWN, path=own("notification_id"), fresh=_fresh_notification
    ),
    ("GET", f"{V1}/notifications/preferences"): Rule(USER),
    ("PUT", f"{V1}/notifications/preferences"): Rule(USER, body=_named(channels={"order_filled": {"sms": True}})),
    ("GET", f"{V1}/notifications/channels"): Rule(USER),
    ("POST", f"{V1}/notifications/channels"): Rule(USER, 201, body=lambda p: people.device()),
    ("PUT", f"{V1}/notifications/channels/{{contact_id}}/code"): Rule(
        OWN, 202, path=own("contact_id"), fresh=_fresh_contact
    ),
    ("PUT", f"{V1}/notifications/channels/{{contact_id}}/verify"): Rule(
        OWN, 204, path=own("contact_id"), fresh=_fresh_contact, body=_named(code="123456")
    ),
    ("DELETE", f"{V1}/notifications/channels/{{contact_id}}"): Rule(
        OWN, 204, path=own("contact_id"), fresh=_fresh_contact
    ),
    ("GET", f"{V1}/notifications/alerts"): Rule(USER),
    ("POST", f"{V1}/notifications/alerts"): Rule(USER, 201, body=_named(**people.PRICE_ALERT)),
    ("GET", f"{V1}/notifications/alerts/{{alert_id}}"): Rule(OWN, path=own("alert_id"), fresh=_fresh_alert),
    ("DELETE", f"{V1}/notifications/alerts/{{alert_id}}"): Rule(OWN, 204, path=own("alert_id"), fresh=_fresh_alert),
    ("POST", f"{V1}/notifications/callbacks/twilio"): Rule(PUBLIC, 403, query=lambda p: {"delivery": str(uuid4())}),
    ("GET", f"{V1}/admin/notifications/deliveries"): Rule(ADMIN),
    ("GET", f"{V1}/admin/notifications/deliveries/{{delivery_id}}"): Rule(ADMIN, path=_delivery),
    ("PUT", f"{V1}/admin/notifications/deliveries/{{delivery_id}}/retry"): Rule(ADMIN, 409, path=_delivery),
    ("GET", f"{V1}/admin/notifications/channels"): Rule(ADMIN),
    ("GET", f"{V1}/admin/notifications/templates"): Rule(ADMIN),
    ("GET", f"{V1}/admin/notifications/templates/{{kind}}/preview"): Rule(ADMIN, path=_named(kind="order_filled")),
    ("DELETE", f"{V1}/notifications/{{notification_id}}"): Rule(
        OWN, 204, path=own("notification_id"), fresh=_fresh_notification
    ),
    # --- analytics-service ---
    **{
        ("GET", f"{V1}/analytics{name}"): Rule(USER)
        for name in (
            "",
            "/summary",
            "/returns",
            "/performance",
            "/risk",
            "/allocation",
            "/contribution",
            "/pnl",
            "/trades",
            "/benchmark",
            "/history",
            "/page",
            "/smallcases",
            "/portfolios",
            "/reports",
            "/report-schedule",
            "/imports",
        )
    },
    ("PUT", f"{V1}/analytics/report-schedule"): Rule(USER, body=_named(daily=True)),
    ("GET", f"{V1}/analytics/platform"): Rule(OPS),
    ("POST", f"{V1}/analytics/reports"): Rule(
        USER, 202, body=_named(kind="holdings", format="csv"), fresh=_finish_jobs
    ),
    ("GET", f"{V1}/analytics/reports/{{report_id}}"): Rule(OWN, path=own("report_id"), fresh=_fresh_report),
    ("GET", f"{V1}/analytics/reports/{{report_id}}/file"): Rule(OWN, path=own("report_id"), fresh=_fresh_report),
    ("DELETE", f"{V1}/analytics/reports/{{report_id}}"): Rule(OWN, 204, path=own("report_id"), fresh=_fresh_report),
    ("POST", f"{V1}/analytics/imports"): Rule(
        USER, 202, body=lambda p: people.OLD_TRADES, query=_named(name="Elsewhere"), fresh=_finish_jobs
    ),
    ("GET", f"{V1}/analytics/imports/{{import_id}}"): Rule(OWN, path=own("import_id"), fresh=_fresh_import),
    ("GET", f"{V1}/analytics/imports/{{import_id}}/problems"): Rule(OWN, path=own("import_id"), fresh=_fresh_import),
    ("DELETE", f"{V1}/analytics/portfolios/{{portfolio_id}}"): Rule(
        OWN, 204, path=lambda p: {"portfolio_id": p.things["imported_id"]}, fresh=_fresh_import
    ),
    # --- market-data-service ---
    ("GET", f"{V1}/calendar"): Rule(USER),
    ("GET", f"{V1}/calendar/overrides"): Rule(ADMIN),
    ("PUT", f"{V1}/calendar/overrides"): Rule(ADMIN, body=_override),
    ("DELETE", f"{V1}/calendar/overrides/{{on}}"): Rule(
        ADMIN, path=_named(on="2027-03-04"), query=_named(reason="a test"), fresh=_fresh_override
    ),
    ("GET", f"{V1}/candles/{{exchange}}/{{symbol}}"): Rule(USER, **SHARE),
    ("GET", f"{V1}/market/corporate-actions"): Rule(ADMIN),
    ("GET", f"{V1}/market/corporate-actions/{{exchange}}/{{symbol}}"): Rule(USER, **SHARE),
    ("POST", f"{V1}/market/corporate-actions"): Rule(ADMIN, body=_corporate_action),
    ("DELETE", f"{V1}/market/corporate-actions/{{action_id}}"): Rule(
        ADMIN, path=_action, query=_named(reason="a test"), fresh=_fresh_corporate_action
    ),
    ("GET", f"{V1}/tokens/search"): Rule(USER, query=_named(q="INFY")),
    ("GET", f"{V1}/instruments"): Rule(USER, query=_named(symbols="NSE:INFY")),
    ("GET", f"{V1}/instruments/{{exchange}}/{{tradingsymbol}}"): Rule(USER, **SHARE),
    ("POST", f"{V1}/market/instruments/reload"): Rule(ADMIN),
    ("GET", f"{V1}/market/ltp/{{symbol}}"): Rule(USER, **SHARE),
    ("GET", f"{V1}/market/ltp"): Rule(USER, **RATES),
    ("GET", f"{V1}/market/quotes"): Rule(USER, **RATES),
    ("GET", f"{V1}/market/status"): Rule(USER),
    ("GET", "/internal/v1/instruments"): Rule(SERVICE, callers=MARKET_READERS, **RATES),
    ("GET", "/internal/v1/prices"): Rule(SERVICE, callers=MARKET_READERS, **RATES),
    ("GET", "/internal/v1/session"): Rule(SERVICE, callers=MARKET_READERS),
    ("GET", "/internal/v1/candles"): Rule(SERVICE, callers=MARKET_READERS, query=_candle_days),
    ("GET", "/internal/v1/histories"): Rule(SERVICE, callers=MARKET_READERS, query=_past_days),
    # --- trade-executor ---
    **{
        ("GET", f"{V1}/ops/{name}"): Rule(OPS)
        for name in ("accounts", "attempts", "blocks", "breaks", "control", "fills", "queue", "summary")
    },
    **{("GET", f"{V1}/ops/{name}"): Rule(OPS) for name in ("days", "house-fills", "reconciliation")},
    ("POST", f"{V1}/ops/reconciliation"): Rule(OPS),
    ("GET", f"{V1}/ops/reconciliation/{{run_id}}"): Rule(OPS, path=own("run_id"), fresh=_fresh_run),
    # No day has ended yet.
    ("GET", f"{V1}/ops/days/{{day}}"): Rule(OPS, 404, path=_named(day="2026-11-23")),
    ("GET", f"{V1}/ops/days/{{day}}/books/{{part}}"): Rule(OPS, 404, path=_named(day="2026-11-23", part="orders")),
    ("GET", f"{V1}/ops/blocks/{{block_id}}"): Rule(OPS, path=_block),
    ("POST", f"{V1}/ops/blocks/{{block_id}}/settle"): Rule(ADMIN, 409, path=_block, body=REASON),
    ("GET", f"{V1}/ops/orders/{{order_id}}"): Rule(OPS, path=lambda p: {"order_id": p.things["filled_order_id"]}),
    ("POST", f"{V1}/ops/breaks/{{break_id}}/close"): Rule(OPS, path=own("break_id"), body=REASON, fresh=_fresh_break),
    ("POST", f"{V1}/ops/control/halt"): Rule(OPS, body=REASON, fresh=_switch("ACTIVE")),
    ("POST", f"{V1}/ops/control/cancel-only"): Rule(OPS, body=REASON, fresh=_switch("ACTIVE")),
    ("POST", f"{V1}/ops/control/resume"): Rule(OPS, body=REASON, fresh=_switch("HALTED")),
    ("POST", f"{V1}/broker/postback"): Rule(PUBLIC, body=_postback),
    ("GET", f"{V1}/broker/login-url"): Rule(OPS),
    ("GET", f"{V1}/broker/callback"): Rule(PUBLIC, query=_callback),
    ("POST", f"{V1}/broker/session"): Rule(OPS, 201, body=lambda p: {"request_token": p.house.request_token()}),
    ("POST", f"{V1}/broker/attestation"): Rule(ADMIN, body=_named(statement=STATEMENT)),
    ("GET", "/internal/v1/market-data-session"): Rule(SERVICE, callers=("market-data-service",)),
}

OUTBOX_READERS: dict[str, dict[str, str]] = {
    routing.USER: {"notification-service": "KycChanged", "portfolio-service": "UserRegistered"},
    routing.PORTFOLIO: {
        "trade-executor": "OrderAccepted",
        "notification-service": "OrderUpdated",
        "analytics-service": "OrderUpdated",
        "smallcase-service": "OrderUpdated",
    },
    routing.EXECUTOR: {
        "portfolio-service": "OrderAllocated",
        "analytics-service": "OrderWorking",
        "notification-service": "TradingHalted",
    },
    routing.ANALYTICS: {"notification-service": "ReportReady"},
    routing.SMALLCASE: {"notification-service": "BasketUpdated", "analytics-service": "BasketUpdated"},
}
"""Rooms that read another room's outbox again, with a type of event each may read."""


def _outbox_page(room: str) -> Make:
    event = next(iter(OUTBOX_READERS[room].values()))
    return _named(type=event, after="2026-01-01T00:00:00+00:00")


ROOM_RULES: dict[tuple[str, str, str], Rule] = {
    key: rule
    for room, readers in OUTBOX_READERS.items()
    for key, rule in {
        (room, "GET", "/internal/v1/outbox"): Rule(SERVICE, callers=tuple(readers), query=_outbox_page(room)),
        (room, "GET", "/internal/v1/outbox/messages"): Rule(
            SERVICE, callers=tuple(readers), query=lambda p: {"id": str(uuid4())}
        ),
    }.items()
}
"""Rules of routes that several rooms have."""

PAGES = frozenset({f"{V1}/analytics/page", f"{V1}/analytics/reports/{{report_id}}/file"})
"""Routes that answer with a page of their own, whose policy lets that page's own style and script be."""

SAME_AS = {
    f"{V1}/users/register": f"{V1}/auth/register",
    f"{V1}/users/validate-token": f"{V1}/auth/validate-token",
    f"{V1}/users/change-password": f"{V1}/auth/change-password",
    f"{V1}/users/{{user_id}}/kyc-status": f"{V1}/admin/users/{{user_id}}/kyc-status",
}
"""Second names that no document lists."""

FOREIGN_IDS: dict[tuple[str, str, str], int] = {
    ("GET", f"{V1}/orders", "portfolio_id"): 200,
    ("GET", f"{V1}/trades", "portfolio_id"): 200,
    ("GET", f"{V1}/trades", "order_id"): 200,
    ("GET", f"{V1}/holdings", "portfolio_id"): 404,
    ("GET", f"{V1}/positions", "portfolio_id"): 404,
    ("GET", f"{V1}/funds", "portfolio_id"): 404,
    ("GET", f"{V1}/transactions", "portfolio_id"): 404,
    ("GET", f"{V1}/statement", "portfolio_id"): 404,
    **{
        ("GET", f"{V1}/analytics{name}", parameter): 404
        for name in (
            "",
            "/summary",
            "/returns",
            "/performance",
            "/risk",
            "/allocation",
            "/contribution",
            "/pnl",
            "/trades",
            "/benchmark",
            "/history",
            "/page",
        )
        for parameter in ("user_id", "portfolio_id")
    },
    ("GET", f"{V1}/analytics/smallcases", "user_id"): 404,
    ("GET", f"{V1}/analytics/reports", "cursor"): 200,
    ("GET", f"{V1}/analytics/imports", "cursor"): 200,
    ("POST", f"{V1}/analytics/reports", "portfolio_id"): 404,
    ("GET", f"{V1}/orders", "cursor"): 200,
    ("GET", f"{V1}/trades", "cursor"): 200,
    ("GET", f"{V1}/transactions", "cursor"): 200,
    ("GET", f"{V1}/smallcases", "cursor"): 422,
    **{
        ("GET", f"{V1}{path}", "cursor"): 422
        for path in (
            "/investments",
            "/investments/orders",
            "/smallcases/user/investments",
            "/smallcases/user/positions/closed",
            "/smallcases/user/positions/history",
            "/sips",
            "/sips/due",
        )
    },
    ("POST", f"{V1}/sips", "smallcase_id"): 404,
    ("POST", f"{V1}/sips", "portfolio_id"): 404,
    ("GET", f"{V1}/notifications", "cursor"): 422,
    ("GET", f"{V1}/notifications/alerts", "cursor"): 422,
    ("POST", f"{V1}/orders", "portfolio_id"): 404,
    ("POST", f"{V1}/orders/buy", "portfolio_id"): 404,
    ("POST", f"{V1}/orders/sell", "portfolio_id"): 404,
    ("POST", f"{V1}/orders/batch", "portfolio_id"): 404,
    ("POST", f"{V1}/funds/topup", "portfolio_id"): 404,
}
"""What a user gets who names somebody else's object in query or body; 200 shows nothing of it."""


def rule_of(method: str, path: str, room: str = "") -> Rule | None:
    """The rule of a route, also under its second and short names; None when nobody has decided."""
    if (room, method, path) in ROOM_RULES:
        return ROOM_RULES[room, method, path]
    full = SAME_AS.get(path, routing.without_alias(path))
    return RULES.get((method, SAME_AS.get(full, full)))
