"""Every provider against a real server on loopback: what goes over the wire, and what each way of failing means."""

import base64
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import http_ece
import pytest
from apprise.plugins.telegram import NotifyTelegram
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jose import jwt

from common.clock import FixedClock
from common.testing import new_rsa_pem
from notification_service.kinds import Kind
from notification_service.providers.base import (
    Busy,
    Message,
    NotSendable,
    OutcomeUnknown,
    Provider,
    ProviderFailure,
    Refused,
    Unreachable,
)
from notification_service.providers.chat import ChatMessages, ChatNotAllowed, parse_chat
from notification_service.providers.mail import MailFiles, SmtpMail, SmtpServer
from notification_service.providers.push import FcmPush, WebPush
from notification_service.providers.sms import TwilioSms, callback_url, is_authentic
from notification_service.samples import SAMPLES
from notification_service.testing import MailServer, WireServer, always
from notification_service.wording import mail_of

SENDER = "no-reply@saras.example"
TIMEOUT_S = 0.5
TELEGRAM = "tgram://123456789:abcdefg_hijklmnop/12315544"
DELIVERY = UUID("11111111-2222-4333-8444-555555555555")


def message(to: str, delivery_id: UUID = DELIVERY) -> Message:
    mail = mail_of(Kind.ORDER_FILLED, SAMPLES[Kind.ORDER_FILLED], name="Asha", web_url="http://127.0.0.1:8000")
    text = "Your order to buy 10 RELIANCE (NSE) is filled: value ₹1,23,456.50 <&>."
    return Message(delivery_id, to, "Bought 10 RELIANCE", text, mail, (("order_id", "o-1"),))


def failure(provider: Provider, to: str) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        provider.send(message(to))
    return caught.value


# --- e-mail -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture
def smtp(mail_server: MailServer, clock: FixedClock) -> Iterator[SmtpMail]:
    server = SmtpServer("127.0.0.1", mail_server.port, "none", None, None, TIMEOUT_S)
    provider = SmtpMail(server, sender=SENDER, clock=clock)
    yield provider
    provider.close()


def test_a_mail_has_both_bodies_and_names_its_delivery(smtp: SmtpMail, mail_server: MailServer) -> None:
    assert smtp.send(message("asha@example.com")) == f"<{DELIVERY}@saras.example>"
    [mail] = mail_server.taken
    assert mail["Message-ID"] == f"<{DELIVERY}@saras.example>"
    assert (mail["To"], mail["From"]) == ("asha@example.com", f"Saras <{SENDER}>")
    assert mail["Subject"] == "Bought 10 RELIANCE"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"].datetime == datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
    plain, html = (mail.get_body((form,)).get_content() for form in ("plain", "html"))  # type: ignore[union-attr]
    for body in (plain, html):
        assert "₹1,23,456.50" in body
    assert html.lstrip().startswith("<!DOCTYPE html>")


def test_many_mails_go_over_one_connection_and_a_closed_one_is_made_anew(
    smtp: SmtpMail, mail_server: MailServer
) -> None:
    for _ in range(3):
        smtp.send(message("asha@example.com", uuid4()))
    mail_server.stop()
    mail_server.start()
    smtp.send(message("asha@example.com", uuid4()))
    assert len(mail_server.taken) == 4


@pytest.mark.parametrize(("answer", "kind"), [("busy", Busy), ("refused", Refused), ("lost", OutcomeUnknown)])
def test_what_a_mail_server_answers_decides(smtp: SmtpMail, mail_server: MailServer, answer: Any, kind: type) -> None:
    mail_server.answer = always(answer)
    assert type(failure(smtp, "asha@example.com")) is kind
    mail_server.answer = always("ok")
    assert smtp.send(message("asha@example.com"))


@pytest.mark.parametrize(("answer", "kind"), [("550 5.1.1 No such user", Refused), ("450 4.2.1 Busy", Busy)])
def test_a_receiver_may_be_refused(smtp: SmtpMail, mail_server: MailServer, answer: str, kind: type) -> None:
    mail_server.receiver_answer = answer
    assert type(failure(smtp, "asha@example.com")) is kind
    assert mail_server.taken == []


