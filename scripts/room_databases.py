"""Which database belongs to a room: for the commands of an operator on this machine."""

import os

import typer
from dotenv import load_dotenv

from common.config import DOTENV
from scripts.embedded_environment import PREFIXES
from scripts.platform_state import running_platform


def database_url(room: str) -> str:
    """The room's `<PREFIX>DATABASE_URL`, otherwise the database of the platform that runs here."""
    load_dotenv(DOTENV, override=False)
    variable = f"{PREFIXES[room]}DATABASE_URL"
    if given := os.environ.get(variable):
        return given
    running = running_platform()
    if running is None:
        raise typer.BadParameter(f"{variable} is not set, and no platform is running here")
    return running.database_urls[room]
