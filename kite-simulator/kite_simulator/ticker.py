"""The ticker: binary price packets, heartbeats and order frames (Kite docs, WebSocket streaming; fact sheet section 8)."""

import asyncio
import struct
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from kite_simulator.engine import Engine, FaultKind, Refused
from kite_simulator.engine.prices import Line

CONNECTIONS_MAX = 3
TOKENS_MAX = 3000
HEARTBEAT = b"\x00"
OUTBOX_MAX = 2000
Depth = tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]


def ltp_packet(line: Line) -> bytes:
    """8 bytes for any instrument."""
    return struct.pack(">ii", line.instrument.token, line.last_paise)


def index_packet(line: Line, now_s: int, *, full: bool) -> bytes:
    """28 or 32 bytes; order high, low, open, close."""
    body = struct.pack(
        ">iiiiiii",
        line.instrument.token,
        line.last_paise,
        line.high_paise,
        line.low_paise,
        line.open_paise,
        line.close_paise,
        line.last_paise - line.close_paise,
    )
    return body + struct.pack(">i", now_s) if full else body


def quote_packet(line: Line, depth: Depth) -> bytes:
    """44 bytes; order open, high, low, close."""
    return struct.pack(
        ">iiiiiiiiiii",
        line.instrument.token,
        line.last_paise,
        line.last_quantity,
        line.average_paise,
        min(line.volume, 0x7FFFFFFF),
        sum(row[1] for row in depth[0]),
        sum(row[1] for row in depth[1]),
        line.open_paise,
        line.high_paise,
        line.low_paise,
        line.close_paise,
    )


def full_packet(line: Line, depth: Depth, now_s: int) -> bytes:
    """184 bytes: quote, times, open interest, five bids, five offers."""
    traded_s = int(line.traded_at.timestamp()) if line.traded_at else 0
    head = quote_packet(line, depth) + struct.pack(">iiiii", traded_s, 0, 0, 0, now_s)
    levels = [struct.pack(">iiHxx", quantity, price, orders) for price, quantity, orders in depth[0] + depth[1]]
    return head + b"".join(levels)


def frame(packets: list[bytes]) -> bytes:
    """One binary message: number of packets, then each with its length."""
    return struct.pack(">H", len(packets)) + b"".join(struct.pack(">H", len(packet)) + packet for packet in packets)


@dataclass(eq=False)
class Connection:
    """One client: its modes by token, and what waits to be sent."""

    modes: dict[int, str] = field(default_factory=dict)
    outbox: asyncio.Queue[bytes | str] = field(default_factory=lambda: asyncio.Queue(OUTBOX_MAX))

    def offer(self, message: bytes | str) -> None:
        """Queue a message; a client that does not read loses it, nothing is replayed."""
        if not self.outbox.full():
            self.outbox.put_nowait(message)


