"""A folder for a whole stack. Started by root, PostgreSQL runs as another account, which pytest's folders keep out.

With ``FORESTALL_KEEP`` set the folder, with every process's log, is left for a look; its path is printed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_folder(name: str) -> Iterator[Path]:
    """A new folder that other accounts may enter, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=f"forestall-{name}-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        if os.environ.get("FORESTALL_KEEP"):
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
