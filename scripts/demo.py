"""`make demo`: many users trade through the gateway, as REST clients would; then the books are checked.

Against a running platform, or one that it starts for the time of the demo. Exit code 0 only if every order ended and the
books balance. `--check` places nothing and only waits for orders of earlier runs to end.
"""

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any
from uuid import uuid4

import httpx
import typer
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from common.clock import SystemClock, trading_date
from common.logging import configure
from common.money import format_rupees, parse_rupees
from scripts import demo_admin
from scripts.compose_platform import gateway_of_compose
from scripts.demo_client import Client, DemoFailed, Refused, password, until
from scripts.platform_state import running_platform

SHARES = (
    "RELIANCE", "TCS", "INFY", "HDFCBANK", "ICICIBANK", "SBIN", "ITC", "LT", "AXISBANK", "BHARTIARTL",
    "HINDUNILVR", "KOTAKBANK", "WIPRO", "SUNPHARMA", "TITAN", "NTPC", "ONGC", "TATASTEEL", "COALINDIA", "POWERGRID",
)  # fmt: skip
FUNDS_RUPEES = "500000.00"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 120.0
"""A busy platform finishes what it has begun, and its servers write what they hold."""
SETTLE_TIMEOUT_S = 300.0
CLOSED = frozenset({"FILLED", "CANCELLED", "REJECTED", "EXPIRED", "FAILED"})
HTTP_LIMITS = httpx.Limits(max_connections=60, max_keepalive_connections=60)
BUY_SHARE = 0.6
SELL_SHARE = 0.3
LIMIT_SHARES = 6
RESTING_SHARES = 4
ACCEPTED_SHARE_MIN = 0.9

console = Console()


