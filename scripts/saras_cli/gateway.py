"""The platform's public API as an operator uses it: found, signed in, called with bounded patience."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import typer

from scripts.compose_platform import gateway_of_compose
from scripts.platform_state import keep_private, running_platform
from scripts.saras_cli.output import NotReachable, Refusal
from scripts.saras_cli.settings import OperatorSettings

API = "/api/v1"
REPLAYED_HEADER = "Idempotency-Replayed"
TIMEOUT_S = 30.0
ATTEMPTS_MAX = 5
PAUSE_S = 1.0
PAUSE_S_MAX = 15.0


class Problem(Refusal):
    """The platform answered with a problem (application/problem+json)."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(str(body.get("detail", f"HTTP {status}")), str(body.get("code", "unknown")))
        self.status = status
        self.body = body


def gateway_url(settings: OperatorSettings) -> str:
    """Where the platform is: SARAS_GATEWAY_URL, otherwise the one of this machine; raises NotReachable."""
    if settings.gateway_url:
        return settings.gateway_url.rstrip("/")
    if (running := running_platform()) is not None:
        return running.gateway_url
    if (compose := gateway_of_compose()) is not None:
        return compose
    raise NotReachable("no platform runs on this machine; start it, or set SARAS_GATEWAY_URL")


class Gateway:
    """Calls through the gateway. A request that may repeat itself is repeated when the platform is busy or restarting."""

    def __init__(self, http: httpx.Client, settings: OperatorSettings) -> None:
        self._http, self._settings = http, settings
        self._tokens: dict[str, Any] = {}

    def get(self, path: str, **params: Any) -> Any:
        """The JSON of a GET; raises Problem or NotReachable."""
        given = {name: value for name, value in params.items() if value is not None}
        return _content(self._call("GET", path, repeatable=True, params=given))

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, key: str | None = None) -> Any:
        """POST a body; with an Idempotency-Key it is repeated until there is an answer."""
        return _content(self._post(path, body, key))

    def post_once(self, path: str, body: Mapping[str, Any], key: str) -> tuple[Any, bool]:
        """As `post`; answers also whether this key was answered before, so that nothing new has happened."""
        answer = self._post(path, body, key)
        return _content(answer), REPLAYED_HEADER in answer.headers

    def _post(self, path: str, body: Mapping[str, Any] | None, key: str | None) -> httpx.Response:
        headers = {"Idempotency-Key": key} if key else {}
        return self._call("POST", path, repeatable=key is not None, json=body or {}, headers=headers)

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """PUT a body; doing it again changes nothing."""
        return _content(self._call("PUT", path, repeatable=True, json=body))

    def _call(self, method: str, path: str, *, repeatable: bool, **options: Any) -> httpx.Response:
        headers = dict(options.pop("headers", {}))
        refreshed = False
        for attempt in range(1, ATTEMPTS_MAX + 1):
            if self._tokens:
                headers["Authorization"] = f"Bearer {self._tokens['access_token']}"
            try:
                answer = self._http.request(method, path, headers=headers, **options)
            except httpx.TransportError as error:
                if not repeatable or attempt == ATTEMPTS_MAX:
                    raise NotReachable(f"{self._http.base_url}: {type(error).__name__}") from None
                time.sleep(PAUSE_S * attempt)
                continue
            if answer.status_code == 401 and self._tokens.get("refresh_token") and not refreshed:
                refreshed = True
                self._refresh()
                continue
            if answer.status_code in (429, 502, 503, 504) and repeatable and attempt < ATTEMPTS_MAX:
                time.sleep(_pause(answer))
                continue
            return answer
        raise NotReachable(f"{self._http.base_url}: no answer to {method} {path}")

    @property
    def url(self) -> str:
        """Where the gateway is."""
        return str(self._http.base_url)

    @property
    def access_token(self) -> str:
        """For clients of another kind that act as the same person; asks the platform once, so that it is a fresh one."""
        self.get(f"{API}/auth/me")
        return str(self._tokens["access_token"])

    # --- signing in -------------------------------------------------------------------------------------------------

    def sign_in(self, email: str, password: str, totp_code: str | None = None) -> None:
        """Open a session; asks for the second factor at the terminal when one is needed."""
        self._tokens = {}
        body = {"email": email, "password": password} | ({"totp_code": totp_code} if totp_code else {})
        try:
            self._tokens = self.post(f"{API}/auth/login", body)
        except Problem as problem:
            if problem.code != "totp_required" or totp_code is not None or not os.isatty(0):
                raise
            code = typer.prompt("Code of the authenticator app", err=True)
            self.sign_in(email, password, code)

    def resume(self) -> None:
        """Take up the session of `saras login`, otherwise that of the settings; raises Refusal without either."""
        path = self._settings.session_path
        if path.exists():
            self._tokens = json.loads(path.read_text())
        elif self._settings.email and self._settings.password:
            self.sign_in(self._settings.email, self._settings.password.get_secret_value())
        else:
            raise Refusal("nobody is signed in: run `saras login` first", "not_signed_in")

    def keep(self) -> Path:
        """Keep the session for the next commands."""
        path = self._settings.session_path
        keep_private(path, {name: self._tokens[name] for name in ("access_token", "refresh_token")})
        return path

    def sign_out(self) -> None:
        """End the session here and at the platform."""
        path = self._settings.session_path
        if path.exists():
            self.resume()
            path.unlink()
            self.post(f"{API}/auth/logout")

    def _refresh(self) -> None:
        # Another command may have renewed it: a refresh token that is used twice ends the session.
        path = self._settings.session_path
        if path.exists() and (kept := json.loads(path.read_text())) != self._tokens:
            self._tokens = kept
            return
        body = {"refresh_token": self._tokens["refresh_token"]}
        self._tokens = {}
        try:
            self._tokens = self.post(f"{API}/auth/refresh", body)
        except Problem as problem:
            path.unlink(missing_ok=True)
            raise Refusal(f"the session has ended ({problem.code}): run `saras login`", "not_signed_in") from None
        if path.exists():
            self.keep()


@contextmanager
def connected(*, signed_in: bool = True) -> Iterator[Gateway]:
    """The platform's gateway, as whoever is signed in."""
    settings = OperatorSettings.load()
    with httpx.Client(base_url=gateway_url(settings), timeout=TIMEOUT_S, trust_env=False) as http:
        gateway = Gateway(http, settings)
        if signed_in:
            gateway.resume()
        yield gateway


def _pause(answer: httpx.Response) -> float:
    try:
        return min(float(answer.headers.get("Retry-After", PAUSE_S)), PAUSE_S_MAX)
    except ValueError:
        return PAUSE_S


def _content(answer: httpx.Response) -> Any:
    if answer.is_success:
        return answer.json() if answer.content else None
    try:
        body = answer.json()
    except ValueError:
        body = {}
    if answer.status_code >= 500:
        raise NotReachable(str(body.get("detail", f"the platform answered {answer.status_code}")))
    raise Problem(answer.status_code, body if isinstance(body, dict) else {})
