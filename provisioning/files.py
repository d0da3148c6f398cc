"""Writing files so that a crash leaves either the old content or the new, and keys never have a public moment."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644


def write_atomic(path: Path, content: bytes, mode: int = PUBLIC_MODE) -> None:
    """Replace ``path`` by ``content``, durably: written beside it, synced, renamed, folder synced.

    Raises OSError, and then ``path`` is what it was.
    """
    # mkstemp creates the file with mode 0600: a private key is never readable by others, not even briefly.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_if_changed(path: Path, content: bytes, mode: int = PUBLIC_MODE) -> bool:
    """:func:`write_atomic`, unless the file already holds ``content``. Returns whether it was written."""
    if path.exists() and path.read_bytes() == content:
        return False
    write_atomic(path, content, mode)
    return True


def sync_folder(folder: Path) -> None:
    """Make renames and new files in ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
