"""Alembic's entry: the work is in common.db."""

from common.db import run_env
from portfolio_service.models import Base

run_env(Base.metadata)
