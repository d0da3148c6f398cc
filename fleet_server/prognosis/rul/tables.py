"""Read histories from a table: one row per unit and time, fields between ``,`` ``;`` tab or ``|``, ``.gz`` compressed.

Input is hostile. A row is dropped and counted when it has no unit or no readable time, has another number of fields
than the header, or repeats a time of its unit (of repeated times the later row counts). Rows out of order are sorted,
and their units are counted. A unit without any good row is refused by name. A text column with few different values
becomes codes; other text columns are ignored, with a note. An unreadable field in a number column is a missing reading
and is counted. Dates become hours. Only a table that cannot be understood at all is an error; its message says what to
do.
"""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import TextIO, cast

import numpy as np

from fleet_core.errors import BadInput
from fleet_server.prognosis.rul.cells import BLANK, hours, number, truth
from fleet_server.prognosis.rul.histories import Floats, Histories, Unit
from fleet_server.prognosis.rul.regimes import Ints

MAX_ROWS = 5_000_000
MAX_COLUMNS = 512
MAX_FIELD_CHARS = 4096
MAX_CATEGORIES = 256
TEXT_SHARE = 0.1
"""A column is text when more than this share of its fields are not numbers."""
SEPARATORS = (",", ";", "\t", "|")
SHOWN = 3
BLOCK_ROWS = 8192
"""Rows that are held as text at the same time; the other rows are held as codes."""


@dataclass(frozen=True)
class _Column:
    """A column of text: ``codes`` (n,) are places in its ``distinct`` texts, which stand in order of first appearance.

    Most columns repeat few texts, so every text is kept, and converted, once and not once for each row.
    """

    distinct: tuple[str, ...]
    codes: Ints
    decimal_comma: bool = False

    @property
    def numbers(self) -> Floats:
        """The column as numbers (n,); NaN for a field that is not a number or is beyond ``MAX_READING``."""
        return np.array([number(text, self.decimal_comma) for text in self.distinct])[self.codes]

    @property
    def times(self) -> tuple[Floats, bool]:
        """The column as times (n,), and whether they are dates.

        Times are the numbers of the column, or hours since 1970 when more of its fields are dates than numbers. A field
        that is neither is NaN.
        """
        dates = np.array([hours(text) for text in self.distinct])[self.codes]
        numbers = self.numbers
        dated = int(np.isfinite(dates).sum()) > int(np.isfinite(numbers).sum())
        return (dates, True) if dated else (numbers, False)

    @property
    def keys(self) -> tuple[tuple[str, ...], Ints]:
        """The stripped texts in order of first appearance, and for each row the place (n,) of its text among them."""
        places: dict[str, int] = {}
        place = [places.setdefault(text.strip(), len(places)) for text in self.distinct]
        return tuple(places), np.array(place, dtype=np.int64)[self.codes]


@dataclass
class Notes:
    """Remarks made while a table was read: counts by reason, and names of ignored columns and refused units."""

    rows: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    unordered_units: int = 0
    unreadable: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def messages(self) -> tuple[str, ...]:
        """The remarks as lines for people."""
        lines = [*self.remarks, *(f"{count} rows dropped: {why}" for why, count in self.dropped.items())]
        lines += [f"{self.unordered_units} units had rows out of order: put in order"] * bool(self.unordered_units)
        lines += [
            f"column {name}: {count} fields unreadable, taken as missing" for name, count in self.unreadable.items()
        ]
        lines += [f"column {name} ignored: {why}" for name, why in self.ignored.items()]
        lines += [f"unit {name} refused: {why}" for name, why in list(self.refused.items())[:20]]
        return tuple(lines)

    def drop(self, why: str, count: int = 1) -> None:
        """Count rows that were dropped for the reason ``why``."""
        self.dropped[why] = self.dropped.get(why, 0) + count


