"""Finds a recording's header line, and joins times whose parts stand in several columns. Pure."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

DELIMITERS = (";", ",", "\t", "|")
MAX_PREAMBLE_LINES = 40
"""The header is looked for in this many first lines."""
_PARTS = ("year", "month", "day", "hour", "minute", "second")
_NUMBER = re.compile(r"[+-]?[\d.]+(?:e[+-]?\d+)?\Z", re.IGNORECASE)
_SEPARATOR = re.compile(r"sep=.?\s*\Z", re.IGNORECASE)


def find_header(lines: Sequence[str]) -> tuple[int, str]:
    """Number (1-based) and text of the header line, the one with the columns' names, among a file's first lines.

    Blank lines, ``sep=``, comments (``#``) and titles of one cell are passed over when the line after them consists of
    words and is as wide as the table. Otherwise the first line is the header.
    """
    delimiter = max(DELIMITERS, key="".join(lines).count)
    rows = [next(csv.reader([text.replace("\x00", "")], delimiter=delimiter), []) for text in lines]
    width = max((len(row) for text, row in zip(lines, rows, strict=True) if not text.startswith("#")), default=0)
    first = next((place for place, text in enumerate(lines) if text.strip() and not _SEPARATOR.match(text)), 0)
    wordy = [len(row) == width and not any(_NUMBER.match(cell.strip()) for cell in row) for row in rows]
    for place in range(first, len(lines)):
        comment = lines[place].startswith("#")
        if wordy[place] and not (comment and any(wordy[place + 1 : place + 2])):
            return place + 1, lines[place]
        if lines[place].strip() and not comment and len(rows[place]) > 1:
            break
    return (first + 1, lines[first]) if lines else (1, "")


def find_parts(header: Sequence[str]) -> tuple[int, ...]:
    """The columns of year, month and day, and of hour, minute and second as far as there are any.

    The result is empty when one of the first three is missing.
    """
    lowered = [name.lower() for name in header]
    found: list[int] = []
    for name in _PARTS:
        if name not in lowered:
            break
        found.append(lowered.index(name))
    return tuple(found) if len(found) >= 3 else ()


def joined(parts: Sequence[str]) -> str:
    """Year, month, day[, hour[, minute[, second]]] as one ISO time; whole numbers may be written 7.0."""
    year, month, day, *clock = (part.removesuffix(".0").zfill(2) for part in parts)
    return f"{year}-{month}-{day}" + (" " + ":".join([*clock, "00"][: max(2, len(clock))]) if clock else "")
