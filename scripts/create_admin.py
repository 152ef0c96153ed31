"""Make an administrator of the platform on this machine: `python -m scripts.create_admin --email you@example.com`.

The platform of `make run`, otherwise the one of `docker compose up`, otherwise the database that USER_DATABASE_URL names.

There is no default password: one is generated and shown once.
"""

import sys
from typing import Annotated

import typer

from common.db import Database
from common.logging import configure
from scripts.compose_platform import create_admin_in_compose, gateway_of_compose
from scripts.platform_state import running_platform
from scripts.room_databases import database_url
from user_service.admin_cli import create_admin


def main(
    email: Annotated[str, typer.Option(help="The administrator's address.")],
    role: Annotated[str, typer.Option(help="admin or ops")] = "admin",
) -> None:
    """Create the account and show its password once."""
    configure("scripts", stream=sys.stderr)
    typer.echo(f"{email} {create(email, role)}")


def create(email: str, role: str) -> str:
    """Make the account on the platform of this machine; answers its generated password."""
    if running_platform() is None and gateway_of_compose() is not None:
        return create_admin_in_compose(email, role)
    database = Database(database_url("user-service"), pool_size=1)
    try:
        return str(create_admin(database, email, roles=[role]).password)
    finally:
        database.dispose()


if __name__ == "__main__":
    typer.run(main)
