"""E-mail addresses: the form we send to, and the key under which an account is unique."""

import unicodedata

from email_validator import EmailNotValidError, validate_email

EMAIL_LENGTH_MAX = 254


def parse_email(text: str) -> str:
    """The address in its normal form (NFC, lower-case domain); raises ValueError for anything that is not one."""
    if len(text) > EMAIL_LENGTH_MAX:
        raise ValueError(f"an e-mail address has at most {EMAIL_LENGTH_MAX} characters")
    try:
        return validate_email(text.strip(), check_deliverability=False).normalized
    except EmailNotValidError as error:
        raise ValueError(str(error)) from None


def email_key(address: str) -> str:
    """What makes an address the same account: compatibility forms folded, case ignored.

    Mail always goes to the stored address, never to one typed later, so an address that merely looks alike cannot
    receive somebody else's reset link.
    """
    folded = unicodedata.normalize("NFKC", address).casefold()
    return unicodedata.normalize("NFKC", folded)
