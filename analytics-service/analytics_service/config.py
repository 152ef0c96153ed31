"""Settings of analytics-service; environment variables carry the prefix ANALYTICS_."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from common.config import ServiceSettings

NAME = "analytics-service"


class Settings(ServiceSettings):
    """What this room needs besides the shared names."""

    model_config = SettingsConfigDict(env_prefix="ANALYTICS_")

    port: int = Field(default=8006, ge=1, le=65535)
    celery_broker_url: str = "memory://"
    celery_queue: str = Field(default="analytics_service", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    benchmark: str = Field(default="NSE:NIFTY 50", pattern=r"^(NSE|BSE):[^:]{1,60}$")
    """The share or index that portfolios are compared with."""
    risk_free_bps: int = Field(default=550, ge=0, le=5_000)
    """Yearly rate without risk for Sharpe, Sortino and alpha, in basis points: the 91-day treasury bill."""

    @property
    def benchmark_key(self) -> tuple[str, str]:
        """(exchange, tradingsymbol) of the benchmark."""
        exchange, _, symbol = self.benchmark.partition(":")
        return exchange, symbol