class Ticker:
    """All WebSocket connections of the account."""

    def __init__(self, engine: Engine, heartbeat_s: float) -> None:
        self._engine = engine
        self._heartbeat_s = heartbeat_s
        self._connections: set[Connection] = set()
        self._silent_until: datetime | None = None

    async def serve(self, socket: WebSocket) -> None:
        """One connection from handshake to end: 403 for a bad token, 429 for the fourth."""
        query = socket.query_params
        try:
            self._engine.sessions.check(query.get("api_key", ""), query.get("access_token", ""))
        except Refused as refusal:
            await socket.send_denial_response(Response(refusal.message, status_code=403))
            return
        if len(self._connections) >= CONNECTIONS_MAX:
            await socket.send_denial_response(Response("Too many requests", status_code=429))
            return
        connection = Connection()
        self._connections.add(connection)
        try:
            await socket.accept()
            sender = asyncio.create_task(self._send(socket, connection))
            try:
                await self._receive(socket, connection)
            finally:
                sender.cancel()
        except WebSocketDisconnect:
            pass
        finally:
            self._connections.discard(connection)

    def publish_ticks(self, keys: set[str]) -> None:
        """Send the new prices to whoever subscribed."""
        if self._falls_silent():
            return
        lines = self._engine.kernel.board.lines
        tokens = {lines[key].instrument.token for key in keys}
        cache: dict[tuple[int, str], bytes] = {}
        for connection in self._connections:
            wanted = [token for token in connection.modes if token in tokens]
            if wanted:
                connection.offer(frame([self._packet(token, connection.modes[token], cache) for token in wanted]))

    def publish_order(self, update: dict[str, Any]) -> None:
        """Send an order update to every connection; the checksum is blank here."""
        if self._connections and not self._falls_silent():
            text = orjson.dumps({"type": "order", "data": update}).decode()
            for connection in self._connections:
                connection.offer(text)

    def _is_silent(self) -> bool:
        return self._silent_until is not None and self._engine.kernel.time < self._silent_until

    def _falls_silent(self) -> bool:
        """A gap: for some seconds nothing is sent and nothing is sent again later. Each message may begin one."""
        dice = self._engine.faults
        if self._is_silent() or not self._connections or not dice.draws(FaultKind.WEBSOCKET_GAP):
            return self._is_silent()
        gap_s = dice.seconds(FaultKind.WEBSOCKET_GAP, dice.rates.websocket_gap_s)
        dice.note(FaultKind.WEBSOCKET_GAP, seconds=gap_s)
        self._silent_until = self._engine.kernel.time + timedelta(seconds=gap_s)
        return True

    def _packet(self, token: int, mode: str, cache: dict[tuple[int, str], bytes]) -> bytes:
        packet = cache.get((token, mode))
        if packet is None:
            packet = cache[token, mode] = self._build(token, mode)
        return packet

    def _build(self, token: int, mode: str) -> bytes:
        kernel = self._engine.kernel
        instrument = kernel.instruments.by_token[token]
        line = kernel.board.lines[instrument.key]
        now_s = int(kernel.time.timestamp())
        if mode == "ltp":
            return ltp_packet(line)
        if not instrument.tradable:
            return index_packet(line, now_s, full=mode == "full")
        depth = kernel.board.depth(instrument.key, kernel.settings.seed)
        return full_packet(line, depth, now_s) if mode == "full" else quote_packet(line, depth)

    async def _receive(self, socket: WebSocket, connection: Connection) -> None:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if text is not None:
                self._obey(connection, text)

    def _obey(self, connection: Connection, text: str) -> None:
        try:
            order = orjson.loads(text)
        except orjson.JSONDecodeError:
            return
        if not isinstance(order, dict):
            return
        action, value = order.get("a"), order.get("v")
        if action == "subscribe":
            self._subscribe(connection, _tokens(value), "quote")
        elif action == "unsubscribe":
            for token in _tokens(value):
                connection.modes.pop(token, None)
        elif action == "mode" and isinstance(value, list) and len(value) == 2 and value[0] in ("ltp", "quote", "full"):
            self._subscribe(connection, _tokens(value[1]), value[0])

    def _subscribe(self, connection: Connection, tokens: list[int], mode: str) -> None:
        if len(connection.modes.keys() | set(tokens)) > TOKENS_MAX:
            error = {"type": "error", "data": f"Can't subscribe to more than {TOKENS_MAX} instruments."}
            connection.offer(orjson.dumps(error).decode())
            return
        known = [token for token in tokens if token in self._engine.kernel.instruments.by_token]
        for token in known:
            connection.modes[token] = mode
        if known:
            cache: dict[tuple[int, str], bytes] = {}
            connection.offer(frame([self._packet(token, mode, cache) for token in known]))

    async def _send(self, socket: WebSocket, connection: Connection) -> None:
        while socket.application_state is WebSocketState.CONNECTED:
            try:
                message = await asyncio.wait_for(connection.outbox.get(), self._heartbeat_s)
            except TimeoutError:
                message = HEARTBEAT
            if self._is_silent():
                continue
            try:
                if isinstance(message, str):
                    await socket.send_text(message)
                else:
                    await socket.send_bytes(message)
            except (WebSocketDisconnect, RuntimeError):
                return


def _tokens(value: Any) -> list[int]:
    """Numbers only; strings are ignored as the real server does (forum 6277)."""
    if not isinstance(value, list):
        return []
    return [token for token in value if isinstance(token, int) and not isinstance(token, bool)]
