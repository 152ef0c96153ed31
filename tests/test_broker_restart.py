"""RabbitMQ killed and started again under publishers and consumers: what was confirmed arrives, both go on by themselves."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from common import rabbit
from common.bus import BusUnavailable
from common.events import Envelope, OrderCancelRequested
from common.rabbit import RabbitBus
from common.testing import eventually
from tests.chaos.servers import NotInstalled, Rabbit

pytestmark = pytest.mark.timeout(900)
SOON_S = 120
"""Longer than anything here takes on a machine that does much else."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    directory: Path = tmp_path_factory.mktemp("broker")
    (directory / "logs").mkdir()
    try:
        found = Rabbit(directory, lambda _: None)
    except NotInstalled as error:
        pytest.skip(str(error))
    try:
        found.create()
        yield found
    finally:
        found.stop()


def messages(count: int) -> list[Envelope]:
    now = datetime.now(UTC)
    return [
        Envelope(
            type="OrderCancelRequested", source="test", occurred_at=now, recorded_at=now,
            payload=OrderCancelRequested(order_id=uuid4(), requested_at=now).model_dump(mode="json"),
        )
        for _ in range(count)
    ]  # fmt: skip


def test_a_killed_broker_costs_time_and_no_confirmed_message(node: Rabbit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbit, "RECONNECT_PAUSE_S", 0.2)
    bus = RabbitBus(node.url)
    bus.declare("a", [OrderCancelRequested])
    # RabbitMQ 3.10 may forget the members of a queue that was made moments before a kill; an orderly stop writes them down.
    node.control("shutdown")
    node.start()
    seen: set[UUID] = set()
    confirmed: set[UUID] = set()
    outages = 0
    stop, publish_stop = threading.Event(), threading.Event()
    consuming = threading.Thread(
        target=bus.consume, args=("a", lambda batch: seen.update(one.id for one in batch), stop)
    )

    def publish() -> None:
        nonlocal outages
        while not publish_stop.is_set():
            try:
                confirmed.update(bus.publish(messages(50)))
            except BusUnavailable:
                outages += 1
                publish_stop.wait(0.2)
        bus.close()

    publishing = threading.Thread(target=publish)
    consuming.start()
    publishing.start()
    try:
        eventually(lambda: len(seen) > 200, timeout=SOON_S)
        node.kill()
        eventually(lambda: outages > 0, timeout=SOON_S)
        node.start()
        before = len(confirmed)
        eventually(lambda: len(confirmed) > before + 200, timeout=SOON_S)
        publish_stop.set()
        publishing.join(SOON_S)
        eventually(lambda: confirmed <= seen, timeout=SOON_S)
    finally:
        publish_stop.set()
        stop.set()
        publishing.join(SOON_S)
        consuming.join(SOON_S)
    assert not consuming.is_alive()
    assert not publishing.is_alive()
