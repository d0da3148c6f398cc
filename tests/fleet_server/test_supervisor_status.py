"""A status file that cannot be written holds up nothing: children are looked after, and are stopped in the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet_core.clock import SystemClock
from fleet_server import supervisor
from fleet_server.settings import Database, Settings
from fleet_server.supervisor import Supervisor


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Story:
    """A supervisor with one child that sleeps, and what happens to it: one step at a time while it pauses."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(supervisor, "_SHIM", "import time; time.sleep(60)")
        monkeypatch.setattr(supervisor, "migrate", lambda _dsn: [])
        monkeypatch.setattr(supervisor, "BACKOFF_FIRST_S", 0.01)
        monkeypatch.setattr(supervisor.time, "sleep", self._pause)
        self.status_file = folder / "run" / "status.json"
        self.status_file.parent.mkdir()
        settings = Settings(database=Database(dsn="host=127.0.0.1"))
        self.supervisor = Supervisor(
            settings, SystemClock(), folder / "server.toml", status_file=self.status_file, names=("worker",)
        )
        self.steps: list[Callable[[], object]] = []
        self.pids: list[int] = []

    @property
    def pid(self) -> int | None:
        process = self.supervisor._children[0].process
        return None if process is None else process.pid

    def kill_child(self) -> None:
        assert self.pid is not None
        os.kill(self.pid, signal.SIGKILL)

    def _pause(self, _pause_s: float) -> None:
        if self.pid is None or (self.pids and self.pid == self.pids[-1]):
            _slept(0.01)  # the step before has not been followed yet
            return
        self.pids.append(self.pid)
        self.steps.pop(0)()


_slept = time.sleep


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_status_file_that_cannot_be_written_is_said_once_and_its_child_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    story = Story(tmp_path, monkeypatch)
    folder = story.status_file.parent

    def lose() -> None:
        shutil.rmtree(folder)
        story.kill_child()

    def find_again() -> None:
        folder.mkdir()
        story.kill_child()

    story.steps = [lose, story.kill_child, find_again, stop]
    assert story.supervisor.run() == 0
    said = [each.getMessage() for each in caplog.records if "status" in each.getMessage()]
    assert [text.partition(" after ")[0].partition(":")[0] for text in said] == [
        "the status file is not written",
        "the status file is written again",
    ]
    assert len(story.pids) == 4 and not any(Path(f"/proc/{pid}").exists() for pid in story.pids)
    status = json.loads(story.status_file.read_text())
    assert (status["state"], status["children"]["worker"]["starts"]) == ("stopped", 4)


def test_children_are_stopped_whatever_the_status_file_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(tmp_path, monkeypatch)

    def break_down() -> None:
        def broken(*_arguments: object, **_named: object) -> None:
            raise AttributeError("nobody foresaw it")

        monkeypatch.setattr(supervisor, "write_atomic", broken)
        stop()

    story.steps = [break_down]
    with pytest.raises(AttributeError):
        story.supervisor.run()
    assert len(story.pids) == 1 and not Path(f"/proc/{story.pids[0]}").exists()


def test_what_a_killed_supervisor_left_beside_its_status_file_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story(tmp_path, monkeypatch)
    left = story.status_file.with_name(".status.json.17-ab12cd34.new")
    left.write_text("{")
    os.utime(left, (0, 0))
    story.steps = [stop]
    assert story.supervisor.run() == 0
    assert [path.name for path in story.status_file.parent.iterdir()] == ["status.json"]
