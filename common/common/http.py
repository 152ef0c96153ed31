"""Calls between rooms: JSON over HTTP with bounded waits, service tokens and the caller's correlation id.

Only GETs are tried again. This is for queries off the hot path; the gateway's proxy has its own client.
"""

from typing import Any

import httpx
import stamina

from common.auth import ServiceIdentity
from common.errors import AppError, Unavailable
from common.logging import current_correlation_id, get_logger

log = get_logger(__name__)

GET_ATTEMPTS = 3
TIMEOUT_S = 2.0
REQUEST_ID_HEADER = "X-Request-ID"


class PeerUnavailable(Unavailable):
    """Another room did not answer in time."""


class PeerRefused(AppError):
    """Another room answered with a problem; its status and code are kept."""

    def __init__(self, detail: str, *, status: int, code: str) -> None:
        super().__init__(detail, code=code)
        self.status = status  # type: ignore[misc]


class ServiceClient:
    """A client of one room. Thread-safe; close it when the process ends."""

    def __init__(
        self,
        base_url: str,
        *,
        audience: str,
        identity: ServiceIdentity | None = None,
        timeout_s: float = TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._audience = audience
        self._identity = identity
        self._client = httpx.Client(
            base_url=base_url, timeout=timeout_s, follow_redirects=False, trust_env=False, transport=transport
        )

    def get(self, path: str, params: Any = None) -> Any:
        """The JSON of a GET; raises PeerUnavailable or PeerRefused."""
        try:
            for attempt in stamina.retry_context(
                on=httpx.TransportError, attempts=GET_ATTEMPTS, timeout=None, wait_initial=0.05, wait_max=0.5
            ):
                with attempt:
                    return self._json(self._client.get(path, params=params, headers=self._headers()))
        except httpx.TransportError as error:
            raise self._unavailable(error) from None
        raise AssertionError("unreachable: the last attempt returns or raises")

    def post(self, path: str, body: Any = None, *, headers: dict[str, str] | None = None) -> Any:
        """The JSON of a POST, sent once; raises PeerUnavailable (the effect is unknown then) or PeerRefused."""
        try:
            return self._json(self._client.post(path, json=body, headers={**self._headers(), **(headers or {})}))
        except httpx.TransportError as error:
            raise self._unavailable(error) from None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _headers(self) -> dict[str, str]:
        headers = {}
        if self._identity is not None:
            headers["Authorization"] = f"Bearer {self._identity.token(self._audience)}"
        if correlation_id := current_correlation_id():
            headers[REQUEST_ID_HEADER] = correlation_id
        return headers

    def _unavailable(self, error: httpx.TransportError) -> PeerUnavailable:
        log.warning("http.peer_unavailable", peer=self._audience, error=type(error).__name__)
        return PeerUnavailable(f"{self._audience} does not answer at the moment; try again shortly.")

    def _json(self, response: httpx.Response) -> Any:
        if response.is_success:
            return response.json()
        try:
            problem = response.json()
            code, detail = str(problem["code"]), str(problem["detail"])
        except (ValueError, KeyError, TypeError):
            code, detail = "peer_error", f"{self._audience} answered {response.status_code}."
        if response.status_code >= 500:
            raise PeerUnavailable(detail, code=code)
        raise PeerRefused(detail, status=response.status_code, code=code)
