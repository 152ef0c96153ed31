"""Keys, passwords and definitions of a platform in containers: `python -m scripts.container_secrets DIRECTORY`.

Made on the first run and kept by every later one. One folder per container, holding only what that container may know;
settings lie in files named like their variable in small letters (`common.config`, SECRETS_DIR). Addresses are the names of
Compose's services. `authority` holds the originals and is mounted nowhere.
"""

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from common.events import REGISTRY
from common.queues import EXCHANGE, UNROUTED_LENGTH_MAX, dead_arguments, dead_queue, work_arguments
from scripts.embedded_environment import PREFIXES, ROOMS
from scripts.embedded_keys import ensure_secret, ensure_service_keys
from scripts.embedded_servers import DATABASES
from scripts.settings_reference import ROOMS as SETTINGS
from user_service.keys import ensure_master_secret, ensure_signing_key

VIRTUAL_HOST = "saras"
MONITOR = "saras_monitor"
VERIFY = "saras_verify"
"""The role in whose databases backups are proved; it may make databases and open no room's."""
SIMULATOR = "kite-simulator"
CELERY_QUEUES: Mapping[str, str] = {
    room: settings.model_fields["celery_queue"].default
    for room, settings in SETTINGS
    if "celery_queue" in settings.model_fields
}
"""Room -> the queue its Celery workers wait at."""
_READABLE = 0o444
_ENTERABLE = 0o755


def main(directory: Annotated[Path, typer.Argument(help="Where the folders are; made if missing.")]) -> None:
    """Make what is missing."""
    directory.mkdir(parents=True, exist_ok=True)
    # What is below is readable for the users of the containers; only root (or its maker) comes past this folder.
    directory.chmod(0o700)
    make(directory)


def make(directory: Path) -> None:
    """Fill one folder per container."""
    authority = directory / "authority"
    password = {name: _password(authority, name) for name in (*DATABASES.values(), MONITOR, VERIFY, "postgres")}
    on_bus = {room: _password(authority, f"rabbitmq-{room}") for room in (*DATABASES, "operator")}
    for room, values in _rooms(authority, password, on_bus).items():
        _write(directory / room, values)
    _write(directory / "postgres", _postgres(password))
    definitions = json.dumps(rabbit_definitions(on_bus, authority), indent=1)
    _write(directory / "rabbitmq", {"definitions.json": definitions})
    _write(directory / "monitor", {"postgres_password": password[MONITOR]})
    _write(directory / "operator", _operator(authority, password, on_bus))


def _rooms(authority: Path, password: Mapping[str, str], on_bus: Mapping[str, str]) -> dict[str, dict[str, str]]:
    keys = ensure_service_keys(authority / "rooms", ROOMS).read_text()
    ensure_signing_key(authority / "signing.pem")
    ensure_master_secret(authority / "user.secret")
    api_secret = ensure_secret(authority / "kite-api.secret")
    values: dict[str, dict[str, str]] = {}
    for room in ROOMS:
        own = values[room] = {
            "rooms.jwks.json": keys,
            "service.pem": (authority / "rooms" / f"{room}.pem").read_text(),
        }
        if room in DATABASES:
            own[f"{PREFIXES[room].lower()}database_url"] = _database_url(DATABASES[room], password[DATABASES[room]])
            own["bus_url"] = _bus_url(room, on_bus[room])
    for room, settings in SETTINGS:
        if room not in values:
            continue
        prefix = PREFIXES[room].lower()
        if "celery_broker_url" in settings.model_fields:
            values[room][f"{prefix}celery_broker_url"] = _bus_url(room, on_bus[room])
        if "seal_keys" in settings.model_fields:
            seal = ensure_secret(authority / f"{room}-seal.secret")
            values[room][f"{prefix}seal_keys"] = json.dumps({"1": seal})
    values["user-service"]["signing.pem"] = (authority / "signing.pem").read_text()
    values["user-service"]["user.secret"] = (authority / "user.secret").read_text()
    values["trade-executor"]["executor_kite_api_secret"] = api_secret
    values["trade-executor"]["executor_tag_key"] = ensure_secret(authority / "executor-tag.secret")
    values[SIMULATOR] = {"kite_sim_api_secret": api_secret}
    return values


def _postgres(password: Mapping[str, str]) -> dict[str, str]:
    owners = "".join(f"{name} {password[name]}\n" for name in DATABASES.values())
    return {
        "admin_password": password["postgres"],
        "databases": owners,
        "monitor": password[MONITOR],
        "verify": password[VERIFY],
    }


