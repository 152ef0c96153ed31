"""`saras trade`: an administrator's orders for users. Nothing is placed without --place.

Every order goes through the acceptance of the user's own orders; the audit log of portfolio-service names the
administrator.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import typer
from rich.console import Console

from common.clock import SystemClock, trading_date
from scripts.saras_cli import order_list
from scripts.saras_cli.gateway import API, Gateway, Problem, connected
from scripts.saras_cli.order_list import OrderList, Row
from scripts.saras_cli.output import (
    REFUSED,
    AsJson,
    NotReachable,
    Refusal,
    Yes,
    answer,
    command,
    confirm,
    located,
    note,
    progress,
    table,
)

ORDERS = f"{API}/admin/orders"
PREVIEW_MAX = 1_000
USERS_PAGE = 100
REASON_DEFAULT = "placed by an administrator at the command line"

app = typer.Typer(no_args_is_help=True, help="An administrator's orders for users; looks only, until --place is given.")
Place = Annotated[bool, typer.Option("--place", help="Really place; without it the orders are only judged.")]
Why = Annotated[str, typer.Option("--reason", help="Why; it is kept in the audit log.")]


@dataclass
class Result:
    """What became of one order. `status`: would be accepted, accepted, placed before, refused."""

    line: int
    user: str
    order: str
    status: str
    code: str | None = None
    detail: str | None = None
    order_id: str | None = None
    hold: str | None = None


@app.command("one")
@command
def one(
    user: Annotated[str, typer.Argument(help="E-mail address or id.")],
    side: Annotated[str, typer.Argument(help="BUY or SELL.")],
    symbol: Annotated[str, typer.Argument(help="NSE trading symbol.")],
    quantity: Annotated[int, typer.Argument(min=1)],
    price: Annotated[str | None, typer.Option(help="Limit in rupees; a market order without it.")] = None,
    exchange: Annotated[str, typer.Option(help="NSE or BSE.")] = "NSE",
    product: Annotated[str, typer.Option(help="CNC or MIS.")] = "CNC",
    key: Annotated[str | None, typer.Option(help="Idempotency-Key; the same one places once.")] = None,
    place: Place = False,
    reason: Why = REASON_DEFAULT,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """One order for one user."""
    given = {"user": user, "side": side, "symbol": symbol, "quantity": str(quantity), "exchange": exchange}
    wanted = order_list.of_one({**given, "product": product, "price": price or ""}, key or f"one-{uuid4().hex}")
    _carry_out(wanted, place=place, reason=reason, yes=yes, as_json=as_json)


@app.command("list")
@command
def from_list(
    file: Annotated[Path, typer.Argument(help="CSV with a header.")],
    place: Place = False,
    reason: Why = REASON_DEFAULT,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """The orders of a CSV file: user, side, symbol, quantity, and price, exchange, product if wanted.

    With any bad row nothing is placed. The same file placed twice places nothing twice; a changed file is a new list.
    """
    path = located(file)
    if not path.is_file():
        raise typer.BadParameter(f"there is no file {path}")
    _carry_out(order_list.parse(path.read_bytes()), place=place, reason=reason, yes=yes, as_json=as_json)


@app.command("smallcase")
@command
def smallcase(
    smallcase_id: Annotated[UUID, typer.Argument(help="One that you may see.")],
    amount: Annotated[str, typer.Argument(help="Rupees for each user, charges included.")],
    users: Annotated[list[str], typer.Argument(help="E-mail addresses or ids.")],
    place: Place = False,
    reason: Why = REASON_DEFAULT,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """The shares of a whole smallcase for each user: the plan of a first purchase now, all of a user's orders or none.

    They are shares in the portfolio, not an investment that follows the smallcase: that a user starts himself. The same
    smallcase, version and amount is placed for a user once a day.
    """
    with connected() as gateway:
        plan = gateway.get(f"{API}/smallcases/{smallcase_id}/plan", amount=amount)
        ids = _resolve(gateway, {user.lower() for user in users}, quiet=as_json)
        if strangers := sorted(user for user, found in ids.items() if found is None):
            raise Refusal(f"no such user: {', '.join(strangers)}; nothing was placed", "user_not_found")
        if place:
            confirm(f"Place {len(plan['orders'])} orders for each of {len(ids)} users?", yes=yes)
        results = []
        with progress(quiet=as_json) as bar:
            for user, user_id in bar.track(ids.items(), description="users"):
                results.append(_basket(gateway, plan, user, str(user_id), reason, place=place))
    told = {"smallcase_id": plan["smallcase_id"], "version": plan["version"], "placed": place, "results": results}

    def show(console: Console) -> None:
        shares = [(row["side"], row["tradingsymbol"], row["quantity"], row["price"]) for row in plan["orders"]]
        table(f"Plan of version {plan['version']} for {amount}", ("side", "share", "units", "price"), shares)(console)
        rows = [(row["user"], row["status"], row["code"], row["detail"]) for row in results]
        table("Placed" if place else "Looked at only; add --place to place", ("user", "", "", ""), rows)(console)

    answer(as_json, told, show)
    if any(row["status"] == "refused" for row in results):
        raise typer.Exit(REFUSED)


def _basket(
    gateway: Gateway, plan: dict[str, Any], user: str, user_id: str, reason: str, *, place: bool
) -> dict[str, Any]:
    orders = [
        {name: row[name] for name in ("exchange", "tradingsymbol", "side", "quantity")} | {"confirm_duplicate": True}
        for row in plan["orders"]
    ]
    body = {"user_id": user_id, "orders": orders, "atomic": True}
    seed = f"{plan['smallcase_id']}:{plan['version']}:{plan['amount']}:{user_id}:{trading_date(SystemClock().now())}"
    key = f"smallcase-{hashlib.sha256(seed.encode()).hexdigest()}"
    said: dict[str, Any] = {"user": user, "status": "would be accepted", "code": None, "detail": None}
    try:
        if place:
            _, repeated = gateway.post_once(ORDERS, {**body, "reason": reason}, key)
            return {**said, "status": "placed before" if repeated else "accepted"}
        judged = gateway.post(f"{ORDERS}/preview", body)["results"]
    except Problem as problem:
        if problem.code == "idempotency_key_reused":
            # Prices have moved, so today's second plan has other units: the first one stands.
            return {**said, "status": "placed before", "detail": "earlier today, at that moment's prices"}
        if problem.status in (401, 403) and problem.code != "kyc_required":
            raise
        return {**said, "status": "refused", "code": problem.code, "detail": str(problem)}
    refused = [row for row in judged if row["code"] not in (None, "not_attempted")]
    return (
        {**said, "status": "refused", "code": refused[0]["code"], "detail": refused[0]["detail"]} if refused else said
    )


def _carry_out(wanted: OrderList, *, place: bool, reason: str, yes: bool, as_json: bool) -> None:
    if wanted.faults:
        faults = [{"line": fault.line, "text": fault.text} for fault in wanted.faults]
        rows = [(fault.line, fault.text) for fault in wanted.faults]
        answer(as_json, {"placed": False, "faults": faults}, table("Bad rows; nothing was placed", ("line", ""), rows))
        raise typer.Exit(REFUSED)
    with connected() as gateway:
        ids = _resolve(gateway, {row.user for row in wanted.rows}, quiet=as_json)
        if strangers := sorted(user for user, found in ids.items() if found is None):
            raise Refusal(f"no such user: {', '.join(strangers)}; nothing was placed", "user_not_found")
        users = {user: str(found) for user, found in ids.items()}
        if place:
            confirm(f"Place {len(wanted.rows)} orders for {len(users)} users?", yes=yes)
            results, whole = _place(gateway, wanted.rows, users, reason, quiet=as_json)
        else:
            results, whole = _preview(gateway, wanted.rows, users, quiet=as_json), True
    _tell(wanted, results, as_json=as_json, place=place)
    if not whole:
        raise NotReachable("the platform stopped answering; run the same command again, no order is placed twice")
    if any(result.status == "refused" for result in results):
        raise typer.Exit(REFUSED)


def _resolve(gateway: Gateway, users: Iterable[str], *, quiet: bool) -> dict[str, UUID | None]:
    """Ids of users by address or id; None for nobody."""
    found: dict[str, UUID | None] = {}
    with progress(quiet=quiet) as bar:
        for user in bar.track(sorted(users), description="users"):
            found[user] = UUID(user) if "@" not in user else _by_email(gateway, user)
    return found


def _by_email(gateway: Gateway, email: str) -> UUID | None:
    # The search matches any part of an address; only the whole one counts.
    items = gateway.get(f"{API}/admin/users", email=email, page_size=USERS_PAGE)["items"]
    return next((UUID(row["user_id"]) for row in items if row["email"].lower() == email), None)


def _preview(gateway: Gateway, rows: Sequence[Row], users: dict[str, str], *, quiet: bool) -> list[Result]:
    """Judge each user's orders together, in their order: the second buy meets what the first has left."""
    results: list[Result] = []
    with progress(quiet=quiet) as bar:
        task = bar.add_task("judged", total=len(rows))
        for user in dict.fromkeys(row.user for row in rows):
            own = [row for row in rows if row.user == user]
            for start in range(0, len(own), PREVIEW_MAX):
                results += _judge(gateway, users[user], own[start : start + PREVIEW_MAX])
            bar.advance(task, len(own))
    return sorted(results, key=lambda result: result.line)


