"""Faults of postbacks and of the ticker: doubled, reordered, dropped, delayed, forged, silent."""

import asyncio

import orjson
import pytest
from websockets.asyncio.client import connect

from kite_simulator.engine import FaultKind, FaultRates
from kite_simulator.engine.sessions import checksum
from kite_simulator.postback import PostbackMail

SECRET = "saras-dev-secret"


@pytest.fixture
def mailed(make_market):
    """Post the updates of some orders under given rates; answers the mail and the market."""

    def build(orders=30, **rates):
        market = make_market(faults=FaultRates(**rates))
        mail = PostbackMail(market.engine, SECRET)
        for number in range(orders):
            market.place(price="1330", tag=f"tag {number}")
        for update in market.engine.drain_updates():
            mail.offer(update)
        return market, mail

    return build


def is_genuine(body):
    return body["checksum"] == checksum(body["order_id"], body["order_timestamp"], SECRET)


def injected(market):
    return market.state.faults_injected


def test_without_faults_every_update_arrives_once_in_order(mailed):
    market, mail = mailed()
    bodies = mail.due()
    assert [body["tag"] for body in bodies] == [f"tag {number}" for number in range(30)]
    assert all(is_genuine(body) and body["status"] == "COMPLETE" for body in bodies)
    assert mail.due() == []
    assert injected(market) == {}


def test_duplicates_are_the_same_message_up_to_five_times_more(mailed):
    market, mail = mailed(postback_duplicated=1.0)
    bodies = mail.due()
    counts = {tag: sum(body["tag"] == tag for body in bodies) for tag in {body["tag"] for body in bodies}}
    assert len(counts) == 30
    assert set(counts.values()) == {2, 3, 4, 5, 6}
    assert injected(market) == {"postback_duplicated": 30}


def test_dropped_postbacks_never_arrive(mailed):
    market, mail = mailed(postback_dropped=1.0)
    market.pass_time(10 * 86_400)
    assert mail.due() == []
    assert injected(market)["postback_dropped"] == 30


def test_reordered_postbacks_overtake_each_other(mailed):
    market, mail = mailed(postback_reordered=1.0)
    assert mail.due() == []
    market.pass_time(5)
    tags = [body["tag"] for body in mail.due()]
    assert sorted(tags) == sorted(f"tag {number}" for number in range(30))
    assert tags != [f"tag {number}" for number in range(30)]


def test_delayed_postbacks_come_on_the_next_day(mailed):
    market, mail = mailed(orders=2, postback_delayed=1.0)
    market.pass_time(86_399)
    assert mail.due() == []
    market.pass_time(1)
    assert len(mail.due()) == 2


def test_forged_postback_stands_beside_the_true_one(mailed):
    market, mail = mailed(postback_forged=1.0)
    bodies = mail.due()
    assert len(bodies) == 60
    forged = [body for body in bodies if body["filled_quantity"] != 10]
    true = [body for body in bodies if body["filled_quantity"] == 10]
    assert len(forged) == len(true) == 30
    assert all(is_genuine(body) for body in true)
    assert {is_genuine(body) for body in forged} == {True, False}
    noted = [fact for fact in market.engine.kernel.facts if fact.get("fault") == "postback_forged"]
    assert [fact["stolen_checksum"] for fact in noted] == [is_genuine(body) for body in forged]


def test_same_seed_spoils_the_same_messages(mailed):
    rates = {"postback_duplicated": 0.3, "postback_reordered": 0.2, "postback_dropped": 0.2, "postback_forged": 0.1}
    runs = []
    for _ in range(2):
        market, mail = mailed(**rates)
        market.pass_time(10)
        runs.append(mail.due())
    assert runs[0] == runs[1]
    assert len(runs[0]) != 30


async def receive_until_silent(socket, seconds):
    while True:
        await asyncio.wait_for(socket.recv(), seconds)


def test_ticker_is_silent_during_a_gap_and_goes_on_after_it(serve, log_in):
    server = serve(tick_interval_s=0.05, heartbeat_s=0.05, rate_limits=False, partial_fill_probability=0.0)
    kite = log_in(server)
    gap = FaultRates(websocket_gap_s=(0.6, 0.6))

    async def scene():
        address = f"{server.ws_url}/?api_key={kite.api_key}&access_token={kite.access_token}"
        async with connect(address, proxy=None) as socket:
            await socket.send(orjson.dumps({"a": "subscribe", "v": [408065]}).decode())
            await asyncio.wait_for(socket.recv(), 5)

            def start(engine):
                engine.faults.set_rates(gap)
                engine.faults.force(FaultKind.WEBSOCKET_GAP)

            await asyncio.to_thread(server.call, start)
            with pytest.raises(TimeoutError):
                await receive_until_silent(socket, 0.4)
            assert len(await asyncio.wait_for(socket.recv(), 5)) >= 1

    asyncio.run(scene())
    assert server.engine.kernel.state.faults_injected == {"websocket_gap": 1}
