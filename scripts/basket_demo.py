"""`python -m scripts.basket_demo`: many users hold the same smallcases, through the gateway, and the books are checked.

Users invest in five smallcases of 10 to 50 shares at the same moment; one smallcase gets a new composition and all its
holders rebalance; one share is refused by the simulated exchange, which needs repair. Exit code 0 only if every leg ended,
sells came before buys, weights are within one share (or below the published filter) of their targets, repair worked and
the books balance. Against the platform of `make run`, or one started for the time of the demo.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any
from uuid import uuid4

import httpx
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from common.logging import configure
from common.money import BPS_ONE, format_rupees, parse_rupees, split_by_largest_remainder
from scripts import demo_admin
from scripts.demo import CLOSED, HTTP_LIMITS, Trader, order_counts, platform, sign_up_all
from scripts.demo_client import Client, DemoFailed, Refused, until
from scripts.platform_state import running_platform

SHARES = (
    "RELIANCE", "TCS", "INFY", "HDFCBANK", "ICICIBANK", "SBIN", "ITC", "LT", "AXISBANK", "BHARTIARTL",
    "HINDUNILVR", "KOTAKBANK", "WIPRO", "SUNPHARMA", "TITAN", "NTPC", "ONGC", "TATASTEEL", "COALINDIA", "POWERGRID",
    "ADANIENT", "ADANIPORTS", "APOLLOHOSP", "ASIANPAINT", "BAJAJ-AUTO", "BAJFINANCE", "BAJAJFINSV", "BEL", "CIPLA",
    "DRREDDY", "EICHERMOT", "ETERNAL", "GRASIM", "HCLTECH", "HDFCLIFE", "HINDALCO", "INDIGO", "JSWSTEEL", "JIOFIN",
    "M&M", "MARUTI", "MAXHEALTH", "NESTLEIND", "SBILIFE", "SHRIRAMFIN", "TATACONSUM", "TECHM", "TRENT", "ULTRACEMCO",
    "TMPV",
)  # fmt: skip
SIZES = (10, 20, 30, 40, 50)
"""Shares of the smallcases."""
BIGGER_THAN_MINIMUM_BPS = 13_000
SMALL_ORDER_RUPEES = 500
SMALL_ORDER_PART = 100
"""The published filter: orders of a rebalance below 500 rupees or one hundredth of the net worth are dropped."""
REFUSED_SHARE = "ITC"
REPAIRERS = 10
ENDED = frozenset({"filled", "needs_repair", "unfilled", "refused", "repaired"})
END_TIMEOUT_S = 1_800.0
PRICES_TIMEOUT_S = 60.0
POLL_S = 2.0
READERS = 8

console = Console()


@dataclass
class Holder:
    """A user with an investment."""

    trader: Trader
    smallcase_id: str = ""
    investment_id: str = ""
    order_id: str = ""
    orders: list[dict[str, Any]] = field(default_factory=list)

    async def read(self) -> dict[str, Any]:
        """The newest basket order."""
        return dict(await self.trader.client.get(f"/api/v1/investments/orders/{self.order_id}"))


@dataclass
class Findings:
    """Figures to print, and everything that must not be."""

    figures: list[tuple[str, str]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def say(self, name: str, value: object) -> None:
        """A figure."""
        self.figures.append((name, str(value)))

    def check(self, holds: bool, what: str) -> None:
        """A violation, unless it holds."""
        if not holds:
            self.violations.append(what)


def main(
    users: Annotated[int, typer.Option(min=len(SIZES), max=500)] = 200,
    url: Annotated[str | None, typer.Option(help="The gateway; default: the platform running on this machine.")] = None,
) -> None:
    """Invest, rebalance, repair, check; exit code 1 at any violation."""
    configure("demo", "WARNING", stream=sys.stderr)
    try:
        with platform() as found:
            console.print(f"Gateway: {url or found}")
            findings = asyncio.run(run(url or found, users))
    except (DemoFailed, Refused) as failure:
        console.print(f"[bold red]The demo failed:[/] {failure}")
        sys.exit(1)
    table = Table(title="Baskets", show_header=False)
    for name, value in findings.figures:
        table.add_row(name, value)
    console.print(table)
    for violation in findings.violations:
        console.print(f"[bold red]Violation:[/] {violation}")
    if not findings.violations:
        console.print("[bold green]Every leg ended, every rule held, the books balance.[/]")
    sys.exit(1 if findings.violations else 0)


async def run(gateway: str, users: int) -> Findings:
    """The whole demo against one gateway."""
    findings = Findings()
    async with httpx.AsyncClient(base_url=gateway, timeout=60.0, limits=HTTP_LIMITS, trust_env=False) as http:
        admin = Client(http)
        await demo_admin.sign_in(admin)
        with Progress(console=console, transient=not console.is_terminal) as progress:
            task = progress.add_task("users: register, KYC, funds", total=users)
            holders = [Holder(trader) for trader in await sign_up_all(http, admin, users, progress, task)]
        prices = await last_prices(holders[0].trader.client)
        smallcases = [await publish(admin, prices, SHARES[:size]) for size in SIZES]
        for number, holder in enumerate(holders):
            holder.smallcase_id = smallcases[number % len(SIZES)]
        await invest_together(admin, holders, findings)
        await rebalance_together(admin, [one for one in holders if one.smallcase_id == smallcases[0]], prices, findings)
        await repair_some(admin, holders[:REPAIRERS], prices, findings)
        await check_books(admin, holders, findings)
    return findings


async def last_prices(client: Client) -> dict[str, int]:
    """Last price of every share, in paise."""

    wanted = [f"NSE:{symbol}" for symbol in SHARES]

    async def priced() -> list[dict[str, str]] | None:
        answer = await client.get("/api/v1/market/ltp", i=wanted)
        # A share that nobody has asked for yet gets its first price with the next poll.
        return None if answer["missing"] else list(answer["prices"])

    prices = await until(priced, "prices of all shares", PRICES_TIMEOUT_S)
    return {row["tradingsymbol"]: parse_rupees(row["last_price"]) for row in prices}


def weights_of(shares: Sequence[str], prices: dict[str, int]) -> list[int]:
    """Weights that follow prices half way, so that also a basket of 50 shares has an affordable minimum."""
    average = sum(prices[symbol] for symbol in shares) // len(shares)
    parts = [prices[symbol] + average // 4 for symbol in shares]
    return [part + 1 for part in split_by_largest_remainder(BPS_ONE - len(shares), parts)]


def composition(name: str, shares: Sequence[str], weights: Sequence[int]) -> dict[str, Any]:
    """The body of a published smallcase."""
    constituents = [
        {"exchange": "NSE", "tradingsymbol": symbol, "weight_bps": bps}
        for symbol, bps in zip(shares, weights, strict=True)
    ]
    return {"name": name, "visibility": "published", "constituents": constituents}


async def publish(admin: Client, prices: dict[str, int], shares: Sequence[str]) -> str:
    """Make a smallcase that everybody sees."""
    name = f"The first {len(shares)} {uuid4().hex[:6]}"
    made = await admin.post("/api/v1/smallcases", composition(name, shares, weights_of(shares, prices)))
    return str(made["smallcase_id"])


async def gathered(work: Sequence[Awaitable[Any]], at_once: int = READERS) -> list[Any]:
    """Run things side by side, a few at a time."""
    gate = asyncio.Semaphore(at_once)

    async def one(item: Awaitable[Any]) -> Any:
        async with gate:
            return await item

    return list(await asyncio.gather(*(one(item) for item in work)))


async def invest_together(admin: Client, holders: Sequence[Holder], findings: Findings) -> None:
    """All users invest at the same moment; every leg ends, and the ledger holds what the investments hold."""

    async def amount_for(holder: Holder) -> str:
        made = await holder.trader.client.get(f"/api/v1/smallcases/{holder.smallcase_id}")
        if made["minimum_investment"] is None:
            raise DemoFailed(f"a smallcase can not be bought: {made['validation']}")
        amount = parse_rupees(made["minimum_investment"]) * BIGGER_THAN_MINIMUM_BPS // BPS_ONE
        return format_rupees(amount - amount % 100)

    amounts = {one: await amount_for(next(h for h in holders if h.smallcase_id == one))
               for one in {holder.smallcase_id for holder in holders}}  # fmt: skip
    before = await admin.get("/api/v1/ops/summary")
    started = time.monotonic()

    async def invest(holder: Holder) -> None:
        path, body = f"/api/v1/smallcases/{holder.smallcase_id}/invest", {"amount": amounts[holder.smallcase_id]}
        await place(holder, path, body)

    await asyncio.gather(*(invest(holder) for holder in holders))
    accepted = time.monotonic() - started
    await until_ended(admin, holders)
    after = await admin.get("/api/v1/ops/summary")
    legs = sum(len(holder.orders[-1]["orders"]) for holder in holders)
    states = Counter(holder.orders[-1]["status"] for holder in holders)
    sent = after["broker_orders"] - before["broker_orders"]
    findings.say("users who invested at the same moment", len(holders))
    findings.say("smallcases, shares in them", f"{len(SIZES)}: {', '.join(map(str, SIZES))}")
    findings.say("seconds until all baskets were accepted", f"{accepted:.1f}")
    findings.say("seconds until all legs had ended", f"{time.monotonic() - started:.1f}")
    findings.say("user legs : broker orders", f"{legs} : {sent} = {legs / max(sent, 1):.1f} : 1")
    findings.say("basket orders", dict(states))
    findings.check(states == Counter(filled=len(holders)), f"not all first purchases were filled: {dict(states)}")
    findings.check(sent < legs, "legs of many users did not meet in the executor")


async def place(holder: Holder, path: str, body: dict[str, Any]) -> None:
    """Place a basket order and remember it."""
    try:
        receipt = await holder.trader.client.post(path, body)
    except Refused as refused:
        raise DemoFailed(f"{path} was refused: {refused}") from refused
    holder.investment_id, holder.order_id = receipt["investment_id"], receipt["basket_order_id"]


async def until_ended(admin: Client, holders: Sequence[Holder]) -> None:
    """Wait until the newest order of every holder has ended; remembers them as they are then."""
    deadline, waiting = time.monotonic() + END_TIMEOUT_S, list(holders)

    async def none_open() -> bool:
        counts = await order_counts(admin)
        return all(status in CLOSED for status, count in counts.items() if count)

    while waiting:
        # One question for all of them first: reading every basket again and again would be most of the load.
        await until(none_open, "orders are still open", END_TIMEOUT_S)
        read = await gathered([holder.read() for holder in waiting])
        working = []
        for holder, order in zip(waiting, read, strict=True):
            if order["status"] in ENDED and order["ended_at"] is not None:
                holder.orders.append(order)
            else:
                working.append(holder)
        waiting = working
        if waiting and time.monotonic() > deadline:
            raise DemoFailed(f"{len(waiting)} basket orders have not ended after {END_TIMEOUT_S:.0f} s")
        if waiting:
            await asyncio.sleep(POLL_S)


async def rebalance_together(
    admin: Client, holders: Sequence[Holder], prices: dict[str, int], findings: Findings
) -> None:
    """One smallcase loses two shares and gets two others; all its holders follow at the same moment."""
    smallcase = await admin.get(f"/api/v1/smallcases/{holders[0].smallcase_id}")
    shares = [*[row["tradingsymbol"] for row in smallcase["constituents"]][2:], *SHARES[10:12]]
    weights = list(reversed(weights_of(list(reversed(shares)), prices)))
    body = composition(smallcase["name"], shares, weights)
    await admin.put(
        f"/api/v1/smallcases/{holders[0].smallcase_id}",
        {**body, "version": smallcase["version"], "reason": "two shares leave, two come"},
    )
    before = await admin.get("/api/v1/ops/summary")
    started = time.monotonic()
    await asyncio.gather(
        *(place(holder, f"/api/v1/investments/{holder.investment_id}/rebalance", {}) for holder in holders)
    )
    await until_ended(admin, holders)
    after = await admin.get("/api/v1/ops/summary")
    orders = [holder.orders[-1] for holder in holders]
    legs = [leg for order in orders for leg in order["orders"]]
    sides = Counter(leg["side"] for leg in legs)
    states = Counter(order["status"] for order in orders)
    findings.say("holders who rebalanced at the same moment", len(holders))
    findings.say("sells, buys : broker orders",
                 f"{sides['SELL']}, {sides['BUY']} : {after['broker_orders'] - before['broker_orders']}")  # fmt: skip
    findings.say("seconds of the rebalance", f"{time.monotonic() - started:.1f}")
    findings.check(states == Counter(filled=len(holders)), f"not all rebalances were filled: {dict(states)}")
    findings.check(sides["SELL"] > 0 < sides["BUY"], "a rebalance sells and buys")
    late = await gathered([sells_were_late(holder) for holder in holders])
    findings.check(not any(late), f"{sum(late)} rebalances bought before all their sells had ended")
    weighed = await gathered([shares_off(holder) for holder in holders])
    findings.say("weights within one share of the target", f"{sum(good for good, _, _ in weighed)}")
    findings.say("weights further off, but below the filter", f"{sum(small for _, small, _ in weighed)}")
    wrong = [text for _, _, texts in weighed for text in texts]
    findings.check(not wrong, f"weights are off their targets: {wrong[:5]}")


async def sells_were_late(holder: Holder) -> bool:
    """Whether a buy was accepted before a sell had ended."""
    read = await asyncio.gather(
        *(holder.trader.client.get(f"/api/v1/orders/{leg['order_id']}") for leg in holder.orders[-1]["orders"])
    )
    sells = [datetime.fromisoformat(order["closed_at"]) for order in read if order["side"] == "SELL"]
    buys = [datetime.fromisoformat(order["accepted_at"]) for order in read if order["side"] == "BUY"]
    return bool(sells and buys) and max(sells) > min(buys)


async def shares_off(holder: Holder) -> tuple[int, int, list[str]]:
    """How many weights are within one share of their targets, how many below the filter, and what is worse."""
    investment = await holder.trader.client.get(f"/api/v1/investments/{holder.investment_id}")
    rows = investment["positions"]
    worth = sum(parse_rupees(row["value"]) for row in rows)
    good, small, wrong = 0, 0, []
    for row in rows:
        if not row["held"] and not row["target_weight_bps"]:
            continue
        off = abs(parse_rupees(row["value"]) - worth * row["target_weight_bps"] // BPS_ONE)
        if off <= parse_rupees(row["price"]):
            good += 1
        elif off <= max(SMALL_ORDER_RUPEES * 100, worth // SMALL_ORDER_PART):
            small += 1
        else:
            wrong.append(f"{row['tradingsymbol']}: {format_rupees(off)} of {format_rupees(worth)}")
    return good, small, wrong


async def repair_some(admin: Client, holders: Sequence[Holder], prices: dict[str, int], findings: Findings) -> None:
    """The exchange refuses one share: baskets with it need repair, and repair places that share alone."""
    simulator = simulator_url()
    smallcase = await publish(admin, prices, ("WIPRO", REFUSED_SHARE, "NTPC"))
    minimum = (await admin.get(f"/api/v1/smallcases/{smallcase}"))["minimum_investment"]
    amount = format_rupees(parse_rupees(minimum) * 3)
    others = [Holder(holder.trader, smallcase) for holder in holders]
    await refuse(simulator, "the exchange does not take this share today")
    try:
        await asyncio.gather(
            *(place(one, f"/api/v1/smallcases/{smallcase}/invest", {"amount": amount}) for one in others)
        )
        await until_ended(admin, others)
    finally:
        await refuse(simulator, None)
    broken = Counter(one.orders[-1]["status"] for one in others)
    failed = {leg["tradingsymbol"] for one in others for leg in one.orders[-1]["orders"] if leg["status"] != "FILLED"}
    findings.say(f"baskets while {REFUSED_SHARE} was refused", dict(broken))
    findings.check(broken == Counter(needs_repair=len(others)), f"a refused share must need repair: {dict(broken)}")
    findings.check(failed == {REFUSED_SHARE}, f"only {REFUSED_SHARE} may have failed: {failed}")
    first = [one.order_id for one in others]
    await asyncio.gather(*(place(one, f"/api/v1/investments/{one.investment_id}/repair", {}) for one in others))
    await until_ended(admin, others)
    repairs = Counter(one.orders[-1]["status"] for one in others)
    placed = {leg["tradingsymbol"] for one in others for leg in one.orders[-1]["orders"]}
    repaired = await gathered(
        [
            one.trader.client.get(f"/api/v1/investments/orders/{order_id}")
            for one, order_id in zip(others, first, strict=True)
        ]
    )  # fmt: skip
    findings.say("repairs", dict(repairs))
    findings.check(repairs == Counter(filled=len(others)), f"repair did not work: {dict(repairs)}")
    findings.check(placed == {REFUSED_SHARE}, f"repair placed more than what had failed: {placed}")
    findings.check({order["status"] for order in repaired} == {"repaired"}, "a repaired order must say so")


def simulator_url() -> str:
    """The control door of the simulated exchange."""
    found = running_platform()
    if found is None:
        raise DemoFailed("refusing a share needs the simulator of a platform that runs on this machine")
    return found.simulator_url


async def refuse(simulator: str, message: str | None) -> None:
    """Make the exchange refuse one share, or take it again."""
    async with httpx.AsyncClient(trust_env=False) as http:
        body = {"instrument": f"NSE:{REFUSED_SHARE}", "message": message}
        (await http.post(f"{simulator}/simulator/refuse", json=body)).raise_for_status()


async def check_books(admin: Client, holders: Sequence[Holder], findings: Findings) -> None:
    """The ledger proves itself, and users hold what their investments say."""
    ledger = await admin.get("/api/v1/admin/ledger/check")
    summary = await admin.get("/api/v1/ops/summary")
    findings.check(bool(ledger["ok"]), f"the ledger: {ledger['problems']}")
    given = summary["shares_allocated"] + summary["shares_to_house"]
    findings.check(summary["shares_filled"] == given, "shares filled are not shares given")
    findings.check(summary["unknowns"] == 0, "attempts of unknown outcome are left")
    wrong = sum(await gathered([differs(holder.trader.client) for holder in holders]))
    findings.say("users whose ledger holds what their investments hold", f"{len(holders) - wrong} of {len(holders)}")
    findings.check(wrong == 0, f"{wrong} users hold other shares than their investments say")


async def differs(client: Client) -> bool:
    """Whether the ledger of a user holds something else than the investments together."""
    held: Counter[str] = Counter()
    for row in (await client.get("/api/v1/investments"))["items"]:
        detail = await client.get(f"/api/v1/investments/{row['investment_id']}")
        held.update({one["tradingsymbol"]: one["held"] for one in detail["positions"] if one["held"]})
    ledger = Counter({row["tradingsymbol"]: row["quantity"] for row in (await client.get("/api/v1/holdings"))["items"]})
    return +held != +ledger


if __name__ == "__main__":
    typer.run(main)
