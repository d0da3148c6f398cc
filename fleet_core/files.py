"""Files that are replaced as a whole: a reader, or a start after a crash, finds the old content or the new one."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_ENDING = ".new"
_LEFT_BEHIND_S = 3600.0
"""A half-written file older than this cannot belong to a write in progress."""


def write_atomic(path: Path, content: bytes, *, mode: int | None = None, durable: bool = True) -> None:
    """Replace ``path`` by ``content``: written beside it, synced, renamed into place, and the folder synced.

    When it returns, the new content survives a power cut: the file's own sync alone would leave the *name* pointing at
    the old content. ``durable`` False leaves both syncs out, for a file that is worthless after a power cut and would
    only wear out the flash. ``mode`` is the file's permissions; None: what the process's umask allows.

    Raises OSError, and then ``path`` is what it was. The folder must exist.
    """
    # Every writer has a name of its own, so that two processes which replace the same file do not write into each
    # other's. With a mode the file begins with 0600: a private key is never readable by others, not even briefly.
    beside = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}{_ENDING}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(beside, flags, 0o666 if mode is None else 0o600), "wb") as file:
            file.write(content)
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and new files in ``folder`` survive a power cut. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_left_behind(folder: Path, name: str = "*") -> None:
    """Remove the files that crashed writes left in ``folder``, those of one file where its ``name`` is given.

    Whoever writes there again and again calls it once at its start; in a folder that others use too, with the name.
    """
    for beside in folder.glob(f".{name}.*{_ENDING}"):
        with suppress(OSError):  # the file is gone already, or may not be removed: it only takes room
            if time.time() - beside.stat().st_mtime > _LEFT_BEHIND_S:
                beside.unlink()
