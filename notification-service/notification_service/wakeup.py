"""The doorbell: asks somebody to send what is due. Losing every ring costs a second, never a message."""

from typing import Protocol

from common.celery_app import Bell
from notification_service.kinds import OUTSIDE

DELIVER_TASK = "notification_service.deliver_channel"


class Wakeup(Protocol):
    """Who is asked to look. Calls return at once and never raise."""

    def deliver(self) -> None:
        """There may be something to send."""
        ...


class SilentWakeup:
    """Nobody is asked; the loop finds everything by itself."""

    def deliver(self) -> None:
        """Do nothing."""


class CeleryWakeup(Bell):
    """Rings through Celery, once a channel: a slow one must not keep the others waiting."""

    def deliver(self) -> None:
        """There may be something to send."""
        for channel in OUTSIDE:
            self.ring(DELIVER_TASK, channel.value)
