"""What only RabbitMQ can do to us: refuse, return, break connections, hang, forget; and what operators can do there."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pika
import pytest

from common import bus as bus_module
from common import dead_letters, publishing, rabbit
from common.bus import BusUnavailable, Handler
from common.events import Envelope, OrderCancelRequested, UserRegistered
from common.queues import EXCHANGE
from common.rabbit import RabbitBus
from common.testing import eventually
from common.testing_ports import free_port
from tests.chaos.proxies import Proxies

QUICK_S = 0.3


def cancel() -> Envelope:
    event = OrderCancelRequested(order_id=uuid4(), requested_at=datetime.now(UTC))
    return Envelope(
        type=event.type_name(),
        source="test",
        occurred_at=event.occurred_at,
        recorded_at=datetime.now(UTC),
        payload=event.model_dump(mode="json"),
    )


def ids(envelopes: Sequence[Envelope]) -> list[Any]:
    return [envelope.id for envelope in envelopes]


@contextmanager
def consuming(bus: RabbitBus, queue: str, handler: Handler) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=bus.consume, args=(queue, handler, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


@contextmanager
def administering(url: str) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        connection.close()


class Line:
    """A way to RabbitMQ that the test can break: `bus` uses it, `order("cut" | "hold" | "heal")` breaks it."""

    def __init__(self, proxies: Proxies, port: int, url: str, prefix: str) -> None:
        parts = urlsplit(url)
        self._proxies, self._port = proxies, port
        self.bus = RabbitBus(
            parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}").geturl(), prefix=prefix
        )

    def order(self, do: str, **more: float) -> None:
        self._proxies.order(self._port, do, **more)

    def cut_and_wait(self) -> None:
        """Cut all connections; returns when one made before is dead."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=10) as probe:
            # The server's answer proves that the line knows this connection: a cut does not reach one it has not taken yet.
            probe.sendall(b"AMQP\x00\x00\x09\x01")
            assert probe.recv(1)
            self.order("cut")
            with suppress(ConnectionResetError):
                while probe.recv(4096):
                    pass


@pytest.fixture(scope="module")
def proxied(rabbitmq_url: str) -> Iterator[tuple[Proxies, int]]:
    port = free_port()
    proxies = Proxies({port: urlsplit(rabbitmq_url).port or 5672})
    yield proxies, port
    proxies.stop()


@pytest.fixture
def line(
    proxied: tuple[Proxies, int], rabbitmq_url: str, rabbit_bus: RabbitBus, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Line]:
    monkeypatch.setattr(rabbit, "RECONNECT_PAUSE_S", 0.02)
    rabbit_bus.declare("a", [OrderCancelRequested])
    found = Line(*proxied, rabbitmq_url, rabbit_bus._prefix)
    eventually(lambda: _answers(found.bus))
    yield found
    found.order("heal")
    found.bus.close()


def _answers(bus: RabbitBus) -> bool:
    try:
        bus.ping()
    except BusUnavailable:
        return False
    return True


def test_a_returned_message_is_not_confirmed_and_its_neighbours_are(rabbit_bus: RabbitBus, rabbitmq_url: str) -> None:
    rabbit_bus.declare("a", [OrderCancelRequested])
    with administering(rabbitmq_url) as channel:
        channel.queue_delete(f"{rabbit_bus._prefix}{EXCHANGE}.unrouted")
    routed, other = [cancel() for _ in range(4)], cancel().model_copy(update={"type": UserRegistered.type_name()})
    publisher = publishing.Publisher(rabbit_bus._parameters, rabbit_bus._exchange)
    assert publisher.publish([*routed[:2], other, *routed[2:]]) == set(ids(routed))
    assert publisher.refused == {other.id}
    assert publisher.failure is None
    assert publisher.publish(routed[:1]) == {routed[0].id}, "the connection is as good as before"
    publisher.close()


def test_a_full_queue_refuses_and_nothing_refused_is_called_safe(rabbit_bus: RabbitBus, rabbitmq_url: str) -> None:
    rabbit_bus.declare("b", [])
    full = f"{rabbit_bus._prefix}c"
    with administering(rabbitmq_url) as channel:
        channel.queue_declare(full, arguments={"x-max-length": 3, "x-overflow": "reject-publish"}, durable=True)
        channel.queue_bind(full, f"{rabbit_bus._prefix}{EXCHANGE}", routing_key="*.OrderCancelRequested")
        messages = [cancel() for _ in range(50)]
        confirmed = rabbit_bus.publish(messages)
        assert 3 <= len(confirmed) < 50
        kept = []
        while (answer := channel.basic_get(full, auto_ack=True))[0] is not None:
            kept.append(Envelope.model_validate_json(answer[2]).id)
    assert set(kept) == confirmed
    assert kept == [message.id for message in messages if message.id in confirmed]


def test_a_publisher_whose_connection_was_cut_goes_on_over_a_new_one(line: Line, rabbit_bus: RabbitBus) -> None:
    seen: list[Envelope] = []
    first, second = [cancel() for _ in range(3)], [cancel() for _ in range(3)]
    with consuming(rabbit_bus, "a", seen.extend):
        assert line.bus.publish(first) == set(ids(first))
        line.cut_and_wait()
        assert line.bus.publish(second) == set(ids(second))
        eventually(lambda: set(ids(seen)) == set(ids(first + second)))