@dataclass
class Trader:
    """One user of the demo and what became of the orders."""

    client: Client
    email: str
    order_ids: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Plan:
    """How many orders of which kind one user places."""

    buys: int
    sells: int
    resting: int

    @classmethod
    def of(cls, orders: int, users: int) -> "Plan":
        """Split the whole number of orders over users and kinds."""
        each = max(orders // users, 3)
        buys, sells = round(each * BUY_SHARE), round(each * SELL_SHARE)
        return cls(buys=buys, sells=sells, resting=each - buys - sells)


def main(
    users: Annotated[int, typer.Option(min=1, max=500)] = 50,
    orders: Annotated[int, typer.Option(min=10, max=20_000)] = 500,
    seed: Annotated[int, typer.Option()] = 1,
    check: Annotated[bool, typer.Option(help="Only wait for all orders to end and check the books.")] = False,
    url: Annotated[str | None, typer.Option(help="The gateway; default: the platform running on this machine.")] = None,
) -> None:
    """Trade, wait, check; exit code 1 when the books do not balance."""
    configure("demo", "WARNING", stream=sys.stderr)
    try:
        with platform() as found:
            gateway = url or found
            console.print(f"Gateway: {gateway}")
            balanced = asyncio.run(run(gateway, users, orders, seed, check))
    except DemoFailed as failure:
        console.print(f"[bold red]The demo failed:[/] {failure}")
        sys.exit(1)
    sys.exit(0 if balanced else 1)


@contextmanager
def platform() -> Iterator[str]:
    """The gateway of the platform that already runs here (`make run`, or Compose), or of one started for the demo."""
    found = running_platform()
    running_url = found.gateway_url if found is not None else gateway_of_compose()
    if running_url is not None:
        yield running_url
        return
    console.print("No platform is running here: starting one for the demo.")
    process = subprocess.Popen([sys.executable, "-m", "scripts.run_platform", "--quiet"], stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while (found := running_platform()) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise DemoFailed("the platform did not start")
            time.sleep(0.2)
        yield found.gateway_url
    finally:
        process.terminate()
        process.wait(STOP_TIMEOUT_S)


async def run(gateway: str, users: int, orders: int, seed: int, check: bool) -> bool:
    """The whole demo against one gateway; answers whether the books balance."""
    async with httpx.AsyncClient(base_url=gateway, timeout=30.0, limits=HTTP_LIMITS, trust_env=False) as http:
        admin = Client(http)
        await demo_admin.sign_in(admin)
        before = await admin.get("/api/v1/ops/summary")
        traders: list[Trader] = []
        started = time.monotonic()
        if not check:
            traders = await trade(http, admin, users, orders, seed)
            accepted = sum(len(trader.order_ids) for trader in traders)
            if accepted < orders * ACCEPTED_SHARE_MIN:
                reasons = sum((trader.refused for trader in traders), Counter[str]())
                raise DemoFailed(f"only {accepted} of {orders} orders were accepted; refused: {dict(reasons)}")
        await all_closed(admin)
        after = await admin.get("/api/v1/ops/summary")
        return await report(admin, traders, before, after, time.monotonic() - started)


async def trade(http: httpx.AsyncClient, admin: Client, users: int, orders: int, seed: int) -> list[Trader]:
    """Sign users up, fund them, let them trade."""
    plan = Plan.of(orders, users)
    with Progress(console=console, transient=not console.is_terminal) as progress:
        task = progress.add_task("users: register, KYC, funds", total=users)
        traders = await sign_up_all(http, admin, users, progress, task)
        quotes = await last_prices(traders[0].client)
        task = progress.add_task("orders: buy", total=users * plan.buys)
        await in_parallel(buy(trader, plan, quotes, seed + i, progress, task) for i, trader in enumerate(traders))
        await all_closed(admin)
        task = progress.add_task("orders: sell, rest, cancel", total=users * (plan.sells + plan.resting))
        await in_parallel(
            sell_and_cancel(trader, plan, quotes, seed + i, progress, task) for i, trader in enumerate(traders)
        )
        await in_parallel(wrong_orders(trader, quotes) for trader in traders[:5])
    return traders


async def in_parallel(work: Any) -> list[Any]:
    """Run coroutines side by side; the first failure ends the demo."""
    return list(await asyncio.gather(*work))


async def sign_up_all(
    http: httpx.AsyncClient, admin: Client, users: int, progress: Progress, task: TaskID
) -> list[Trader]:
    run_id = uuid4().hex[:8]

    async def sign_up(number: int) -> Trader:
        trader = Trader(Client(http), f"trader{number}.{run_id}@example.com")
        await trader.client.register(trader.email, password(), f"Trader {number}")
        await trader.client.post("/api/v1/kyc", kyc_form(run_id, number))
        me = await trader.client.get("/api/v1/auth/me")
        await admin.put(f"/api/v1/admin/users/{me['user_id']}/kyc-status", {"status": "approved", "reason": "demo"})
        await trader.client.renew()
        await trader.client.post("/api/v1/funds/topup", {"amount": FUNDS_RUPEES})
        progress.advance(task)
        return trader

    gate = asyncio.Semaphore(8)

    async def gated(number: int) -> Trader:
        async with gate:
            return await sign_up(number)

    return await in_parallel(gated(number) for number in range(users))


def kyc_form(run_id: str, number: int) -> dict[str, str]:
    """KYC facts of an invented person; the PAN is unique per run and user."""
    letters = "".join(chr(ord("A") + int(digit, 16)) for digit in run_id[:4])
    return {
        "legal_name": f"Trader {number}",
        "pan": f"{letters}P{(int(run_id[4:], 16) + number) % 10_000:04d}{chr(ord('A') + number % 26)}",
        "date_of_birth": "1990-01-01",
        "address": "1 Demo Street, Mumbai 400001",
    }


async def last_prices(client: Client) -> dict[str, dict[str, int]]:
    """Last price and tick of every share, in paise."""

    async def one(symbol: str) -> tuple[str, dict[str, int]]:
        instrument = await client.get(f"/api/v1/instruments/NSE/{symbol}")
        quote = await client.get(f"/api/v1/market/ltp/{symbol}")
        return symbol, {"price": parse_rupees(quote["last_price"]), "tick": parse_rupees(instrument["tick_size"])}

    return dict(await in_parallel(one(symbol) for symbol in SHARES))


def limit_price(quote: dict[str, int], bps: int) -> str:
    """A price `bps` away from the last one, on the tick."""
    price = quote["price"] * (10_000 + bps) // 10_000
    price -= price % quote["tick"]
    return format_rupees(price)


async def place(trader: Trader, orders: Sequence[dict[str, Any]]) -> list[str]:
    """One order by `POST /orders`, several as a batch; answers the accepted ids."""
    try:
        if len(orders) == 1:
            answers = [await trader.client.post("/api/v1/orders", orders[0])]
        else:
            batch = await trader.client.post("/api/v1/orders/batch", {"orders": list(orders), "atomic": False})
            answers = batch["results"]
    except Refused as refused:
        trader.refused[refused.code] += len(orders)
        return []
    accepted = [answer["order_id"] for answer in answers if "order_id" in answer]
    for answer in answers:
        if answer.get("status") == "accepted":
            accepted.append(answer["order"]["order_id"])
        elif answer.get("status") == "refused":
            trader.refused[answer["code"]] += 1
    trader.order_ids += accepted
    return accepted


def order(symbol: str, side: str, quantity: int, price: str | None = None, **more: Any) -> dict[str, Any]:
    """The body of an order; MARKET without a price."""
    body = {"exchange": "NSE", "tradingsymbol": symbol, "side": side, "quantity": quantity, "product": "CNC",
            "order_type": "LIMIT" if price else "MARKET", "confirm_duplicate": True, **more}  # fmt: skip
    return {**body, "price": price} if price else body


async def buy(
    trader: Trader, plan: Plan, quotes: dict[str, dict[str, int]], seed: int, progress: Progress, task: TaskID
) -> None:
    """Market and marketable limit buys."""
    rng = random.Random(seed)  # noqa: S311  repeatable choices, no secret
    wanted = []
    for _ in range(plan.buys):
        symbol = rng.choice(SHARES)
        as_limit = symbol in SHARES[:LIMIT_SHARES] and rng.random() < 0.5
        wanted.append(order(symbol, "BUY", rng.randint(1, 5), limit_price(quotes[symbol], 100) if as_limit else None))
    await place_all(trader, wanted, seed, progress, task)


async def place_all(
    trader: Trader, orders: Sequence[dict[str, Any]], seed: int, progress: Progress, task: TaskID
) -> None:
    """Most users send their list as one batch, every fourth sends one order after the other."""
    for group in [[one] for one in orders] if seed % 4 == 0 else [list(orders)]:
        if group:
            await place(trader, group)
            progress.advance(task, len(group))


async def sell_and_cancel(
    trader: Trader, plan: Plan, quotes: dict[str, dict[str, int]], seed: int, progress: Progress, task: TaskID
) -> None:
    """Sell shares that were bought, and place limit orders below the market that are cancelled again."""
    rng = random.Random(seed)  # noqa: S311
    held = (await trader.client.get("/api/v1/holdings"))["items"]
    holdings = [row for row in held if row["free_quantity"] > 0]
    sells = [order(row["tradingsymbol"], "SELL", 1) for row in rng.sample(holdings, min(plan.sells, len(holdings)))]
    await place_all(trader, sells, seed, progress, task)
    resting = []
    for _ in range(plan.resting):
        symbol = rng.choice(SHARES[-RESTING_SHARES:])
        # Good for minutes only: it ends by itself even if nobody comes back to cancel it.
        body = order(symbol, "BUY", 1, limit_price(quotes[symbol], -250), validity="TTL", ttl_minutes=2)
        resting += await place(trader, [body])
        progress.advance(task)
    for order_id in resting:
        try:
            await trader.client.delete(f"/api/v1/orders/{order_id}")
        except Refused as refused:
            if refused.status != 409:
                raise


async def wrong_orders(trader: Trader, quotes: dict[str, dict[str, int]]) -> None:
    """Orders that must be refused, each with its own reason."""
    off_tick = quotes["TCS"]["price"] // 10 * 10 + 3
    for body in (
        order("NOSUCHSHARE", "BUY", 1),
        order("TCS", "BUY", 1, format_rupees(off_tick)),
        order("TCS", "BUY", 1, limit_price(quotes["TCS"], 2_000)),
        order("MARUTI", "SELL", 2),
        order("MARUTI", "BUY", 50),
        order("MARUTI", "BUY", 37),
    ):
        await place(trader, [body])


async def order_counts(admin: Client) -> dict[str, int]:
    """Orders of the whole platform by state; two days back, so that a night between two runs hides nothing."""
    since = (trading_date(SystemClock().now()) - timedelta(days=2)).isoformat()
    answer = await admin.get("/api/v1/admin/orders", limit=1, **{"from": since})
    return dict(answer["counts"])


async def all_closed(admin: Client) -> None:
    """Wait until no order of the whole platform is open: also those of a run that was killed."""

    async def none_open() -> bool:
        counts = await order_counts(admin)
        return all(status in CLOSED for status, count in counts.items() if count)

    await until(none_open, "orders are still open", SETTLE_TIMEOUT_S)


async def report(
    admin: Client, traders: Sequence[Trader], before: dict[str, Any], after: dict[str, Any], seconds: float
) -> bool:
    """Print the table; answers whether the books balance."""
    ledger = await admin.get("/api/v1/admin/ledger/check")
    counts = await order_counts(admin)
    change = {
        key: after[key] - before[key] for key in ("user_orders", "blocks", "broker_orders", "fills", "allocations")
    }
    refused = sum((trader.refused for trader in traders), Counter[str]())
    table = Table(title="What happened", show_header=False)
    for name, value in (
        ("users", len(traders)),
        ("user orders accepted", change["user_orders"]),
        ("blocks", change["blocks"]),
        ("broker orders", change["broker_orders"]),
        ("fills", change["fills"]),
        ("allocations", change["allocations"]),
        ("user orders : broker orders", f"{change['user_orders'] / max(change['broker_orders'], 1):.1f} : 1"),
        ("seconds", f"{seconds:.1f}"),
    ):
        table.add_row(name, str(value))
    for status, count in sorted(counts.items()):
        table.add_row(f"orders {status} (whole platform)", str(count))
    for code, count in sorted(refused.items()):
        table.add_row(f"refused: {code}", str(count))
    for rule, problems in ledger["problems"].items():
        table.add_row(f"ledger: {rule.replace('_', ' ')}", f"{len(problems)} problems" if problems else "holds")
    for name, count in ledger["figures"].items():
        table.add_row(f"ledger {name}", str(count))
    console.print(table)
    given = after["shares_allocated"] + after["shares_to_house"]
    balanced = bool(ledger["ok"]) and after["shares_filled"] == given and after["unknowns"] == 0
    console.print("[bold green]The books balance.[/]" if balanced else "[bold red]The books do NOT balance.[/]")
    return balanced


if __name__ == "__main__":
    typer.run(main)