def test_a_mail_server_that_is_away_was_sent_nothing(smtp: SmtpMail, mail_server: MailServer) -> None:
    mail_server.stop()
    assert type(failure(smtp, "asha@example.com")) is Unreachable


@pytest.mark.parametrize("to", ["a@b\r\nBcc: c@example.com", "nobody", "", "a b@example.com"])
def test_an_address_cannot_add_headers(smtp: SmtpMail, mail_server: MailServer, to: str) -> None:
    assert isinstance(failure(smtp, to), NotSendable)
    assert mail_server.taken == []


def test_in_development_mails_are_files_that_a_repeat_replaces(tmp_path: Any, clock: FixedClock) -> None:
    files = MailFiles(tmp_path / "mail", sender=SENDER, clock=clock)
    for _ in range(2):
        files.send(message("asha@example.com"))
    [path] = (tmp_path / "mail").iterdir()
    assert path.name == f"{DELIVERY}.eml"
    assert path.stat().st_mode & 0o077 == 0
    assert b"Subject: Bought 10 RELIANCE" in path.read_bytes()


# --- HTTP providers -----------------------------------------------------------------------------------------------------


@pytest.fixture
def wire() -> Iterator[WireServer]:
    with WireServer() as server:
        yield server


def twilio(wire: WireServer) -> TwilioSms:
    return TwilioSms(
        account_sid="AC00000000000000000000000000000000", auth_token="secret", sender="+15005550006",
        public_url="https://saras.example.com", base_url=wire.url, timeout_s=TIMEOUT_S,
    )  # fmt: skip


def fcm(wire: WireServer) -> FcmPush:
    account = {
        "type": "service_account", "project_id": "saras-test", "private_key": new_rsa_pem(), "private_key_id": "k1",
        "client_email": "push@saras-test.iam.gserviceaccount.com", "token_uri": f"{wire.url}/token",
    }  # fmt: skip
    return FcmPush(account, base_url=wire.url, timeout_s=TIMEOUT_S)


class Browser:
    """A subscription as a browser makes it, and what the browser reads of a message."""

    def __init__(self, wire: WireServer) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.auth = os.urandom(16)
        point = self.key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        self.subscription = json.dumps(
            {"endpoint": f"{wire.url}/push/abc", "keys": {"p256dh": encoded(point), "auth": encoded(self.auth)}}
        )

    def read(self, body: bytes) -> Any:
        return json.loads(http_ece.decrypt(body, private_key=self.key, auth_secret=self.auth, version="aes128gcm"))


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def web_push(_: WireServer) -> WebPush:
    number = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value
    return WebPush(private_key=encoded(number.to_bytes(32, "big")), subject="mailto:ops@x.example", timeout_s=TIMEOUT_S)


def chat(_: WireServer) -> ChatMessages:
    return ChatMessages(webhook_hosts=["127.0.0.1"], plain_http=True, timeout_s=TIMEOUT_S)


