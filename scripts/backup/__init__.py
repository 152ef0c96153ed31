"""Backups of all rooms' databases: one moment, encrypted, proved by a restore. See docs/backup.md."""
