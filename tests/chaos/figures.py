"""The figures of a run: one table for people, one JSON document for the record."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pika
from rich.console import Console
from rich.table import Table

from common.queues import dead_queue
from tests.chaos.books import PORTFOLIO, Books
from tests.chaos.load import Load
from tests.chaos.nemeses import QUEUES, Strike
from tests.chaos.platform import Platform
from tests.chaos.processes import Recovery
from tests.chaos.servers import query
from tests.chaos.truth import Truth

LOG_EVENTS_SHOWN = 12
OWN_EVENT = re.compile(r"[a-z_]+\.[a-z_]+")


@dataclass(frozen=True)
class Spread:
    """Count, median, 99th percentile and largest of some seconds."""

    count: int
    p50: float | None
    p99: float | None
    largest: float | None

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Spread":
        """Nearest-rank percentiles; what never came (nan) does not count."""
        ordered = sorted(one for one in seconds if not math.isnan(one))
        if not ordered:
            return cls(0, None, None, None)
        rank = {share: ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.99)}
        return cls(len(ordered), round(rank[0.5], 2), round(rank[0.99], 2), round(ordered[-1], 2))

    def __str__(self) -> str:
        return "none" if not self.count else f"{self.count}: p50 {self.p50} s, p99 {self.p99} s, most {self.largest} s"


@dataclass
class Figures:
    """Everything a run tells about itself."""

    commit: str
    seed: int
    minutes: float
    users: int
    quiet_after_s: float
    requests: dict[str, int] = field(default_factory=dict)
    server_errors: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    orders: int = 0
    orders_by_state: dict[str, int] = field(default_factory=dict)
    broker_orders: int = 0
    attempts_by_state: dict[str, int] = field(default_factory=dict)
    fills: int = 0
    allocations: int = 0
    strikes: dict[str, int] = field(default_factory=dict)
    strikes_skipped: int = 0
    simulator_faults: dict[str, int] = field(default_factory=dict)
    process_recovery: dict[str, Spread] = field(default_factory=dict)
    acceptance_again: dict[str, Spread] = field(default_factory=dict)
    booking_again: dict[str, Spread] = field(default_factory=dict)
    pauses_between_sends: Spread = field(default_factory=lambda: Spread.of(()))
    unknown_attempts: Spread = field(default_factory=lambda: Spread.of(()))
    ghosts: int = 0
    shares_to_house: int = 0
    repeats_absorbed: dict[str, int] = field(default_factory=dict)
    dead_letters: dict[str, int] = field(default_factory=dict)
    breaks: dict[str, int] = field(default_factory=dict)
    ended_unasked: dict[str, int] = field(default_factory=dict)
    error_lines: dict[str, int] = field(default_factory=dict)
    samples: int = 0
    violations: dict[str, list[str]] = field(default_factory=dict)

    @property
    def violated(self) -> int:
        """Number of violations of all checks."""
        return sum(len(lines) for lines in self.violations.values())

    def write(self, path: Path) -> None:
        """The JSON document."""
        path.write_text(json.dumps(asdict(self), indent=2, default=str) + "\n")

    def show(self, console: Console) -> None:
        """The table, and every violation in full."""
        table = Table(title=f"Chaos, seed {self.seed}, commit {self.commit}", show_header=False)
        for name, value in self._rows():
            table.add_row(name, value)
        for name, lines in self.violations.items():
            table.add_row(f"check: {name}", "[green]holds[/]" if not lines else f"[bold red]{len(lines)} violations[/]")
        console.print(table)
        for name, lines in self.violations.items():
            for line in lines:
                console.print(f"[bold red]{name}:[/] {line}", highlight=False, markup=True)
        console.print(
            "[bold green]Nothing lost, nothing doubled, no paisa wrong.[/]"
            if not self.violated
            else f"[bold red]{self.violated} violations.[/]"
        )

    def _rows(self) -> Iterable[tuple[str, str]]:
        yield "minutes, users", f"{self.minutes:g}, {self.users}"
        yield "requests", _counts(self.requests)
        yield "user orders", f"{self.orders} ({_counts(self.orders_by_state)})"
        ratio = self.orders / self.broker_orders if self.broker_orders else 0
        yield "broker orders", f"{self.broker_orders}, {ratio:.1f} user orders each ({_counts(self.attempts_by_state)})"
        yield "fills, allocations", f"{self.fills}, {self.allocations}"
        yield "strikes", f"{sum(self.strikes.values())} (skipped {self.strikes_skipped})"
        yield from ((f"  {kind}", str(count)) for kind, count in sorted(self.strikes.items()))
        yield "faults of the exchange", f"{sum(self.simulator_faults.values())}"
        yield from ((f"  {kind}", str(count)) for kind, count in sorted(self.simulator_faults.items()))
        yield from ((f"process works again: {name}", str(spread)) for name, spread in self.process_recovery.items())
        yield from ((f"acceptance again after: {name}", str(spread)) for name, spread in self.acceptance_again.items())
        yield from ((f"booked fill again after: {name}", str(spread)) for name, spread in self.booking_again.items())
        yield "pauses between sends", str(self.pauses_between_sends)
        yield "unknown attempts resolved", str(self.unknown_attempts)
        yield "ghosts, their shares to the house", f"{self.ghosts}, {self.shares_to_house}"
        yield "repeated messages absorbed", _counts(self.repeats_absorbed)
        yield "dead letters", _counts(self.dead_letters)
        yield "breaks", _counts(self.breaks)
        yield "answers later (5xx, 429)", _counts(self.server_errors)
        yield "refused", _counts(self.refused)
        yield "processes ended by themselves", _counts(self.ended_unasked)
        yield "error lines in logs", _counts(dict(list(self.error_lines.items())[:LOG_EVENTS_SHOWN]))
        yield "samples of live blocks", str(self.samples)
        yield "quiet after", f"{self.quiet_after_s:.1f} s"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def add_load(figures: Figures, load: Load) -> None:
    """What the users saw."""
    asks = list(load.asks)
    figures.requests = dict(Counter(ask.kind for ask in asks))
    figures.requests["unanswered"] = sum(ask.status is None for ask in asks)
    figures.server_errors, figures.refused = dict(load.server_errors), dict(load.refused)


def add_books(figures: Figures, books: Books, truth: Truth) -> None:
    """What the books say."""
    figures.orders = len(books.orders)
    figures.orders_by_state = dict(Counter(row["state"] for row in books.orders))
    figures.broker_orders = sum(row["sent_at"] is not None for row in books.attempts)
    figures.attempts_by_state = dict(Counter(row["state"] for row in books.attempts))
    figures.fills, figures.allocations = len(books.fills), len(books.allocations)
    figures.simulator_faults = dict(truth.faults)
    sends = sorted(row["sent_at"] for row in books.attempts if row["sent_at"] is not None)
    figures.pauses_between_sends = Spread.of((after - before).total_seconds() for before, after in pairwise(sends))
    figures.unknown_attempts = Spread.of(
        (row["decided_at"] - row["unknown_since"]).total_seconds()
        for row in books.attempts
        if row["unknown_since"] is not None and row["decided_at"] is not None
    )
    figures.ghosts = sum(row["state"] in ("GHOST", "CLOSED") for row in books.attempts)
    figures.shares_to_house = sum(row["quantity"] for row in books.fills if row["booked_to"] == "house")
    figures.breaks = dict(Counter(row["kind"] for row in books.breaks))


def add_strikes(
    figures: Figures, strikes: Sequence[Strike], recoveries: Sequence[Recovery], load: Load, platform: Platform
) -> None:
    """What was done and how long it was felt."""
    figures.strikes = dict(Counter(strike.kind for strike in strikes))
    for group in sorted({_group(recovery.name) for recovery in recoveries}):
        figures.process_recovery[group] = Spread.of(
            recovery.works_at - recovery.died_at
            for recovery in recoveries
            if recovery.works_at is not None and _group(recovery.name) == group
        )
    accepted = sorted(load.acceptances)
    booked = query(platform.database(PORTFOLIO), _FIRST_BOOKINGS)
    for what in sorted({_class(strike.kind) for strike in strikes}):
        of_class = [strike for strike in strikes if _class(strike.kind) == what]
        figures.acceptance_again[what] = Spread.of(_next(accepted, strike.at) for strike in of_class)
        figures.booking_again[what] = Spread.of(
            min((row["booked"] for row in booked if row["accepted"] >= strike.wall), default=math.nan) - strike.wall
            for strike in of_class
        )


_FIRST_BOOKINGS = """
SELECT extract(epoch FROM user_order.accepted_at)::float8 AS accepted,
       extract(epoch FROM min(transfer.created_at))::float8 AS booked
  FROM user_order JOIN transfer ON transfer.order_id = user_order.order_id AND transfer.cause LIKE 'fill:%%'
 GROUP BY user_order.order_id
