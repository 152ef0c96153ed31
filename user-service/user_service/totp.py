"""Time-based one-time codes (RFC 6238): 6 digits, 30 s, one step of clock drift either way."""

import hmac
from datetime import datetime

import pyotp

STEP_S = 30
DRIFT_STEPS = 1
ISSUER_NAME = "Saras"


def new_secret() -> str:
    """A fresh base32 secret of 160 bits (RFC 4226 R6)."""
    return pyotp.random_base32(32)


def provisioning_uri(secret: str, account_name: str) -> str:
    """The `otpauth://` URI that authenticator apps read."""
    return pyotp.TOTP(secret).provisioning_uri(name=account_name, issuer_name=ISSUER_NAME)


def matching_step(secret: str, code: str, at: datetime) -> int | None:
    """The time step whose code this is, or None; the caller must refuse a step not after the last one used (5.2)."""
    totp = pyotp.TOTP(secret)
    now = int(at.timestamp()) // STEP_S
    found = None
    for step in range(now - DRIFT_STEPS, now + DRIFT_STEPS + 1):
        # All candidates are compared, so the time taken does not tell which one was near.
        if hmac.compare_digest(totp.generate_otp(step).encode(), code.encode("utf-8", "replace")):
            found = step
    return found