def read_table(
    path: Path,
    unit: str,
    time: str,
    failed: str | None = None,
    *,
    channels: Sequence[str] | None = None,
    categories: Mapping[str, Sequence[str]] | None = None,
    ignore: Sequence[str] = (),
    optional: Collection[str] = (),
) -> tuple[Histories, Notes]:
    """Read a table as histories, with the remarks made while reading.

    ``unit``, ``time`` and ``failed`` name columns; without ``failed`` every unit counts as failed at its last row.
    ``channels`` names the columns to read (default: all usable columns except those in ``ignore``). Columns in
    ``optional`` may be absent: all their readings are missing then. ``categories`` are the texts behind the codes of
    text columns, for a model that already has such codes. Times keep the unit of the table, dates become hours.

    Raises:
        BadInput: ``file``, ``columns``, ``rows`` or ``failed`` when the table cannot be used; the message says what to
            change.
    """
    notes = Notes()
    header, columns = _columns(path, notes)
    names = _others(path, header, unit, time, failed)
    times, dated = columns[header.index(time)].times
    if dated:
        notes.remarks.append(f"column {time} holds dates: all answers are in hours")
    keys, key = columns[header.index(unit)].keys
    good = np.isfinite(times) & np.array([bool(name) for name in keys], dtype=bool)[key]
    if not good.all():
        notes.drop("no unit or no readable time", int((~good).sum()))
    if channels is None and not good.any():
        shown = ", ".join(columns[header.index(time)].distinct[:SHOWN])
        raise BadInput(
            "rows",
            f"{path}: no row has a unit and a time; column {time} should hold numbers or dates "
            f"(2026-01-31[ 12:30]), and holds {shown[:80]}",
        )
    _note_likeness(keys, unit, notes)
    wanted = [name for name in names if name not in ignore] if channels is None else list(channels)
    absent = [name for name in wanted if name not in header and name not in optional]
    if absent:
        raise BadInput(
            "columns",
            f"{path} has no column {', '.join(absent[:5])} that the model was trained with; "
            f"it has {', '.join(header[:30])}; where it was not recorded, add it with empty fields",
        )
    series: dict[str, Floats] = {}
    for name in wanted:
        if name not in header:
            series[name] = np.full(len(times), np.nan)
            continue
        known = None if categories is None else tuple(categories.get(name, ()))
        numbers = _numbers(name, columns[header.index(name)], known, notes)
        if numbers is not None:
            series[name] = numbers
    if not series:
        raise BadInput("columns", f"{path}: no column of numbers beside {unit} and {time}")
    flags = None if failed is None else _says_yes(path, failed, columns[header.index(failed)], notes)
    del columns
    values = np.column_stack(list(series.values()))
    return Histories(tuple(_units(keys, key, times, values, flags, good, notes)), tuple(series)), notes


