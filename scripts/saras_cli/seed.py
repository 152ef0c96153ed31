"""`saras seed`: what a fresh platform needs to be looked at: demo users with money, the catalogue of smallcases."""

import asyncio
import hashlib
import os
import secrets
from typing import Annotated

import httpx
import typer

from common.clock import SystemClock, trading_date
from scripts import seed_catalogue
from scripts.demo_client import Client, DemoFailed, Refused
from scripts.platform_state import data_directory
from scripts.saras_cli.gateway import API, TIMEOUT_S, Gateway, Problem, connected
from scripts.saras_cli.output import AsJson, Refusal, answer, command, facts, note, progress, table

USERS_MAX = 200
PASSWORD_BYTES = 18

app = typer.Typer(no_args_is_help=True, help="Demo users and the catalogue.")


@app.command()
@command
def users(
    count: Annotated[int, typer.Option(min=1, max=USERS_MAX, help="How many.")] = 5,
    funds: Annotated[str, typer.Option(help="Paper money for each new one, in rupees.")] = "500000.00",
    as_json: AsJson = False,
) -> None:
    """Users demo1@example.com and so on, KYC approved, with money. Doing it again makes only what is missing.

    They share one generated password, kept in the data directory and shown when it is made.
    """
    made = 0
    with connected() as admin, progress(quiet=as_json) as bar:
        password, is_new = _password()
        for number in bar.track(range(1, count + 1), description="users"):
            made += _user(admin, number, password, funds)
    told = {"users": [_address(number) for number in range(1, count + 1)], "made": made}
    shown = {"users": f"{_address(1)} to {_address(count)}", "made now": made}
    if is_new:
        told["password"] = shown["password, shown this once"] = password
    answer(as_json, told, facts("Demo users", shown))


@app.command()
@command
def catalogue(as_json: AsJson = False) -> None:
    """The catalogue of published smallcases; what exists by name is left alone. Takes an administrator."""
    with connected() as admin:
        try:
            made = asyncio.run(_catalogue(admin.url, admin.access_token))
        except Refused as refused:
            raise Refusal(str(refused), refused.code) from None
        except DemoFailed as failed:
            raise Refusal(f"not all were made: {failed}") from None
    rows = [(name, "made" if is_new else "was there") for name, is_new in made.items()]
    answer(as_json, {"made": made}, table("Smallcases", ("name", ""), rows))


async def _catalogue(url: str, token: str) -> dict[str, bool]:
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, trust_env=False) as http:
        client = Client(http)
        client.act_with(token)
        return await seed_catalogue.seed(client, trading_date(SystemClock().now()))


def _address(number: int) -> str:
    return f"demo{number}@example.com"


def _password() -> tuple[str, bool]:
    path = data_directory() / "secrets" / "demo-users.password"
    if path.exists():
        return path.read_text(), False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    word = secrets.token_urlsafe(PASSWORD_BYTES)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(word)
    return word, True


def _user(admin: Gateway, number: int, password: str, funds: str) -> bool:
    """Make a user, or finish one that was begun; answers whether the account is new."""
    address, new = _address(number), True
    with connected(signed_in=False) as user:
        try:
            body = {"email": address, "password": password, "full_name": f"Demo User {number}"}
            user.post(f"{API}/auth/register", body)
        except Problem as problem:
            if problem.code != "email_taken":
                raise
            new = False
        try:
            user.sign_in(address, password)
        except Problem as problem:
            note(f"{address} is there already and has another password ({problem.code}); left alone")
            return False
        me = user.get(f"{API}/auth/me")
        if me["kyc_status"] == "none":
            user.post(f"{API}/kyc", _kyc(number))
        if me["kyc_status"] != "approved":
            admin.put(f"{API}/admin/users/{me['user_id']}/kyc-status", {"status": "approved", "reason": "demo user"})
        deposit = {"user_id": me["user_id"], "amount": funds, "reason": "money of a demo user"}
        # One key per user: the first run gives the money, later ones are answered from memory.
        admin.post(f"{API}/admin/funds/deposit", deposit, key=f"seed-{me['user_id']}-{funds}")
    return new


def _kyc(number: int) -> dict[str, str]:
    # A PAN nobody has: the letters come from the number alone, so that it stays the same.
    digest = hashlib.sha256(f"demo user {number}".encode()).digest()
    letters = "".join(chr(ord("A") + byte % 26) for byte in digest[:5])
    return {
        "legal_name": f"Demo User {number}",
        "pan": f"{letters[:3]}P{letters[3]}{number:04d}{letters[4]}",
        "date_of_birth": "1990-01-01",
        "address": "1 Demo Street, Mumbai 400001",
    }
