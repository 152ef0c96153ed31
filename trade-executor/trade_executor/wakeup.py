"""The doorbell: asks somebody to look at an account now. Losing every ring costs a second, never an order."""

from typing import Protocol

from common.celery_app import Bell

PUMP_TASK = "trade_executor.pump_account"
OBSERVE_TASK = "trade_executor.observe_account"
SWEEP_TASK = "trade_executor.sweep_account"


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


class CeleryWakeup(Bell):
    """Rings through Celery."""

    def pump(self, account: str) -> None:
        """There may be something to send."""
        self.ring(PUMP_TASK, account)

    def observe(self, account: str) -> None:
        """The broker may have news."""
        self.ring(OBSERVE_TASK, account)