def _judge(gateway: Gateway, user_id: str, rows: Sequence[Row]) -> list[Result]:
    body = {"user_id": user_id, "orders": [row.body() for row in rows], "atomic": False}
    try:
        judged = gateway.post(f"{ORDERS}/preview", body)["results"]
    except Problem as problem:
        return [_refused(row, problem) for row in rows]
    return [
        Result(
            row.line,
            row.user,
            _words(row),
            "would be accepted" if one["status"] == "accepted" else "refused",
            one["code"],
            one["detail"],
            hold=one["hold"],
        )
        for row, one in zip(rows, judged, strict=True)
    ]


def _place(
    gateway: Gateway, rows: Sequence[Row], users: dict[str, str], reason: str, *, quiet: bool
) -> tuple[list[Result], bool]:
    """Place one row after the other, each under its own key; answers also whether all were answered."""
    results: list[Result] = []
    with progress(quiet=quiet) as bar:
        for row in bar.track(rows, description="placed"):
            body = {"user_id": users[row.user], "orders": [row.body()], "atomic": True, "reason": reason}
            try:
                placed, repeated = gateway.post_once(ORDERS, body, row.key)
            except Problem as problem:
                if problem.status in (401, 403) and problem.code != "kyc_required":
                    raise
                results.append(_refused(row, problem))
                continue
            except NotReachable as error:
                note(f"line {row.line}: {error}")
                return results, False
            status: Literal["placed before", "accepted"] = "placed before" if repeated else "accepted"
            order_id = placed["results"][0]["order"]["order_id"]
            results.append(Result(row.line, row.user, _words(row), status, order_id=order_id))
    return results, True


