"""Named SQL statements from files: ``queries("ledger").totals`` is a block of ``store/queries/ledger.sql``.

A file consists of blocks that begin with a line ``-- name: word``. An unknown name fails at once with the list of
names.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from fleet_core.errors import BadConfig

_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)\s*$", re.MULTILINE)


class Queries:
    """The named statements of one file, as attributes."""

    def __init__(self, path: Path) -> None:
        self._file = path.name
        head, *rest = _NAME.split(path.read_text(encoding="utf-8"))
        if any(line and not line.startswith("--") for line in head.splitlines()):
            raise BadConfig(f"{path.name}: text before the first '-- name:' line")
        names, texts = rest[::2], rest[1::2]
        if len(set(names)) != len(names):
            raise BadConfig(f"{path.name}: a name is used twice")
        self._texts = {name: text.strip() for name, text in zip(names, texts, strict=True)}

    # psycopg's types ask for literal statements, to keep user input out; ours are files of the package.
    def __getattr__(self, name: str) -> Any:
        try:
            return self._texts[name]
        except KeyError:
            raise AttributeError(f"{self._file} has no statement {name!r}; it has {', '.join(self._texts)}") from None


@cache
def queries(name: str) -> Queries:
    """The statements of ``store/queries/NAME.sql``."""
    return Queries(Path(__file__).parent / "queries" / f"{name}.sql")
