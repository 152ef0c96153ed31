"""Running a room's processes: one command each, the web server and loops that stop cleanly on SIGTERM or Ctrl-C."""

import argparse
import json
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import uvicorn
from fastapi import FastAPI

from common import metrics
from common.auth import AccessTokens, Authenticator, JwksKeys, ServiceIdentity, StaticKeys
from common.bus import Bus
from common.catching_up import consuming
from common.clock import Clock, SystemClock
from common.collector import spare_what_stays
from common.config import InvalidSettings, ServiceSettings
from common.consumers import Handlers
from common.db import Database, run_migrations
from common.http import ServiceClient
from common.logging import configure
from common.market_data import MarketDataClient
from common.outbox import Relay
from common.standing import StandingClient

SHUTDOWN_TIMEOUT_S = 10
KEEP_ALIVE_S = 75
"""How long a server keeps an idle connection: much longer than any client of ours, so that also on a machine that stands still for
seconds it is the client that closes, and no request meets a closing connection."""
Loop = Callable[[threading.Event], None]
Settings = TypeVar("Settings", bound=ServiceSettings)
Command = Callable[[Settings, Database], None]
"""One process of a room: runs until told to stop, on the room's settings and database."""


def run_room(
    name: str,
    package: str,
    settings_class: type[Settings],
    commands: Mapping[str, Command[Settings]],
    arguments: Sequence[str] | None = None,
) -> int:
    """`python -m <package> <command>`: run one process; answers the exit code. `migrate` is always there."""
    parser = argparse.ArgumentParser(prog=package, description=f"One process of {name}.")
    parser.add_argument("command", choices=[*commands, "migrate"])
    command = parser.parse_args(arguments).command
    try:
        settings = settings_class.load()
        configure(name, settings.log_level)
        url = settings.required("database_url")
        if command == "migrate":
            run_migrations(package, url)
            return 0
        db = Database(url, pool_size=settings.database_pool_size, application_name=f"{name}-{command}")
        serve_status(settings, command)
        try:
            commands[command](settings, db)
        finally:
            db.dispose()
    except InvalidSettings as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 1
    return 0


def serve_status(settings: ServiceSettings, command: str) -> None:
    """Answer with metrics where STATUS_PORT says; the API answers on its own port."""
    if command != "api" and settings.status_port is not None:
        metrics.serve(settings.host, settings.status_port)


def relay_command(name: str) -> Command[ServiceSettings]:
    """The process that publishes a room's outbox."""
    return lambda settings, db: run_until_signal([Relay(db, bus_from(settings), name=name).run])


def consume_command(name: str, handlers: Handlers) -> Command[ServiceSettings]:
    """The process that takes a room's messages from the bus and catches up on what the bus has lost."""

    def consume(settings: ServiceSettings, db: Database) -> None:
        run_until_signal(consuming(settings, bus_from(settings), db, identity_from(settings, name), handlers=handlers))

    return consume


def bus_from(settings: ServiceSettings) -> Bus:
    """The bus between processes."""
    from common.rabbit import RabbitBus  # only processes that use the bus import pika

    return RabbitBus(settings.required("bus_url"))


def market_from(settings: ServiceSettings, name: str) -> MarketDataClient:
    """The client of market-data-service, calling as this room."""
    identity = identity_from(settings, name)
    return MarketDataClient(
        ServiceClient(settings.market_data_service_url, audience="market-data-service", identity=identity)
    )


def standings_from(settings: ServiceSettings, name: str) -> StandingClient:
    """The client of user-service for the standing of accounts, calling as this room."""
    identity = identity_from(settings, name)
    return StandingClient(ServiceClient(settings.user_service_url, audience="user-service", identity=identity))


def serve(app: FastAPI, settings: ServiceSettings) -> None:
    """Serve an app until told to stop; requests under way are finished first."""
    spare_what_stays()
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
    )


def run_until_signal(loops: Sequence[Loop]) -> None:
    """Run loops, each on a thread, until SIGTERM or SIGINT; every loop gets the same stop event.

    A loop that ends by itself has failed: the others stop and the process ends with an error, to be started again.
    """
    stop, told = threading.Event(), threading.Event()

    def on_signal(*_: object) -> None:
        told.set()
        stop.set()

    def run(loop: Loop) -> None:
        try:
            loop(stop)
        finally:
            stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    threads = [threading.Thread(target=run, args=(loop,), name=getattr(loop, "__name__", "loop")) for loop in loops]
    spare_what_stays()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not told.is_set():
        raise SystemExit("a loop of this process ended by itself")


def authenticator_from(settings: ServiceSettings, name: str, clock: Clock | None = None) -> Authenticator:
    """The verifier of a process: users' keys by JWKS URL, rooms' keys from a file."""
    file = settings.service_keys_file
    return Authenticator(
        name=name,
        access=AccessTokens(JwksKeys(settings.jwks_url), clock),
        service_keys=StaticKeys(json.loads(Path(file).read_text()) if file else {"keys": []}),
        clock=clock or SystemClock(),
        admin_needs_mfa=settings.environment != "development",
    )


def identity_from(settings: ServiceSettings, name: str) -> ServiceIdentity:
    """The room's own signing key for calls to other rooms."""
    return ServiceIdentity(name, Path(settings.required("service_key_file")).read_text())
