"""Verify the audit logs: `python -m scripts.audit_verify [--room trade-executor] [--head HASH] [--json]`.

Reads the room's <PREFIX>DATABASE_URL, or the databases of the platform that runs here. Exit code 0: sound, 1: tampered
with, 2: not verified.
"""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from sqlalchemy.exc import DBAPIError

from common.audit_chain import Verdict, verify
from common.db import Database
from scripts.room_databases import database_url

ROOMS = ("user-service", "portfolio-service", "trade-executor")
"""Rooms that keep an audit log."""
HASH_LENGTH = 64
TAMPERED, NOT_VERIFIED = 1, 2


def main(
    room: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(ROOMS)}; all without it.")] = None,
    head: Annotated[str | None, typer.Option(help="A head known from elsewhere (hex), of exactly one room.")] = None,
    url: Annotated[str | None, typer.Option(help="Address of the database of exactly one room.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer one JSON object.")] = False,
) -> None:
    """Compute the hash chains again and name the first bad row."""
    rooms = room or list(ROOMS)
    if unknown := sorted(set(rooms) - set(ROOMS)):
        raise typer.BadParameter(f"no audit log is kept by: {', '.join(unknown)}")
    if (head or url) and len(rooms) != 1:
        raise typer.BadParameter("--head and --url are of exactly one --room")
    known = _hash(head) if head is not None else None
    verdicts = {name: _verify(url or database_url(name), known) for name in rooms}
    if as_json:
        typer.echo(json.dumps({name: _figures(verdict) for name, verdict in verdicts.items()}, indent=2))
    else:
        for name, verdict in verdicts.items():
            _tell(name, verdict)
    if not all(verdict.ok for verdict in verdicts.values()):
        raise typer.Exit(TAMPERED)


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
            return verify(session, known_head=known_head)
    except DBAPIError as error:
        typer.echo(f"not verified: {str(error.orig).strip()}", err=True)
        raise typer.Exit(NOT_VERIFIED) from None
    finally:
        db.dispose()


def _figures(verdict: Verdict) -> dict[str, Any]:
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


if __name__ == "__main__":
    typer.run(main)
