"""Alembic's entry: the work is in common.db."""

from common.db import run_env
from market_data_service.models import Base

run_env(Base.metadata)