def test_a_broker_that_hangs_costs_a_bounded_time_and_no_message(
    line: Line, rabbit_bus: RabbitBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CONFIRM_TIMEOUT_S", "OPEN_TIMEOUT_S", "CLOSE_TIMEOUT_S"):
        monkeypatch.setattr(publishing, name, QUICK_S)
    line.bus._parameters.socket_timeout = line.bus._parameters.stack_timeout = QUICK_S
    assert len(line.bus.publish([cancel()])) == 1
    messages = [cancel() for _ in range(5)]
    line.order("hold", seconds=60)
    outcome: list[type[Exception]] = []

    def publish() -> None:
        try:
            line.bus.publish(messages)
        except BusUnavailable as error:
            outcome.append(type(error))

    publishing_thread = threading.Thread(target=publish)
    publishing_thread.start()
    publishing_thread.join(20)
    assert not publishing_thread.is_alive()
    assert outcome == [BusUnavailable]
    line.order("heal")
    seen: list[Envelope] = []
    with consuming(rabbit_bus, "a", seen.extend):
        eventually(lambda: _publishes(line.bus, messages))
        eventually(lambda: set(ids(messages)) <= set(ids(seen)))


def _publishes(bus: RabbitBus, messages: list[Envelope]) -> bool:
    try:
        return bus.publish(messages) == set(ids(messages))
    except BusUnavailable:
        return False


def test_a_connection_that_is_reset_while_it_opens_is_an_outage(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    real, resets = {"connect": pika.BlockingConnection, "run": publishing.IOLoop.start}, ["connect", "run"]

    def first_reset(what: str) -> Any:
        def act(*given: Any) -> Any:
            if what in resets:
                resets.remove(what)
                # What pika says when the peer has reset the connection before pika asks who it is.
                raise ValueError("Expected connected socket, but getpeername() failed")
            return real[what](*given)

        return act

    monkeypatch.setattr(rabbit.pika, "BlockingConnection", first_reset("connect"))
    monkeypatch.setattr(publishing.IOLoop, "start", first_reset("run"))
    for _ in range(2):
        with pytest.raises(BusUnavailable, match="getpeername"):
            line.bus.publish([cancel()])
    assert resets == []
    assert len(line.bus.publish([cancel()])) == 1


def test_what_a_cut_consumer_had_not_acknowledged_comes_again(line: Line, rabbit_bus: RabbitBus) -> None:
    calls: list[list[Any]] = []
    in_hand, go_on = threading.Event(), threading.Event()

    def handler(envelopes: Sequence[Envelope]) -> None:
        calls.append(ids(envelopes))
        in_hand.set()
        assert go_on.wait(10)

    messages = [cancel() for _ in range(3)]
    rabbit_bus.publish(messages)
    with consuming(line.bus, "a", handler):
        assert in_hand.wait(10)
        line.cut_and_wait()
        go_on.set()
        # What the first call had in hand was handled and not acknowledged; what came behind it was not even handled.
        eventually(lambda: {one for call in calls[1:] for one in call} == set(ids(messages)))


def test_a_consumer_makes_its_queue_again_when_it_is_gone(line: Line, rabbit_bus: RabbitBus, rabbitmq_url: str) -> None:
    seen: list[Envelope] = []
    line.bus.declare("a", [OrderCancelRequested])
    with consuming(line.bus, "a", seen.extend):
        first = cancel()
        rabbit_bus.publish([first])
        eventually(lambda: ids(seen) == [first.id])
        with administering(rabbitmq_url) as channel:
            channel.queue_delete(f"{rabbit_bus._prefix}a")

        def arrives() -> bool:
            message = cancel()
            rabbit_bus.publish([message])
            return any(envelope.id != first.id for envelope in seen)

        eventually(arrives, interval=0.1)


def test_operators_list_requeue_and_forget_dead_letters(
    rabbit_bus: RabbitBus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bus_module, "REDELIVERY_PAUSE_S", 0.001)
    rabbit_bus.declare("a", [OrderCancelRequested])
    poison = [cancel(), cancel()]
    refuse = threading.Event()
    refuse.set()
    seen: list[Envelope] = []

    def handler(envelopes: Sequence[Envelope]) -> None:
        if refuse.is_set():
            raise RuntimeError("poison")
        seen.extend(envelopes)

    def run(command: str) -> int:
        return dead_letters.run(rabbit_bus, command, "a")

    rabbit_bus.publish(poison)
    with consuming(rabbit_bus, "a", handler):
        eventually(lambda: len(rabbit_bus.dead_letters("a")) == 2)
        assert run("list") == 2
        listed = capsys.readouterr().out
        assert [str(one.id) in listed for one in poison] == [True, True]
        refuse.clear()
        assert run("requeue") == 2
        eventually(lambda: set(ids(seen)) == set(ids(poison)))
        assert rabbit_bus.dead_letters("a") == []
        refuse.set()
        rabbit_bus.publish([cancel()])
        eventually(lambda: rabbit_bus.dead_letters("a"))
    assert run("purge") == 1
    assert run("list") == 0
