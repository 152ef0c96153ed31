"""Attributes of versions and constituents: category, theme, region, risk, benchmark, rationale, weighting.

Revision ID: 0003
Revises: 0002
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TEXTS = {
    "category": "other",
    "theme": "",
    "region": "India",
    "benchmark": "NIFTY 50",
    "rationale": "",
    "rebalancing_frequency": "none",
    "weighting": "custom",
    "weighting_note": "",
}
"""Column of smallcase_version and its default: what versions made by the release before are."""
CHECKS = {
    "risk_level_known": "risk_level IN ('high', 'low', 'medium')",
    "frequency_known": "rebalancing_frequency IN ('half_yearly', 'monthly', 'none', 'quarterly', 'yearly')",
    "weighting_known": (
        "weighting IN ('custom', 'equal', 'inverse_volatility', 'market_cap', 'momentum', 'optimised')"
    ),
    "expense_ratio_in_range": "expense_ratio_bps BETWEEN 0 AND 1000",
}


def upgrade() -> None:
    """Additions with defaults: the release before goes on writing versions without them."""
    for name, default in TEXTS.items():
        op.add_column("smallcase_version", sa.Column(name, sa.Text(), nullable=False, server_default=default))
    op.add_column("smallcase_version", sa.Column("risk_level", sa.Text(), nullable=True))
    op.add_column("smallcase_version", sa.Column("expense_ratio_bps", sa.Integer(), nullable=False, server_default="0"))
    for name, condition in CHECKS.items():
        op.create_check_constraint(op.f(f"ck_smallcase_version_{name}"), "smallcase_version", condition)
    op.add_column("smallcase_constituent", sa.Column("rationale", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    """Take it back."""
    op.drop_column("smallcase_constituent", "rationale")
    for name in CHECKS:
        op.drop_constraint(op.f(f"ck_smallcase_version_{name}"), "smallcase_version")
    for name in (*TEXTS, "risk_level", "expense_ratio_bps"):
        op.drop_column("smallcase_version", name)
