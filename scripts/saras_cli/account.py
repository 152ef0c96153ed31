"""`saras login`, `saras logout`, `saras admin create`: who acts."""

import os
import sys
from typing import Annotated

import typer

from scripts.saras_cli.gateway import API, Gateway, Problem, connected
from scripts.saras_cli.output import AsJson, Refusal, answer, command, facts

app = typer.Typer(no_args_is_help=True, help="Accounts of operators.")


@command
def login(
    email: Annotated[str | None, typer.Option(help="The operator's address; SARAS_EMAIL without it.")] = None,
    demo: Annotated[bool, typer.Option(help="The demo's administrator on this machine, made on first use.")] = False,
    password_stdin: Annotated[bool, typer.Option(help="Read the password from standard input.")] = False,
    totp_code: Annotated[str | None, typer.Option(help="Code of the authenticator app; asked for when needed.")] = None,
    as_json: AsJson = False,
) -> None:
    """Sign in for the commands that follow; the session is kept in a file that only you can read."""
    with connected(signed_in=False) as gateway:
        if demo:
            _sign_in_for_the_demo(gateway)
        else:
            address = email or os.environ.get("SARAS_EMAIL") or typer.prompt("E-mail", err=True)
            password = (
                sys.stdin.readline().rstrip("\n")
                if password_stdin
                else typer.prompt("Password", hide_input=True, err=True)
            )
            gateway.sign_in(address, password, totp_code)
        me = gateway.get(f"{API}/auth/me")
        path = gateway.keep()
    told = {"email": me["email"], "roles": me["roles"], "mfa": me["mfa"], "session_file": str(path)}
    if not {"admin", "ops"} & set(me["roles"]):
        raise Refusal(f"{me['email']} has neither the role admin nor ops", "not_an_operator")
    answer(as_json, told, facts("Signed in", {**told, "roles": ", ".join(me["roles"])}))


def _sign_in_for_the_demo(gateway: Gateway) -> None:
    from scripts import demo_admin  # the rooms' own code takes long to load

    try:
        gateway.sign_in(*demo_admin.remembered())
    except Problem as problem:
        if problem.code != demo_admin.WRONG:
            raise
        gateway.sign_in(*demo_admin.made_anew())


@command
def logout() -> None:
    """End the session, here and at the platform."""
    with connected(signed_in=False) as gateway:
        gateway.sign_out()


@app.callback()
def group() -> None:
    """Accounts of operators."""


@app.command("create")
@command
def create_operator(
    email: Annotated[str, typer.Argument(help="The new operator's address.")],
    role: Annotated[str, typer.Option(help="admin or ops")] = "admin",
    as_json: AsJson = False,
) -> None:
    """Make an account with a role; its password is generated and shown once."""
    from common.errors import AppError  # as above
    from scripts.create_admin import create

    try:
        password = create(email, role)
    except (AppError, ValueError) as error:
        raise Refusal(str(error), getattr(error, "code", "refused")) from None
    told = {"email": email, "role": role, "password": password}
    answer(as_json, told, facts("Made; the password is shown this once", told))
