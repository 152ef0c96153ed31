"""How long to wait after failed sign-ins: delays that grow, never a permanent lock.

OWASP ASVS 5.0 6.3.1: limits per account and per address. A counter is kept per subject; a subject is an account, an
account seen from an address it has signed in from before (so that a stranger's guesses do not keep its owner out),
or an address.
"""

import ipaddress
from dataclasses import dataclass
from hashlib import sha256


@dataclass(frozen=True)
class Policy:
    """`free` failures without delay, then 1 s doubling up to `cap_s`; forgotten after `forget_after_s` of quiet."""

    free: int
    cap_s: int
    forget_after_s: int


ACCOUNT = Policy(free=5, cap_s=900, forget_after_s=24 * 3600)
ADDRESS = Policy(free=30, cap_s=900, forget_after_s=3600)


def delay_after(failures: int, policy: Policy) -> int:
    """Seconds for which nothing is tried after this many failures in a row."""
    if failures < policy.free:
        return 0
    # The exponent is bounded before the power: the counter itself is not.
    return min(policy.cap_s, 1 << min(failures - policy.free, policy.cap_s.bit_length()))


def account_subject(email_key: str, known_address: str | None = None) -> str:
    """Counter of an account, also of one that does not exist; the address itself is not stored."""
    digest = sha256(email_key.encode()).hexdigest()
    return f"account:{digest}" if known_address is None else f"known:{digest}:{address_group(known_address)}"


def address_subject(address: str) -> str:
    """Counter of an address."""
    return f"address:{address_group(address)}"


def address_group(address: str) -> str:
    """An IPv4 address itself, the /64 of an IPv6 address: one customer owns all of those."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
