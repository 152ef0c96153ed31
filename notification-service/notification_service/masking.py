"""What must not stand in a message or an answer in full: account numbers, addresses, devices, secrets in URLs. Pure."""

import re
from urllib.parse import urlsplit

KEPT = 4
"""How many characters at the end of a masked value are shown."""

# Bank, demat and broker accounts have 9 to 18 digits, also written in groups of four; a PAN is AAAAA9999A.
_NUMBER = re.compile(r"(?<![\w.,₹])(?:\d{9,}|\d{4}(?:[ -]\d{4}){2,4})(?!\w)")
_PAN = re.compile(r"\b[A-Za-z]{5}\d{4}[A-Za-z]\b")


def ending(value: str) -> str:
    """The end of a value after dots: `...8932`; nothing but dots for a short one."""
    return f"...{value[-KEPT:]}" if len(value) > 2 * KEPT else "..."


def without_account_numbers(text: str) -> str:
    """Free text in which account numbers and PANs are cut to their last four characters.

    Reasons come from brokers and operators; nobody can know what they wrote into them.
    """
    masked = _NUMBER.sub(lambda match: ending(re.sub(r"[ -]", "", match[0])), text)
    return _PAN.sub(lambda match: ending(match[0]), masked)


def phone(number: str) -> str:
    """`+919876543210` -> `+91 ...3210`."""
    return f"{number[:3]} {ending(number)}"


def email(address: str) -> str:
    """`asha@example.com` -> `a...@example.com`."""
    name, _, domain = address.rpartition("@")
    return f"{name[:1]}...@{domain}"


def url(address: str) -> str:
    """Scheme and, for a web address, its host: `tgram://...`, `jsons://hooks.example.com/...`."""
    parts = urlsplit(address)
    host = parts.hostname if parts.scheme in ("http", "https", "json", "jsons") else None
    return f"{parts.scheme}://{host}/..." if host else f"{parts.scheme}://..."