def _refused(row: Row, problem: Problem) -> Result:
    # Of a list of one the list's own code says nothing; the order's does.
    first = next(iter(problem.body.get("errors") or []), None)
    inner = first if isinstance(first, dict) and "code" in first else {"code": problem.code, "detail": str(problem)}
    return Result(row.line, row.user, _words(row), "refused", inner["code"], inner["detail"])


def _words(row: Row) -> str:
    at = f" at {row.price}" if row.price else ""
    return f"{row.side} {row.quantity} {row.exchange}:{row.symbol} {row.product}{at}"


def _tell(wanted: OrderList, results: Sequence[Result], *, as_json: bool, place: bool) -> None:
    counts: dict[str, int] = {}
    for result in results:
        counts[result.status] = counts.get(result.status, 0) + 1
    told: dict[str, Any] = {
        "list": wanted.digest,
        "placed": place,
        "counts": counts,
        "results": [vars(result) for result in results],
    }

    def show(console: Console) -> None:
        columns = ("line", "user", "order", "result", "hold, or why not")
        rows = [
            (one.line, one.user, one.order, f"{one.status} {one.code or ''}".strip(), one.detail or one.hold)
            for one in results
        ]
        table("Placed" if place else "Looked at only; add --place to place", columns, rows)(console)
        console.print(", ".join(f"{count} {status}" for status, count in sorted(counts.items())))

    answer(as_json, told, show)
