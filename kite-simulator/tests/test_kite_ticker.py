"""The official KiteTicker, in a process of its own because its reactor cannot be restarted."""

import asyncio
import os
import struct
import subprocess
import sys

import orjson
import pytest
from kiteconnect import KiteConnect
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

CLIENT = """
import json, sys, threading
from kiteconnect import KiteConnect, KiteTicker
api_key, access_token, url, ws_url = sys.argv[1:5]
kite = KiteConnect(api_key, access_token=access_token, root=url)
ticker = KiteTicker(api_key, access_token, root=ws_url)
seen = {"modes": [], "tokens": [], "order": None, "depth": 0, "index": None}
ready = threading.Event()

def on_connect(ws, response):
    ws.subscribe([408065, 256265])
    ws.set_mode(ws.MODE_FULL, [408065])
    threading.Thread(target=trade, daemon=True).start()

def trade():
    kite.place_order("regular", "NSE", "INFY", "BUY", 1, "CNC", "LIMIT", price=1160, tag="ticker")

def on_ticks(ws, ticks):
    for tick in ticks:
        seen["modes"].append(tick["mode"])
        seen["tokens"].append(tick["instrument_token"])
        if tick["mode"] == "full" and tick["tradable"]:
            seen["depth"] = len(tick["depth"]["buy"])
            seen["last_price"] = tick["last_price"]
            seen["close"] = tick["ohlc"]["close"]
        if not tick["tradable"]:
            seen["index"] = tick["ohlc"]
    finish(ws)

def on_order_update(ws, data):
    seen["order"] = data
    finish(ws)

def finish(ws):
    if seen["order"] and len(seen["tokens"]) >= 6:
        ws.stop()

ticker.on_connect, ticker.on_ticks, ticker.on_order_update = on_connect, on_ticks, on_order_update
ticker.connect()
print(json.dumps(seen))
"""
CLIENT_TIMEOUT_S = 60


@pytest.fixture
def server(serve):
    return serve(partial_fill_probability=0.0, tick_interval_s=0.2, heartbeat_s=0.2, rate_limits=False)


def test_official_ticker_receives_ticks_and_an_order_update(server, log_in):
    kite: KiteConnect = log_in(server)
    env = {**os.environ, "NO_PROXY": "127.0.0.1", "TZ": "Asia/Kolkata"}
    arguments = [kite.api_key, kite.access_token, server.url, server.ws_url]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CLIENT, *arguments],
        env=env,
        capture_output=True,
        timeout=CLIENT_TIMEOUT_S,
        check=True,
    )
    seen = orjson.loads(done.stdout.splitlines()[-1])
    assert {408065, 256265} <= set(seen["tokens"])
    assert {"full", "quote"} <= set(seen["modes"])
    assert seen["depth"] == 5
    assert seen["close"] == 1154.6
    assert seen["index"]["close"] == 22512.65
    assert (seen["order"]["tag"], seen["order"]["status"], seen["order"]["checksum"]) == ("ticker", "COMPLETE", "")


def ws_address(server, kite, token=None):
    return f"{server.ws_url}/?api_key={kite.api_key}&access_token={token or kite.access_token}"


async def refused_status(address):
    with pytest.raises(InvalidStatus) as refusal:
        async with connect(address, proxy=None):
            pass
    return refusal.value.response.status_code


def test_bad_token_gets_403_and_the_fourth_connection_429(server, log_in):
    kite = log_in(server)

    async def scene():
        assert await refused_status(ws_address(server, kite, "wrong")) == 403
        async with (
            connect(ws_address(server, kite), proxy=None),
            connect(ws_address(server, kite), proxy=None),
            connect(ws_address(server, kite), proxy=None) as third,
        ):
            assert await refused_status(ws_address(server, kite)) == 429
            assert await asyncio.wait_for(third.recv(), 5) == b"\x00"

    asyncio.run(scene())


def test_snapshot_comes_at_once_and_text_tokens_are_ignored(server, log_in):
    kite = log_in(server)

    async def scene():
        async with connect(ws_address(server, kite), proxy=None) as socket:
            await socket.send('{"a":"subscribe","v":["408065"]}')
            await socket.send("no json")
            await socket.send('{"a":"mode","v":["ltp",[738561]]}')
            while len(message := await asyncio.wait_for(socket.recv(), 5)) < 2:
                pass
            count, length, token = struct.unpack(">HHi", message[:8])
            assert (count, length, token) == (1, 8, 738561)
            await socket.send(orjson.dumps({"a": "subscribe", "v": list(range(1, 3002))}).decode())
            while not isinstance(message := await asyncio.wait_for(socket.recv(), 5), str):
                pass
            assert orjson.loads(message)["type"] == "error"

    asyncio.run(scene())
