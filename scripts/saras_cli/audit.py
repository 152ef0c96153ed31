"""`saras audit verify`: the hash chains of the rooms' audit logs, computed again.

Reads the room's <PREFIX>DATABASE_URL, or the databases of the platform that runs here. Exit code 0: sound, 1: tampered
with, 3: not verified.
"""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from sqlalchemy.exc import DBAPIError

from common import audit_chain
from common.audit_chain import Verdict
from common.db import Database
from scripts.room_databases import database_url
from scripts.saras_cli.output import REFUSED, AsJson, NotReachable, answer, command

ROOMS = ("user-service", "portfolio-service", "trade-executor")
"""Rooms that keep an audit log."""
HASH_LENGTH = 64

app = typer.Typer(no_args_is_help=True, help="The rooms' audit logs.")


@app.callback()
def group() -> None:
    """The rooms' audit logs."""


@app.command()
@command
def verify(
    room: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(ROOMS)}; all without it.")] = None,
    head: Annotated[str | None, typer.Option(help="A head known from elsewhere (hex), of exactly one room.")] = None,
    url: Annotated[str | None, typer.Option(help="Address of the database of exactly one room.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compute the hash chains again and name the first bad row."""
    rooms = room or list(ROOMS)
    if unknown := sorted(set(rooms) - set(ROOMS)):
        raise typer.BadParameter(f"no audit log is kept by: {', '.join(unknown)}")
    if (head or url) and len(rooms) != 1:
        raise typer.BadParameter("--head and --url are of exactly one --room")
    known = _hash(head) if head is not None else None
    verdicts = {name: _verify(url or database_url(name), known) for name in rooms}
    told = {name: figures(verdict) for name, verdict in verdicts.items()}

    def show(_: Console) -> None:
        for name, verdict in verdicts.items():
            _tell(name, verdict)

    answer(as_json, told, show)
    if not all(verdict.ok for verdict in verdicts.values()):
        raise typer.Exit(REFUSED)


def _hash(text: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(text) != HASH_LENGTH or not value:
        raise typer.BadParameter(f"a head is {HASH_LENGTH} hexadecimal digits")
    return value


def _verify(url: str, known_head: bytes | None) -> Verdict:
    db = Database(url, pool_size=1, application_name="audit-verify")
    try:
        with db.session() as session:
            # One moment for all reads: the room goes on writing meanwhile.
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            return audit_chain.verify(session, known_head=known_head)
    except DBAPIError as error:
        raise NotReachable(f"not verified: {str(error.orig).strip()}") from None
    finally:
        db.dispose()


def figures(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON."""
    return {
        "ok": verdict.ok,
        "chained": verdict.chained,
        "waiting": verdict.waiting,
        "head": {"seq": verdict.head.seq, "hash": verdict.head.hash.hex()},
        "problems": [asdict(problem) for problem in verdict.problems],
    }


def _tell(name: str, verdict: Verdict) -> None:
    state = "sound" if verdict.ok else "TAMPERED WITH"
    typer.echo(f"{name}: {state}, {verdict.chained} rows chained, {verdict.waiting} waiting")
    typer.echo(f"  head {verdict.head.seq} {verdict.head.hash.hex()}")
    if not verdict.ok:
        first = verdict.problems[0]
        typer.echo(f"  first bad row: link {first.seq}, row {first.audit_id}: {first.kind}: {first.detail}")
        typer.echo(f"  problems in all: {len(verdict.problems)}")
