"""Running a room's processes: the web server and loops that stop cleanly on SIGTERM or Ctrl-C."""

import json
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from common.auth import AccessTokens, Authenticator, JwksKeys, ServiceIdentity, StaticKeys
from common.clock import Clock, SystemClock
from common.config import ServiceSettings

SHUTDOWN_TIMEOUT_S = 10
Loop = Callable[[threading.Event], None]


def serve(app: FastAPI, settings: ServiceSettings) -> None:
    """Serve an app until told to stop; requests under way are finished first."""
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
    )


def run_until_signal(loops: Sequence[Loop]) -> None:
    """Run loops, each on a thread, until SIGTERM or SIGINT; every loop gets the same stop event."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threads = [threading.Thread(target=loop, args=(stop,), name=getattr(loop, "__name__", "loop")) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


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
