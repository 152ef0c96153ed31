"""The doorbell: asks somebody to look at an account now. Losing every ring costs a second, never an order."""

import threading
import time
from typing import Protocol

from amqp.exceptions import AMQPError
from celery import Celery
from kombu.exceptions import KombuError

from common.logging import get_logger

log = get_logger(__name__)

PUMP_TASK = "trade_executor.pump_account"
OBSERVE_TASK = "trade_executor.observe_account"
SWEEP_TASK = "trade_executor.sweep_account"
RING_PAUSE_S = 0.02
"""Rings within this time become one: a burst of orders needs one look, not one each."""
SEND_TIMEOUT_S = 2.0
"""Without it the wait for a confirm has no end; see also `tasks.make_celery`."""


class Wakeup(Protocol):
    """Who is asked to look. Calls return at once and never raise."""

    def pump(self, account: str) -> None:
        """There may be something to send."""
        ...

    def observe(self, account: str) -> None:
        """The broker may have news."""
        ...


class SilentWakeup:
    """Nobody is asked; the loop finds everything by itself."""

    def pump(self, account: str) -> None:
        """Do nothing."""

    def observe(self, account: str) -> None:
        """Do nothing."""


class CeleryWakeup:
    """Rings through Celery from a thread of its own: whoever rings never waits for the message broker."""

    def __init__(self, celery: Celery) -> None:
        self._celery = celery
        self._wanted: set[tuple[str, str]] = set()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="wakeup", daemon=True)
        self._thread.start()

    def pump(self, account: str) -> None:
        self._ring(PUMP_TASK, account)

    def observe(self, account: str) -> None:
        self._ring(OBSERVE_TASK, account)

    def close(self) -> None:
        """Send what is wanted and end the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(timeout=5)

    def _ring(self, task: str, account: str) -> None:
        with self._changed:
            self._wanted.add((task, account))
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._wanted and not self._stopped:
                    self._changed.wait()
                if not self._wanted:
                    return
                wanted, self._wanted = self._wanted, set()
            for task, account in sorted(wanted):
                self._send(task, account)
            time.sleep(RING_PAUSE_S)

    def _send(self, task: str, account: str) -> None:
        try:
            self._celery.send_task(
                task, args=[account], retry=False, timeout=SEND_TIMEOUT_S, confirm_timeout=SEND_TIMEOUT_S
            )
        except (KombuError, AMQPError, OSError) as error:
            log.warning("wakeup.not_sent", task=task, error=type(error).__name__)
