"""Making a backup: one moment of all databases, a sealed dump of each, the manifest last."""

import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts.backup import manifest, postgres_tools, sealed_stream
from scripts.backup.manifest import AuditHead, Manifest, Part
from scripts.backup.one_moment import Snapshot, one_moment

READ_BYTES = 256 * 1024
JOBS_DEFAULT = 2
JOBS_MAX = 8

Tell = Callable[[str, int], None]
"""(room, bytes more of its dump)"""


def create(
    urls: Mapping[str, str], directory: Path, master: bytes, *, jobs: int = JOBS_DEFAULT, tell: Tell | None = None
) -> tuple[Path, Manifest]:
    """Back up all rooms (room -> URL) into a new folder of `directory`; answers the folder and its manifest.

    Until the last file is on the disk the folder has another name; what fails leaves nothing behind. Raises NoMoment,
    ToolFailed and psycopg2.OperationalError.
    """
    now = datetime.now(UTC)
    backup_id = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    partial = directory / f"{backup_id}{manifest.PARTIAL_SUFFIX}"
    partial.mkdir(mode=0o700, parents=True)
    try:
        with one_moment(urls) as moment, ThreadPoolExecutor(max(1, min(jobs, JOBS_MAX))) as pool:
            dumps = {
                room: pool.submit(_dump, room, urls[room], snapshot.name, partial, master, backup_id, tell)
                for room, snapshot in moment.snapshots.items()
            }
            server = next(iter(moment.snapshots.values())).connection.info.parameter_status("server_version")
            # Read beside the dumps, from the same snapshots.
            facts = {room: _facts(snapshot) for room, snapshot in moment.snapshots.items()}
            parts = [
                Part(room=room, database=_database(snapshot), **dumps[room].result(), **facts[room])
                for room, snapshot in sorted(moment.snapshots.items())
            ]
            made = Manifest(
                format=manifest.FORMAT,
                backup_id=backup_id,
                taken_at=moment.taken_at,
                finished_at=datetime.now(UTC),
                held_ms=moment.held_ms,
                server_version=str(server),
                tool_version=postgres_tools.version(),
                key_id=sealed_stream.key_id(master),
                parts=parts,
            )
        manifest.write(partial, made, master)
        _to_disk(partial / manifest.FILE)
        folder = directory / backup_id
        partial.rename(folder)
        _to_disk(directory)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return folder, made


def _dump(
    room: str, url: str, snapshot: str, folder: Path, master: bytes, backup_id: str, tell: Tell | None
) -> dict[str, Any]:
    path = folder / f"{room}.dump.sealed"
    running = postgres_tools.dump(url, snapshot)
    try:
        with path.open("xb") as target:
            path.chmod(0o600)
            sealing = sealed_stream.SealingWriter(target, master, context(backup_id, room))
            while data := running.output.read(READ_BYTES):
                sealing.write(data)
                if tell is not None:
                    tell(room, len(data))
            # Whether the dump is whole is known only now; a file without its end never opens.
            running.finish()
            digest = sealing.close()
            target.flush()
            os.fsync(target.fileno())
    except BaseException:
        running.kill()
        raise
    return {
        "file": path.name,
        "bytes": sealing.sealed_bytes,
        "plain_bytes": sealing.plain_bytes,
        "sha256": digest,
    }


def context(backup_id: str, room: str) -> str:
    """What a sealed file is: it opens under no other name."""
    return f"{backup_id}/{room}"


def _database(snapshot: Snapshot) -> str:
    return str(snapshot.connection.info.dbname)


def _facts(snapshot: Snapshot) -> dict[str, Any]:
    with closing(snapshot.connection.cursor()) as cursor:
        cursor.execute("SELECT to_regclass('alembic_version') IS NOT NULL, to_regclass('audit_chain') IS NOT NULL")
        migrated, audited = cursor.fetchone()
        migration = head = None
        if migrated:
            cursor.execute("SELECT version_num FROM alembic_version")
            row = cursor.fetchone()
            migration = str(row[0]) if row else None
        if audited:
            cursor.execute("SELECT seq, encode(hash, 'hex') FROM audit_chain ORDER BY seq DESC LIMIT 1")
            row = cursor.fetchone()
            head = AuditHead(seq=row[0], hash=row[1]) if row else AuditHead(seq=0, hash="00" * 32)
    return {"migration": migration, "audit_head": head}


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
