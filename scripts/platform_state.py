"""Where the platform of this machine keeps its state, and whether one is running."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from dotenv import load_dotenv

from common.config import DOTENV

DATA_DIRECTORY_VARIABLE = "SARAS_DATA_DIR"
DEFAULT_DATA_DIRECTORY = ".saras"
PROBE_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Running:
    """What other commands on this machine need to know of a running platform."""

    pid: int
    gateway_url: str
    simulator_url: str
    database_urls: dict[str, str]
    mail_url: str = ""
    """The page with the mails that did not leave this machine."""


def data_directory() -> Path:
    """The directory of all data of the embedded platform (SARAS_DATA_DIR, default `.saras`)."""
    load_dotenv(DOTENV, override=False)
    return Path(os.environ.get(DATA_DIRECTORY_VARIABLE, DEFAULT_DATA_DIRECTORY)).resolve()


def keep_private(path: Path, content: Mapping[str, Any]) -> None:
    """Keep JSON in a file that only its owner can read.

    Written aside and put in its place: two commands at once never see half of it.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(content, file)
    aside.replace(path)


def _state_file() -> Path:
    return data_directory() / "run" / "platform.json"


def announce(running: Running) -> None:
    """Write down that this platform is ready; the file holds the addresses of databases and is readable by its owner only."""
    keep_private(_state_file(), asdict(running))


def withdraw() -> None:
    """Forget the announcement."""
    _state_file().unlink(missing_ok=True)


def running_platform() -> Running | None:
    """The platform that runs on this data directory and answers, if any."""
    try:
        running = Running(**json.loads(_state_file().read_text()))
        answer = httpx.get(f"{running.gateway_url}/health", timeout=PROBE_TIMEOUT_S, trust_env=False)
    except (FileNotFoundError, ValueError, TypeError, httpx.TransportError):
        return None
    return running if answer.is_success else None
