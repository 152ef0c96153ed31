"""Which database belongs to a room: for the commands of an operator on this machine."""

import os

import typer
from dotenv import load_dotenv

from common.config import DOTENV, secrets_directory
from scripts.embedded_environment import PREFIXES
from scripts.platform_state import running_platform


def database_url(room: str) -> str:
    """The room's `<PREFIX>DATABASE_URL` (or its file in SECRETS_DIR), otherwise that of the platform that runs here."""
    if (given := given_url(room)) is not None:
        return given
    running = running_platform()
    if running is None:
        raise typer.BadParameter(f"{PREFIXES[room]}DATABASE_URL is not set, and no platform is running here")
    return running.database_urls[room]


def given_url(room: str) -> str | None:
    """The room's `<PREFIX>DATABASE_URL`, or its file in SECRETS_DIR, if there is one."""
    load_dotenv(DOTENV, override=False)
    variable = f"{PREFIXES[room]}DATABASE_URL"
    return os.environ.get(variable) or _from_file(variable)


def _from_file(variable: str) -> str | None:
    folder = secrets_directory()
    path = folder / variable.lower() if folder is not None else None
    return path.read_text().strip() if path is not None and path.is_file() else None
