"""Alembic's entry point; everything is in common.db."""

from analytics_service.models import Base
from common.db import run_env

run_env(Base.metadata)
