"""`python -m user_service api | relay | sweep | migrate | create-keys | create-admin | reset-totp`."""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from common import audit_chain
from common.auth import AccessTokens, Authenticator, StaticKeys
from common.clock import SystemClock
from common.config import InvalidSettings
from common.db import Database, run_migrations
from common.errors import AppError
from common.logging import configure
from common.outbox import Relay
from common.process import bus_from, run_until_signal, serve, serve_status
from user_service import admin_cli, housekeeping
from user_service.account_states import ROLES
from user_service.app import create_app
from user_service.config import Settings
from user_service.keys import (
    SigningKeys,
    UnusableKey,
    ensure_master_secret,
    ensure_signing_key,
    load_sealer,
)

NAME = "user-service"


def _database(settings: Settings) -> Database:
    return Database(settings.required("database_url"), pool_size=settings.database_pool_size, application_name=NAME)


def _api(settings: Settings) -> None:
    keys = SigningKeys.load(Path(settings.required("signing_key_file")), settings.retired_key_file)
    clock = SystemClock()
    rooms = settings.service_keys_file
    authenticator = Authenticator(
        name=NAME,
        # The issuer needs no HTTP call to know its own keys.
        access=AccessTokens(StaticKeys(keys.jwks()), clock),
        service_keys=StaticKeys(json.loads(rooms.read_text()) if rooms else {"keys": []}),
        clock=clock,
        admin_needs_mfa=settings.admin_needs_totp,
    )
    app = create_app(
        settings,
        db=_database(settings),
        authenticator=authenticator,
        signing_keys=keys,
        sealer=load_sealer(settings),
        clock=clock,
    )
    serve(app, settings)


def _relay(settings: Settings) -> None:
    bus = bus_from(settings)
    serve_status(settings, "relay")
    run_until_signal([Relay(_database(settings), bus, name=NAME).run])


def _sweep(settings: Settings) -> None:
    db = _database(settings)
    serve_status(settings, "sweep")
    run_until_signal([housekeeping.sweeper(db, SystemClock()), partial(audit_chain.run, db, NAME)])


def _migrate(settings: Settings) -> None:
    run_migrations("user_service", settings.required("database_url"))


def _create_keys(settings: Settings) -> None:
    ensure_signing_key(Path(settings.required("signing_key_file")))
    ensure_master_secret(Path(settings.required("secret_file")))


_COMMANDS: dict[str, Callable[[Settings], None]] = {
    "api": _api,
    "relay": _relay,
    "sweep": _sweep,
    "migrate": _migrate,
    "create-keys": _create_keys,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="user_service")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in _COMMANDS:
        commands.add_parser(name)
    create = commands.add_parser("create-admin")
    create.add_argument("--email", required=True)
    create.add_argument("--role", action="append", choices=ROLES, dest="roles")
    commands.add_parser("reset-totp").add_argument("--email", required=True)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; answers the exit code."""
    given = _parser().parse_args(arguments)
    try:
        settings = Settings.load()
        # On the operator's command line stdout carries the answer alone.
        configure(NAME, settings.log_level, stream=None if given.command in _COMMANDS else sys.stderr)
        if given.command in _COMMANDS:
            _COMMANDS[given.command](settings)
        elif given.command == "create-admin":
            created = admin_cli.create_admin(_database(settings), given.email, roles=given.roles or ("admin",))
            # The one output of a secret: this password is kept nowhere and shown once.
            sys.stdout.write(f"{created.email}\n{created.password}\n")
        else:
            admin_cli.reset_totp(_database(settings), given.email)
    except (InvalidSettings, UnusableKey, AppError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
