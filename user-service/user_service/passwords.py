"""Which passwords are acceptable (NIST SP 800-63B 3.1.1: length and blocklist, no composition rules)."""

import unicodedata
from functools import cache
from importlib.resources import files

from common.errors import Unprocessable

PASSWORD_LENGTH_MIN = 10
PASSWORD_LENGTH_MAX = 128


class WeakPassword(Unprocessable):
    """The new password is refused; the text says what to change."""


def prepare(password: str) -> str:
    """The form that is hashed: one spelling for characters that keyboards compose differently."""
    return unicodedata.normalize("NFKC", password)


@cache
def common_passwords() -> frozenset[str]:
    """The most common passwords, case-folded (`common_passwords.txt`)."""
    text = files("user_service").joinpath("common_passwords.txt").read_text("utf-8")
    return frozenset(line.casefold() for line in text.split())


def check_new_password(password: str, *, email: str) -> None:
    """Raise WeakPassword unless the password may be set for the account with this address."""
    if len(password) < PASSWORD_LENGTH_MIN:
        raise WeakPassword(f"Choose a password of at least {PASSWORD_LENGTH_MIN} characters.")
    if len(password) > PASSWORD_LENGTH_MAX:
        raise WeakPassword(f"Choose a password of at most {PASSWORD_LENGTH_MAX} characters.")
    folded = prepare(password).casefold()
    if folded in (email.casefold(), email.casefold().partition("@")[0]):
        raise WeakPassword("The password must differ from the e-mail address.")
    if folded in common_passwords() or len(set(folded)) <= 2:
        raise WeakPassword("This password is one of the most common ones; choose another.")
