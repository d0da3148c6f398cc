"""``edge-agent detect`` on any table with a time column, without configuration: a sane result, or one clear line."""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from edge_agent.acquisition._tables import BadRow, Row, open_table, parse_number
from edge_agent.acquisition._times import day_comes_first, parse_time_us
from edge_agent.recorded import offline
from fleet_core.errors import BadInput
from fleet_core.telemetry import to_us

ROWS, FAULT = 340, 260
START = datetime(2026, 1, 5, tzinfo=UTC)
MINUTES = [START + timedelta(minutes=i) for i in range(ROWS)]


def faulty(channels: int = 2, seed: int = 1) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(ROWS, channels)) + 20
    values[FAULT:, 0] += 0.5 * np.arange(ROWS - FAULT)
    return values


def table(
    times: Iterable[object],
    values: np.ndarray | None = None,
    delimiter: str = ",",
    header: Iterable[str] = (),
    form: str = "{:.3f}",
) -> str:
    values = faulty() if values is None else values
    names = list(header) or ["time", *(f"v{i}" for i in range(values.shape[1]))]
    lines = [delimiter.join(names)]
    lines += [
        delimiter.join([str(each), *(form.format(value) for value in row)])
        for each, row in zip(times, values, strict=False)
    ]
    return "\n".join(lines) + "\n"


def written(form: str) -> list[str]:
    return [f"{each:{form}}" for each in MINUTES]


