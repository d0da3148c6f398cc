"""A file that is replaced as a whole: what is synced, what a failure leaves, who may read it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fleet_core.files import remove_left_behind, write_atomic


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the system is asked for, in order: which kind of thing is synced, and renames."""
    seen: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def watched_sync(handle: int) -> None:
        seen.append("sync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "sync file")
        fsync(handle)

    def watched_replace(self: Path, target: Path) -> Path:
        seen.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    return seen


def test_file_then_name_are_on_disk_when_it_returns(tmp_path: Path, calls: list[str]) -> None:
    path = tmp_path / "state"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert calls == ["sync file", "rename", "sync folder"] * 2
    assert os.listdir(tmp_path) == ["state"]  # noqa: PTH208 # also what begins with a dot


def test_what_need_not_be_durable_syncs_nothing(tmp_path: Path, calls: list[str]) -> None:
    write_atomic(tmp_path / "status.json", b"{}", durable=False)
    assert calls == ["rename"]


def test_a_failure_leaves_the_old_content_and_nothing_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    write_atomic(path, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize(("mode", "expected"), [(0o600, 0o600), (0o644, 0o644), (None, 0o640)])
def test_permissions_are_those_asked_for_or_the_umasks(tmp_path: Path, mode: int | None, expected: int) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "file", b"x", mode=mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == expected


def test_the_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "missing" / "file", b"x")


def test_what_a_crash_left_is_removed_and_work_in_progress_is_not(tmp_path: Path) -> None:
    old, fresh, other = tmp_path / ".state.1-ab.new", tmp_path / ".state.2-cd.new", tmp_path / "state"
    for path in (old, fresh, other):
        path.write_bytes(b"x")
    for path in (old, other):
        os.utime(path, (0, 0))
    remove_left_behind(tmp_path)
    assert (old.exists(), fresh.exists(), other.exists()) == (False, True, True)
    remove_left_behind(tmp_path / "missing")


def test_of_a_folder_that_others_use_too_only_one_file_s_leftovers_are_removed(tmp_path: Path) -> None:
    own, theirs = tmp_path / ".status.json.1-ab.new", tmp_path / ".notes.new"
    for path in (own, theirs):
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
    remove_left_behind(tmp_path, "status.json")
    assert (own.exists(), theirs.exists()) == (False, True)
