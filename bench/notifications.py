"""Thousands of facts through real mail and HTTP servers that fail, with facts said again and an outage in the middle.

Run: `python -m bench.notifications`. Every fact must be told once per channel: counted at the servers, by the name under
which a provider knows a repeat (Message-ID, collapse key; Twilio knows none, there every message counts). The consumers,
two loops and the API for callbacks are the real ones over a real PostgreSQL; the outage closes the mail server's port.
"""

import base64
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import UUID, uuid4

import sqlalchemy as sa
import typer
from fastapi.testclient import TestClient
from twilio.request_validator import RequestValidator

from common.auth import AccessTokens, Authenticator, StaticKeys
from common.clock import Clock, SystemClock
from common.consumers import handle
from common.db import Database
from common.events import Envelope, OrderUpdated
from common.logging import configure
from common.testing import StaticMarketData, new_rsa_pem
from common.testing_servers import postgres, scratch
from notification_service import contact_points, loop
from notification_service.app import create_app
from notification_service.config import NAME, Settings, sealer_from
from notification_service.consumers import make_handlers
from notification_service.desk import Desk
from notification_service.kinds import Channel
from notification_service.models import Delivery, Notification
from notification_service.peers import Contact
from notification_service.providers.mail import SmtpMail, SmtpServer
from notification_service.providers.push import FcmPush
from notification_service.providers.sms import TwilioSms
from notification_service.testing import Call, MailServer, WireServer, sometimes

CHANNELS = (Channel.EMAIL, Channel.SMS, Channel.PUSH)
USERS = 50
TOKEN = "a-token-of-the-trial"  # noqa: S105  made up
SENDER = "no-reply@saras.example"
QUIET_TIMEOUT_S = 600.0
KEYS = {1: base64.b64encode(b"\x05" * 32).decode()}


class Everybody:
    """A directory in which everybody has a verified address."""

    def contact(self, user_id: UUID, near: Iterable[UUID] = ()) -> Contact | None:
        return Contact(user_id, f"{user_id}@example.com", True, "Asha Rao")

    def admins(self) -> list[UUID]:
        return []

    def mail_token(self, token_id: UUID) -> str | None:
        return None


