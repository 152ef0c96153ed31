"""`saras backup`: all rooms' databases at one moment, encrypted, proved by a restore. See docs/backup.md."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import psycopg2
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TransferSpeedColumn
from sqlalchemy.exc import DBAPIError

from common.bus import BusUnavailable
from common.config import ServiceSettings
from scripts.backup import creating, manifest, restoring
from scripts.backup.manifest import BackupRefused, Manifest
from scripts.backup.one_moment import NoMoment
from scripts.backup.postgres_tools import ToolFailed
from scripts.backup.restoring import Proof, RestoreRefused
from scripts.backup.sealed_stream import NotOurs, UnusableKey, master_key
from scripts.embedded_environment import PREFIXES
from scripts.embedded_keys import ensure_secret
from scripts.embedded_servers import DATABASES, DataDirectoryInUse, exclusive, postgres
from scripts.platform_state import data_directory, running_platform
from scripts.room_databases import database_url, given_url
from scripts.saras_cli.audit import figures
from scripts.saras_cli.output import (
    REFUSED,
    AsJson,
    NotReachable,
    Refusal,
    Yes,
    answer,
    command,
    confirm,
    errors,
    facts,
    located,
    note,
    table,
)
from scripts.saras_cli.settings import OperatorSettings

MEGABYTE = 1_000_000
KEY_FILE = "backup.key"

app = typer.Typer(no_args_is_help=True, help="Backups of all rooms' databases.")
Dir = Annotated[Path | None, typer.Option("--dir", help="The folder of backups; SARAS_BACKUP_DIR without it.")]
Which = Annotated[str, typer.Argument(help="A backup of `saras backup list`; the newest without it.")]


@app.command()
@command
def create(
    directory: Dir = None,
    jobs: Annotated[int, typer.Option(min=1, max=creating.JOBS_MAX, help="Databases dumped at once.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Back up all databases as they are at one moment; the platform goes on meanwhile."""
    settings = OperatorSettings.load()
    master = _key(settings, make=True)
    urls = {room: database_url(room) for room in DATABASES}
    started = time.monotonic()
    with _failures(), _bytes(quiet=as_json) as bar:
        tasks = {room: bar.add_task(room, total=None) for room in urls}
        folder, made = creating.create(
            urls,
            _folder(directory, settings),
            master,
            jobs=jobs,
            tell=lambda room, more: bar.advance(tasks[room], more),
        )
    seconds = round(time.monotonic() - started, 1)
    told = {"folder": str(folder), "seconds": seconds, **made.model_dump(mode="json")}
    answer(as_json, told, lambda console: _show(console, folder, made, seconds))


def _show(console: Console, folder: Path, made: Manifest, seconds: float) -> None:
    rows = [(part.room, f"{part.plain_bytes / MEGABYTE:.1f}", f"{part.bytes / MEGABYTE:.1f}") for part in made.parts]
    table(f"Backup {made.backup_id}", ("room", "dump, MB", "sealed, MB"), rows)(console)
    console.print(f"as of {made.taken_at:%Y-%m-%d %H:%M:%S.%f} UTC, receiving held back for {made.held_ms} ms")
    console.print(f"{seconds} s, in {folder}", soft_wrap=True)


@app.command("list")
@command
def list_backups(directory: Dir = None, as_json: AsJson = False) -> None:
    """What backups there are. What a manifest says is proved by `verify`, not here."""
    settings = OperatorSettings.load()
    found = list(manifest.listed(_folder(directory, settings)))
    told = [
        {"backup_id": folder.name, "taken_at": made.taken_at, "bytes": made.size, "key_id": made.key_id}
        if made
        else {"backup_id": folder.name, "unfinished": True}
        for folder, made in found
    ]
    rows = [
        (folder.name, f"{made.taken_at:%Y-%m-%d %H:%M:%S}", f"{made.size / MEGABYTE:.1f}", made.key_id)
        if made
        else (folder.name, "unfinished or unreadable", "", "")
        for folder, made in found
    ]
    answer(as_json, told, table("Backups", ("backup", "as of, UTC", "MB", "key"), rows))


