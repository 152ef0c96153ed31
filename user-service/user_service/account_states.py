"""States of an account and of its KYC: the only legal changes, and the roles a user may have."""

from typing import Final, Literal

from common.errors import Conflict

Role = Literal["user", "admin", "ops"]
ROLES: Final = ("user", "admin", "ops")
PRIVILEGED_ROLES: Final = frozenset({"admin", "ops"})
"""Roles that need a second factor outside development."""

AccountStatus = Literal["active", "suspended", "closed"]
ACCOUNT_STATUSES: Final = ("active", "suspended", "closed")
ACCOUNT_TRANSITIONS: Final = frozenset(
    {("active", "suspended"), ("suspended", "active"), ("active", "closed"), ("suspended", "closed")}
)

KycStatus = Literal["none", "pending", "approved", "rejected"]
KYC_STATUSES: Final = ("none", "pending", "approved", "rejected")
KYC_TRANSITIONS: Final = frozenset(
    {
        ("none", "pending"),
        ("rejected", "pending"),
        ("pending", "approved"),
        ("pending", "rejected"),
        # An approval found to be wrong is taken back; the user may then submit again.
        ("approved", "rejected"),
    }
)
KYC_HOLDS_PAN: Final = frozenset({"pending", "approved"})
"""In these states the PAN belongs to this account and to no other."""


class AccountTransitionRefused(Conflict):
    """The account cannot go from its status to the asked one."""


class KycTransitionRefused(Conflict):
    """The KYC cannot go from its status to the asked one."""


def check_account_transition(current: str, wanted: str) -> None:
    """Raise AccountTransitionRefused unless the pair is in the table."""
    if (current, wanted) not in ACCOUNT_TRANSITIONS:
        raise AccountTransitionRefused(f"An account that is {current} cannot become {wanted}.", status_now=current)


def check_kyc_transition(current: str, wanted: str) -> None:
    """Raise KycTransitionRefused unless the pair is in the table."""
    if (current, wanted) not in KYC_TRANSITIONS:
        raise KycTransitionRefused(f"A KYC that is {current} cannot become {wanted}.", status_now=current)


def needs_second_factor(roles: frozenset[str], *, mandatory: bool) -> bool:
    """Whether a user with these roles may act only after a second factor."""
    return mandatory and bool(roles & PRIVILEGED_ROLES)
