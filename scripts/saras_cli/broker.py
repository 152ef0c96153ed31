"""`saras broker`: the daily login at the broker."""

from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import typer

from scripts.saras_cli.gateway import API, Gateway, connected
from scripts.saras_cli.output import AsJson, Refusal, answer, command, errors, facts, note, table

SIMULATOR_TIMEOUT_S = 5.0

app = typer.Typer(no_args_is_help=True, help="The broker account and its daily session.")


@app.command()
@command
def status(as_json: AsJson = False) -> None:
    """Broker accounts and their sessions; exit code 1 when one has none."""
    with connected() as gateway:
        accounts = gateway.get(f"{API}/ops/accounts")
    rows = [
        (row["account"], row["broker"], "paper" if row["paper"] else "live", *_session(row["session"]))
        for row in accounts
    ]
    answer(
        as_json, accounts, table("Broker accounts", ("account", "broker", "mode", "session since", "until", "by"), rows)
    )
    if not all(row["session"] for row in accounts):
        raise typer.Exit(1)


def _session(session: dict[str, Any] | None) -> tuple[Any, Any, Any]:
    if not session:
        return "none", "", ""
    return session["started_at"], session["expires_at"], session["started_by"]


@app.command()
@command
def login(
    redirect: Annotated[
        str | None, typer.Argument(help="The address the broker sent the browser to, or its request token.")
    ] = None,
    url_only: Annotated[bool, typer.Option(help="Print where to log in and end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start the day's session: log in at the address shown, then hand over where the browser was sent.

    If the browser reached the platform's own callback, the session has started already. The simulator asks nobody: there
    this command does it alone.
    """
    with connected() as gateway:
        url = gateway.get(f"{API}/broker/login-url")["login_url"]
        if url_only:
            answer(as_json, {"login_url": url}, lambda console: console.print(url, soft_wrap=True))
            return
        token = request_token(redirect) if redirect else _from_simulator(gateway, url) or _from_person(url)
        started = gateway.post(f"{API}/broker/session", {"request_token": token})
    session = started["session"]
    shown = {"account": started["account"], "until": session["expires_at"]}
    answer(as_json, started, facts("The broker session has started", shown))


def request_token(text: str) -> str:
    """The request token in what a person pastes: the token itself or the address that carries it; raises Refusal."""
    text = text.strip()
    if "request_token=" not in text:
        if not text or "/" in text:
            raise Refusal("this is neither a request token nor an address with one", "no_request_token")
        return text
    found = parse_qs(urlsplit(text).query)
    if found.get("status", ["success"]) != ["success"] or len(found.get("request_token", [])) != 1:
        raise Refusal("the login did not succeed", "no_request_token")
    return found["request_token"][0]


def _from_simulator(gateway: Gateway, url: str) -> str | None:
    if not all(row["paper"] for row in gateway.get(f"{API}/ops/accounts")):
        return None
    try:
        # Its page sends the browser straight back; that address is read, not visited.
        answer = httpx.get(url, follow_redirects=False, timeout=SIMULATOR_TIMEOUT_S, trust_env=False)
    except httpx.TransportError:
        note("the simulator cannot be reached from here")
        return None
    return request_token(answer.headers["location"]) if answer.has_redirect_location else None


def _from_person(url: str) -> str:
    errors.print("Log in at this address:", url, sep="\n", markup=False, soft_wrap=True)
    return request_token(typer.prompt("Address the browser was sent to, or its request_token", err=True))
