"""A REST client of the platform: what a user or an administrator does, through the gateway only."""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import httpx

TIMEOUT_S = 30.0
RETRY_PAUSE_S = 0.25
RETRIES_MAX = 240
"""Long enough to live through a restart of the platform; every repeated POST carries its first Idempotency-Key."""
RETRIED = (429, 502, 503, 504)
"""Answers after which the same request may be sent again; it carries the same key, so it acts once."""
POLL_S = 1.0


class DemoFailed(Exception):
    """Something the demo relies on did not happen; the text says what."""


class Refused(Exception):
    """The platform answered with a problem."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code


class Client:
    """One signed-in (or not yet signed-in) caller."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._token: str | None = None
        self._credentials: tuple[str, str] | None = None

    async def register(self, email: str, password: str, full_name: str) -> None:
        """Make an account, whose address nobody else uses, and sign in."""
        try:
            await self.post("/api/v1/auth/register", {"email": email, "password": password, "full_name": full_name})
        except Refused as refusal:
            # Of a repeat: the answer to a request that made the account was lost. The password tells whose it is.
            if refusal.code != "email_taken":
                raise
        await self.login(email, password)

    async def login(self, email: str, password: str) -> None:
        """Sign in; the token is renewed by signing in again (KYC and roles travel in it)."""
        self._token = None
        answer = await self.post("/api/v1/auth/login", {"email": email, "password": password})
        self._token = answer["access_token"]
        self._credentials = (email, password)

    def act_with(self, token: str) -> None:
        """Act with an access token that was got elsewhere."""
        self._token = token

    async def renew(self) -> None:
        """A fresh token with the account's present state."""
        if self._credentials is None:
            raise DemoFailed("a caller without credentials cannot renew")
        await self.login(*self._credentials)

    async def get(self, path: str, **params: Any) -> Any:
        """GET the JSON of a path."""
        return await self._call("GET", path, params={key: value for key, value in params.items() if value is not None})

    async def post(self, path: str, body: Mapping[str, Any] | None = None, *, key: str | None = None) -> Any:
        """POST with an Idempotency-Key, one of its own unless named, kept over repeats."""
        return await self._call("POST", path, json=body or {}, headers={"Idempotency-Key": key or uuid4().hex})

    async def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """PUT a body."""
        return await self._call("PUT", path, json=body)

    async def delete(self, path: str) -> Any:
        """DELETE a thing (here: cancel an order)."""
        return await self._call("DELETE", path)

    async def _call(self, method: str, path: str, **kwargs: Any) -> Any:
        headers = dict(kwargs.pop("headers", {}))
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        for _ in range(RETRIES_MAX):
            try:
                answer = await self._http.request(method, path, headers=headers, **kwargs)
            except httpx.TransportError:
                await asyncio.sleep(RETRY_PAUSE_S)
                continue
            if answer.status_code in RETRIED:
                await asyncio.sleep(min(float(answer.headers.get("Retry-After", RETRY_PAUSE_S)), 5.0))
                continue
            if answer.is_success:
                return answer.json() if answer.content else None
            if answer.status_code == httpx.codes.UNAUTHORIZED and self._token is not None:
                # A long day outlives an access token.
                await self.renew()
                headers["Authorization"] = f"Bearer {self._token}"
                continue
            problem = answer.json() if "json" in answer.headers.get("content-type", "") else {}
            raise Refused(answer.status_code, problem.get("code", "unknown"), problem.get("detail", answer.text[:200]))
        raise DemoFailed(f"{method} {path}: the platform did not answer")


def password() -> str:
    """A fresh random password."""
    return secrets.token_urlsafe(18)


async def until(probe: Callable[[], Any], what: str, timeout_s: float) -> Any:
    """Poll an awaitable probe until it answers something truthy."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = await probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise DemoFailed(f"{what}: not after {timeout_s:.0f} s")
        await asyncio.sleep(POLL_S)