@app.command()
@command
def verify(
    which: Which = "",
    directory: Dir = None,
    server: Annotated[
        str | None,
        typer.Option(help="URL of a server for scratch databases; default: SARAS_VERIFY_SERVER, or one of its own."),
    ] = None,
    scratch: Annotated[Path | None, typer.Option(help="Folder for the own server's files.")] = None,
    as_json: AsJson = False,
) -> None:
    """Prove a backup: restore it into scratch databases, check ledger, audit logs and what rooms know of each other.

    Exit code 1 when anything does not hold. The scratch databases are dropped.
    """
    settings = OperatorSettings.load()
    folder, made, master = _opened(which, directory, settings)
    if server is None and settings.verify_server is not None:
        server = settings.verify_server.get_secret_value()
    started = time.monotonic()
    with _failures(), _working(quiet=as_json) as tell:
        tell("checking files")
        manifest.check_files(folder, made)
        rooms = [part.room for part in made.parts]
        with restoring.scratch_databases(rooms, server, scratch) as urls:
            restoring.fill(folder, made, master, urls, with_rights=False, tell=tell)
            proof = restoring.prove(made, urls, tell)
    _tell_proof(made, proof, round(time.monotonic() - started, 1), [], as_json=as_json)


@app.command()
@command
def restore(
    which: Which = "",
    directory: Dir = None,
    replace: Annotated[bool, typer.Option(help="Delete what is in the databases now.")] = False,
    bus_url: Annotated[
        str | None, typer.Option(envvar="BUS_URL", help="The message broker, whose queues are emptied.")
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Bring a backup back into the rooms' databases, prove it, halt trading and end all sign-ins.

    Refused while anybody works on the databases, and while they hold anything unless --replace is given. On one machine
    without database settings the platform's own PostgreSQL is started for it.
    """
    settings = OperatorSettings.load()
    folder, made, master = _opened(which, directory, settings)
    if running_platform() is not None:
        raise Refusal("the platform is running; stop it first", "platform_running")
    started = time.monotonic()
    with _failures(), _databases() as urls:
        manifest.check_files(folder, made)
        if missing := sorted({part.room for part in made.parts} - set(urls)):
            raise Refusal(f"no database is known for {', '.join(missing)}")
        restoring.check_targets(urls, replace=replace)
        confirm(
            f"Restore {made.backup_id} of {made.taken_at:%Y-%m-%d %H:%M:%S} UTC into {len(urls)} databases?", yes=yes
        )
        with _working(quiet=as_json) as tell:
            if replace:
                restoring.clear(urls)
            restoring.fill(folder, made, master, urls, with_rights=True, tell=tell)
            proof = restoring.prove(made, urls, tell)
            done = list(restoring.make_safe(urls, made.backup_id))
            if bus := bus_url or ServiceSettings.load().bus_url:
                tell("emptying queues")
                done.append(f"{restoring.purge_queues(bus, urls)} messages left the queues")
    _tell_proof(made, proof, round(time.monotonic() - started, 1), done, as_json=as_json)


def _tell_proof(made: Manifest, proof: Proof, seconds: float, done: list[str], *, as_json: bool) -> None:
    told: dict[str, Any] = {
        "backup_id": made.backup_id,
        "ok": proof.ok,
        "seconds": seconds,
        "done": done,
        "ledger": {"ok": proof.ledger.ok, "figures": proof.ledger.figures, "problems": proof.ledger.problems},
        "audit": {room: figures(verdict) for room, verdict in proof.audits.items()},
        "rooms": [vars(finding) for finding in proof.rooms.findings],
        "to_catch_up": proof.rooms.to_catch_up,
        "migrations": proof.migrations,
    }
    shown: dict[str, Any] = {
        f"ledger: {rule.replace('_', ' ')}": f"{len(rows)} problems" if rows else "holds"
        for rule, rows in proof.ledger.problems.items()
    }
    shown |= {f"ledger, {name}": count for name, count in proof.ledger.figures.items()}
    for room, verdict in proof.audits.items():
        shown[f"audit log of {room}"] = f"{'sound' if verdict.ok else 'TAMPERED WITH'}, {verdict.chained} rows"
    for finding in proof.rooms.findings:
        state = "holds" if finding.ok else f"BROKEN {finding.broken} times, first {finding.examples[0]}"
        shown[finding.rule] = f"{state}, {finding.compared} compared"
    for room, count in proof.rooms.to_catch_up.items():
        shown[f"messages {room} will catch up on"] = count
    shown |= {f"migration of {room}": f"{found}, not {named}" for room, (found, named) in proof.migrations.items()}
    shown["seconds"] = seconds

    def show(console: Console) -> None:
        facts(f"Backup {made.backup_id}: {'everything holds' if proof.ok else 'NOT SOUND'}", shown)(console)
        for line in done:
            console.print(line)

    answer(as_json, told, show)
    if not proof.ok:
        raise typer.Exit(REFUSED)


# --- what the commands share ------------------------------------------------------------------------------------------


def _folder(directory: Path | None, settings: OperatorSettings) -> Path:
    return located(directory) if directory is not None else settings.backups


def _opened(which: str, directory: Path | None, settings: OperatorSettings) -> tuple[Path, Manifest, bytes]:
    backups = _folder(directory, settings)
    finished = [folder for folder, made in manifest.listed(backups) if made is not None]
    if not which and not finished:
        raise Refusal(f"there is no finished backup in {backups}", "no_backup")
    if which and Path(which).name != which:
        raise Refusal("name a backup, not a path; --dir names the folder", "no_backup")
    folder = backups / which if which else finished[-1]
    master = _key(settings, make=False)
    with _failures():
        return folder, manifest.read(folder, master), master


def _key(settings: OperatorSettings, *, make: bool) -> bytes:
    own = data_directory() / "secrets" / KEY_FILE
    if settings.backup_key is not None:
        text = settings.backup_key.get_secret_value()
    elif settings.backup_key_file is not None:
        if not settings.backup_key_file.is_file():
            raise Refusal(f"SARAS_BACKUP_KEY_FILE: there is no file {settings.backup_key_file}", "no_backup_key")
        text = settings.backup_key_file.read_text()
    elif own.exists() or make:
        if not own.exists():
            note(f"a key was made: {own}. Keep a copy of it elsewhere: without it no backup opens.")
        text = ensure_secret(own)
    else:
        raise Refusal("there is no key: set SARAS_BACKUP_KEY_FILE", "no_backup_key")
    with _failures():
        return master_key(text)


@contextmanager
def _databases() -> Iterator[dict[str, str]]:
    """Where the rooms' databases are; on one machine without settings their server is started for the time."""
    given = {room: url for room in DATABASES if (url := given_url(room)) is not None}
    if given:
        if missing := [f"{PREFIXES[room]}DATABASE_URL" for room in DATABASES if room not in given]:
            raise Refusal(f"not set: {', '.join(missing)}")
        yield given
        return
    directory = data_directory()
    try:
        with exclusive(directory), postgres(directory) as urls:
            yield dict(urls)
    except DataDirectoryInUse as error:
        raise Refusal(str(error), "platform_running") from None


@contextmanager
def _failures() -> Iterator[None]:
    """Give what backups raise an exit code."""
    try:
        yield
    except (BackupRefused, NotOurs, UnusableKey, RestoreRefused, ToolFailed, NoMoment) as error:
        raise Refusal(str(error), type(error).__name__) from None
    except (psycopg2.OperationalError, DBAPIError, BusUnavailable) as error:
        text = str(getattr(error, "orig", error)).strip()
        raise NotReachable(text) from None


@contextmanager
def _bytes(*, quiet: bool) -> Iterator[Progress]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TransferSpeedColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=quiet or not errors.is_terminal) as bar:
        yield bar


@contextmanager
def _working(*, quiet: bool) -> Iterator[restoring.Tell]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=quiet or not errors.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda text: bar.update(task, description=text)
