"""The demo's administrator on this machine: made on first use, and anew when the platform's data are new."""

import json
import secrets
from pathlib import Path

from scripts.create_admin import create
from scripts.demo_client import Client, Refused
from scripts.platform_state import data_directory, keep_private, running_platform

WRONG = "invalid_credentials"
"""What the platform says of an account that it does not have."""


def remembered() -> tuple[str, str]:
    """Address and password as they were made last, which may have been for data that were deleted since."""
    path = _file()
    if not path.exists():
        return made_anew()
    stored = json.loads(path.read_text())
    return stored["email"], stored["password"]


def made_anew() -> tuple[str, str]:
    """Address and password of a new administrator, kept in a file that its owner alone can read."""
    email = f"demo-admin-{secrets.token_hex(4)}@example.com"
    password = create(email, "admin")
    keep_private(_file(), {"email": email, "password": password})
    return email, password


async def sign_in(client: Client) -> None:
    """Act as the demo's administrator."""
    try:
        await client.login(*remembered())
    except Refused as refusal:
        if refusal.code != WRONG:
            raise
        await client.login(*made_anew())


def _file() -> Path:
    return data_directory() / ("secrets" if running_platform() is not None else "compose") / "demo-admin.json"
