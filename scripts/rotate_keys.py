"""Seal all stored secrets with the current key: `python -m scripts.rotate_keys [--room trade-executor]`.

First give every process the new key beside the old one and make it the current one (EXECUTOR_SEAL_KEYS and
EXECUTOR_SEAL_KEY_CURRENT, USER_SEAL_SECRET_FILES and USER_SEAL_CURRENT); then run this with the same settings, again
until it has nothing left to do; then take the old key away. It may be stopped at any time and started again.
Exit code 0: every secret is sealed with the current key, 1: some cannot be opened, 2: not done.
"""

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer
from sqlalchemy.exc import DBAPIError

import trade_executor.key_rotation
import user_service.key_rotation
from common.clock import SystemClock
from common.config import InvalidSettings
from common.db import Database
from common.logging import configure
from scripts.embedded_environment import PREFIXES, prepare
from scripts.platform_state import data_directory, running_platform
from scripts.room_databases import database_url
from trade_executor.config import Settings as ExecutorSettings
from trade_executor.sessions import sealer_from
from user_service.config import Settings as UserSettings
from user_service.keys import UnusableKey, load_sealer

Outcome = tuple[int, int, list[str]]
"""Version sealed with, rows sealed anew, places that cannot be opened."""
UNREADABLE, NOT_DONE = 1, 2


def _executor(db: Database) -> Outcome:
    done = trade_executor.key_rotation.rotate(db, sealer_from(ExecutorSettings.load()))
    return done.version, done.resealed, done.unreadable


def _user(db: Database) -> Outcome:
    done = user_service.key_rotation.rotate(db, load_sealer(UserSettings.load()), SystemClock().now())
    return done.version, done.resealed, done.unreadable


ROOMS: dict[str, Callable[[Database], Outcome]] = {"trade-executor": _executor, "user-service": _user}
"""Rooms that seal secrets."""


def main(
    room: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(ROOMS)}; all without it.")] = None,
) -> None:
    """Rotate the keys of the rooms."""
    configure("scripts", stream=sys.stderr)
    rooms = room or list(ROOMS)
    if unknown := sorted(set(rooms) - set(ROOMS)):
        raise typer.BadParameter(f"no secrets are sealed by: {', '.join(unknown)}")
    _take_keys_of_this_machine()
    unreadable = False
    for name in rooms:
        url = database_url(name)
        os.environ.setdefault(f"{PREFIXES[name]}DATABASE_URL", url)
        db = Database(url, pool_size=1, application_name="rotate-keys")
        try:
            version, resealed, broken = ROOMS[name](db)
        except (InvalidSettings, UnusableKey, DBAPIError) as error:
            typer.echo(f"{name}: not done: {error}", err=True)
            raise typer.Exit(NOT_DONE) from None
        finally:
            db.dispose()
        typer.echo(f"{name}: {resealed} secrets sealed with version {version}")
        for place in broken:
            typer.echo(f"  cannot be opened: {place}", err=True)
        unreadable = unreadable or bool(broken)
    if unreadable:
        raise typer.Exit(UNREADABLE)


def _take_keys_of_this_machine() -> None:
    running = running_platform()
    if running is not None:
        # The files that this platform was started with, unless the environment names others; rooms are not called.
        addresses = dict.fromkeys(PREFIXES, running.gateway_url)
        prepare(data_directory(), databases=running.database_urls, cache_url="", addresses=addresses)


if __name__ == "__main__":
    typer.run(main)
