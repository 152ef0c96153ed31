"""Mails that development keeps as files: listed and read back for the page that shows them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path

LISTED_MAX = 200
_NAME = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


@dataclass(frozen=True)
class KeptMail:
    """One mail."""

    name: str
    at: datetime
    to: str
    subject: str
    text: str
    html: str


def newest(directory: Path) -> Sequence[KeptMail]:
    """The newest mails, newest first."""
    if not directory.is_dir():
        return []
    files = sorted(directory.glob("*.eml"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [mail for path in files[:LISTED_MAX] if (mail := read(directory, path.stem)) is not None]


def read(directory: Path, name: str) -> KeptMail | None:
    """A mail by its name; None when there is none of it."""
    path = directory / f"{name}.eml"
    if not _NAME.match(name) or not path.is_file():
        return None
    mail = BytesParser(EmailMessage, policy=policy.default).parsebytes(path.read_bytes())
    plain, html = (mail.get_body(preferencelist=(form,)) for form in ("plain", "html"))
    at, to, subject = mail["Date"].datetime, str(mail["To"]), str(mail["Subject"])
    return KeptMail(name, at, to, subject, plain.get_content() if plain else "", html.get_content() if html else "")
