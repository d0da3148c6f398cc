"""Recordings read from disk: delimited text with a time column, and ``.npz`` archives of waveform snapshots.

Used by the ``replay`` source and by ``edge-agent detect``. The files come from outside: sizes are bounded, a broken row
is reported and passed over, and a broken file is a BadInput whose message names the fault.
"""

from __future__ import annotations

import csv
import math
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.acquisition._headers import DELIMITERS, MAX_PREAMBLE_LINES, find_header, find_parts, joined
from edge_agent.acquisition._times import (
    RELATIVE_EPOCH_S,
    clock_s,
    day_comes_first,
    is_ambiguous,
    is_clock,
    parse_time_us,
)
from fleet_core.errors import BadInput
from fleet_core.telemetry import LATEST_US, MAX_WAVEFORM_SAMPLES

MAX_LINE = 64 * 1024
MAX_COLUMNS = 512
MAX_ARCHIVE_BYTES = 4 * 1024**3
HEAD_ROWS = 200
"""The first rows, from which a table's shape is found."""
MAX_SHOWN = 80
"""Characters of a broken row that a report shows."""
COUNTED_STEP_S = 1.0
"""The step of a recording without times, in seconds: one row, one second."""
EARLIEST_WRITTEN_US = 1
"""Recordings may be older than any believable device clock: times are accepted from 1970 on."""
DAY_S = 86_400.0

_TIME_NAMES = ("time", "timestamp", "datetime", "date", "date_time", "ts", "t", "zeit", "datum", "zeitstempel")
_TIME_WORDS = ("time", "timestamp", "datetime", "elapsed", "epoch", "seconds", "datenum")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:(?:,\d{3})+\.\d*|(?:\.\d{3})+,\d*)\Z")
_TRUTH = {"true": 1.0, "false": 0.0}
_MISSING = ("", "nan", "na", "n/a", "null", "none", "-", "?")


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its ``line`` (1-based) in the file, its time as written and in microseconds, one value per column."""

    line: int
    time_text: str
    time_us: int
    values: list[float]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was passed over; ``text`` is its beginning."""

    line: int
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """The shape of a delimited file.

    ``columns`` (the numeric ones), ``text_columns`` and ``time_column`` (None: the file has none) index ``header``,
    which is line ``header_line`` (1-based) of the file.

    Where the time comes from: with ``step_s`` the rows are counted, that many seconds apart, and no written time is
    read. ``clock_column`` holds the time of day when the time column holds dates only. ``part_columns`` hold year,
    month, day and perhaps hour, minute and second when no column holds the whole time. ``clock_only`` says that the
    time column holds times of day, which begin anew at midnight. ``day_first`` settles dates such as 05/01/2026.
    """

    path: Path
    delimiter: str
    header: tuple[str, ...]
    time_column: int | None
    columns: tuple[int, ...]
    text_columns: tuple[int, ...]
    step_s: float | None = None
    clock_column: int | None = None
    day_first: bool = False
    part_columns: tuple[int, ...] = ()
    clock_only: bool = False
    header_line: int = 1

    def rows(self) -> Iterator[Row | BadRow]:
        """The rows in the file's order. A missing or unreadable value is NaN; a row without a time is bad."""
        for item in self._timed():
            if isinstance(item, BadRow):
                yield item
                continue
            line, cells, text, time_us = item
            values = [parse_number(cells[i], self.delimiter) if i < len(cells) else math.nan for i in self.columns]
            yield Row(line, text, time_us, values)

    def times_us(self) -> NDArray[np.int64]:
        """The times (n,) of the rows that have one, in the file's order."""
        found = (item[3] for item in self._timed() if not isinstance(item, BadRow))
        return np.fromiter(found, dtype=np.int64)

    def _timed(self) -> Iterator[tuple[int, list[str], str, int] | BadRow]:
        """Of every row: its line, its cells, its time as written and its time in microseconds; or a BadRow."""
        last = max(-1 if at is None else at for at in (self.time_column, self.clock_column, *self.part_columns))
        days = _Days()
        for number, (line, cells) in enumerate(_lines(self.path, self.delimiter, self.header_line)):
            try:
                if len(cells) <= last or any(cell.strip() for cell in cells[len(self.header) :]):
                    raise BadInput("cells", f"{len(cells)} cells, expected {len(self.header)}")
                text, time_us = self._time(number, cells, days)
            except BadInput as error:
                yield BadRow(line, str(error), self.delimiter.join(cells)[:MAX_SHOWN])
                continue
            yield line, cells, text, time_us

    def _time(self, number: int, cells: Sequence[str], days: _Days) -> tuple[str, int]:
        """The time of the row with this number, as written and in microseconds. Raises BadInput."""
        text = cells[self.time_column].strip() if self.time_column is not None else ""
        if self.clock_column is not None:
            text = f"{text} {cells[self.clock_column].strip()}"
        if self.part_columns:
            text = joined([_cell(cells, index) for index in self.part_columns])
        if self.step_s is None and self.clock_only:
            return text, days.time_us(text)
        if self.step_s is None:
            return text, _cell_time_us(text, self.delimiter, self.day_first)
        time_us = round((RELATIVE_EPOCH_S + number * self.step_s) * 1e6)
        if time_us > LATEST_US:
            raise BadInput("time", "more rows than steps of this size can be counted")
        return text or f"{number * self.step_s:.10g}", time_us