def _operator(authority: Path, password: Mapping[str, str], on_bus: Mapping[str, str]) -> dict[str, str]:
    urls = {
        f"{PREFIXES[room].lower()}database_url": _database_url(name, password[name]) for room, name in DATABASES.items()
    }
    return {
        **urls,
        "bus_url": _bus_url("operator", on_bus["operator"]),
        "saras_backup_key": ensure_secret(authority / "backup.key"),
        "saras_verify_server": _database_url(VERIFY, password[VERIFY], database="postgres"),
    }


def _database_url(name: str, password: str, database: str | None = None) -> str:
    return f"postgresql://{name}:{password}@postgres:5432/{database or name}"


def _bus_url(user: str, password: str) -> str:
    return f"amqp://{user}:{password}@rabbitmq:5672/{VIRTUAL_HOST}"


def _password(authority: Path, name: str) -> str:
    # Of letters and digits alone: it stands in URLs and in a file of words.
    return hashlib.sha256(ensure_secret(authority / f"{name}.password").encode()).hexdigest()


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.unlink(missing_ok=True)
        path.write_text(content)
        path.chmod(_READABLE)
    folder.chmod(_ENTERABLE)


def rabbit_definitions(passwords: Mapping[str, str], authority: Path) -> dict[str, Any]:
    """Users, permissions, exchanges, queues and bindings as RabbitMQ imports them, from the code's own tables.

    A queue made with the node, and not seconds before a crash, survives one.
    """
    rooms = sorted({room for event in REGISTRY.values() for room in event.consumers})
    dead, unrouted = f"{EXCHANGE}.dead", f"{EXCHANGE}.unrouted"
    exchanges = [
        _exchange(EXCHANGE, "topic", {"alternate-exchange": unrouted}),
        _exchange(dead, "direct"),
        _exchange(unrouted, "fanout"),
    ]
    queues = [_queue(unrouted, {"x-max-length": UNROUTED_LENGTH_MAX})]
    bindings = [_binding(unrouted, unrouted, "")]
    for room in rooms:
        queues += [
            _queue(room, work_arguments(dead_exchange=dead, dead_key=room)),
            _queue(dead_queue(room), dead_arguments()),
        ]
        bindings.append(_binding(dead, dead_queue(room), room))
        names = sorted(name for name, event in REGISTRY.items() if room in event.consumers)
        bindings += [_binding(EXCHANGE, room, f"*.{name}") for name in names]
    return {
        "vhosts": [{"name": VIRTUAL_HOST}],
        "users": [_user(name, password, authority) for name, password in passwords.items()],
        "permissions": [_permission(name) for name in passwords],
        "exchanges": exchanges,
        "queues": queues,
        "bindings": bindings,
    }


def _permission(user: str) -> dict[str, str]:
    if user == "operator":
        return {"user": user, "vhost": VIRTUAL_HOST, "configure": "^$", "write": ".*", "read": ".*"}
    queues = [user, *([CELERY_QUEUES[user]] if user in CELERY_QUEUES else [])]
    own = "|".join(f"{re.escape(queue)}(\\.dead)?" for queue in queues)
    delayed = "|celery.*" if user in CELERY_QUEUES else ""
    names = f"^({re.escape(EXCHANGE)}(\\.dead|\\.unrouted)?|{own}{delayed})$"
    write = names[:-2] + "|amq\\.default)$"
    return {"user": user, "vhost": VIRTUAL_HOST, "configure": names, "write": write, "read": names}


def _user(name: str, password: str, authority: Path) -> dict[str, Any]:
    # RabbitMQ's own form: base64 of salt and SHA-256(salt + password). The salt is kept: the file stays the same.
    path = authority / f"rabbitmq-{name}.salt"
    if not path.exists():
        path.write_bytes(secrets.token_bytes(4))
    salt = path.read_bytes()
    digest = hashlib.sha256(salt + password.encode()).digest()
    return {
        "name": name,
        "password_hash": base64.b64encode(salt + digest).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": ["monitoring"] if name == "operator" else [],
    }


def _exchange(name: str, kind: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"name": name, "vhost": VIRTUAL_HOST, "type": kind, "durable": True, "auto_delete": False,
            "internal": False, "arguments": dict(arguments or {})}  # fmt: skip


def _queue(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "vhost": VIRTUAL_HOST, "durable": True, "auto_delete": False, "arguments": dict(arguments)}


def _binding(source: str, queue: str, key: str) -> dict[str, Any]:
    return {"source": source, "vhost": VIRTUAL_HOST, "destination": queue, "destination_type": "queue",
            "routing_key": key, "arguments": {}}  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
