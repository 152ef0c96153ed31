"""What a backup consists of: `manifest.json` beside the sealed dumps, itself proved by the key."""

import hmac
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from scripts.backup import sealed_stream

FORMAT = 1
FILE = "manifest.json"
PARTIAL_SUFFIX = ".partial"
"""A folder with this ending is a backup that was not finished."""


class BackupRefused(Exception):
    """The backup is not whole, not ours or not of this key; the text says what is wrong."""


class AuditHead(BaseModel):
    """The newest link of a room's audit chain at the moment of the backup."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seq: int
    hash: str


class Part(BaseModel):
    """One room's database. Sizes in bytes; `sha256` is of the sealed file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    room: str
    database: str
    file: str
    bytes: int
    plain_bytes: int
    sha256: str
    migration: str | None
    audit_head: AuditHead | None


class Manifest(BaseModel):
    """All of it. `taken_at` is the moment that the dumps show, `held_ms` how long receiving was held back for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    backup_id: str
    taken_at: datetime
    finished_at: datetime
    held_ms: float
    server_version: str
    tool_version: str
    key_id: str
    parts: list[Part]

    @property
    def size(self) -> int:
        """Bytes of all sealed files."""
        return sum(part.bytes for part in self.parts)


def write(folder: Path, manifest: Manifest, master: bytes) -> None:
    """Put the manifest and its proof into the folder."""
    content = manifest.model_dump(mode="json")
    proof = sealed_stream.mac(master, _canonical(content))
    (folder / FILE).write_text(json.dumps({"manifest": content, "mac": proof}, indent=2) + "\n")


def read(folder: Path, master: bytes) -> Manifest:
    """The manifest of a backup; raises BackupRefused unless it is exactly what was written with this key."""
    manifest, content, proof = _parse(folder)
    if manifest.key_id != sealed_stream.key_id(master):
        raise BackupRefused(
            f"{folder.name} was made with the key {manifest.key_id}, this one is {sealed_stream.key_id(master)}"
        )
    if not _same(sealed_stream.mac(master, _canonical(content)), proof):
        raise BackupRefused(f"the manifest of {folder.name} was changed")
    if manifest.backup_id != folder.name:
        raise BackupRefused(f"the folder {folder.name} holds the backup {manifest.backup_id}")
    return manifest


def check_files(folder: Path, manifest: Manifest) -> None:
    """Every file is there, whole and unchanged; raises BackupRefused."""
    for part in manifest.parts:
        path = folder / part.file
        if path.parent != folder or not path.is_file():
            raise BackupRefused(f"{part.file} is missing")
        if path.stat().st_size != part.bytes:
            raise BackupRefused(f"{part.file} has {path.stat().st_size} bytes, {part.bytes} were written")
        with path.open("rb") as source:
            if not _same(sealed_stream.file_digest(source), part.sha256):
                raise BackupRefused(f"{part.file} was changed")


def listed(directory: Path) -> Iterator[tuple[Path, Manifest | None]]:
    """Folders of backups, oldest first, with what their manifests say (unproved), None for unfinished or unreadable ones."""
    if not directory.is_dir():
        return
    for folder in sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith(".")):
        try:
            yield folder, None if folder.name.endswith(PARTIAL_SUFFIX) else _parse(folder)[0]
        except BackupRefused:
            yield folder, None


def _parse(folder: Path) -> tuple[Manifest, object, str]:
    try:
        document = orjson.loads((folder / FILE).read_bytes())
        return Manifest.model_validate(document["manifest"]), document["manifest"], str(document["mac"])
    except FileNotFoundError:
        raise BackupRefused(f"{folder} holds no finished backup") from None
    except (orjson.JSONDecodeError, ValidationError, KeyError, TypeError):
        raise BackupRefused(f"the manifest of {folder.name} cannot be read") from None


def _canonical(content: object) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
