from common.db import run_env
from user_service.models import Base

run_env(Base.metadata)