"""


def _next(times: Sequence[float], after: float) -> float:
    return next((moment - after for moment in times if moment > after), math.nan)


def _group(process: str) -> str:
    """`trade-executor.worker-1` -> `worker`."""
    return process.partition(".")[2].partition("-")[0] or process


def _class(kind: str) -> str:
    """What a strike was aimed at, for the spread of its effect."""
    for word in ("rabbitmq", "queues"):
        if word in kind:
            return "message broker"
    for word in ("postgresql", "database"):
        if word in kind:
            return "database"
    if "cache" in kind:
        return "cache"
    if "broker" in kind or "simulator" in kind:
        return "exchange"
    if kind.startswith("halt"):
        return "halt"
    return "frozen process" if kind.startswith("freeze") else "killed process"


def add_dead_letters(figures: Figures, platform: Platform) -> None:
    """What was set aside after too many attempts; its facts are caught up from the outbox all the same."""
    with pika.BlockingConnection(pika.URLParameters(platform.rabbit.url)) as connection:
        channel = connection.channel()
        counts = {
            queue: channel.queue_declare(dead_queue(queue), passive=True).method.message_count for queue in QUEUES
        }
    figures.dead_letters = {queue: count for queue, count in counts.items() if count}


def add_logs(figures: Figures, platform: Platform) -> None:
    """Repeats that inboxes absorbed, and what rooms complained about."""
    repeats: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for path in sorted((platform.directory / "logs").glob("*.*.log")):
        with path.open(errors="replace") as lines:
            for line in lines:
                if '"consumer.repeat"' in line:
                    repeats[path.name.partition(".")[0]] += 1
                elif '"level":"error"' in line or line.startswith("Traceback"):
                    errors[_event(line)] += 1
    figures.repeats_absorbed = dict(repeats)
    figures.error_lines = dict(errors.most_common())


def _event(line: str) -> str:
    """Our own events by name (`subject.happened`); what libraries write is counted together."""
    try:
        content: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:
        return "traceback outside the log"
    event = str(content.get("event", ""))
    return f"{content.get('service', '?')} {event}" if OWN_EVENT.fullmatch(event) else "of libraries"
