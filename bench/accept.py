"""How many orders a second are accepted: through the gateway, at the service itself, and what PostgreSQL alone could commit.

Every accepted order is committed before its answer. The limit beside it: pgbench inserting the same rows, one order a
transaction, on the same server in the same run. Downstream processes stand still meanwhile, so that the figure is the
accept path's; `--running` leaves them running.
"""

import shutil
import subprocess
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

from bench import orders
from bench.figures import Figure
from bench.stage import Stage, stage
from bench.wire import Load

CONNECTIONS = (1, 8, 32, 128)
DOWNSTREAM = (
    "trade-executor.consume", "trade-executor.relay", "trade-executor.worker", "trade-executor.loop",
    "notification-service", "analytics-service", "portfolio-service.consume", "portfolio-service.relay",
    "portfolio-service.sweep", "smallcase-service",
)  # fmt: skip
"""What an accepted order goes to afterwards; prices stay fresh."""

# The rows of one accepted order: key, order, hold, balance, counters, message.
PGBENCH = """
\\set n random(1, {accounts})
BEGIN;
INSERT INTO idempotency_key (owner_id, key, request_hash, status, body)
  VALUES (md5('user' || :n)::uuid, gen_random_uuid()::text, repeat('a', 64), 202, '{body}'::jsonb);
UPDATE bench_account SET held = held + 43000 WHERE id = :n;
INSERT INTO bench_order SELECT gen_random_uuid(), template.* FROM bench_template AS template;
INSERT INTO bench_transfer (id, debit_account, credit_account, asset, amount, kind, cause, order_id, created_at)
  VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'INR', 43000, 'pending', 'hold', gen_random_uuid(), now());
INSERT INTO bench_outbox (message_id, aggregate_id, type, version, source, payload, occurred_at, recorded_at)
  VALUES (gen_random_uuid(), gen_random_uuid()::text, 'OrderAccepted', 1, 'portfolio-service', '{body}'::jsonb, now(), clock_timestamp());
COMMIT;
"""

console = Console(width=150)


@dataclass
class Point:
    """One line of the table."""

    what: str
    connections: int
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: dict[str, float]
    refused: int


def measure(target: Stage, what: str, url: str, connections: int, seconds: float) -> Point:
    """One load and what it cost."""
    before = target.cpu()
    load = orders.drive(target.tokens, url, orders.one(), connections=connections, seconds=seconds)
    after = target.cpu()
    return point_of(what, connections, load, before, after)


def point_of(what: str, connections: int, load: Load, before: dict[str, float], after: dict[str, float]) -> Point:
    """Rates, times and the processor's time per accepted order, of the processes that took any worth telling."""
    answered = max(1, load.answered)
    cpu = {name: (after[name] - before.get(name, 0.0)) / answered * 1e6 for name in after}
    return Point(
        what,
        connections,
        load.rate,
        load.percentile(0.5) * 1_000,
        load.percentile(0.99) * 1_000,
        {name: round(value) for name, value in cpu.items() if value >= 5},
        sum(load.statuses.values()) - load.answered,
    )


