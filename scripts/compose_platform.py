"""The platform in containers, as commands on the same machine find it and speak to it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import httpx

COMPOSE_FILE = Path("docker-compose.yml")
GATEWAY_PORT_VARIABLE = "GATEWAY_PORT"
PROBE_TIMEOUT_S = 3.0
COMMAND_TIMEOUT_S = 60.0


class ComposeFailed(Exception):
    """`docker compose` did not do what it was asked; the text says what it said."""


def gateway_of_compose() -> str | None:
    """The gateway's address if this folder's Compose project runs here and answers, otherwise None."""
    if shutil.which("docker") is None or not COMPOSE_FILE.exists():
        return None
    try:
        services = compose("ps", "--format", "json", "gateway", timeout_s=PROBE_TIMEOUT_S * 3)
        running = [json.loads(line) for line in services.splitlines() if line]
        if not running:
            return None
        ports = [
            port["PublishedPort"] for one in running for port in one.get("Publishers") or () if port["PublishedPort"]
        ]
        url = f"http://127.0.0.1:{ports[0] if ports else os.environ.get(GATEWAY_PORT_VARIABLE, '8000')}"
        answer = httpx.get(f"{url}/health", timeout=PROBE_TIMEOUT_S, trust_env=False)
    except (ComposeFailed, httpx.TransportError, ValueError):
        return None
    return url if answer.is_success else None


def create_admin_in_compose(email: str, role: str) -> str:
    """Make an administrator by the command inside user-service's container; answers the password it shows once."""
    said = compose(
        "exec", "-T", "user-api", "python", "-m", "user_service", "create-admin", "--email", email, "--role", role
    )
    return said.split()[-1]


def compose(*arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
    """Run `docker compose` in this folder; raises ComposeFailed with its last words."""
    try:
        done = subprocess.run(  # noqa: S603  our own words
            ["docker", "compose", *arguments],  # noqa: S607  the operator's docker, wherever it is
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    except (subprocess.TimeoutExpired, OSError) as error:
        raise ComposeFailed(f"docker compose {arguments[0]}: {type(error).__name__}") from error
    if done.returncode:
        raise ComposeFailed(f"docker compose {arguments[0]}: {done.stderr.strip()[-500:]}")
    return done.stdout