@pytest.fixture
def telegram(wire: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # Apprise has the address of Telegram in its code; everything else on the way is real.
    monkeypatch.setattr(NotifyTelegram, "notify_url", f"{wire.url}/bot")


Make = Callable[[WireServer], Provider]
ADDRESSES: dict[Make, Callable[[WireServer], str]] = {
    twilio: lambda wire: "+919876543210",
    fcm: lambda wire: "d" * 40,
    web_push: lambda wire: Browser(wire).subscription,
    chat: lambda wire: f"json://127.0.0.1:{wire.port}/hook",
}
each_provider = pytest.mark.parametrize("make", ADDRESSES, ids=lambda make: make.__name__)


def test_an_sms_is_what_twilio_expects(wire: WireServer) -> None:
    sid = twilio(wire).send(message("+919876543210"))
    [call] = wire.taken
    assert sid is not None
    assert sid.startswith("SM")
    assert call.path == "/2010-04-01/Accounts/AC00000000000000000000000000000000/Messages.json"
    assert base64.b64decode(call.headers["authorization"].split()[1]) == b"AC00000000000000000000000000000000:secret"
    assert call.form["To"] == "+919876543210"
    assert call.form["From"] == "+15005550006"
    assert call.form["StatusCallback"] == callback_url("https://saras.example.com", DELIVERY)
    assert "₹1,23,456.50" in call.form["Body"]


@pytest.mark.parametrize(
    ("status", "code", "kind", "gone"),
    [
        (400, 21211, Refused, True), (400, 21610, Refused, True), (400, 30001, Refused, False),
        (404, 20404, Refused, False), (401, 20003, Busy, None), (429, 20429, Busy, None), (500, 20500, Busy, None),
    ],
)  # fmt: skip
def test_twilios_refusals(wire: WireServer, status: int, code: int, kind: type, gone: bool | None) -> None:
    wire.status, wire.error = status, {"code": code, "message": "To +919876543210 is no number", "status": status}
    failed = failure(twilio(wire), "+919876543210")
    assert type(failed) is kind
    assert failed.code == f"twilio_{code}"
    assert "9876543210" not in failed.detail
    if isinstance(failed, Refused):
        assert failed.gone is gone


def test_a_push_is_what_fcm_expects(wire: WireServer) -> None:
    provider = fcm(wire)
    for _ in range(2):
        assert provider.send(message("d" * 40)) is not None
    assert len(wire.tokens) == 1, "an access token lives an hour"
    claims = jwt.get_unverified_claims(wire.tokens[0].form["assertion"])
    assert claims["scope"] == "https://www.googleapis.com/auth/firebase.messaging"
    call = wire.taken[0]
    assert call.path == "/v1/projects/saras-test/messages:send"
    assert call.headers["authorization"] == "Bearer an-access-token"
    sent = call.json["message"]
    assert sent["token"] == "d" * 40
    assert sent["notification"]["title"] == "Bought 10 RELIANCE"
    assert sent["data"] == {"delivery_id": str(DELIVERY), "order_id": "o-1"}
    assert sent["android"]["collapse_key"] == sent["apns"]["headers"]["apns-collapse-id"] == str(DELIVERY)


@pytest.mark.parametrize(
    ("status", "error", "kind", "gone"),
    [
        (404, {"status": "NOT_FOUND", "details": [{"errorCode": "UNREGISTERED"}]}, Refused, True),
        (400, {"status": "INVALID_ARGUMENT"}, Refused, False),
        (404, {"status": "NOT_FOUND"}, Refused, False),
        (429, {"status": "RESOURCE_EXHAUSTED", "details": [{"errorCode": "QUOTA_EXCEEDED"}]}, Busy, None),
        (503, {"status": "UNAVAILABLE"}, Busy, None),
        (401, {"status": "UNAUTHENTICATED"}, Busy, None),
    ],
)
def test_fcms_refusals(wire: WireServer, status: int, error: dict[str, Any], kind: type, gone: bool | None) -> None:
    wire.status, wire.error = status, {"error": {"code": status, **error}}
    failed = failure(fcm(wire), "d" * 40)
    assert type(failed) is kind
    if isinstance(failed, Refused):
        assert failed.gone is gone


def test_a_browser_can_read_its_push_and_nobody_else(wire: WireServer) -> None:
    browser = Browser(wire)
    web_push(wire).send(message(browser.subscription))
    [call] = wire.taken
    assert b"RELIANCE" not in call.body
    read = browser.read(call.body)
    assert read["title"] == "Bought 10 RELIANCE"
    assert read["tag"] == str(DELIVERY)
    assert call.headers["topic"] == DELIVERY.hex
    assert call.headers["ttl"] == "86400"
    vapid = call.headers["authorization"].removeprefix("vapid t=").partition(",")[0]
    claims = jwt.get_unverified_claims(vapid)
    assert claims["sub"] == "mailto:ops@x.example"
    assert claims["aud"] == wire.url


@pytest.mark.parametrize(
    ("status", "kind", "gone"), [(410, Refused, True), (404, Refused, True), (413, Refused, False), (429, Busy, None)]
)
def test_push_services_refusals(wire: WireServer, status: int, kind: type, gone: bool | None) -> None:
    wire.status = status
    failed = failure(web_push(wire), Browser(wire).subscription)
    assert type(failed) is kind
    if isinstance(failed, Refused):
        assert failed.gone is gone


@pytest.mark.usefixtures("telegram")
def test_a_telegram_message_is_what_its_api_expects(wire: WireServer) -> None:
    chat(wire).send(message(TELEGRAM))
    [call] = wire.taken
    assert call.path == "/bot123456789:abcdefg_hijklmnop/sendMessage"
    assert call.json["chat_id"] == 12315544
    assert "&lt;&amp;&gt;" in call.json["text"], "text, not markup"


def test_a_webhook_gets_title_and_text(wire: WireServer) -> None:
    chat(wire).send(message(ADDRESSES[chat](wire)))
    [call] = wire.taken
    assert (call.json["title"], call.json["type"]) == ("Bought 10 RELIANCE", "info")


@each_provider
def test_a_provider_that_is_away_was_sent_nothing(wire: WireServer, make: Make) -> None:
    provider, address = make(wire), ADDRESSES[make](wire)
    provider.send(message(address))
    wire.stop()
    # A connection that was kept may end in the middle, which proves nothing; a new one tells.
    for _ in range(2):
        failed = failure(provider, address)
    assert type(failed) is Unreachable


@each_provider
@pytest.mark.parametrize("how", ["hangs", "lost"])
def test_a_call_without_an_answer_proves_nothing(wire: WireServer, make: Make, how: str) -> None:
    provider, address = make(wire), ADDRESSES[make](wire)
    wire.hangs, wire.answer = how == "hangs", always("lost")
    assert type(failure(provider, address)) is OutcomeUnknown


@each_provider
@pytest.mark.parametrize(("status", "kind"), [(503, Busy), (500, Busy), (429, Busy), (400, Refused)])
def test_a_status_decides(wire: WireServer, make: Make, status: int, kind: type) -> None:
    wire.status = status
    assert type(failure(make(wire), ADDRESSES[make](wire))) is kind


@each_provider
def test_redirects_are_not_followed(wire: WireServer, make: Make) -> None:
    with WireServer() as elsewhere:
        wire.status, wire.location = 307, f"{elsewhere.url}/hook"
        assert isinstance(failure(make(wire), ADDRESSES[make](wire)), ProviderFailure)
        assert elsewhere.taken == []


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest", "json://127.0.0.1/", "jsons://169.254.169.254/", "mailto://a:b@example.com",
        "file:///etc/passwd", "jsons://good.example\\@evil.example/", "jsons://good.example@evil.example/",
        "jsons://good.example:80@evil.example/", "tgram://1:x/2?redirect=yes", "tgram://x", "syslog://", "exec://ls",
        "jsons://good.example/?-X=1", "jsons://GOOD.example.evil.example/", "apprises://good.example/x",
    ],
)  # fmt: skip
def test_a_chat_address_leads_nowhere_else(address: str) -> None:
    with pytest.raises(ChatNotAllowed):
        parse_chat(address, webhook_hosts=["good.example"])


def test_chat_addresses_that_are_good() -> None:
    for address in (TELEGRAM, "slack://TokenA123/TokenB1234/TokenC1234567890123456789/", "jsons://good.example/in"):
        assert parse_chat(address, webhook_hosts=["good.example"])


def test_a_callback_is_believed_by_its_signature_alone() -> None:
    # https://www.twilio.com/docs/usage/security: the example of validating requests.
    url = "https://example.com/myapp.php?foo=1&bar=2"
    params = {
        "CallSid": "CA1234567890ABCDE", "Caller": "+14158675310", "Digits": "1234", "From": "+14158675310",
        "To": "+18005551212",
    }  # fmt: skip
    signature = "L/OH5YylLD5NRKLltdqwSvS0BnU="
    assert is_authentic("12345", url, params, signature)
    assert not is_authentic("12345", url, {**params, "Digits": "1235"}, signature)
    assert not is_authentic("12346", url, params, signature)
    assert not is_authentic("12345", url.replace("foo=1", "foo=2"), params, signature)
