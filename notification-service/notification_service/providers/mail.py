"""E-mail: over SMTP, or in development into files of a directory, where nothing leaves the machine.

The Message-ID comes from the delivery, so a repeat after an attempt of unknown outcome is the same mail to whoever
receives it (RFC 5322, 3.6.4), and most mailboxes keep one of the two.
"""

import os
import smtplib
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path
from typing import Literal
from uuid import UUID

from common.clock import Clock
from notification_service.providers.base import Busy, Message, NotSendable, OutcomeUnknown, Refused, Unreachable

Security = Literal["starttls", "tls", "none"]
SENDER_NAME = "Saras"


class InvalidAddress(ValueError):
    """Not an address that a mail can be sent to."""


@dataclass(frozen=True)
class SmtpServer:
    """Where mail is handed over, and how."""

    host: str
    port: int
    security: Security
    user: str | None
    password: str | None
    timeout_s: float


def message_id(delivery_id: UUID, sender: str) -> str:
    """`<delivery@domain>`: the same for every attempt of a delivery."""
    return f"<{delivery_id}@{sender.rpartition('@')[2]}>"


def composed(message: Message, *, sender: str, now: datetime) -> EmailMessage:
    """The mail with both bodies. Raises Refused when the address is none."""
    if message.mail is None:
        raise ValueError("a mail needs a subject and bodies")
    mail = EmailMessage(policy=policy.SMTP)
    mail["Message-ID"] = message_id(message.delivery_id, sender)
    mail["Date"] = now
    try:
        mail["From"] = Address(SENDER_NAME, addr_spec=sender)
        mail["To"] = Address(addr_spec=message.to)
    except (ValueError, IndexError):
        raise NotSendable("address_invalid", "the address cannot be written into a mail") from None
    mail["Subject"] = message.mail.subject
    # RFC 3834: no vacation answers, please.
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.mail.text, cte="quoted-printable")
    mail.add_alternative(message.mail.html, subtype="html", cte="quoted-printable")
    return mail


class SmtpMail:
    """Hands mails to an SMTP server over one connection a thread, kept while it lives."""

    def __init__(self, server: SmtpServer, *, sender: str, clock: Clock) -> None:
        self._server = server
        self._sender = sender
        self._clock = clock
        self._local = threading.local()

    def send(self, message: Message) -> str | None:
        mail = composed(message, sender=self._sender, now=self._clock.now())
        connection = self._begun(message.to)
        try:
            code, reply = connection.data(mail.as_bytes())
        except smtplib.SMTPDataError as error:
            self._drop()
            raise _judged(error.smtp_code, "data_refused", error.smtp_error) from None
        except (smtplib.SMTPException, OSError) as error:
            # The text is on its way; whether the server took it is not known.
            self._drop()
            raise OutcomeUnknown("no_answer", type(error).__name__) from None
        if code != 250:
            self._drop()
            raise _judged(code, "data_refused", reply)
        return str(mail["Message-ID"])

    def close(self) -> None:
        self._drop()

    def _begun(self, to: str) -> smtplib.SMTP:
        """A connection on which the server has accepted sender and receiver. Raises Unreachable, Busy, Refused."""
        kept: smtplib.SMTP | None = getattr(self._local, "connection", None)
        if kept is not None:
            try:
                return self._envelope(kept, to)
            except Unreachable:
                # Servers end idle connections; nothing was sent on it, so a fresh one may be tried.
                self._drop()
        return self._envelope(self._connect(), to)

    def _envelope(self, connection: smtplib.SMTP, to: str) -> smtplib.SMTP:
        def ask(step: Callable[[], tuple[int, bytes]], code: str) -> None:
            try:
                status, reply = step()
            except (smtplib.SMTPServerDisconnected, OSError) as error:
                self._drop()
                raise Unreachable("disconnected", type(error).__name__) from None
            if status == 421:
                self._drop()
                raise Unreachable("disconnected", reply.decode(errors="replace"))
            if not 200 <= status < 300:
                self._reset(connection)
                raise _judged(status, code, reply)

        ask(lambda: connection.mail(self._sender), "sender_refused")
        ask(lambda: connection.rcpt(to), "receiver_refused")
        return connection

    def _reset(self, connection: smtplib.SMTP) -> None:
        try:
            connection.rset()
        except (smtplib.SMTPException, OSError):
            self._drop()

    def _connect(self) -> smtplib.SMTP:
        server = self._server
        context = ssl.create_default_context()
        try:
            if server.security == "tls":
                connection: smtplib.SMTP = smtplib.SMTP_SSL(
                    server.host, server.port, timeout=server.timeout_s, context=context
                )
            else:
                connection = smtplib.SMTP(server.host, server.port, timeout=server.timeout_s)
            if server.security == "starttls":
                connection.starttls(context=context)
            if server.user and server.password:
                connection.login(server.user, server.password)
            connection.ehlo_or_helo_if_needed()
        except smtplib.SMTPAuthenticationError as error:
            raise Unreachable("login_refused", f"the server answered {error.smtp_code}") from None
        except (smtplib.SMTPException, OSError) as error:
            raise Unreachable("not_connected", type(error).__name__) from None
        self._local.connection = connection
        return connection

    def _drop(self) -> None:
        connection: smtplib.SMTP | None = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            connection.close()


def _judged(status: int, code: str, reply: bytes | str) -> Busy | Refused:
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else reply
    detail = f"{status} {text}"
    # RFC 5321, 4.2.1: 4yz may succeed later, 5yz will not.
    return Busy(code, detail) if 400 <= status < 500 else Refused(code, detail)


class MailFiles:
    """Development: every mail becomes a file `<delivery>.eml`; a repeat replaces it."""

    def __init__(self, directory: Path, *, sender: str, clock: Clock) -> None:
        self._directory = directory
        self._sender = sender
        self._clock = clock

    def send(self, message: Message) -> str | None:
        mail = composed(message, sender=self._sender, now=self._clock.now())
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._directory / f"{message.delivery_id}.eml"
            partial = path.with_suffix(".part")
            partial.touch(mode=0o600)
            partial.write_bytes(mail.as_bytes())
            os.replace(partial, path)
        except OSError as error:
            raise Unreachable("not_written", type(error).__name__) from None
        return str(mail["Message-ID"])

    def close(self) -> None:
        """Nothing is open."""
