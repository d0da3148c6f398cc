"""Permissions of the files that provisioning writes, and a write that leaves an unchanged file as it is."""

from __future__ import annotations

from pathlib import Path

from fleet_core.files import write_atomic

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644


def write_if_changed(path: Path, content: bytes, mode: int = PUBLIC_MODE) -> bool:
    """Replace the file, unless it already holds ``content``. Returns whether it was written. Raises OSError."""
    if path.exists() and path.read_bytes() == content:
        return False
    write_atomic(path, content, mode=mode)
    return True
