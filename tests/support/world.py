"""Folders for databases and whole stacks, in memory where there is room: on a disk half of a test's time goes into
making and removing the thousand files of a database.

Started by root, PostgreSQL runs as another account, which pytest's folders keep out. With ``FORESTALL_KEEP`` set a
stack's folder, with every process's log, is left for a look; its path is printed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 * 1024**3
"""Of the memory's file system and of the memory itself; all folders of a run together take about 1 GB."""


def _place() -> str | None:
    """Where folders are made; None: where temporary files go."""
    try:
        found = os.statvfs(MEMORY)
        meminfo = Path("/proc/meminfo").read_text(encoding="ascii").split()
        available = int(meminfo[meminfo.index("MemAvailable:") + 1]) * 1024
    except (OSError, ValueError):
        return None
    runs_programs = not found.f_flag & os.ST_NOEXEC  # PostgreSQL's own may be copied there
    room = found.f_bavail * found.f_frsize
    usable = os.access(MEMORY, os.W_OK | os.X_OK) and runs_programs and min(room, available) >= ROOM_BYTES
    return str(MEMORY) if usable else None


def new_folder(name: str) -> Path:
    """A new folder that other accounts may enter. Whoever makes it removes it."""
    folder = Path(tempfile.mkdtemp(prefix=f"forestall-{name}-", dir=_place()))
    folder.chmod(0o755)
    return folder


@contextmanager
def open_folder(name: str) -> Iterator[Path]:
    """A new folder that other accounts may enter, removed at the end."""
    folder = new_folder(name)
    try:
        yield folder
    finally:
        if os.environ.get("FORESTALL_KEEP"):
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
