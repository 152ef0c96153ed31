"""Scale: more executor workers, a second API process, and the cost of an order as users grow from 1,000 to 1,000,000.

The rows of users who do nothing are loaded before; what an order costs must not depend on them. Which way the hot tables
were read in the meantime (by index, by scan) is told from PostgreSQL's own counters.
"""

from collections.abc import Sequence
from contextlib import closing

import psycopg2
import typer
from rich.console import Console
from rich.table import Table

from bench import orders
from bench.accept import DOWNSTREAM, Point, point_of
from bench.drain import drain
from bench.figures import Figure
from bench.stage import Stage, stage
from bench.wire import run_load
from common.testing_ports import free_port
from tests.chaos.processes import Spec
from tests.chaos.servers import query, wait_for

ROOM = "portfolio-service"
WORKERS = (1, 2, 4)
USERS = (1_000, 100_000, 1_000_000)
DRAIN_ORDERS = 2_000
DRAIN_SHARES = 20
CONNECTIONS = 32
SECONDS = 6.0
ROUNDS = 3

# What a user who has traded leaves behind; counted up from the number of users there are.
LOAD = """
CREATE TEMPORARY TABLE newcomer ON COMMIT DROP AS
  SELECT gen_random_uuid() AS user_id, gen_random_uuid() AS portfolio_id, number FROM generate_series(1, %(users)s) AS number;
INSERT INTO trader (user_id, created_at) SELECT user_id, now() FROM newcomer;
INSERT INTO portfolio (portfolio_id, user_id, name, is_default, cash_opened, created_at)
  SELECT portfolio_id, user_id, 'Main', true, true, now() FROM newcomer;
INSERT INTO account (id, owner, kind, asset, posted, held, allow_negative)
  SELECT gen_random_uuid(), portfolio_id::text, template.kind, asset, 0, 0, allow_negative
  FROM newcomer, (SELECT DISTINCT kind, asset, allow_negative FROM account
                  WHERE owner = (SELECT portfolio_id::text FROM user_order LIMIT 1)) AS template;
CREATE TEMPORARY TABLE template ON COMMIT DROP AS SELECT * FROM user_order LIMIT 1;
ALTER TABLE template DROP COLUMN order_id, DROP COLUMN user_id, DROP COLUMN portfolio_id, DROP COLUMN state;
INSERT INTO user_order (order_id, user_id, portfolio_id, state, {columns})
  SELECT gen_random_uuid(), user_id, portfolio_id, 'CANCELLED', {columns} FROM newcomer, template;
"""
READ = """
SELECT relname AS name, seq_scan AS scans, coalesce(idx_scan, 0) AS lookups, n_live_tup AS n FROM pg_stat_user_tables
"""
INDEXES = "SELECT relname || '.' || indexrelname AS name, idx_scan AS n FROM pg_stat_user_indexes"

console = Console(width=150)


def grow(url: str, users: int) -> None:
    """Add users who have traded, and let the planner know."""
    with closing(psycopg2.connect(url, options="-c statement_timeout=0")) as connection:
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns WHERE table_name = 'user_order'"
                " AND column_name NOT IN ('order_id', 'user_id', 'portfolio_id', 'state') AND is_identity = 'NO'"
            )
            row = cursor.fetchone()
            assert row is not None, "an aggregate has one row"
            cursor.execute(LOAD.format(columns=row[0]), {"users": users})
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")


def accepted(target: Stage, urls: Sequence[str]) -> Point:
    """The round with the median rate at the service, connections in turn to each process."""
    points = []
    for _ in range(ROUNDS):
        before = target.cpu()
        requests = orders.endless(target.tokens, urls[0], orders.one())
        load = run_load(urls, requests, connections=CONNECTIONS, seconds=SECONDS)
        points.append(point_of(ROOM, CONNECTIONS, load, before, target.cpu()))
    return sorted(points, key=lambda point: point.rate)[ROUNDS // 2]


def of_users() -> list[Figure]:
    """Cost of an order by users, and how the tables were read."""
    table = Table("users", "orders/s", "p50 ms", "p99 ms", "CPU us per order", title="Cost of an order as users grow")
    costs: dict[int, float] = {}
    with stage(100) as target, target.standing_still(*DOWNSTREAM):
        books, url = target.platform.database(ROOM), target.url(ROOM)
        accepted(target, [url])
        there = 0
        for users in USERS:
            grow(books, users - there)
            there = users
            before, used = _read(books), _used(books)
            point = accepted(target, [url])
            costs[users] = sum(point.cpu_us.values())
            table.add_row(
                f"{users:,}", f"{point.rate:,.0f}", f"{point.p50_ms:.1f}", f"{point.p99_ms:.1f}", f"{costs[users]:,.0f}"
            )
        after, use = _read(books), _used(books)
    console.print(table)
    ways = Table(
        "table",
        "rows",
        "scans of the whole table",
        "by index",
        title=f"How the tables were read at {USERS[-1]:,} users",
    )
    for name, (scans, lookups, rows) in sorted(after.items(), key=lambda one: -one[1][2]):
        if rows >= USERS[0]:
            old = before.get(name, (0, 0, 0))
            ways.add_row(name, f"{rows:,}", f"{scans - old[0]:,}", f"{lookups - old[1]:,}")
    console.print(ways)
    busy = [name for name, count in use.items() if count - used.get(name, 0) >= 1_000]
    console.print("indexes used: " + ", ".join(sorted(busy)))
    return [
        Figure(
            f"scale: CPU per order at {USERS[-1]:,} users, of that at {USERS[0]:,}",
            costs[USERS[-1]] / costs[USERS[0]],
            at_most=1.2,
        )
    ]


def _read(url: str) -> dict[str, tuple[int, int, int]]:
    return {row["name"]: (row["scans"], row["lookups"], row["n"]) for row in query(url, READ)}


def _used(url: str) -> dict[str, int]:
    return {row["name"]: row["n"] for row in query(url, INDEXES)}


def of_processes() -> list[Figure]:
    """Orders a second at the service with one and with two API processes."""
    with stage(100) as target, target.standing_still(*DOWNSTREAM):
        first = target.url(ROOM)
        port = free_port()
        spec, second = target.platform.supervisor.spec(f"{ROOM}.api"), f"http://127.0.0.1:{port}"
        one = accepted(target, [first])
        environ = {**spec.environ, "PORTFOLIO_PORT": str(port)}
        name = f"{ROOM}.api-2"
        target.platform.supervisor.add(
            Spec(name, spec.package, spec.command, environ, health_url=f"{second}/health/ready")
        )
        # Others stand still, and count as idle.
        wait_for(lambda: name not in target.platform.supervisor.idle(), "the second process", 60)
        two = accepted(target, [first, second])
    return [
        Figure("scale: orders/s at one API process", one.rate),
        Figure("scale: orders/s at two API processes", two.rate),
    ]


def of_workers() -> list[Figure]:
    """A burst with one, two and four executor workers."""
    result = []
    for workers in WORKERS:
        with stage(50, counts={"trade-executor.worker": workers}) as target:
            found = drain(target, DRAIN_ORDERS, DRAIN_SHARES)
        assert not found.problems
        result.append(Figure(f"scale: s to drain {DRAIN_ORDERS:,} orders, {workers} workers", found.drained_s))
    return result


def figures() -> list[Figure]:
    """All three."""
    return [*of_workers(), *of_processes(), *of_users()]


def main() -> None:
    """Print tables and figures."""
    for figure in figures():
        console.print(f"{figure.name}: {figure.value:,.2f}")


if __name__ == "__main__":
    typer.run(main)
