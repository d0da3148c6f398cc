"""The demo is the product's promise: its stories, played by the real processes, are the end-to-end tests.

One run plays once (the recorded bearing where there is one), one is watched in a browser and then stopped as an
operator would (SIGTERM), one is killed outright without mosquitto.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from support.browser import chromium
from support.intruder import wait_until
from support.world import open_folder

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "var" / "screenshots"
ESCALATED = {"no-part-in-time", "no-window-in-time", "connector-down"}
DOCUMENT = "document.json"
UP_S, STORIES_S, STOP_S = 180.0, 240.0, 60.0
"""Real seconds at most; a busy machine may take them, an idle one takes a third."""
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(UP_S + STORIES_S + STOP_S)]


def demo_command(directory: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "demo.run", "--dir", str(directory), *arguments]


@dataclass
class PlayedOnce:
    """A demo that plays its stories once, beside the tests: it mostly waits for the stories' clock."""

    process: subprocess.Popen[bytes]
    folder: Path

    def document(self) -> dict:
        """What it printed, once it has ended by itself."""
        try:
            code = self.process.wait(UP_S + STORIES_S)
        finally:
            said = (self.folder / "said").read_text(encoding="utf-8")
            print(said)
        assert code == 0, said[-4000:]
        return json.loads((self.folder / DOCUMENT).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def recorded_or_not() -> tuple[str, ...]:
    """The recorded bearing where there is one; the simulated drive is played in the browser's test anyway."""
    folder = os.environ.get("FORESTALL_DATA", "")
    return ("--data", folder) if folder and Path(folder).is_dir() else ()


@pytest.fixture(scope="module")
def played_once(recorded_or_not: tuple[str, ...]) -> Iterator[PlayedOnce]:
    """Started by the first test that names it, so that it is over when its own asks for it."""
    with open_folder("demo") as folder:
        with (folder / "said").open("wb") as said, (folder / DOCUMENT).open("wb") as document:
            command = demo_command(folder / "demo", "--once", "--json", *recorded_or_not)
            process = subprocess.Popen(command, cwd=ROOT, stdout=document, stderr=said)
        try:
            yield PlayedOnce(process, folder)
        finally:
            process.kill()
            process.wait()


def assert_promises_kept(document: dict) -> None:
    stories = {story["name"]: story for story in document["stories"]}
    assert set(stories) == {"robot-drive", *ESCALATED}
    assert all(story["ok"] for story in stories.values())
    repaired = stories["robot-drive"]
    assert repaired["notifications"] == 1 and repaired["closed"] and repaired["verified"]
    assert repaired["window"]["before_deadline"] and repaired["window"]["load_rank"] == 1
    rul = repaired["rul_h"]
    assert 0 <= rul["p10"] <= rul["p50"] <= rul["p90"]
    assert repaired["neighbours"] >= 5 and 0 <= repaired["p_fail_72h"] <= 1
    for name in ESCALATED:
        assert stories[name]["notifications"] == 0
        assert stories[name]["escalated_to"] and stories[name]["due_at"]
    assert document["ledger"]["unexplained"] == 0
    assert document["ledger"]["stored"] > 100 and document["ledger"]["quarantined"] == 0
    assert document["audit"]["verified"] and document["audit"]["entries"] > 10


@dataclass
class RunningDemo:
    """A demo left running. ``said`` is what it printed; its processes and ports are noted for after its end."""

    process: subprocess.Popen[bytes]
    output: Path
    directory: Path
    family: set[psutil.Process] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)
    devices: dict[Path, int] = field(default_factory=dict)
    """The links to the devices' pseudo-terminals, and when each terminal was made (ns)."""

    def said(self) -> str:
        return " ".join(self.output.read_text(encoding="utf-8").split())

    def note_family(self) -> None:
        """Remember every process and every port that it listens on."""
        self.family |= set(psutil.Process(self.process.pid).children(recursive=True))
        for link in (self.directory / "devices").glob("*.tty"):
            with suppress(FileNotFoundError):
                self.devices[link] = link.stat().st_ctime_ns
        for process in self.family:
            with suppress(psutil.NoSuchProcess):
                self.ports |= {c.laddr.port for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}

    def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        self.note_family()
        self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def assert_nothing_left(self) -> None:
        """Neither a process nor a port nor a device's link."""
        assert len(self.family) > 12 and len(self.ports) > 5
        _, alive = psutil.wait_procs(self.family, timeout=20)
        for process in alive:
            process.kill()
        assert not alive, [process.name() for process in alive]
        for port in self.ports:
            socket.create_server(("127.0.0.1", port)).close()  # raises when somebody still listens
        assert not [link for link, made_ns in self.devices.items() if self._is_still(link, made_ns)]

    @staticmethod
    def _is_still(link: Path, made_ns: int) -> bool:
        """Whether the terminal is that of then: the system gives its number to the next program that asks for one."""
        try:
            return link.stat().st_ctime_ns == made_ns
        except FileNotFoundError:
            return False