@dataclass
class Trial:
    """Servers, the room's parts, and the facts that are said."""

    db: Database
    clock: Clock
    failures: float
    seed: int
    stack: ExitStack
    mail: MailServer = field(init=False)
    sms: WireServer = field(init=False)
    push: WireServer = field(init=False)
    facts: list[OrderUpdated] = field(default_factory=list)
    said: int = 0

    def __post_init__(self) -> None:
        # Three in four failures are a "not now", the others an answer that is lost after the message was taken.
        ways = ("busy", "busy", "busy", "lost")
        chances = [sometimes(self.failures, self.seed + number, *ways) for number in range(3)]
        self.mail = self.stack.enter_context(MailServer(answer=chances[0]))
        self.sms = self.stack.enter_context(WireServer(answer=chances[1], after=self._call_back))
        self.push = self.stack.enter_context(WireServer(answer=chances[2]))
        self.settings = Settings(
            database_url=self.db.url,
            seal_keys=KEYS,
            twilio_auth_token=TOKEN,
            retry_first_seconds=2,
            retry_max_seconds=30,
            tries_max=12,
            circuit_first_seconds=2,
            circuit_max_seconds=10,
            provider_timeout_seconds=2,
        )
        self.market = StaticMarketData({("NSE", "INFY"): 1_500_00})
        keys = StaticKeys({"keys": []})
        authenticator = Authenticator(NAME, AccessTokens(keys, self.clock), keys, self.clock)
        app = create_app(self.settings, db=self.db, authenticator=authenticator, market=self.market, clock=self.clock)
        self.api = TestClient(app)
        self.users = [uuid4() for _ in range(USERS)]
        self._contact_points()

    def desk(self) -> Desk:
        """A desk of its own for every loop, with its own connections to the providers."""
        account = {
            "type": "service_account", "project_id": "trial", "private_key": new_rsa_pem(), "private_key_id": "k",
            "client_email": "push@trial.example", "token_uri": f"{self.push.url}/token",
        }  # fmt: skip
        timeout_s = self.settings.provider_timeout_seconds
        providers = {
            Channel.EMAIL: SmtpMail(
                SmtpServer("127.0.0.1", self.mail.port, "none", None, None, timeout_s), sender=SENDER, clock=self.clock
            ),
            Channel.SMS: TwilioSms(
                account_sid="AC0", auth_token=TOKEN, sender="+15005550006", public_url=self.settings.public_url,
                base_url=self.sms.url, timeout_s=timeout_s,
            ),
            Channel.PUSH: FcmPush(account, base_url=self.push.url, timeout_s=timeout_s),
        }  # fmt: skip
        return Desk(self.db, self.settings, self.clock, Everybody(), self.market, providers, sealer_from(self.settings))

    def say(self, count: int) -> None:
        """Say facts, half of them more than once: the same message again, or the same fact in a new one."""
        dice, handlers = random.Random(self.seed), make_handlers(self.clock)  # noqa: S311  repeatable, no secret
        self.facts = [self._fact(dice.choice(self.users)) for _ in range(count)]
        deliveries = [
            (fact, message_id)
            for fact in self.facts
            for message_id in dice.choice(([uuid4()], [uuid4()], [uuid4()] * 2, [uuid4(), uuid4(), uuid4()]))
        ]
        dice.shuffle(deliveries)
        self.said = len(deliveries)
        for start in range(0, len(deliveries), 20):
            part = [_envelope(fact, message_id) for fact, message_id in deliveries[start : start + 20]]
            handle(self.db, NAME, handlers, part)

    def unfinished(self) -> int:
        """Deliveries that are under way."""
        live = sa.select(sa.func.count()).where(Delivery.status.in_(("queued", "sending")))
        with self.db.session() as session:
            return int(session.execute(live).scalar_one())

    def told(self) -> dict[Channel, Counter[str]]:
        """How often each server has taken each message, by the message's name there."""
        return {
            Channel.EMAIL: Counter(name.strip("<>").partition("@")[0] for name in self.mail.named()),
            Channel.SMS: Counter(_delivery_of(call) for call in self.sms.taken),
            Channel.PUSH: Counter(call.json["message"]["android"]["collapse_key"] for call in self.push.taken),
        }

    def check(self) -> list[str]:
        """What is wrong: facts not told, told twice, or told that nobody said; by channel."""
        with self.db.session() as session:
            rows = session.execute(
                sa.select(Delivery.channel, Delivery.delivery_id, Notification.cause).join(
                    Notification, Notification.notification_id == Delivery.notification_id
                )
            ).all()
        causes = {str(row.delivery_id): (row.channel, row.cause) for row in rows}
        expected = {f"order:{fact.order_id}:end" for fact in self.facts}
        wrong = []
        for channel, names in self.told().items():
            told = Counter(causes[name][1] for name in names if causes.get(name, ("", ""))[0] == channel)
            wrong += [f"{channel}: not told: {cause}" for cause in expected - told.keys()]
            wrong += [f"{channel}: nobody said: {cause}" for cause in told.keys() - expected]
            wrong += [f"{channel}: told {count} times: {cause}" for cause, count in told.items() if count > 1]
            wrong += [f"{channel}: of no delivery: {name}" for name in names if name not in causes]
        wrong += [f"sms: sent {count} times: {name}" for name, count in self.told()[Channel.SMS].items() if count > 1]
        return wrong

    def statuses(self) -> Mapping[str, int]:
        """Deliveries by channel and status."""
        statement = sa.select(Delivery.channel, Delivery.status, sa.func.count()).group_by(
            Delivery.channel, Delivery.status
        )
        with self.db.session() as session:
            return {f"{channel} {status}": count for channel, status, count in session.execute(statement)}

    def _contact_points(self) -> None:
        sealer = sealer_from(self.settings)
        assert sealer is not None
        with self.db.transaction() as session:
            for number, user_id in enumerate(self.users):
                for channel, address in (
                    (Channel.SMS, f"+9198765{number:05d}"), (Channel.PUSH, f"device-{user_id}"),
                ):  # fmt: skip
                    point = contact_points.add(
                        session, sealer, self.settings, user_id=user_id, channel=channel, address=address, label="",
                        now=self.clock.now(),
                    )  # fmt: skip
                    point.verified_at = self.clock.now()
            # The codes are not what this is about.
            session.execute(sa.delete(Delivery))

    def _fact(self, user_id: UUID) -> OrderUpdated:
        # Rejected: a kind that goes through all three channels.
        return OrderUpdated(
            order_id=uuid4(), user_id=user_id, portfolio_id=uuid4(), exchange="NSE", tradingsymbol="INFY", side="BUY",
            product="CNC", status="REJECTED", order_version=2, quantity=10, filled_quantity=0, amount_paise=0,
            charges_paise=0, trading_date=date(2026, 11, 23), reason="Not enough cash.", occurred_at=self.clock.now(),
        )  # fmt: skip

    def _call_back(self, call: Call, answer: dict[str, str]) -> None:
        """What Twilio does with what it has taken, also when its answer was lost."""
        url = call.form["StatusCallback"]
        for status in ("sent", "delivered"):
            fields = {"MessageSid": answer["sid"], "MessageStatus": status}
            signature = RequestValidator(TOKEN).compute_signature(url, fields)
            path = urlsplit(url)
            self.api.post(
                f"{path.path}?{path.query}", content=urlencode(fields), headers={"X-Twilio-Signature": signature}
            )


