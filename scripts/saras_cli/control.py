"""`saras status`, `halt`, `cancel-only`, `resume`: the kill switch. Stopping takes one person, starting again takes two."""

from collections.abc import Callable
from typing import Any

from scripts.saras_cli.gateway import API, Gateway, connected
from scripts.saras_cli.output import AsJson, Reason, Yes, answer, command, confirm, facts

CONTROL = f"{API}/ops/control"


@command
def status(as_json: AsJson = False) -> None:
    """The kill switch, the broker session, what is open."""
    with connected() as gateway:
        switch = gateway.get(CONTROL)
        accounts = gateway.get(f"{API}/ops/accounts")
        books = gateway.get(f"{API}/ops/reconciliation")
        counts = gateway.get(f"{API}/admin/orders", limit=1)["counts"]
    told = {
        "control": switch,
        "accounts": accounts,
        "open_breaks": books["open_breaks"],
        "frozen": books["frozen"],
        "orders_today": counts,
    }
    account: dict[str, Any] = next((one for one in accounts if one["account"] == switch["account"]), {})
    session = account.get("session") or {}
    shown = {
        "account": f"{switch['account']} ({'paper' if account.get('paper') else 'live'})",
        **_switch(switch),
        "broker session": f"until {session['expires_at']}" if session else "none: run `saras broker login`",
        "sends today": f"{switch['day_sends']} of {switch['sends_per_day']}",
        "breaks open": sum(row["count"] for row in books["open_breaks"]),
        "instruments frozen": ", ".join(books["frozen"]) or "none",
        **{f"orders today, {state}": count for state, count in sorted(counts.items())},
    }
    answer(as_json, told, facts("Trading", shown))


@command
def halt(reason: Reason, yes: Yes = False, as_json: AsJson = False) -> None:
    """Stop everything that is sent to the broker, cancels too."""
    confirm("Stop all sending, cancels too?", yes=yes)
    _move(as_json, lambda gateway: gateway.post(f"{CONTROL}/halt", {"reason": reason}))


@command
def cancel_only(reason: Reason, yes: Yes = False, as_json: AsJson = False) -> None:
    """Stop new orders; cancels still go out."""
    confirm("Stop new orders?", yes=yes)
    _move(as_json, lambda gateway: gateway.post(f"{CONTROL}/cancel-only", {"reason": reason}))


@command
def resume(reason: Reason, yes: Yes = False, as_json: AsJson = False) -> None:
    """Ask for trading to start again, or approve what another person has asked for; two people are needed."""
    with connected() as gateway:
        before = gateway.get(CONTROL)
    asked = before["resume_requested_by"]
    confirm(f"Approve the resume asked for by {asked}?" if asked else "Ask for a resume?", yes=yes)
    _move(as_json, lambda gateway: gateway.post(f"{CONTROL}/resume", {"reason": reason}))


def _move(as_json: bool, act: Callable[[Gateway], Any]) -> None:
    with connected() as gateway:
        switch = act(gateway)
    answer(as_json, switch, facts("The kill switch", _switch(switch)))


def _switch(row: dict[str, Any]) -> dict[str, Any]:
    shown = {
        "state": row["trading_state"],
        "since": row["changed_at"],
        "by": row["changed_by"],
        "why": row["reason"],
    }
    if row["resume_requested_by"]:
        shown["resume asked for by"] = f"{row['resume_requested_by']} at {row['resume_requested_at']}"
        shown["next"] = "a second person runs `saras resume` within 15 minutes"
    return shown
