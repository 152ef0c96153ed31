"""What the operators' command line reads from the environment (prefix SARAS_), all of it optional."""

from pathlib import Path

from dotenv import load_dotenv
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.config import DOTENV, secrets_directory
from scripts.platform_state import data_directory


class OperatorSettings(BaseSettings):
    """Where the platform is, who acts, where backups lie. Where SECRETS_DIR is set, files there may hold the secret ones."""

    model_config = SettingsConfigDict(env_prefix="SARAS_", extra="ignore", frozen=True, env_ignore_empty=True)

    gateway_url: str | None = None
    """Default: the platform that runs on this machine, alone or in containers."""
    email: str | None = None
    password: SecretStr | None = None
    """For programs; people sign in with `saras login`."""
    session_file: Path | None = None
    """Where `saras login` keeps its session; default: in the data directory, readable by its owner only."""
    backup_dir: Path | None = None
    """Default: `backups` in the data directory."""
    backup_key: SecretStr | None = None
    """Base64 of at least 32 bytes; `backup_key_file` names a file with the same."""
    backup_key_file: Path | None = None
    verify_server: SecretStr | None = None
    """URL of a PostgreSQL server whose role may make databases, for `backup verify`; default: one of its own."""

    @classmethod
    def load(cls) -> "OperatorSettings":
        """Read them now; raises InvalidSettings for a SECRETS_DIR that is not there."""
        load_dotenv(DOTENV, override=False)
        return cls(_secrets_dir=secrets_directory())

    @property
    def session_path(self) -> Path:
        """The file of the session."""
        return self.session_file or data_directory() / "secrets" / "operator-session.json"

    @property
    def backups(self) -> Path:
        """The folder of backups."""
        return self.backup_dir or data_directory() / "backups"
