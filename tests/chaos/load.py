"""Users who trade through the gateway while the platform is hurt, and a record of every request and its answer.

A request is repeated under its key until it is answered, as a careful client does; some clients are careless and go
away. What was answered must be true later, what was not answered may have happened once or not at all.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

from common.money import parse_rupees
from scripts.demo import SHARES, kyc_form, limit_price, order
from scripts.demo_client import Client, DemoFailed, password

SYMBOLS = SHARES
RESTING_SYMBOLS = SHARES[-4:]
"""Orders that rest hold up the opposite side of their share; the others trade freely."""
FUNDS_RUPEES = "800000.00"
ATTEMPT_TIMEOUT_S = 6.0
CARELESS_TIMEOUT_S = 0.15
CARELESS_SHARE = 0.03
TWICE_AT_ONCE_SHARE = 0.03
PATIENCE_S = 120.0
RETRY_PAUSE_MAX_S = 3.0
QUOTES_EVERY_S = 5.0
CANCELLABLE_KEPT_MAX = 30
SIGN_UPS_AT_ONCE = 4
HTTP_LIMITS = httpx.Limits(max_connections=200, max_keepalive_connections=100)
ANSWERED_LATER = frozenset({429, 500, 502, 503, 504})
"""Statuses after which a client repeats the request under the same key."""


@dataclass
class Asked:
    """One request that moves something, and what its client knows of it."""

    key: str
    user_id: str
    kind: str
    body: Mapping[str, Any]
    asked_at: float
    sent: int = 0
    """How often it left; more than one may have arrived."""
    status: int | None = None
    """The answer; None when the client never got one."""
    answer: Any = None
    contradictions: list[str] = field(default_factory=list)
    """Answers under the same key that differ."""

    @property
    def order_ids(self) -> list[str]:
        """Orders that the answer says were accepted."""
        if self.status != 202:
            return []
        if self.kind == "batch":
            return [row["order"]["order_id"] for row in self.answer["results"] if row["status"] == "accepted"]
        return [self.answer["order_id"]] if self.kind == "order" else []


@dataclass
class Trader:
    """One user."""

    client: Client
    email: str
    word: str
    user_id: str = ""
    token: str = ""
    cancellable: list[str] = field(default_factory=list)
    asks: list[Asked] = field(default_factory=list)


@dataclass
class Load:
    """All users of a run. `run` trades until `stop` is set; afterwards `asks` is what the checker reads."""

    http: httpx.AsyncClient
    rate: float
    rng: random.Random
    traders: list[Trader] = field(default_factory=list)
    quotes: dict[str, dict[str, int]] = field(default_factory=dict)
    acceptances: list[float] = field(default_factory=list)
    """Monotonic seconds of every answered acceptance."""
    server_errors: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    _slots: asyncio.Queue[None] = field(default_factory=lambda: asyncio.Queue(maxsize=3))

    @property
    def asks(self) -> Iterable[Asked]:
        """Every recorded request."""
        return (ask for trader in self.traders for ask in trader.asks)

    async def sign_up(self, users: int, admin: Client) -> None:
        """Register users with KYC and funds; nothing is hurt yet."""
        run_id = uuid4().hex[:8]
        gate = asyncio.Semaphore(SIGN_UPS_AT_ONCE)

        async def one(number: int) -> Trader:
            async with gate:
                trader = Trader(Client(self.http), f"trader{number}.{run_id}@example.com", password())
                await trader.client.register(trader.email, trader.word, f"Trader {number}")
                await trader.client.post("/api/v1/kyc", kyc_form(run_id, number))
                trader.user_id = (await trader.client.get("/api/v1/auth/me"))["user_id"]
                decision = {"status": "approved", "reason": "chaos"}
                await admin.put(f"/api/v1/admin/users/{trader.user_id}/kyc-status", decision)
                await self._login(trader)
                await self._ask(trader, "topup", "/api/v1/funds/topup", {"amount": FUNDS_RUPEES}, careful=True)
                return trader

        self.traders = list(await asyncio.gather(*(one(number) for number in range(users))))
        await self._read_quotes()
        if len(self.quotes) < len(SYMBOLS):
            raise DemoFailed("not every share has a price")

    async def run(self) -> None:
        """Trade until `stop` is set; requests under way are finished."""
        background = [asyncio.create_task(self._keep_quotes()), asyncio.create_task(self._pace())]
        try:
            await asyncio.gather(*(self._trade(trader) for trader in self.traders))
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)

    async def cancel_all(self) -> None:
        """At the end of the day users take back what still rests."""
        await asyncio.gather(*(self._cancel_live(trader) for trader in self.traders))

    async def _cancel_live(self, trader: Trader) -> None:
        await self._login(trader)
        live = await self._call(trader, "GET", "/api/v1/orders?status=LIVE&limit=200")
        for row in live["items"] if live else ():
            await self._call(trader, "DELETE", f"/api/v1/orders/{row['order_id']}")

    async def _pace(self) -> None:
        while True:
            await self._slots.put(None)
            await asyncio.sleep(self.rng.expovariate(self.rate))

    async def _trade(self, trader: Trader) -> None:
        while not self.stop.is_set():
            try:
                await asyncio.wait_for(self._slots.get(), 1.0)
            except TimeoutError:
                continue
            await self._act(trader)

    async def _act(self, trader: Trader) -> None:
        dice = self.rng.random()
        if dice < 0.04:
            amount = f"{self.rng.randint(1_000, 50_000)}.{self.rng.randint(0, 99):02d}"
            await self._ask(trader, "topup", "/api/v1/funds/topup", {"amount": amount})
        elif dice < 0.10:
            orders = [self._order() for _ in range(self.rng.randint(2, 8))]
            body = {"orders": orders, "atomic": self.rng.random() < 0.3}
            await self._ask(trader, "batch", "/api/v1/orders/batch", body)
        elif dice < 0.20 and trader.cancellable:
            await self._withdraw(trader)
        elif dice < 0.45:
            await self._sell(trader)
        else:
            await self._ask(trader, "order", "/api/v1/orders", self._order())

    def _order(self, side: str = "BUY", symbol: str | None = None, quantity: int | None = None) -> dict[str, Any]:
        symbol = symbol or self.rng.choice(SYMBOLS)
        quantity = quantity or self.rng.randint(1, 12)
        sign = 1 if side == "BUY" else -1
        dice = self.rng.random()
        if symbol in RESTING_SYMBOLS and dice < 0.4:
            price = limit_price(self.quotes[symbol], -sign * self.rng.choice((50, 200)))
            return order(symbol, side, quantity, price, validity="TTL", ttl_minutes=1)
        if dice < 0.7:
            return order(symbol, side, quantity)
        return order(symbol, side, quantity, limit_price(self.quotes[symbol], sign * 100))

    async def _sell(self, trader: Trader) -> None:
        held = await self._call(trader, "GET", "/api/v1/holdings")
        free = [row for row in held["items"] if row["free_quantity"] > 0] if held else []
        if not free:
            await self._ask(trader, "order", "/api/v1/orders", self._order())
            return
        row = self.rng.choice(free)
        quantity = self.rng.randint(1, min(row["free_quantity"], 15))
        symbol = row["tradingsymbol"]
        if symbol in self.quotes:
            await self._ask(trader, "order", "/api/v1/orders", self._order("SELL", symbol, quantity))

    async def _withdraw(self, trader: Trader) -> None:
        """Cancel an order, or ask for other terms."""
        order_id = trader.cancellable.pop(self.rng.randrange(len(trader.cancellable)))
        if self.rng.random() < 0.75:
            await self._call(trader, "DELETE", f"/api/v1/orders/{order_id}")
        else:
            change = {"quantity": self.rng.randint(5, 20)}
            await self._call(trader, "PUT", f"/api/v1/orders/{order_id}", json=change)

    # --- requests -----------------------------------------------------------------------------------------------------

    async def _ask(
        self, trader: Trader, kind: str, path: str, body: Mapping[str, Any], *, careful: bool = False
    ) -> None:
        """Send one request that moves something until it is answered, unless its client is careless."""
        ask = Asked(uuid4().hex, trader.user_id, kind, body, time.time())
        trader.asks.append(ask)
        dice = 1.0 if careful else self.rng.random()
        if dice < CARELESS_SHARE:
            await self._attempt(trader, ask, path, CARELESS_TIMEOUT_S)
            return
        if dice < CARELESS_SHARE + TWICE_AT_ONCE_SHARE:
            await asyncio.gather(self._insist(trader, ask, path), self._insist(trader, ask, path))
        else:
            await self._insist(trader, ask, path)
        trader.cancellable = (trader.cancellable + ask.order_ids)[-CANCELLABLE_KEPT_MAX:]

    async def _insist(self, trader: Trader, ask: Asked, path: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        pause = 0.1
        while time.monotonic() < deadline:
            if await self._attempt(trader, ask, path, ATTEMPT_TIMEOUT_S):
                return
            await asyncio.sleep(pause * (0.5 + self.rng.random()))
            pause = min(pause * 2, RETRY_PAUSE_MAX_S)

    async def _attempt(self, trader: Trader, ask: Asked, path: str, timeout_s: float) -> bool:
        ask.sent += 1
        headers = {"Authorization": f"Bearer {trader.token}", "Idempotency-Key": ask.key}
        try:
            answer = await self.http.post(path, json=ask.body, headers=headers, timeout=timeout_s)
        except httpx.TransportError:
            return False
        if answer.status_code == 401:
            await self._login(trader)
            return False
        if answer.status_code in ANSWERED_LATER:
            self._count_later(answer)
            return False
        self._note(ask, answer)
        return True

    def _note(self, ask: Asked, answer: httpx.Response) -> None:
        body = answer.json()
        if answer.is_success:
            if ask.status is not None and ask.status < 300 and ask.answer != body:
                ask.contradictions.append(f"{ask.status} {ask.answer} and then {answer.status_code} {body}")
            ask.status, ask.answer = answer.status_code, body
            self.acceptances.append(time.monotonic())
            return
        code = str(body.get("code"))
        self.refused[code] += 1
        if code == "idempotency_key_reused":
            ask.contradictions.append(f"the same body was refused as another: {body}")
        # A twin may be refused and the other accepted after it: an acceptance is what counts.
        if ask.status is None:
            ask.status, ask.answer = answer.status_code, body

    def _count_later(self, answer: httpx.Response) -> None:
        problem = answer.json() if "json" in answer.headers.get("content-type", "") else {}
        self.server_errors[f"{answer.status_code} {problem.get('code', '?')}"] += 1

    async def _call(self, trader: Trader, method: str, path: str, **kwargs: Any) -> Any:
        """A request that may be lost without harm."""
        headers = {"Authorization": f"Bearer {trader.token}"}
        try:
            answer = await self.http.request(method, path, headers=headers, timeout=ATTEMPT_TIMEOUT_S, **kwargs)
        except httpx.TransportError:
            return None
        if answer.status_code == 401:
            await self._login(trader)
        elif answer.status_code in ANSWERED_LATER:
            self._count_later(answer)
        return answer.json() if answer.is_success else None

    async def _login(self, trader: Trader) -> None:
        credentials = {"email": trader.email, "password": trader.word}
        try:
            answer = await self.http.post("/api/v1/auth/login", json=credentials, timeout=ATTEMPT_TIMEOUT_S)
        except httpx.TransportError:
            return
        if answer.is_success:
            trader.token = answer.json()["access_token"]

    async def _keep_quotes(self) -> None:
        while True:
            await asyncio.sleep(QUOTES_EVERY_S)
            await self._read_quotes()

    async def _read_quotes(self) -> None:
        trader = self.traders[0]
        for symbol in SYMBOLS:
            quote = await self._call(trader, "GET", f"/api/v1/market/ltp/{symbol}")
            if quote is None:
                continue
            if symbol not in self.quotes:
                instrument = await self._call(trader, "GET", f"/api/v1/instruments/NSE/{symbol}")
                if instrument is None:
                    continue
                self.quotes[symbol] = {"tick": parse_rupees(instrument["tick_size"]), "price": 0}
            self.quotes[symbol]["price"] = parse_rupees(quote["last_price"])
