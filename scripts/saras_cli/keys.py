"""`saras keys rotate`: all stored secrets sealed anew with the current key.

First give every process the new key beside the old one and make it the current one (EXECUTOR_SEAL_KEYS and
EXECUTOR_SEAL_KEY_CURRENT, USER_SEAL_SECRET_FILES and USER_SEAL_CURRENT, NOTIFICATION_SEAL_KEYS and
NOTIFICATION_SEAL_KEY_CURRENT); then run this with the same settings, again until it has nothing left to do; then take the old key away. It may be stopped at any time and started again.
Exit code 0: every secret is sealed with the current key, 1: some cannot be opened, 2: wrong settings, 3: not done.
"""

import os
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console
from sqlalchemy.exc import DBAPIError

import notification_service.key_rotation
import trade_executor.key_rotation
import user_service.key_rotation
from common.clock import SystemClock
from common.config import InvalidSettings
from common.db import Database
from notification_service.config import Settings as NotificationSettings
from notification_service.config import sealer_from as address_sealer_from
from scripts.embedded_environment import PREFIXES, prepare
from scripts.platform_state import data_directory, running_platform
from scripts.room_databases import database_url
from scripts.saras_cli.output import REFUSED, AsJson, NotReachable, answer, command, note
from trade_executor.config import Settings as ExecutorSettings
from trade_executor.sessions import sealer_from
from user_service.config import Settings as UserSettings
from user_service.keys import UnusableKey, load_sealer

Outcome = tuple[int, int, list[str]]
"""Version sealed with, rows sealed anew, places that cannot be opened."""


def _executor(db: Database) -> Outcome:
    done = trade_executor.key_rotation.rotate(db, sealer_from(ExecutorSettings.load()))
    return done.version, done.resealed, done.unreadable


def _user(db: Database) -> Outcome:
    done = user_service.key_rotation.rotate(db, load_sealer(UserSettings.load()), SystemClock().now())
    return done.version, done.resealed, done.unreadable


def _notification(db: Database) -> Outcome:
    sealer = address_sealer_from(NotificationSettings.load())
    if sealer is None:
        raise InvalidSettings("missing setting: NOTIFICATION_SEAL_KEYS")
    done = notification_service.key_rotation.rotate(db, sealer)
    return done.version, done.resealed, done.unreadable


ROOMS: dict[str, Callable[[Database], Outcome]] = {
    "trade-executor": _executor,
    "user-service": _user,
    "notification-service": _notification,
}
"""Rooms that seal secrets."""


app = typer.Typer(no_args_is_help=True, help="Keys that stored secrets are sealed with.")


@app.callback()
def group() -> None:
    """Keys that stored secrets are sealed with."""


@app.command()
@command
def rotate(
    room: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(ROOMS)}; all without it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Seal stored secrets with the current key; may be stopped at any time and started again."""
    rooms = room or list(ROOMS)
    if unknown := sorted(set(rooms) - set(ROOMS)):
        raise typer.BadParameter(f"no secrets are sealed by: {', '.join(unknown)}")
    _take_keys_of_this_machine()
    told: dict[str, dict[str, Any]] = {}
    for name in rooms:
        url = database_url(name)
        os.environ.setdefault(f"{PREFIXES[name]}DATABASE_URL", url)
        db = Database(url, pool_size=1, application_name="rotate-keys")
        try:
            version, resealed, broken = ROOMS[name](db)
        except (UnusableKey, InvalidSettings) as error:
            raise InvalidSettings(f"{name}: {error}") from None
        except DBAPIError as error:
            raise NotReachable(f"{name}: not done: {str(error.orig).strip()}") from None
        finally:
            db.dispose()
        told[name] = {"resealed": resealed, "version": version, "unreadable": broken}

    def show(console: Console) -> None:
        for name, done in told.items():
            console.print(f"{name}: {done['resealed']} secrets sealed with version {done['version']}")
            for place in done["unreadable"]:
                note(f"  cannot be opened: {place}")

    answer(as_json, told, show)
    if any(done["unreadable"] for done in told.values()):
        raise typer.Exit(REFUSED)


def _take_keys_of_this_machine() -> None:
    running = running_platform()
    if running is not None:
        # The files that this platform was started with, unless the environment names others; rooms are not called.
        addresses = dict.fromkeys(PREFIXES, running.gateway_url)
        prepare(data_directory(), databases=running.database_urls, cache_url="", addresses=addresses)
