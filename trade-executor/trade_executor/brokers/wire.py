"""The official Kite Connect client on a transport that does what we can answer for.

What the client does by itself and this module takes away (kite-connect.md 9.4, 2.3 and 14): following redirects (a 302
turns an order into a GET), one number for both timeouts, environment proxies and .netrc (which replaces the
Authorization header), silencing TLS warnings of the whole process, forgetting the HTTP status. What it does not do and
must stay so: retries. One call is at most one HTTP request.

The client is synchronous and not made for threads: one `Wire` belongs to one thread. The read timeout counts from one
received piece to the next, so a reply that trickles may take longer; the executor's sweep of sent attempts bounds that.
"""

import ipaddress
import re
import ssl
import threading
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from kiteconnect import KiteConnect
from kiteconnect.exceptions import KiteException
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies

from trade_executor.brokers.base import BrokerReplyInvalid, BrokerSessionExpired, BrokerUnavailable
from trade_executor.outcome import Reply, is_session_refusal

PRODUCTION_ROOT: Final = "https://api.kite.trade"
MESSAGE_CHARS_MAX: Final = 500
"""A broker's text is kept to this length: enough for the longest known one, too little for a whole HTML page."""

_ROOT = re.compile(r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?/?\Z")
_construction = threading.Lock()
_INSTANTS: Final = (
    "order_timestamp", "exchange_timestamp", "created", "last_instalment", "fill_timestamp", "timestamp",
    "last_trade_time",
)  # fmt: skip
_INSTANT_CHARS: Final = len("2026-01-31 09:15:00")

CLIENT_FAILURES: Final = (
    KiteException,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    # What the client itself breaks with on replies it did not expect: missing content type or `data` (KeyError), no
    # error_type (TypeError), a JSON array (AttributeError), `data: null` (UnboundLocalError), absurd nesting
    # (RecursionError), undecodable text or dates (ValueError).
    LookupError,
    TypeError,
    AttributeError,
    NameError,
    RecursionError,
    ValueError,
    OverflowError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to reach the broker, and to wait for each piece of its answer."""

    connect_s: float = 2.0
    read_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A checked broker root: HTTPS to anywhere, plain HTTP only to this machine or a named simulator host."""

    root: str
    is_simulator_allowed: bool

    @classmethod
    def checked(cls, root: str, simulator_hosts: Collection[str] = ()) -> "Endpoint":
        """Raises ValueError for a root with a path, credentials or another scheme, and for plain HTTP to a stranger.

        `simulator_hosts` are host names the operator declared to be simulators (a container's name, for instance).
        """
        match = _ROOT.match(root)
        host = urlsplit(root).hostname if match else None
        if match is None or host is None:
            # A path would be dropped silently by the client (urljoin with absolute routes).
            raise ValueError(f"a broker root is scheme, host and port without a path: {root!r}")
        local = is_loopback(host) or host in simulator_hosts
        if match["scheme"] == "http" and not local:
            raise ValueError(f"plain HTTP only to this machine or a declared simulator host: {root!r}")
        return cls(root.rstrip("/"), local)


def is_loopback(host: str) -> bool:
    """Whether a host name or literal address can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class WireSession(requests.Session):
    """A session that never redirects, never retries, always verifies, and remembers the one response of a call."""

    def __init__(self, endpoint: Endpoint, timeouts: Timeouts) -> None:
        super().__init__()
        # No .netrc, no proxies and no CA bundle by surprise from the environment.
        self.trust_env = False
        if not endpoint.is_simulator_allowed:
            self.proxies = dict(get_environ_proxies(endpoint.root))
        for scheme in ("https://", "http://"):
            self.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=1, max_retries=0))
        self._timeout = (timeouts.connect_s, timeouts.read_s)
        self.last_response: requests.Response | None = None

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """There is no next address: a redirect is an answer like any other."""
        return None

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send once, with both timeouts, whatever the client asked for."""
        kwargs |= {"allow_redirects": False, "timeout": self._timeout, "verify": True, "stream": False}
        response = super().send(request, **kwargs)
        self.last_response = response
        return response


class Client(KiteConnect):  # type: ignore[misc]
    """The client with instants read by their documented form.

    Its own reader guesses at the form of every one; a book of a day's trades is read every second, and a third of the time
    of a read went there.
    """

    def _format_response(self, data: Any) -> Any:
        """Turn the instants of a row, or of rows, into datetimes without a zone; raises ValueError for another form."""
        for row in [data] if isinstance(data, dict) else data:
            for name in _INSTANTS:
                text = row.get(name)
                if text and len(text) == _INSTANT_CHARS:
                    row[name] = datetime.fromisoformat(text)
        return data


class Wire:
    """One thread's client of one broker account."""

    def __init__(self, api_key: str, access_token: str | None, endpoint: Endpoint, timeouts: Timeouts) -> None:
        self.session = WireSession(endpoint, timeouts)
        # The constructor switches urllib3's warnings off for the whole process; the filters are put back. The lock is
        # there because that switch is global.
        with _construction, warnings.catch_warnings():
            self._kite = Client(
                api_key=api_key,
                access_token=access_token,
                root=endpoint.root,
                debug=False,
                timeout=timeouts.read_s,
                disable_ssl=False,
            )
        self._kite.reqsession.close()
        self._kite.reqsession = self.session
        self._secrets = tuple(secret for secret in (access_token, api_key) if secret)

    def call(self, use: Callable[[Any], Any]) -> tuple[Any, Reply]:
        """Use the client once; answer what it returned (None after a failure) and what the wire showed."""
        self.session.last_response = None
        try:
            value = use(self._kite)
        except CLIENT_FAILURES as failure:
            return None, self._reply(failure)
        return value, self._reply(None)

    def _reply(self, failure: Exception | None) -> Reply:
        response = self.session.last_response
        name = type(failure).__name__ if failure else ""
        text = str(failure) if failure else ""
        if response is None:
            sent = failure is None or not connection_never_made(failure)
            return Reply(nothing_sent=not sent, message=self._clean(text), failure=name)
        body = json_object(response)
        error_type, message = body.get("error_type"), body.get("message")
        return Reply(
            http_status=response.status_code,
            error_type=error_type if isinstance(error_type, str) else "",
            message=self._clean(message if isinstance(message, str) else text),
            failure=name,
        )

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[redacted]")
        return text[:MESSAGE_CHARS_MAX]


def connection_never_made(failure: BaseException) -> bool:
    """Whether the failure proves that no byte of the request left: no address, refused, unreachable, bad certificate.

    Follows only the links by which requests and urllib3 wrap a cause. `__context__` is not one of them: it may belong
    to whatever the caller was handling.
    """
    never = (
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.ConnectTimeoutError,
        ssl.SSLCertVerificationError,
    )
    link: object = failure
    for _ in range(8):
        if isinstance(link, never):
            return True
        if not isinstance(link, BaseException):
            return False
        link = getattr(link, "reason", None) or getattr(link, "original_error", None) or (link.args or (None,))[0]
    return False


def check_read(reply: Reply) -> None:
    """Raise what a failed read means; return when the answer is a usable 200."""
    fact = reply.message or reply.failure or f"HTTP {reply.http_status}"
    if is_session_refusal(reply):
        raise BrokerSessionExpired(fact)
    if reply.http_status is None or not 200 <= reply.http_status < 300:
        raise BrokerUnavailable(f"HTTP {reply.http_status}: {fact}" if reply.http_status else fact)
    if reply.failure:
        raise BrokerReplyInvalid(f"{reply.failure}: {reply.message}")


def json_object(response: requests.Response) -> Mapping[str, object]:
    """The JSON object of a reply that says it is JSON, otherwise nothing: other text proves nothing."""
    if "json" not in response.headers.get("content-type", ""):
        return {}
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}
