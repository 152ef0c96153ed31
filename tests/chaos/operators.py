"""The two people on duty: they read the breaks, close what was injected, pull the kill switch and let go again."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx

from tests.chaos.platform import OPERATORS, Platform
from trade_executor import breaks

TIMEOUT_S = 8.0
RETRY_PAUSE_S = 0.5
PATIENCE_S = 120.0
ROUND_S = 4.0
OUR_FAULT = breaks.HALTING | {breaks.TAG_MISMATCH, breaks.PAST_DAY}
"""Kinds of breaks that nothing in a run injects: one of them is a violation, and nobody closes it."""


class OperatorStuck(Exception):
    """The platform did not let an operator do what he must be able to do."""


class NoLogin(Exception):
    """The platform did not let an operator in just now."""


class Operators:
    """Two operators through the gateway. `start` lets them look after breaks every few seconds."""

    def __init__(self, platform: Platform, tell: Callable[..., None]) -> None:
        self._platform = platform
        self._tell = tell
        self._http = httpx.Client(base_url=platform.gateway_url, timeout=TIMEOUT_S, trust_env=False)
        self._simulator = httpx.Client(base_url=platform.simulator_url, timeout=TIMEOUT_S, trust_env=False)
        self._tokens: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="operators")
        self.closed: Counter[str] = Counter()
        self.halts: list[tuple[float, float]] = []
        """Wall seconds between the answer to a halt and the wish to resume: nothing may be sent between."""

    def start(self) -> None:
        """Begin to look after breaks."""
        self._thread.start()

    def stop(self) -> None:
        """Go home."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        self._simulator.close()

    def call(self, who: str, method: str, path: str, body: Any = None, *, patience_s: float = PATIENCE_S) -> Any:
        """One call, repeated until it is answered; raises httpx.HTTPStatusError for a refusal, OperatorStuck."""
        deadline = time.monotonic() + patience_s
        last = "no answer"
        while time.monotonic() < deadline:
            try:
                if who not in self._tokens:
                    self._tokens[who] = self._login(who)
                headers = {"Authorization": f"Bearer {self._tokens[who]}"}
                answer = self._http.request(method, path, json=body, headers=headers)
                if answer.status_code == 401:
                    self._tokens.pop(who, None)
                elif answer.status_code < 500 and answer.status_code != 429:
                    return answer.raise_for_status().json()
                last = f"{answer.status_code} {answer.text[:200]}"
            except (httpx.TransportError, NoLogin) as error:
                last = f"{type(error).__name__}: {error}"
            time.sleep(RETRY_PAUSE_S)
        raise OperatorStuck(f"{method} {path}: {last}")

    def _login(self, who: str) -> str:
        credentials = {"email": who, "password": self._platform.passwords[who]}
        answer = self._http.post("/api/v1/auth/login", json=credentials)
        if not answer.is_success:
            raise NoLogin(f"{answer.status_code} {answer.text[:200]}")
        return str(answer.json()["access_token"])

    # --- the kill switch ----------------------------------------------------------------------------------------------

    def halt(self) -> None:
        """Stop all sending."""
        try:
            self.call(OPERATORS[0], "POST", "/api/v1/ops/control/halt", {"reason": "drill"}, patience_s=10.0)
        except httpx.HTTPStatusError as error:
            # An earlier call was not answered but did its work.
            if error.response.status_code != 409:
                raise
        self._halted_at = time.time()

    def resume(self) -> None:
        """Two people let go again; what was injected is closed first."""
        self.halts.append((self._halted_at, time.time()))
        self.make_active("drill over")

    def make_active(self, reason: str) -> None:
        """Trading is ACTIVE afterwards, or OperatorStuck is raised."""
        deadline = time.monotonic() + PATIENCE_S
        while self.control()["trading_state"] != "ACTIVE":
            self.close_breaks()
            for who in OPERATORS:
                try:
                    self.call(who, "POST", "/api/v1/ops/control/resume", {"reason": reason})
                except httpx.HTTPStatusError as error:
                    self._tell("operator.refused", status=error.response.status_code, body=error.response.text[:200])
            if time.monotonic() > deadline:
                raise OperatorStuck(f"trading stays {self.control()}")

    def control(self) -> Any:
        """The switch and its state."""
        return self.call(OPERATORS[0], "GET", "/api/v1/ops/control")

    # --- breaks -------------------------------------------------------------------------------------------------------

    def open_breaks(self) -> list[dict[str, Any]]:
        """All open breaks."""
        return list(self.call(OPERATORS[0], "GET", "/api/v1/ops/breaks?open=true&limit=200")["items"])

    def close_breaks(self) -> None:
        """Close what the run has injected; what nobody injected stays open and is a violation at the end."""
        for row in self.open_breaks():
            if row["kind"] in OUR_FAULT:
                continue
            path = f"/api/v1/ops/breaks/{quote(str(row['break_id']))}/close"
            try:
                self.call(OPERATORS[0], "POST", path, {"reason": "injected"})
                self.closed[row["kind"]] += 1
            except httpx.HTTPStatusError as error:
                # Cured by itself meanwhile.
                if error.response.status_code != 409:
                    raise

    def _look_after(self) -> None:
        while not self._stop.wait(ROUND_S):
            try:
                self.close_breaks()
                if self.control()["trading_state"] == "CANCEL_ONLY":
                    self.make_active("injected cause closed")
            except (OperatorStuck, httpx.HTTPError) as error:
                self._tell("operator.cannot_work", error=f"{type(error).__name__}: {error}"[:300])

    # --- the simulated exchange ---------------------------------------------------------------------------------------

    def set_faults(self, body: dict[str, Any]) -> None:
        """Change the simulator's faults; repeated until it answers."""
        self._at_simulator("POST", "/simulator/faults", body)

    def end_broker_session(self) -> None:
        """The next call with the present token finds it dead."""
        once = {"once": [{"kind": "token_killed", "count": 1}]}
        self._simulator.post("/simulator/faults", json=once).raise_for_status()

    def simulator_status(self) -> Any:
        """Counters of the simulator."""
        return self._at_simulator("GET", "/simulator/status")["data"]

    def truth(self) -> list[dict[str, Any]]:
        """Every fact of the truth log."""
        facts: list[dict[str, Any]] = []
        while True:
            page = self._at_simulator("GET", f"/simulator/truth?after={len(facts)}&limit=5000")["data"]
            facts += page["facts"]
            if len(facts) >= page["total"]:
                return facts

    def _at_simulator(self, method: str, path: str, body: Any = None) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._simulator.request(method, path, json=body).raise_for_status().json()
            except httpx.TransportError as error:
                if time.monotonic() > deadline:
                    raise OperatorStuck(f"the simulator does not answer: {type(error).__name__}") from error
                time.sleep(RETRY_PAUSE_S)
