"""A user with ten years of days and 20,000 trades: how long the summary and the page take at the service, how much memory.

Run: `python -m bench.analytics_page`. The service answers over HTTP on loopback from a real PostgreSQL. Shown beside it:
quantstats computing its figures and its page from the very same daily returns.
"""

import resource
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import numpy as np
import pandas as pd
import psutil
import psycopg2
import typer
from jose import jwt
from psycopg2.extras import execute_values
from sqlalchemy import text

from analytics_service.app import create_app
from analytics_service.config import NAME, Settings
from common.auth import ACCESS_TYPE, ALGORITHM, AUDIENCE, ISSUER, AccessTokens, Authenticator, StaticKeys
from common.clock import SystemClock
from common.db import Database
from common.testing import _public_jwk, new_rsa_pem
from common.testing_servers import postgres, scratch
from scripts.embedded_rooms import RoomServer

FIRST = date(2016, 1, 4)
BENCHMARK = ("NSE", "NIFTY 50")
BUDGET_MS = 300.0


@dataclass(frozen=True)
class World:
    """What was made: whose it is and which days there are."""

    user_id: UUID
    portfolio_id: UUID
    days: list[date]


def trading_days(years: int) -> list[date]:
    """Weekdays of some years."""
    every = [FIRST + timedelta(days=number) for number in range(round(years * 365.25))]
    return [day for day in every if day.weekday() < 5]


def fill(db: Database, years: int, trades: int, shares: int, seed: int) -> World:
    """Closes as random walks, monthly deposits, trades that only sell what is held; the same for the same seed."""
    rng = np.random.default_rng(seed)
    world = World(uuid4(), uuid4(), trading_days(years))
    count = len(world.days)
    moves = rng.normal(0.0004, 0.013, (count, shares + 1))
    prices = np.rint(100_000 * np.exp(np.cumsum(moves, axis=0))).astype(np.int64)
    symbols = [f"SHARE{number:02d}" for number in range(shares)]
    keys = [BENCHMARK, *(("NSE", symbol) for symbol in symbols)]
    closes = [
        (exchange, symbol, day, int(prices[at, number]))
        for number, (exchange, symbol) in enumerate(keys)
        for at, day in enumerate(world.days)
    ]
    held = np.zeros(shares, dtype=np.int64)
    rows = []
    for number in range(trades):
        at = number * (count - 1) // trades
        share = int(rng.integers(shares))
        quantity = int(rng.integers(1, 60))
        side = "BUY" if held[share] < quantity or rng.random() < 0.55 else "SELL"
        held[share] += quantity if side == "BUY" else -quantity
        amount = quantity * int(prices[at, share + 1])
        day = world.days[at]
        moment = datetime(day.year, day.month, day.day, 5, tzinfo=UTC) + timedelta(seconds=number % 3_000)
        rows.append(
            (str(uuid4()), 3, str(world.user_id), str(world.portfolio_id), "NSE", symbols[share], side, "CNC", quantity,
             amount, amount // 900, day, moment)
        )  # fmt: skip
    flows = [
        (str(uuid4()), str(world.user_id), str(world.portfolio_id), "DEPOSIT", 2_500_000_00,
         datetime(day.year, day.month, day.day, 4, tzinfo=UTC))
        for at, day in enumerate(world.days)
        if at == 0 or day.month != world.days[at - 1].month
    ]  # fmt: skip
    connection = psycopg2.connect(db.url.replace("+psycopg2", ""))
    with connection, connection.cursor() as cursor:
        execute_values(cursor, "INSERT INTO daily_close VALUES %s", closes, page_size=10_000)
        execute_values(cursor, "INSERT INTO trading_day VALUES %s", [(day,) for day in world.days], page_size=5_000)
        execute_values(
            cursor,
            "INSERT INTO trade (order_id, order_version, user_id, portfolio_id, exchange, tradingsymbol, side, product,"
            " quantity, amount_paise, charges_paise, trading_date, occurred_at) VALUES %s",
            rows,
            page_size=5_000,
        )
        execute_values(cursor, "INSERT INTO cash_flow VALUES %s", flows)
        cursor.execute("INSERT INTO close_change (from_date, changed_at) VALUES (%s, now())", (FIRST,))
    connection.close()
    with db.engine.connect() as analysed:
        analysed.execution_options(isolation_level="AUTOCOMMIT").execute(text("ANALYZE"))
    return world


def one_more_trade(db: Database, world: World) -> None:
    """What a filled order of today adds."""
    with db.transaction() as session:
        session.execute(
            text(
                "INSERT INTO trade (order_id, order_version, user_id, portfolio_id, exchange, tradingsymbol, side,"
                " product, quantity, amount_paise, charges_paise, trading_date, occurred_at) VALUES"
                " (gen_random_uuid(), 3, :user_id, :portfolio_id, 'NSE', 'SHARE00', 'BUY', 'CNC', 1, 100000, 100, :day, now())"
            ),
            {"user_id": world.user_id, "portfolio_id": world.portfolio_id, "day": world.days[-1]},
        )


@contextmanager
def service(db: Database, world: World) -> Iterator[httpx.Client]:
    """The service on a loopback port, and a client signed in as the user."""
    pem = new_rsa_pem()
    jwks = {"keys": [_public_jwk(pem, "bench")]}
    clock = SystemClock()
    authenticator = Authenticator(
        name=NAME, access=AccessTokens(StaticKeys(jwks), clock), service_keys=StaticKeys({"keys": []}), clock=clock
    )
    listener = socket.create_server(("127.0.0.1", 0))
    app = create_app(Settings(database_url=db.url), db=db, authenticator=authenticator, clock=clock)
    server = RoomServer(NAME, app, listener)
    server.start()
    now = int(time.time())
    claims = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": str(world.user_id), "sid": str(uuid4()), "roles": ["user"],
        "email": "bench@example.com", "mfa": False, "kyc": "approved", "iat": now, "exp": now + 3_600, "jti": uuid4().hex,
    }  # fmt: skip
    token = jwt.encode(claims, pem, algorithm=ALGORITHM, headers={"kid": "bench", "typ": ACCESS_TYPE})
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        with httpx.Client(
            base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=60, trust_env=False
        ) as client:
            yield client
    finally:
        server.stop()