class Run:
    """One run of the command over a text: exit code, words, summary and scores."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], content: str | bytes, *words: str) -> None:
        path, out = folder / "in.csv", folder / "out.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        parser = argparse.ArgumentParser()
        offline.add_arguments(parser)
        self.code = offline.main_detect(parser.parse_args([str(path), "--out", str(out), "--json", *words]))
        said = capsys.readouterr()
        self.words = said.err
        self.summary = json.loads(said.out) if self.code == 0 else {}
        self.rows: list[dict[str, str]] = []
        if self.code == 0:
            with out.open() as file:
                self.rows = list(csv.DictReader(file))
            assert all(0.0 <= float(row["score"]) <= 1.0 for row in self.rows)

    def first_alarm(self) -> int:
        return next(index for index, row in enumerate(self.rows) if row["alarm"] == "1")


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    return lambda content, *words: Run(tmp_path, capsys, content, *words)


WRITINGS = {
    "iso": written("%Y-%m-%dT%H:%M:%S"),
    "zulu": written("%Y-%m-%dT%H:%M:%SZ"),
    "offset": [f"{each + timedelta(hours=2):%Y-%m-%dT%H:%M:%S}+02:00" for each in MINUTES],
    "blank": written("%Y-%m-%d %H:%M:%S"),
    "millis": written("%Y-%m-%d %H:%M:%S.000"),
    "nanos": written("%Y-%m-%d %H:%M:%S.000000000"),
    "zone word": written("%Y-%m-%d %H:%M:%S UTC"),
    "slashes": written("%Y/%m/%d %H:%M:%S"),
    "day first": written("%d.%m.%Y %H:%M"),
    "dotted": written("%Y.%m.%d.%H.%M.%S"),
    "month first": written("%m/%d/%Y %H:%M"),
    "half days": written("%m/%d/%Y %I:%M:%S %p"),
    "short year": written("%m/%d/%y %H:%M"),
    "dashes": written("%d-%m-%Y %H:%M"),
    "month's name": written("%d-%b-%Y %H:%M:%S"),
    "digits": written("%Y%m%d%H%M%S"),
    "month's name leads": written("%b %d %Y %H:%M:%S"),
    "weekday": written("%a %b %d %H:%M:%S %Y"),
    "mail": written("%a %d %b %Y %H:%M:%S +0000"),
    "web log": written("%d/%b/%Y:%H:%M:%S +0000"),
    "short dotted year": written("%d.%m.%y %H:%M"),
    "winter in New York": [f"{each - timedelta(hours=5):%Y-%m-%d %H:%M:%S} EST" for each in MINUTES],
    "summer in Berlin": [f"{each + timedelta(hours=2):%d.%m.%Y %H:%M:%S} CEST" for each in MINUTES],
    "named zone": [f"{each - timedelta(hours=3):%Y-%m-%dT%H:%M:%S}-03:00[America/Recife]" for each in MINUTES],
    **{
        f"epoch {unit}": [str(to_us(each) * factor // 1_000_000) for each in MINUTES]
        for unit, factor in (("s", 1), ("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000))
    },
}


@pytest.mark.parametrize("writing", WRITINGS)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_times_are_read_as_written(tmp_path: Path, writing: str, delimiter: str) -> None:
    path = tmp_path / "in.csv"
    path.write_text(table(WRITINGS[writing], delimiter=delimiter))
    found = open_table(path, timeless=True)
    rows = [row for row in found.rows() if isinstance(row, Row)]
    assert [row.time_us for row in rows] == [to_us(each) for each in MINUTES]
    assert rows[1].time_text == WRITINGS[writing][1] and len(found.columns) == 2
    assert (found.times_us() == [row.time_us for row in rows]).all()


@pytest.mark.parametrize("name", ["time", "Time (s)", "t", "elapsed", "Timestamp", "seconds"])
def test_seconds_from_the_beginning(tmp_path: Path, name: str) -> None:
    path = tmp_path / "in.csv"
    path.write_text(table((0.5 * i for i in range(ROWS)), header=(name, "a", "b")))
    found = open_table(path, timeless=True)
    assert found.time_column == 0 and set(np.diff(found.times_us())) == {500_000}


@pytest.mark.parametrize(
    ("form", "header"),
    [
        ("%Y-%m-%d,%H:%M:%S", ("Date", "Time")),
        ("%d.%m.%Y,%H:%M", ("Datum", "Uhrzeit")),
        ("%Y,%m,%d,%H,%M", ("year", "month", "day", "hour", "minute")),
    ],
)
def test_dates_and_times_in_several_columns(tmp_path: Path, form: str, header: tuple[str, ...]) -> None:
    path = tmp_path / "in.csv"
    path.write_text(table(written(form), header=(*header, "a", "b")))
    found = open_table(path)
    assert (found.times_us() == [to_us(each) for each in MINUTES]).all() and not found.text_columns


def test_times_of_day_alone_go_on_over_midnight(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text(table(f"{each + timedelta(hours=20):%H:%M:%S}" for each in MINUTES))
    found = open_table(path)
    assert set(np.diff(found.times_us())) == {60_000_000} and found.clock_only
    path.write_text(path.read_text().replace("20:01:00", "soon"))
    assert "not a time of day" in next(row.reason for row in open_table(path).rows() if isinstance(row, BadRow))


def test_dates_of_the_last_century_and_months_alone(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text(table(f"{1980 + i // 12}-{i % 12 + 1:02d}" for i in range(200)))
    times_us = open_table(path).times_us()
    assert len(times_us) == 200 and times_us[0] == to_us(datetime(1980, 1, 1, tzinfo=UTC))


PREAMBLES = ["# logger 3\n# unit degC\n", "Machine 7\n\n", "\n\n", "sep={}\n", "# a{0} b{0} c\n"]


@pytest.mark.parametrize("before", PREAMBLES)
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_what_stands_before_the_header_is_passed_over(tmp_path: Path, before: str, delimiter: str) -> None:
    path = tmp_path / "in.csv"
    path.write_text(before.format(delimiter) + table(WRITINGS["iso"], delimiter=delimiter))
    found = open_table(path)
    rows = list(found.rows())
    assert found.header == ("time", "v0", "v1") and len(rows) == ROWS
    assert isinstance(rows[0], Row) and path.read_text().splitlines()[rows[0].line - 1].startswith(
        "2026-01-05T00:00:00"
    )


@pytest.mark.parametrize("text", ["value\n1.5\n2.5\n", "value\n1,5\n2,5\n", "#time,a\n0,1\n1,2\n", "time,a\n0,x\n"])
def test_a_header_in_the_first_line_stays_the_header(tmp_path: Path, text: str) -> None:
    path = tmp_path / "in.csv"
    path.write_text(text)
    assert open_table(path, timeless=True).header_line == 1


@pytest.mark.parametrize(
    ("text", "delimiter", "number"),
    [("1,020.5", ",", 1020.5), ("1.020,5", ";", 1020.5), ("-1,234,567.", ",", -1234567.0), ("1,5", ";", 1.5)],
)
def test_parted_thousands(text: str, delimiter: str, number: float) -> None:
    assert parse_number(text, delimiter) == number and math.isnan(parse_number("1,5", ","))


@pytest.mark.parametrize(("form", "expected"), [("%d/%m/%Y", True), ("%m/%d/%Y", False), ("%m-%d-%Y", False)])
@pytest.mark.parametrize(("first", "days"), [(1, 40), (1, 9), (28, 20)])
def test_all_dates_of_a_file_decide_which_number_is_the_day(form: str, expected: bool, first: int, days: int) -> None:
    dates = [f"{datetime(2026, 3, first, tzinfo=UTC) + timedelta(days=i):{form}} 00:00" for i in range(days)]
    assert day_comes_first(dates) is expected


def test_a_single_ambiguous_day_is_read_as_is_usual() -> None:
    assert not day_comes_first(["03/04/2026 10:00"]) and day_comes_first(["03-04-2026 10:00"])
    assert parse_time_us("03/04/2026") == parse_time_us("2026-03-04")
    assert parse_time_us("03/04/2026", day_first=True) == parse_time_us("2026-04-03")
    assert parse_time_us("12/31/2026 12:00 AM", day_first=True) == parse_time_us("2026-12-31")
    for nonsense in ("13/13/2026", "00/01/2026", "02/30/2026", "01/02/2026 13:00 PM", "20261399000000x", "5-Foo-2026"):
        with pytest.raises(BadInput):
            parse_time_us(nonsense)


def test_a_minute_table_of_a_few_hours_is_judged_and_not_only_learnt_from(run: Callable[..., Run]) -> None:
    found = run(table(WRITINGS["iso"]))
    assert len(found.rows) == ROWS and FAULT < found.first_alarm() < FAULT + 60
    assert found.rows[-1]["top_channel"] == "v0" and "less than 48 h" in found.words


def test_a_minute_table_of_three_days_is_learnt_from_for_a_day(run: Callable[..., Run]) -> None:
    rows = 3 * 1440
    values = np.random.default_rng(1).normal(size=(rows, 1))
    found = run(table((60 * i for i in range(rows)), values))
    assert 1430 <= found.summary["learned_at_row"] <= 1440 and "less than" not in found.words


@pytest.mark.parametrize("missing", ["", "NA", "NaN", "null", "-", "n/a", "inf", "#N/A"])
def test_missing_values_are_missing(run: Callable[..., Run], missing: str) -> None:
    lines = table(WRITINGS["iso"]).splitlines()
    for index in range(1, ROWS, 7):
        cells = lines[index].split(",")
        lines[index] = ",".join((cells[0], missing, cells[2]))
    found = run("\n".join(lines))
    assert len(found.rows) == ROWS and found.summary["rows_skipped"] == 0
    assert found.summary["vitals"] == ["v0", "v1"] and found.first_alarm() >= FAULT


def test_text_columns_are_left_out_and_named(run: Callable[..., Run]) -> None:
    lines = table(WRITINGS["iso"]).splitlines()
    noted = [f"{line},{'note' if i == 0 else 'fine'}" for i, line in enumerate(lines)]
    found = run("\n".join(noted))
    assert found.summary["left_out"] == {"note": "text"} and "left out: column 'note' (text)" in found.words


def test_labels_and_columns_that_count_the_rows_are_left_out_and_named(run: Callable[..., Run]) -> None:
    lines = table(WRITINGS["iso"]).splitlines()
    more = [
        f"{line},{'sample_no,is_fault' if i == 0 else f'{i + 70},{int(i > FAULT)}'}" for i, line in enumerate(lines)
    ]
    found = run("\n".join(more))
    assert set(found.summary["left_out"]) == {"sample_no", "is_fault"} and found.summary["vitals"] == ["v0", "v1"]
    assert run("\n".join(more), "--columns", "sample_no,v0").summary["vitals"] == ["v0", "sample_no"]


def test_gaps_of_days_do_not_make_a_short_recording_long(run: Callable[..., Run]) -> None:
    times = [each + timedelta(days=3 * (i > 200) + 9 * (i > 230)) for i, each in enumerate(MINUTES)]
    found = run(table(times))
    assert "less than 48 h" in found.words and FAULT <= found.first_alarm() < FAULT + 60


@pytest.mark.parametrize("channels", [1, 60])
def test_one_channel_or_sixty(run: Callable[..., Run], channels: int) -> None:
    found = run(table(WRITINGS["iso"], faulty(channels)))
    assert len(found.summary["vitals"]) == channels and found.first_alarm() >= FAULT


def test_of_more_than_sixty_channels_those_that_change_most_are_judged(run: Callable[..., Run]) -> None:
    values = faulty(70)
    values[:, 1:11] = np.round(values[:, 1:11] / 100)
    found = run(table(WRITINGS["iso"], values))
    assert set(found.summary["left_out"]) == {f"v{i}" for i in range(1, 11)}
    assert len(found.summary["vitals"]) == 60 and "more than 60" in found.words


def test_decimal_commas_where_semicolons_delimit(run: Callable[..., Run]) -> None:
    found = run(table(written("%d.%m.%Y %H:%M"), delimiter=";").replace(".01.2026", "/01/2026").replace(".", ","))
    assert found.summary["vitals"] == ["v0", "v1"] and found.first_alarm() >= FAULT


@pytest.mark.parametrize("order", ["falling", "shuffled"])
def test_unsorted_rows_are_judged_in_order_of_time_and_written_in_the_files(
    run: Callable[..., Run], order: str
) -> None:
    places = np.arange(ROWS)[::-1] if order == "falling" else np.random.default_rng(1).permutation(ROWS)
    straight = run(table(WRITINGS["iso"]))
    found = run(table([WRITINGS["iso"][i] for i in places], faulty()[places]))
    assert [row["time"] for row in found.rows] == [WRITINGS["iso"][i] for i in places]
    assert [found.rows[i] for i in np.argsort(places)] == straight.rows
    assert "judged in order of time" in found.words


def test_doubled_and_stepped_back_times_drop_no_row(run: Callable[..., Run]) -> None:
    times = [WRITINGS["iso"][i // 2] for i in range(ROWS)]
    times[200:230] = times[170:200]
    found = run(table(times))
    assert [row["time"] for row in found.rows] == times and found.first_alarm() >= FAULT
    assert found.summary["rows_out_of_order"] > 0 and "order of time" not in found.words


def test_irregular_steps(run: Callable[..., Run]) -> None:
    seconds = np.cumsum(np.random.default_rng(1).exponential(60, ROWS))
    found = run(table(START + timedelta(seconds=each) for each in seconds))
    assert len(found.rows) == ROWS and found.first_alarm() >= FAULT


@pytest.mark.parametrize("dress", ["bom", "crlf", "quoted", "units row", "trailing"])
def test_dressed_up_files(run: Callable[..., Run], dress: str) -> None:
    text = table(WRITINGS["iso"])
    content: str | bytes = text
    if dress == "bom":
        content = text.encode("utf-8-sig")
    elif dress == "crlf":
        content = text.replace("\n", "\r\n")
    elif dress == "quoted":
        content = "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in text.splitlines())
    elif dress == "units row":
        content = text.replace("\n", "\n[s],[C],[bar]\n", 1)
    elif dress == "trailing":
        content = text.replace("\n", ",\n").replace(",\n", "\n", 1)
    found = run(content)
    assert len(found.rows) == ROWS and found.summary["vitals"] == ["v0", "v1"]
    assert found.summary["rows_skipped"] == (dress == "units row") and found.first_alarm() >= FAULT


def test_truths_are_numbers_and_constants_do_no_harm(run: Callable[..., Run]) -> None:
    values = faulty(1)
    lines = ["time,a,on,fixed"]
    lines += [f"{WRITINGS['iso'][i]},{values[i, 0]:.3f},{bool(i % 2)},7" for i in range(ROWS)]
    found = run("\n".join(lines))
    assert found.summary["vitals"] == ["a", "on", "fixed"] and found.first_alarm() >= FAULT


def test_constants_alone_never_alarm(run: Callable[..., Run]) -> None:
    assert run(table(WRITINGS["iso"], np.full((ROWS, 2), 3.0))).summary["alarms"] == 0


@pytest.mark.parametrize("size", [1e300, 1e-300])
def test_huge_and_tiny_values(run: Callable[..., Run], size: float) -> None:
    found = run(table(WRITINGS["iso"], faulty() * size, form="{:.9e}"))
    assert len(found.rows) == ROWS and not any(row["alarm"] == "1" for row in found.rows[:FAULT])


def test_a_hundred_rows_are_too_few_and_that_is_said(run: Callable[..., Run]) -> None:
    short = "\n".join(table(WRITINGS["iso"]).splitlines()[:101])
    found = run(short)
    assert len(found.rows) == 100 and found.summary["alarms"] == 0
    assert "more than 144 rows are needed" in found.words and "--learn-ticks" in found.words
    assert run(short, "--learn-ticks", "40").summary["learned_at_row"] == 39


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("time," + ",".join(f"v{i}" for i in range(600)) + "\n0" + ",1" * 600, "at most 512"),
        ("time,a\n" + "soon,1\n" * 5, "is not a time"),
        ("time,a\n" + "2026-01-05,5.1 C\n" * 5, "numeric columns"),
        (bytes(range(256)) * 20, "numeric columns"),
    ],
)
def test_what_cannot_be_judged_is_said(run: Callable[..., Run], content: str | bytes, complaint: str) -> None:
    found = run(content)
    assert found.code == 2 and complaint in found.words and "Traceback" not in found.words