def _columns(path: Path, notes: Notes) -> tuple[list[str], list[_Column]]:
    """The header and the columns of a table in UTF-8, in UTF-16 with its byte order mark, or (noted) in Latin-1."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as raw:
            marked = raw.read(2) in (b"\xff\xfe", b"\xfe\xff")
        try:
            header, columns = _parsed(path, "utf-16" if marked else "utf-8-sig", notes)
        except UnicodeDecodeError:
            if marked:
                raise
            notes.dropped.clear()  # the whole table is read again, so its rows are counted again
            notes.remarks.append("the table is not UTF-8: read as Latin-1")
            header, columns = _parsed(path, "latin-1", notes)
    except (OSError, UnicodeDecodeError, csv.Error, EOFError, zlib.error) as error:
        raise BadInput("file", f"{path} cannot be read as a table: {error}") from None
    if not len(columns[0].codes):
        raise BadInput("rows", f"{path} has no row of {len(header)} fields under its header")
    return header, columns


def _parsed(path: Path, encoding: str, notes: Notes) -> tuple[list[str], list[_Column]]:
    with _text(path, encoding) as lines:
        first = lines.readline(MAX_FIELD_CHARS * 16)
        separator = max(SEPARATORS, key=first.count)
        header = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
        if len(header) < 2 or len(header) > MAX_COLUMNS:
            raise BadInput("columns", f"{path}: {len(header)} columns; expected 2 to {MAX_COLUMNS}, named in line 1")
        if len(set(header)) != len(header):
            raise BadInput("columns", f"{path}: two columns have one name; rename one")
        rows = _good_rows(csv.reader(lines, delimiter=separator), len(header), notes, path)
        return header, _coded(rows, len(header), separator != ",")


def _coded(rows: Iterator[list[str]], width: int, decimal_comma: bool) -> list[_Column]:
    """The columns of a table whose rows have ``width`` fields."""
    places: list[defaultdict[str, int]] = [defaultdict() for _ in range(width)]
    for place in places:
        place.default_factory = place.__len__  # a text not met before gets the next number
    codes: list[list[Ints]] = [[np.zeros(0, dtype=np.int32)] for _ in range(width)]
    while block := list(islice(rows, BLOCK_ROWS)):
        for place, parts, texts in zip(places, codes, zip(*block, strict=True), strict=True):
            parts.append(np.fromiter(map(place.__getitem__, texts), dtype=np.int32, count=len(texts)))
    return [
        _Column(tuple(place), np.concatenate(parts), decimal_comma) for place, parts in zip(places, codes, strict=True)
    ]


def _text(path: Path, encoding: str) -> TextIO:
    if path.suffix == ".gz":
        return cast("TextIO", gzip.open(path, "rt", encoding=encoding, newline=""))
    return path.open(encoding=encoding, newline="")


def _good_rows(reader: Iterator[list[str]], width: int, notes: Notes, path: Path) -> Iterator[list[str]]:
    for row in reader:
        if not row:
            continue
        notes.rows += 1
        if notes.rows > MAX_ROWS:
            raise BadInput("rows", f"{path} has more than {MAX_ROWS} rows; split it")
        if len(row) != width:
            notes.drop("another number of fields than the header")
        elif max(map(len, row)) > MAX_FIELD_CHARS:
            notes.drop(f"a field longer than {MAX_FIELD_CHARS} characters")
        else:
            yield row


def _others(path: Path, header: list[str], unit: str, time: str, failed: str | None) -> list[str]:
    """Names of the columns other than unit, time and failed. Raises BadInput when one of these three is missing."""
    for name, option in ((unit, "--unit"), (time, "--time"), (failed, "--failed")):
        if name is not None and name not in header:
            raise BadInput("columns", f"{path} has no column {name!r} ({option}); it has {', '.join(header[:30])}")
    if len({unit, time, failed}) < 3:
        raise BadInput("columns", f"{path}: unit, time and failed must be different columns")
    return [name for name in header if name and name not in (unit, time, failed)]


def _note_likeness(keys: Sequence[str], unit: str, notes: Notes) -> None:
    """Note that two unit names are one number written in two ways (``1`` and ``1.0``): they are taken as two units."""
    names: dict[float, str] = {}
    for name in keys:
        value = number(name)
        if math.isfinite(value) and names.setdefault(value, name) != name:
            notes.remarks.append(f"column {unit} holds {names[value]} and {name}: taken as two units")
            return


def _says_yes(path: Path, name: str, column: _Column, notes: Notes) -> np.ndarray:
    """Whether each row says that its unit failed (n,).

    A few words that say neither yes nor no are taken as no, with a note. Raises BadInput when many fields say neither,
    or when a field is a number other than 0 and 1.
    """
    said = [truth(text, column.decimal_comma) for text in column.distinct]
    strange = [place for place, word in enumerate(said) if word is None]
    if strange:
        total = int(np.isin(column.codes, strange).sum())
        texts = [column.distinct[place].strip()[:40] for place in strange]
        coded_otherwise = any(math.isfinite(number(text, column.decimal_comma)) for text in texts)
        if coded_otherwise or total > TEXT_SHARE * len(column.codes):
            words = ", ".join(texts[:SHOWN])
            raise BadInput("failed", f"{path}: column {name} (--failed) holds {words}; it should say 1 or 0, yes or no")
        notes.remarks.append(f"column {name}: {total} fields say neither yes nor no, such as {texts[0]}: taken as no")
    return np.array([word is True for word in said], dtype=bool)[column.codes]


def _numbers(name: str, column: _Column, known: tuple[str, ...] | None, notes: Notes) -> Floats | None:
    """The column as numbers or as codes of its texts (n,); None when the column is ignored.

    ``known`` are the texts behind the codes of a fitted model: empty for its number columns, None while fitting.
    """
    numbers = column.numbers
    if known is None or not known:
        blank = np.array([text.strip().lower() in BLANK for text in column.distinct], dtype=bool)[column.codes]
        unread = int((np.isnan(numbers) & ~blank).sum())
        filled = int((~np.isnan(numbers)).sum()) + unread
        if known is not None or unread <= TEXT_SHARE * filled:
            if unread:
                notes.unreadable[name] = unread
            return numbers
        known = tuple(sorted({text.strip() for text in column.distinct} - {""}))
        if len(known) > MAX_CATEGORIES or len(known) > max(2, len(numbers) // 2):
            notes.ignored[name] = f"text of {len(known)} different values"
            return None
    notes.categories[name] = known
    codes = {text: float(code) for code, text in enumerate(known)}
    return np.array([codes.get(text.strip(), math.nan) for text in column.distinct])[column.codes]


def _units(
    keys: tuple[str, ...],
    key: Ints,
    times: Floats,
    values: Floats,
    flags: np.ndarray | None,
    good: np.ndarray,
    notes: Notes,
) -> Iterator[Unit]:
    """The units of the table, in order of first appearance, with their rows in order of time."""
    kept = np.flatnonzero(good)
    seen = np.bincount(key[kept], minlength=len(keys)) > 0
    notes.refused.update(
        {name: "no row with a readable time" for name, any_row in zip(keys, seen, strict=False) if name and not any_row}
    )
    filed = kept[np.argsort(key[kept], kind="stable")]
    falls = (np.diff(times[filed]) < 0.0) & (np.diff(key[filed]) == 0)
    notes.unordered_units += len(np.unique(key[filed][1:][falls]))
    filed = kept[np.lexsort((times[kept], key[kept]))]
    again = (np.diff(times[filed]) <= 0.0) & (np.diff(key[filed]) == 0)
    if again.any():
        notes.drop("a time that its unit has twice", int(again.sum()))
    failed = np.ones(len(keys), dtype=bool) if flags is None else np.bincount(key[kept], flags[kept], len(keys)) > 0
    filed = filed[np.append(~again, True)] if len(filed) else filed
    times, values, key = times[filed], values[filed], key[filed]
    edges = np.r_[np.flatnonzero(np.diff(key, prepend=-1)), len(key)].tolist()
    for begin, end in pairwise(edges):
        place = int(key[begin])
        yield Unit(keys[place], times[begin:end], values[begin:end], bool(failed[place]))
