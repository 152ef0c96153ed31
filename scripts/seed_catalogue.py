"""Fill the catalogue with twelve published smallcases: `python -m scripts.seed_catalogue`.

Through the gateway, as an administrator would. Weights are computed by smallcase-service from the candles it has; the file
`catalogue.toml` holds shares and words only. Doing it again makes nothing twice: what exists by name is left alone.
"""

import asyncio
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import NAMESPACE_URL, uuid5

import httpx
import typer

from common.clock import SystemClock, trading_date
from common.logging import configure
from scripts import demo_admin
from scripts.compose_platform import gateway_of_compose
from scripts.demo_client import Client, DemoFailed
from scripts.platform_state import running_platform

CATALOGUE = Path(__file__).with_name("catalogue.toml")
SMALLCASES = "/api/v1/smallcases"
EXCHANGE = "NSE"
MOMENTUM_VALUES = 252
MONTH_VALUES = 21
HISTORY_DAYS = 400


@dataclass(frozen=True)
class Entry:
    """One smallcase of the catalogue."""

    name: str
    body: Mapping[str, Any]
    symbols: Sequence[str]
    strongest: int | None


def entries(universes: Mapping[str, Sequence[str]]) -> list[Entry]:
    """The catalogue; `universes` are the lists of smallcase-service by name."""
    found = []
    for row in tomllib.loads(CATALOGUE.read_text(encoding="utf-8"))["smallcase"]:
        symbols = row["symbols"] if "symbols" in row else universes[row["universe"]]
        attributes = {name: row[name] for name in ("category", "theme", "risk_level", "rationale")}
        body = {
            "name": row["name"],
            "description": row["description"],
            "visibility": "published",
            "attributes": {**attributes, "rebalancing_frequency": row["frequency"]},
            "weighting": {"scheme": row["scheme"]},
        }
        found.append(Entry(row["name"], body, symbols, row.get("strongest")))
    return found


async def seed(admin: Client, today: date) -> dict[str, bool]:
    """Make what is missing; answers the names, and which of them are new."""
    lists = (await admin.get(f"{SMALLCASES}/universes"))["items"]
    made = {}
    for entry in entries({row["name"]: row["symbols"] for row in lists}):
        made[entry.name] = not await _exists(admin, entry.name)
        if made[entry.name]:
            symbols = entry.symbols
            if entry.strongest is not None:
                symbols = await strongest(admin, symbols, entry.strongest, today)
            shares = [{"exchange": EXCHANGE, "tradingsymbol": symbol} for symbol in symbols]
            key = uuid5(NAMESPACE_URL, f"catalogue/{entry.name}").hex
            await admin.post(SMALLCASES, {**entry.body, "constituents": shares}, key=key)
    return made


async def _exists(admin: Client, name: str) -> bool:
    found = await admin.get(SMALLCASES, q=name, own="true", limit=100)
    return any(row["name"] == name for row in found["items"])


async def strongest(client: Client, symbols: Sequence[str], count: int, today: date) -> list[str]:
    """The shares with the best return of the last year without its last month, best first."""
    scores: dict[str, Decimal] = {}
    for symbol in symbols:
        span = {
            "from": (today - timedelta(days=HISTORY_DAYS)).isoformat(),
            "to": (today - timedelta(days=1)).isoformat(),
        }
        candles = (await client.get(f"/api/v1/candles/{EXCHANGE}/{symbol}", **span))["candles"]
        closes = [Decimal(candle["close"]) for candle in candles]
        if len(closes) > MOMENTUM_VALUES:
            scores[symbol] = closes[-1 - MONTH_VALUES] / closes[-1 - MOMENTUM_VALUES] - 1
    if len(scores) < count:
        raise DemoFailed(f"only {len(scores)} of {len(symbols)} shares have a year of candles; {count} are wanted")
    return sorted(scores, key=lambda symbol: (-scores[symbol], symbol))[:count]


async def run(gateway: str) -> dict[str, bool]:
    """Seed through one gateway."""
    async with httpx.AsyncClient(base_url=gateway, timeout=30.0, trust_env=False) as http:
        admin = Client(http)
        await demo_admin.sign_in(admin)
        return await seed(admin, trading_date(SystemClock().now()))


def main(
    url: Annotated[str | None, typer.Option(help="The gateway; default: the platform running on this machine.")] = None,
) -> None:
    """Seed the catalogue and say what was made."""
    configure("scripts", "WARNING", stream=sys.stderr)
    running = running_platform()
    gateway = url or (running.gateway_url if running is not None else gateway_of_compose())
    if gateway is None:
        raise typer.BadParameter("no platform is running here; start it with `make run` or `docker compose up --wait`")
    try:
        made = asyncio.run(run(gateway))
    except DemoFailed as failure:
        typer.echo(f"Not all were made: {failure}", err=True)
        raise typer.Exit(1) from failure
    for name, is_new in made.items():
        typer.echo(f"{'made' if is_new else 'was there'}: {name}")


if __name__ == "__main__":
    typer.run(main)
