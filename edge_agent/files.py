"""Text output that replaces a file only when it is complete, and reading with a bound."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """A text file that takes the place of ``path`` when the block ends well, and leaves no trace when it does not.

    A path that is no regular file (a terminal, a pipe) is written to directly. Raises OSError.
    """
    if path.exists() and not path.is_file():
        with path.open("w", newline="", encoding="utf-8") as file:
            yield file
        return
    target = path.resolve()  # the file behind a symbolic link is replaced, not the link
    beside = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        with beside.open("w", newline="", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def read_bounded(path: Path, limit_bytes: int) -> bytes | None:
    """The content, or None when there is no such file or it is larger than ``limit_bytes``. Raises OSError."""
    try:
        with path.open("rb") as file:
            content = file.read(limit_bytes + 1)
    except FileNotFoundError:
        return None
    return content if len(content) <= limit_bytes else None