def milliseconds(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """(median, slowest) of some rounds."""
    took = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        took.append((time.perf_counter() - started) * 1000)
    return sorted(took)[len(took) // 2], max(took)


def get(client: httpx.Client, path: str) -> httpx.Response:
    """An answer that succeeded."""
    answer = client.get(f"/api/v1/analytics{path}")
    answer.raise_for_status()
    return answer


def say(line: str) -> None:
    """One line of the result."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def rss_mb() -> float:
    """Resident memory of this process now."""
    return float(psutil.Process().memory_info().rss / 2**20)


def measure(client: httpx.Client, db: Database, world: World, rounds: int) -> None:
    """Print the service's figures."""
    before = rss_mb()
    first, _ = milliseconds(lambda: get(client, ""), 1)
    say(f"summary, first ever (values and lots of all facts are made)   {first:8.1f} ms")
    for path, name in (("", "summary"), ("/returns", "returns"), ("/risk", "risk"), ("/pnl", "pnl"),
                       ("?format=figure", "figures"), ("/page", "page")):  # fmt: skip
        median, worst = milliseconds(lambda path=path: get(client, path), rounds)  # type: ignore[misc]
        size = len(get(client, path).content) / 1024
        verdict = (
            ""
            if name not in ("summary", "page")
            else f"   budget {BUDGET_MS:.0f}: {'kept' if worst < BUDGET_MS else 'MISSED'}"
        )
        say(f"{name:<10} median {median:8.1f} ms, slowest of {rounds} {worst:8.1f} ms, {size:8.0f} kB{verdict}")
    took = []
    for _ in range(rounds):
        one_more_trade(db, world)
        took.append(milliseconds(lambda: get(client, ""), 1)[0])
    say(f"summary right after a new trade: median {sorted(took)[len(took) // 2]:.1f} ms, slowest {max(took):.1f} ms")
    say(
        f"memory: {before:.0f} MB before, {rss_mb():.0f} MB after, peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB (the process also runs this benchmark)"
    )


def beside_quantstats(client: httpx.Client) -> None:
    """Print what quantstats takes for the same daily returns."""
    items = get(client, "/history?limit=5000").json()["items"]
    started = time.perf_counter()
    import quantstats_lumi

    loaded = (time.perf_counter() - started) * 1000
    moves = pd.Series([item["daily_return"] for item in items], index=pd.to_datetime([item["date"] for item in items]))
    figures, _ = milliseconds(lambda: quantstats_lumi.reports.metrics(moves, display=False, mode="full"), 3)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "page.html")
        page, _ = milliseconds(lambda: quantstats_lumi.reports.html(moves, output=str(output)), 1)
    say(
        f"quantstats on the same returns: import {loaded:.0f} ms, metrics {figures:.1f} ms, page {page:.0f} ms; peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
    )
    ours = get(client, "/risk").json()
    sharpe = float(quantstats_lumi.stats.sharpe(moves, rf=ours["risk_free"], periods=252))
    say(f"Sharpe here {ours['sharpe']:.10f}, quantstats {sharpe:.10f}")


def main(years: int = 10, trades: int = 20_000, shares: int = 50, rounds: int = 15, seed: int = 7) -> None:
    """Fill a database, ask the service, compare."""
    with postgres() as server, scratch(server, "analytics_service") as db:
        world = fill(db, years, trades, shares, seed)
        say(f"{len(world.days)} days, {trades} trades in {shares} shares")
        with service(db, world) as client:
            measure(client, db, world, rounds)
            beside_quantstats(client)


if __name__ == "__main__":
    typer.run(main)
