"""Password hashing: Argon2id only, in a small bounded pool, so that a burst of sign-ins never stops orders.

One hash takes about 27 ms of a core (m=19 MiB, t=2, p=1: OWASP's second Argon2id profile). The pool has few workers of
low priority and a short waiting line; who finds it full is told to come again.
"""

import os
import secrets
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from passlib.context import CryptContext

from common.errors import Unavailable
from user_service.passwords import prepare

MEMORY_KIB = 19_456
TIME_COST = 2
PARALLELISM = 1
WAIT_MAX_S = 10.0
RETRY_AFTER_S = 1
WORKER_NICENESS = 10


class LoginBusy(Unavailable):
    """Too many passwords are being checked at this moment; the same request may succeed a second later."""

    def __init__(self) -> None:
        super().__init__(
            "Many people are signing in at this moment; try again in a second.",
            headers={"Retry-After": str(RETRY_AFTER_S)},
            retry_after=RETRY_AFTER_S,
        )


@dataclass(frozen=True)
class Checked:
    """Whether the password was right, and a new hash when the stored one was made with older parameters."""

    ok: bool
    new_hash: str | None = None


def password_context() -> CryptContext:
    """passlib with Argon2id and nothing else: its bcrypt backend is broken with current bcrypt releases."""
    return CryptContext(
        schemes=["argon2"],
        argon2__type="ID",
        argon2__memory_cost=MEMORY_KIB,
        argon2__time_cost=TIME_COST,
        argon2__parallelism=PARALLELISM,
    )


class PasswordHashing:
    """Hashes and checks passwords on at most `workers` threads with at most `waiting_max` callers in line."""

    def __init__(self, *, workers: int = 2, waiting_max: int = 16, context: CryptContext | None = None) -> None:
        self._context = context or password_context()
        self._places = threading.BoundedSemaphore(workers + waiting_max)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="password", initializer=_lower_priority)
        self.decoy_hash = str(self._context.hash(secrets.token_urlsafe(16)))
        """Checked when there is no such account, so that the answer takes as long."""

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place in the line for the block; raises LoginBusy at once when there is none."""
        if not self._places.acquire(blocking=False):
            raise LoginBusy
        try:
            yield
        finally:
            self._places.release()

    def hash(self, password: str) -> str:
        """The hash to store; raises LoginBusy."""
        with self.place():
            return str(self._run(self._context.hash, prepare(password)))

    def check_in_place(self, password: str, stored_hash: str) -> Checked:
        """Whether the password is the one behind the hash, for a caller that holds a place; raises LoginBusy."""
        ok, new_hash = self._run(self._context.verify_and_update, prepare(password), stored_hash)
        return Checked(bool(ok), new_hash)

    def close(self) -> None:
        """Stop the workers after what they are doing."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, work: Any, *arguments: str) -> Any:
        try:
            future: Future[Any] = self._pool.submit(work, *arguments)
        except RuntimeError:  # the pool was closed: the process is stopping
            raise LoginBusy from None
        try:
            return future.result(timeout=WAIT_MAX_S)
        except (FutureTimeout, CancelledError):
            # A job that still waits never runs; one that runs ends by itself and holds no more than its worker.
            future.cancel()
            raise LoginBusy from None


def _lower_priority() -> None:
    # Linux schedules threads, so one thread of a process can give way to the others.
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), WORKER_NICENESS)
