"""Small files that survive a crash: written beside, flushed, renamed."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomic(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``; after a crash it holds the old or the new, whole. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def read_bounded(path: Path, limit_bytes: int) -> bytes | None:
    """The content, None when there is no such file or it is larger than any we write. Raises OSError."""
    try:
        with path.open("rb") as file:
            content = file.read(limit_bytes + 1)
    except FileNotFoundError:
        return None
    return content if len(content) <= limit_bytes else None
