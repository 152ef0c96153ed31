"""`saras retention`: deletes what is old and may go, by each room's own rules. Looks only, unless --apply is given.

user-service and analytics-service delete their own ended sessions, tokens and reports by themselves.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.progress import Progress, TaskID
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

import notification_service.retention
import trade_executor.retention
from common import retention
from common.db import Database
from common.events import readers_of
from common.retention import ANSWERED_KEYS, Rule
from scripts.room_databases import database_url
from scripts.saras_cli.output import AsJson, NotReachable, Yes, answer, command, confirm, progress, table

BATCH_ROWS = 2_000
ROWS_MAX = 1_000_000
"""Per rule and run; the rest is for the next run."""
RULES: Mapping[str, tuple[Rule, ...]] = {
    "portfolio-service": (ANSWERED_KEYS,),
    "smallcase-service": (ANSWERED_KEYS,),
    "analytics-service": (ANSWERED_KEYS,),
    "notification-service": notification_service.retention.RULES,
    "trade-executor": trade_executor.retention.RULES,
}
PRODUCERS = (
    "user-service", "portfolio-service", "trade-executor", "smallcase-service", "analytics-service",
)  # fmt: skip
CONSUMERS = (
    "portfolio-service", "trade-executor", "smallcase-service", "notification-service", "analytics-service",
)  # fmt: skip
Count = Callable[[Session, datetime], int]
Delete = Callable[[Session, datetime, int], int]
ROOMS = tuple(dict.fromkeys((*PRODUCERS, *CONSUMERS)))
_DAYS = {
    "outbox": (retention.OUTBOX_DAYS, retention.OUTBOX_DAYS_MIN),
    "inbox": (retention.INBOX_DAYS, retention.INBOX_DAYS_MIN),
    **{rule.name: (rule.days, rule.days_min) for rules in RULES.values() for rule in rules},
}
"""Ages by name: days as they are, and the fewest that are allowed."""

app = typer.Typer(no_args_is_help=True, help="Old rows that may go.")


@app.callback()
def group() -> None:
    """Old rows that may go."""


@dataclass
class Line:
    """What one rule found, or did."""

    room: str
    what: str
    age: str
    days: int
    rows: int
    remark: str = ""


@app.command()
@command
def run(
    keep: Annotated[
        list[str] | None,
        typer.Option(
            help=f"NAME=DAYS; {', '.join(f'{name} {days} (at least {least})' for name, (days, least) in _DAYS.items())}."
        ),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Really delete; without it rows are only counted.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Count, or delete with --apply. Never the ledger, orders, fills, allocations or audit logs."""
    days = _ages(keep or [])
    if apply:
        confirm("Delete old rows of all rooms?", yes=yes)
    now = datetime.now(UTC)
    with _databases() as databases, progress(quiet=as_json) as bar:
        task = bar.add_task("rows", total=None)
        work = Work(databases, now, days, apply=apply, bar=bar, task=task)
        try:
            lines = [*work.by_rules(), *work.outboxes(), *work.inboxes()]
        except DBAPIError as error:
            raise NotReachable(str(error.orig).strip()) from None
    told = {"applied": apply, "lines": [vars(line) for line in lines]}
    rows = [(line.room, line.what, f"{line.age}, {line.days} days", line.rows, line.remark) for line in lines]
    title = "Deleted" if apply else "Could be deleted; add --apply to delete"
    answer(as_json, told, table(title, ("room", "what", "age", "rows", ""), rows))


def _ages(given: list[str]) -> dict[str, int]:
    days = {name: usual for name, (usual, _) in _DAYS.items()}
    for text in given:
        name, _, number = text.partition("=")
        if name not in _DAYS or not number.isdecimal():
            raise typer.BadParameter(f"{text}: give NAME=DAYS with one of {', '.join(_DAYS)}")
        if int(number) < _DAYS[name][1]:
            raise typer.BadParameter(f"{name} is kept at least {_DAYS[name][1]} days")
        days[name] = int(number)
    if days["inbox"] < days["outbox"] + retention.INBOX_DAYS_MIN - retention.OUTBOX_DAYS_MIN:
        raise typer.BadParameter("an inbox is kept at least 14 days longer than an outbox")
    return days


@dataclass
class Work:
    """One run over all rooms."""

    databases: Mapping[str, Database]
    now: datetime
    days: Mapping[str, int]
    apply: bool
    bar: Progress
    task: TaskID

    def by_rules(self) -> Iterator[Line]:
        """Every room's own rules."""
        for room, rules in RULES.items():
            for rule in rules:
                yield self._line(room, rule.what, rule.name, self._before(rule.name), rule.count, rule.delete)

    def outboxes(self) -> Iterator[Line]:
        """Messages that every room has acted on."""
        for room in PRODUCERS:
            passed = {reader: self._passed(reader, room) for reader in readers_of(room)}
            before = retention.safe_before(self._before("outbox"), passed)
            if before is None:
                missing = ", ".join(sorted(reader for reader, at in passed.items() if at is None))
                yield Line(room, "sent messages", "outbox", self.days["outbox"], 0, f"{missing} has never caught up")
                continue
            line = self._line(room, "sent messages", "outbox", before, retention.count_sent, retention.delete_sent)
            if before < self._before("outbox"):
                line.remark = f"a room has caught up only to {before:%Y-%m-%d %H:%M} UTC"
            yield line

    def inboxes(self) -> Iterator[Line]:
        """Marks of messages that cannot come again."""
        before = self._before("inbox")
        for room in CONSUMERS:
            rows, last = 0, None
            while rows < ROWS_MAX:
                with self.databases[room].transaction() as session:
                    page = retention.old_inbox_rows(session, before, last, BATCH_ROWS)
                if not page:
                    break
                last = page[-1]
                gone = set(page) - self._recorded(page)
                rows += self._forget(room, before, gone)
                self.bar.advance(self.task, len(gone))
            yield Line(room, "marks of handled messages", "inbox", self.days["inbox"], rows)

    def _forget(self, room: str, before: datetime, gone: set[UUID]) -> int:
        if not self.apply:
            return len(gone)
        with self.databases[room].transaction() as session:
            return retention.delete_inbox_rows(session, before, gone)

    def _recorded(self, message_ids: Any) -> set[UUID]:
        found: set[UUID] = set()
        for room in PRODUCERS:
            with self.databases[room].transaction() as session:
                found |= retention.still_recorded(session, message_ids)
        return found

    def _line(self, room: str, what: str, age: str, before: datetime, count: Count, delete: Delete) -> Line:
        line = Line(room, what, age, self.days[age], 0)
        if not self.apply:
            with self.databases[room].transaction() as session:
                line.rows = count(session, before)
            return line
        while line.rows < ROWS_MAX:
            with self.databases[room].transaction() as session:
                deleted = delete(session, before, BATCH_ROWS)
            line.rows += deleted
            self.bar.advance(self.task, deleted)
            if deleted < BATCH_ROWS:
                break
        return line

    def _passed(self, consumer: str, source: str) -> datetime | None:
        with self.databases[consumer].transaction() as session:
            return retention.handled_before(session, consumer, source)

    def _before(self, age: str) -> datetime:
        return self.now - timedelta(days=self.days[age])


@contextmanager
def _databases() -> Iterator[dict[str, Database]]:
    with ExitStack() as stack:
        opened = {}
        for room in ROOMS:
            opened[room] = Database(database_url(room), pool_size=1, application_name="saras-retention")
            stack.callback(opened[room].dispose)
        yield opened