@dataclass(slots=True)
class _Days:
    """Counts the days of a column of times of day: a time more than half a day earlier than the last means midnight."""

    day: int = 0
    last_s: float = 0.0

    def time_us(self, text: str) -> int:
        """Microseconds of the next time of day. Raises BadInput."""
        if not is_clock(text):
            raise BadInput("time", f"{text[:40]!r} is not a time of day, as the others are")
        second = clock_s(text)
        self.day += second < self.last_s - DAY_S / 2
        self.last_s = second
        return round((RELATIVE_EPOCH_S // DAY_S * DAY_S + self.day * DAY_S + second) * 1e6)


@dataclass(frozen=True, slots=True)
class Snapshots:
    """Waveform snapshots: ``values`` (snapshots, samples, channels), ``times_us`` (snapshots,) rising."""

    values: NDArray[np.float32]
    times_us: NDArray[np.int64]
    time_texts: Sequence[str]
    sample_rate_hz: float


def open_table(path: Path, time_column: str = "", step_s: float | None = None, timeless: bool = False) -> Table:
    """Find a file's delimiter, time column and numeric columns from its first rows. Raises BadInput.

    With ``step_s`` the rows are counted with this step, whatever times are written. With ``timeless`` a file without a
    time column is accepted too, and its rows are counted.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            header_line, first = find_header([file.readline(MAX_LINE) for _ in range(MAX_PREAMBLE_LINES)])
    except OSError as error:
        raise BadInput("file", f"{path}: {error.strerror or error}") from None
    delimiter = max(DELIMITERS, key=first.count)
    header = tuple(cell.strip() for cell in next(csv.reader([first.replace("\x00", "")], delimiter=delimiter), []))
    timeless = timeless or step_s is not None
    if len(header) > MAX_COLUMNS:
        raise BadInput("header", f"{path}: {len(header)} columns, at most {MAX_COLUMNS} can be read")
    if len(header) < (1 if timeless else 2):
        raise BadInput("header", f"{path}: expected a header with a time column and vitals, delimited by , ; tab or |")
    head = [cells for _, (_, cells) in zip(range(HEAD_ROWS), _lines(path, delimiter, header_line), strict=False)]
    if not head:
        raise BadInput("empty", f"{path}: no rows below the header")
    time_index = _find_time(path, header, head, time_column, delimiter)
    parts = find_parts(header) if time_index is None and step_s is None else ()
    if time_index is None and not parts:
        if not timeless:
            there = ", ".join(header)[:300]
            raise BadInput("time_column", f"{path}: no time column found; name it; there are: {there}")
        if not any(re.search("[^0-9.,+-]", name) for name in header) and not all(name.isdigit() for name in header):
            raise BadInput("header", f"{path}: the first line holds numbers, expected the columns' names")
        step_s = step_s or COUNTED_STEP_S
    clock_index = None if time_index is None else _find_clock(head, time_index)
    dates = [_cell(row, time_index) for row in head] if time_index is not None else []
    day_first = False
    if any(map(is_ambiguous, dates)):  # all dates are read then: the days may pass the twelfth late in the file
        day_first = day_comes_first(_cell(cells, time_index) for _, cells in _lines(path, delimiter, header_line))
    clock_only = 2 * sum(map(is_clock, dates)) > len(dates)
    others = [i for i in range(len(header)) if i not in (time_index, clock_index, *parts)]
    numeric = [i for i in others if _is_numeric(head, i, delimiter)]
    text = [i for i in others if i not in numeric]
    shape = tuple(numeric), tuple(text), step_s, clock_index, day_first, parts, clock_only, header_line
    return Table(path, delimiter, header, time_index, *shape)


def open_snapshots(path: Path) -> Snapshots:
    """Read ``acceleration_g`` (n, samples, channels), ``time_of_day_s`` (n,), ``sample_rate_hz``. Raises BadInput."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(item.file_size for item in archive.infolist()) > MAX_ARCHIVE_BYTES:
                raise BadInput("size", f"{path}: larger than {MAX_ARCHIVE_BYTES} bytes unpacked")
        with np.load(path, allow_pickle=False) as arrays:
            values = np.asarray(arrays["acceleration_g"], dtype=np.float32)
            seconds = np.asarray(arrays["time_of_day_s"], dtype=np.float64).ravel()
            rate_hz = float(np.asarray(arrays["sample_rate_hz"]).ravel()[0])
    except OSError as error:
        raise BadInput("file", f"{path}: {error.strerror or error}") from None
    except (KeyError, ValueError, IndexError, TypeError, zipfile.BadZipFile) as error:
        raise BadInput("npz", f"{path}: expected acceleration_g, time_of_day_s and sample_rate_hz ({error})") from None
    values = values[:, :, None] if values.ndim == 2 else values
    if values.ndim != 3 or not len(values) or len(values) != len(seconds) or not 1 <= values.shape[2] <= 8:
        raise BadInput("npz", f"{path}: acceleration_g must be (snapshots, samples, 1..8 channels), one time each")
    if values.shape[1] > MAX_WAVEFORM_SAMPLES or not 0 < rate_hz < 1e9 or not np.isfinite(seconds).all():
        raise BadInput("npz", f"{path}: snapshots too long, or a rate or time out of range")
    days = np.concatenate(([0], np.cumsum(np.diff(seconds) < -43_200)))
    times_us = ((seconds + days * 86_400.0 + RELATIVE_EPOCH_S) * 1e6).astype(np.int64)
    times_us = np.maximum.accumulate(times_us)
    return Snapshots(values, times_us, [f"{time_s:g}" for time_s in seconds], rate_hz)


def parse_number(text: str, delimiter: str = ",") -> float:
    """A cell as a number; NaN when it is missing or not one. ``true`` is 1.

    A decimal comma is accepted where the comma is not the delimiter. In a number with points and commas the last of
    them is the decimal sign and the others separate thousands.
    """
    try:
        return float(text)
    except ValueError:
        text = text.strip()
    if text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    if _THOUSANDS.match(text):
        point = max(text.rfind(","), text.rfind("."))
        return float(re.sub("[.,]", "", text[:point]) + "." + text[point + 1 :])
    if delimiter != "," and text.count(",") == 1:
        try:
            return float(text.replace(",", "."))
        except ValueError:
            return math.nan
    return math.nan


def _cell_time_us(text: str, delimiter: str, day_first: bool = False) -> int:
    """The time in a cell; seconds may have a decimal comma where no comma delimits. Raises BadInput."""
    return parse_time_us(text if delimiter == "," else text.replace(",", "."), day_first, EARLIEST_WRITTEN_US)


def _lines(path: Path, delimiter: str, header_line: int = 1) -> Iterator[tuple[int, list[str]]]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        for _ in range(header_line):
            file.readline(MAX_LINE)
        line = header_line
        while text := file.readline(MAX_LINE):
            line += 1
            if text.strip():
                # Quoting holds within one line only: an unbalanced quote must not swallow the rest of the file.
                yield line, next(csv.reader([text.replace("\x00", "")], delimiter=delimiter), [])


def _find_time(path: Path, header: Sequence[str], head: Sequence[list[str]], wanted: str, delimiter: str) -> int | None:
    lowered = [name.lower() for name in header]
    if wanted:
        if wanted not in header:
            raise BadInput("time_column", f"{path}: no column {wanted!r}; there are: {', '.join(header)[:300]}")
        return header.index(wanted)
    named = [lowered.index(name) for name in _TIME_NAMES if name in lowered]
    # A column of dates is preferred to one of times of day: the two are then read together.
    for index in sorted(named, key=lambda index: all(is_clock(_cell(row, index)) for row in head)):
        if any(_parses(_cell(row, index), delimiter) for row in head):
            return index
    for index, name in enumerate(lowered):
        written = [text for row in head if (text := _cell(row, index))]
        if (
            written
            and (any(word in name for word in _TIME_WORDS) or math.isnan(parse_number(written[0], delimiter)))
            and _parses(written[0], delimiter)
        ):
            return index
    return named[0] if named else None


def _find_clock(head: Sequence[list[str]], time_index: int) -> int | None:
    """The column with the time of day, where the time column holds dates alone."""
    dates = [text for row in head if (text := _cell(row, time_index))]
    if any(":" in text or text.isdigit() for text in dates):
        return None
    for index in range(max(map(len, head))):
        written = [text for row in head if (text := _cell(row, index))]
        if index != time_index and written and all(map(is_clock, written)):
            return index
    return None


def _cell(row: Sequence[str], index: int | None) -> str:
    return row[index].strip() if index is not None and index < len(row) else ""


def _parses(text: str, delimiter: str) -> bool:
    try:
        _cell_time_us(text, delimiter)
    except BadInput:
        return False
    return True


def _is_numeric(head: Sequence[list[str]], index: int, delimiter: str) -> bool:
    written = [row[index].strip() for row in head if index < len(row)]
    written = [text for text in written if text.lower() not in _MISSING]
    readable = sum(not math.isnan(parse_number(text, delimiter)) for text in written)
    return 2 * readable >= len(written)
