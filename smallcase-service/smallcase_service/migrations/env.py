"""Alembic's entry point; everything is in common.db."""

from common.db import run_env
from smallcase_service.models import Base

run_env(Base.metadata)