def limit(target: Stage, connections: int, seconds: float) -> float | None:
    """Transactions a second of pgbench with the rows of one order each; None where pgbench is not installed."""
    pgbench = shutil.which("pgbench")
    if pgbench is None:
        return None
    url = target.platform.database("portfolio-service")
    body = orjson.dumps({"order_id": "0" * 36, "rest": "x" * 760}).decode()
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory, "order.sql")
        script.write_text(PGBENCH.format(accounts=len(target.tokens), body=body))
        subprocess.run(["psql", "-q", "-v", "ON_ERROR_STOP=1", url, "-c", _LIKE], check=True, capture_output=True)
        done = subprocess.run(
            [pgbench, "-n", "-M", "prepared", "-c", str(connections), "-j", "1", "-T", str(int(seconds)), "-f", str(script), url],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    line = next(line for line in done.stdout.splitlines() if line.startswith("tps"))
    return float(line.split("=")[1].split()[0])


# Copies of the real tables with their indexes, so that the real ones keep adding up.
_LIKE = """
DROP TABLE IF EXISTS bench_order, bench_template, bench_transfer, bench_outbox, bench_account;
CREATE TABLE bench_order (LIKE user_order INCLUDING ALL);
CREATE TABLE bench_transfer (LIKE transfer INCLUDING ALL);
CREATE TABLE bench_outbox (LIKE outbox INCLUDING ALL);
CREATE TABLE bench_account AS SELECT number AS id, 0::bigint AS held FROM generate_series(1, 10000) AS number;
ALTER TABLE bench_account ADD PRIMARY KEY (id);
CREATE TABLE bench_template AS SELECT * FROM user_order LIMIT 1;
ALTER TABLE bench_template DROP COLUMN order_id;
"""


def main(
    seconds: Annotated[float, typer.Option(help="Of each load.")] = 8.0,
    users: Annotated[int, typer.Option()] = 100,
    rounds: Annotated[int, typer.Option(help="The median is told.")] = 3,
    running: Annotated[bool, typer.Option(help="Leave everything behind the accept path running.")] = False,
) -> None:
    """Print one table."""
    with stage(users) as target, nullcontext() if running else target.standing_still(*DOWNSTREAM):
        tell(all_points(target, seconds, rounds))


def figures() -> list[Figure]:
    """Medians of three rounds of every load."""
    with stage(100) as target, target.standing_still(*DOWNSTREAM):
        points = all_points(target, seconds=6.0, rounds=3)
    tell(points)
    found = {(point.what, point.connections): point for point in points}
    through, alone = found["gateway", 32], found["service", 32]
    gateway_cpu = sum(through.cpu_us.values()) / sum(alone.cpu_us.values()) - 1
    result = [
        Figure("accept: orders/s, 32 connections", through.rate, at_least=1_500),
        Figure("accept: p99 ms, 32 connections", through.p99_ms, at_most=100),
        Figure("accept: CPU that the gateway adds, %", gateway_cpu * 100, at_most=25),
    ]
    if ("pgbench", 32) in found:
        result.append(
            Figure("accept: of pgbench, 32 connections", through.rate / found["pgbench", 32].rate, at_least=0.5)
        )
    return result


def all_points(target: Stage, seconds: float, rounds: int) -> list[Point]:
    """Every load at every number of connections, the rounds interleaved; the round with the median rate stands."""
    gateway, service = target.platform.gateway_url, target.url("portfolio-service")
    measure(target, "warm-up", gateway, 8, 2.0)
    found: dict[tuple[str, int], list[Point]] = {}
    for _ in range(rounds):
        for connections in CONNECTIONS:
            for what, url in (("gateway", gateway), ("service", service)):
                point = measure(target, what, url, connections, seconds)
                found.setdefault((what, connections), []).append(point)
            rate = limit(target, min(connections, 32), seconds)
            if rate is not None:
                point = Point("pgbench", connections, rate, min(connections, 32) / rate * 1e3, 0.0, {}, 0)
                found.setdefault(("pgbench", connections), []).append(point)
    return [sorted(points, key=lambda point: point.rate)[len(points) // 2] for points in found.values()]


def tell(points: list[Point]) -> None:
    """The table, with the ratio to pgbench at as many connections."""
    limits = {point.connections: point.rate for point in points if point.what == "pgbench"}
    table = Table(
        "load",
        "connections",
        "orders/s",
        "of pgbench",
        "p50 ms",
        "p99 ms",
        "refused",
        "CPU us per order",
        title="Accept",
    )
    for point in sorted(points, key=lambda point: (point.connections, point.what)):
        ratio = f"{point.rate / limits[point.connections]:.2f}" if point.connections in limits else "-"
        cpu = ", ".join(f"{name} {value:.0f}" for name, value in sorted(point.cpu_us.items(), key=lambda one: -one[1]))
        table.add_row(point.what, str(point.connections), f"{point.rate:,.0f}", ratio, f"{point.p50_ms:.1f}",
                      f"{point.p99_ms:.1f}" if point.p99_ms else "-", str(point.refused), cpu)  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
