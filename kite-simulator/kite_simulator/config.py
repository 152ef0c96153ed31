"""Settings by environment variables with the prefix KITE_SIM_."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from kite_simulator.engine.faults import read_faults
from kite_simulator.engine.kernel import EngineSettings

PREFIX = "KITE_SIM_"
CRORE_PAISE = 1_00_00_000_00


class Settings(BaseSettings):
    """What the operator chooses; `None` means: as the profile has it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=9010, ge=0, le=65535)
    profile: Literal["strict", "compat"] = "strict"
    seed: int = 1
    api_key: str = "saras-dev"
    api_secret: str = "saras-dev-secret"  # noqa: S105 - development default of a simulator
    access_token: str | None = None
    """A token that is valid from the start, for clients configured with a fixed one."""
    redirect_url: str = "http://127.0.0.1:8000/broker/callback"
    postback_url: str | None = None
    data_dir: Path | None = None
    always_open: bool = True
    opening_cash_paise: int = Field(default=100 * CRORE_PAISE, ge=0)
    tick_interval_s: float = Field(default=1.0, gt=0)
    partial_fill_probability: float | None = Field(default=None, ge=0, le=1)
    partial_fill_pieces_max: int = Field(default=4, ge=2, le=50)
    fill_latency_max_s: float = Field(default=1.0, ge=0.05)
    order_latency_s: float = Field(default=0.0, ge=0)
    freeze_quantity: int = Field(default=100_000, ge=1)
    rate_limits: bool | None = None
    control_enabled: bool = True
    reset_allowed: bool = False
    """Allows POST /simulator/reset although a data_dir is set."""
    replay_csv: Path | None = None
    replay_seconds_per_bar: float = Field(default=60.0, gt=0)
    heartbeat_s: float = Field(default=2.0, gt=0)
    faults: str = "off"
    """A preset (`off`, `standard`) or a JSON object of rates; see engine/faults.py."""

    @field_validator("faults")
    @classmethod
    def _known(cls, text: str) -> str:
        read_faults(text)
        return text

    @property
    def strict(self) -> bool:
        """The rules of 2026 instead of those the public integration suite expects."""
        return self.profile == "strict"

    @property
    def limits_on(self) -> bool:
        """Rate limits: on in the strict profile unless said otherwise."""
        return self.strict if self.rate_limits is None else self.rate_limits

    def engine_settings(self) -> EngineSettings:
        """The engine's part."""
        partial = self.partial_fill_probability
        if partial is None:
            partial = 0.3 if self.strict else 0.0
        return EngineSettings(
            seed=self.seed,
            strict=self.strict,
            opening_cash_paise=self.opening_cash_paise,
            always_open=self.always_open,
            tick_interval_s=self.tick_interval_s,
            partial_fill_probability=partial,
            partial_fill_pieces_max=self.partial_fill_pieces_max,
            fill_latency_max_s=self.fill_latency_max_s,
            order_latency_s=self.order_latency_s,
            freeze_quantity=self.freeze_quantity,
            replay_csv=self.replay_csv,
            replay_seconds_per_bar=self.replay_seconds_per_bar,
            api_key=self.api_key,
            api_secret=self.api_secret,
            faults=read_faults(self.faults),
        )


def load_settings() -> Settings:
    """Settings from the environment; raises ValueError naming a KITE_SIM_ variable that no setting reads."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise ValueError(f"unknown settings: {', '.join(unknown)}")
    # Secrets are mounted into containers as files, named like the variable in small letters.
    return Settings(_secrets_dir=os.environ.get("SECRETS_DIR") or None)