def _delivery_of(call: Call) -> str:
    return parse_qs(urlsplit(call.form["StatusCallback"]).query)["delivery"][0]


def _envelope(fact: OrderUpdated, message_id: UUID) -> Envelope:
    return Envelope(
        id=message_id, type=fact.type_name(), source="portfolio-service", occurred_at=fact.occurred_at,
        recorded_at=datetime.now(UTC), payload=fact.model_dump(mode="json"),
    )  # fmt: skip


def watched(trial: Trial, outage_s: float, tell: Callable[[str], object]) -> dict[str, float]:
    """Run two loops over everything, with an outage of the mail server in the middle; answers figures."""
    stop = threading.Event()
    loops = [one for _ in range(2) for one in loop.loops(trial.desk())]
    threads = [threading.Thread(target=one, args=(stop,), daemon=True) for one in loops]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    deadline = started + QUIET_TIMEOUT_S
    while len(trial.mail.taken) < len(trial.facts) // 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    before = {"mails": len(trial.mail.taken), "others": len(trial.sms.taken) + len(trial.push.taken)}
    trial.mail.stop()
    time.sleep(outage_s)
    meanwhile = len(trial.sms.taken) + len(trial.push.taken) - before["others"]
    trial.mail.start()
    healed = time.monotonic()
    tell(f"mail server away for {outage_s:.0f} s after {before['mails']} mails; meanwhile by the others: {meanwhile}")
    while trial.unfinished() and time.monotonic() < deadline:
        time.sleep(0.2)
    ended = time.monotonic()
    stop.set()
    for thread in threads:
        thread.join(10)
    return {"seconds": ended - started, "after_outage": ended - healed}


def main(facts: int = 2_000, failures: float = 0.2, outage: float = 30.0, seed: int = 1) -> None:
    """Run the trial and print what was counted; exit code 1 when a fact was not told once per channel."""
    configure("bench", "ERROR", stream=sys.stderr)

    def tell(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    with ExitStack() as stack:
        server = stack.enter_context(postgres())
        trial = Trial(
            stack.enter_context(scratch(server, "notification_service")), SystemClock(), failures, seed, stack
        )
        started = time.monotonic()
        trial.say(facts)
        took = time.monotonic() - started
        tell(f"{facts} facts said {trial.said} times in {took:.1f} s; {len(CHANNELS)} channels, {failures:.0%} fail")
        figures = watched(trial, outage, tell)
        wrong = trial.check()
        told = trial.told()
        tell(f"all told after {figures['seconds']:.1f} s, {figures['after_outage']:.1f} s after the outage")
        refused = {Channel.EMAIL: trial.mail.refused, Channel.SMS: trial.sms.refused, Channel.PUSH: trial.push.refused}
        for channel in CHANNELS:
            repeats = sum(told[channel].values()) - len(told[channel])
            tell(
                f"{channel:6} told {len(told[channel])}, refused for the moment {refused[channel]},"
                f" repeats under the same name {repeats}"
            )
        tell(f"deliveries: {dict(sorted(trial.statuses().items()))}, still under way: {trial.unfinished()}")
        tell(f"wrong: {len(wrong)}")
        for line in wrong[:20]:
            tell(f"  {line}")
        if wrong or trial.unfinished():
            raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
