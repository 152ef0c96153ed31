"""The doorbell: asks somebody to look for open jobs. Losing every ring costs a few seconds, never a job."""

from typing import Protocol

from common.celery_app import Bell

WORK_TASK = "analytics_service.work"
ALL_JOBS = "jobs"


class Wakeup(Protocol):
    """Who is asked to look. Calls return at once and never raise."""

    def work(self) -> None:
        """There may be an open job."""
        ...


class SilentWakeup:
    """Nobody is asked; the loop finds everything by itself."""

    def work(self) -> None:
        """Do nothing."""


class CeleryWakeup(Bell):
    """Rings through Celery."""

    def work(self) -> None:
        """There may be an open job."""
        self.ring(WORK_TASK, ALL_JOBS)
