"""What benchmarks send: orders of all users in turn, each request under a key of its own."""

from collections.abc import Iterator, Sequence
from itertools import count
from uuid import uuid4

import orjson

from bench.wire import Load, Requests, request, run_load

PATH = "/api/v1/orders"
BATCH_PATH = "/api/v1/orders/batch"
SYMBOLS = ("ITC", "SBIN", "WIPRO", "NTPC", "ONGC", "TATASTEEL", "COALINDIA", "POWERGRID", "AXISBANK", "ICICIBANK")


def one() -> bytes:
    """The body of one small order."""
    return orjson.dumps({"tradingsymbol": SYMBOLS[0], "side": "BUY", "quantity": 1})


def batch(size: int, symbols: Sequence[str] = SYMBOLS, quantity: int = 1, first: int = 0) -> bytes:
    """The body of a batch, its shares in turn."""
    rows = [
        {"tradingsymbol": symbols[(first + number) % len(symbols)], "side": "BUY", "quantity": quantity}
        for number in range(size)
    ]
    return orjson.dumps({"orders": rows})


def submission(token: str, url: str, body: bytes, path: str, key: str) -> bytes:
    """One request of one user."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Idempotency-Key": key}
    return request("POST", path, url, headers, body)


def endless(tokens: Sequence[str], url: str, body: bytes, path: str = PATH) -> Requests:
    """Requests without end, users in turn on every connection."""
    run_id, numbers = uuid4().hex[:8], count()

    def of(connection: int) -> Iterator[bytes]:
        for step in count():
            token = tokens[(connection + step * 7) % len(tokens)]
            yield submission(token, url, body, path, f"bench-{run_id}-{next(numbers)}")

    return of


def drive(tokens: Sequence[str], url: str, body: bytes, *, connections: int, seconds: float, path: str = PATH) -> Load:
    """Send for so long over so many connections."""
    return run_load(url, endless(tokens, url, body, path), connections=connections, seconds=seconds)
