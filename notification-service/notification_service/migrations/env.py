"""Alembic's entry point; everything is in common.db."""

from common.db import run_env
from notification_service.models import Base

run_env(Base.metadata)