@contextmanager
def running_demo(*arguments: str) -> Iterator[RunningDemo]:
    """Start the demo and leave it running; whatever the test does, its processes end."""
    with open_folder("demo") as folder:
        output = folder / "said"
        with output.open("wb") as said, (folder / DOCUMENT).open("wb") as document:
            command = demo_command(folder / "demo", "--json", *arguments)
            process = subprocess.Popen(command, cwd=ROOT, stdout=document, stderr=said)
        demo = RunningDemo(process, output, folder / "demo")
        try:
            wait_until(lambda: "Everything is up" in demo.said(), "the demo to be up", UP_S)
            yield demo
        finally:
            process.kill()
            process.wait()
            print(demo.said()[-4000:])


@pytest.mark.usefixtures("played_once")  # beside this one
def test_watched_in_a_browser_decided_by_a_person_and_stopped_by_sigterm() -> None:
    with chromium() as browser, running_demo("--after", "1200") as demo:
        wait_until(lambda: "one-time password" in demo.said(), "the address")
        found = re.search(r"Dashboard: (\S+) user (\S+), one-time password (\S+)", demo.said())
        assert found, demo.said()
        url, user, password = found.groups()
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(f"script: {error}"))
        page.goto(f"{url}/login")
        page.get_by_label("Login").fill(user)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(lambda address: not address.endswith("/login"))
        watch_the_repair(page, url)
        demo.note_family()
        decide_an_escalation(page, url, demo)
        assert faults == []
        assert demo.process.poll() is None
        assert_promises_kept(json.loads((demo.output.parent / DOCUMENT).read_text(encoding="utf-8")))
        assert demo.end(signal.SIGTERM) == 0
        assert "every process of the demo has ended" in demo.said()
        demo.assert_nothing_left()


def watch_the_repair(page, url: str) -> None:
    """Open the robot's case when it appears and watch, without a reload, how it closes."""
    page.goto(f"{url}/cases")
    page.evaluate("window.stillHere = true")
    row = page.locator("tr", has_text="Robot 17")
    row.wait_for(timeout=STORIES_S * 1000)
    assert page.evaluate("window.stillHere") is True
    shoot(page, "cases")
    row.locator("a[href^='/cases/']").click()
    page.locator("#timeline").wait_for()
    page.evaluate("window.stillHere = true")
    page.locator("#timeline").get_by_text("committed", exact=False).first.wait_for(timeout=STORIES_S * 1000)
    shoot(page, "case-committed")
    page.locator("#case-state").get_by_text("Closed").wait_for(timeout=STORIES_S * 1000)
    shoot(page, "case-closed")
    assert page.evaluate("window.stillHere") is True


def decide_an_escalation(page, url: str, demo: RunningDemo) -> None:
    """The warehouse system is mended when the stories are over; a person chooses to try again."""
    wait_until(lambda: "The vitals keep coming" in demo.said(), "the stories to end", STORIES_S)
    page.goto(f"{url}/escalations")
    card = page.locator("article.ask", has_text="Robot 44")
    card.wait_for()
    shoot(page, "escalations")
    decide_first_option(page, card)
    page.locator("#decided").get_by_text("the warehouse system is back").wait_for()
    shoot(page, "decided")
    page.goto(f"{url}/cases")
    page.locator("tr", has_text="Robot 44").first.locator("a[href^='/cases/']").first.click()
    case_url = page.url
    until_s = time.monotonic() + STORIES_S
    while "Closed" not in page.locator("#case-state").inner_text():  # the engineer comes
        assert time.monotonic() < until_s, page.locator("#timeline").inner_text()
        page.goto(f"{url}/escalations")
        if card.count():  # a visitor who reads slowly is asked again: the deadline has passed meanwhile
            decide_first_option(page, card)
        page.goto(case_url)
        page.wait_for_timeout(1000)
    shoot(page, "decided-and-repaired")


def decide_first_option(page, card) -> None:
    number = card.first.get_attribute("id")
    card.first.locator("label.option").first.click()
    card.first.get_by_label("Note for the record").fill("the warehouse system is back")
    card.first.get_by_role("button", name="Decide").click()
    page.locator(f"#{number}").wait_for(state="detached", timeout=15_000)


def shoot(page, name: str) -> None:
    """Keep a picture for people; nothing compares it."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def test_played_once(played_once: PlayedOnce) -> None:
    document = played_once.document()
    assert_promises_kept(document)
    assert document["ledger"]["batches"] == document["ledger"]["stored"]
    assert not document["stories"][0]["judged_against_itself"]


def test_without_mosquitto_the_demo_says_that_nothing_is_checked_and_killing_it_leaves_nothing() -> None:
    with running_demo("--broker", "iotcore") as demo:
        agents = demo.directory / "agents"
        wait_until(lambda: len(list(agents.glob("*/state/outbox.sqlite"))) == 4, "the agents", 40)
        assert demo.end(signal.SIGKILL) == -signal.SIGKILL
        assert "checks no certificates" in demo.said()
        demo.assert_nothing_left()


def test_stopped_in_the_middle_of_its_stories_it_ends_at_once_and_a_second_one_in_its_folder_is_refused() -> None:
    with running_demo("--broker", "iotcore", "--once") as demo:
        agents = demo.directory / "agents"
        wait_until(lambda: len(list(agents.glob("*/state/outbox.sqlite"))) == 4, "the agents", 40)
        refused = subprocess.run(demo_command(demo.directory), cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert refused.returncode == 2 and "another demo runs in" in refused.stderr
        assert demo.end(signal.SIGTERM) == 130
        assert "every process of the demo has ended" in demo.said()
        demo.assert_nothing_left()
