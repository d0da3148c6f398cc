"""``make demo``: play the golden path with real processes on this machine and leave the dashboard up.

Progress goes to standard error, the JSON document (``--json``) to standard output. Exit code 0 only if every story
ended as it should. Ctrl-C, SIGTERM or even SIGKILL leave no process and no port behind. It runs no event loop, so it
catches signals itself; its processes live by ``fleet_core/service.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console as Terminal
from rich.table import Table

from demo.cast import Cast, recorded_cast, simulated_cast
from demo.engineer import Engineer
from demo.pace import Followed, Pace
from demo.processes import Keeper
from demo.stack import Stack
from demo.stories import HandOver, Repair, Stage, StoryFailed, play_hand_over, play_repair
from fleet_core.clock import Clock
from fleet_core.errors import BadConfig, ForestallError

DEFAULT_SCALE = 3600.0
STOPPED = "\nStopped; every process of the demo has ended."
AFTER_SCALE = 60.0
"""After the stories: slow enough to read a question and decide it before its time is up, and for a window that is
booked to come within a coffee break."""
STORY_START_HOUR_UTC = 19
AHEAD_H = 2.0
BEHIND_H = 3.0
"""Story time stands still while its processes are further behind than these two together: 5 real seconds at the
default scale. A slow or busy machine takes longer to play a story, but the story ends the same."""

terminal = Terminal(stderr=True, highlight=False)


def main(argv: list[str] | None = None) -> int:
    """Returns 0 when every story ended as it should, 1 when one did not, 2 when the demo could not run."""
    arguments = _arguments(argv)
    logging.basicConfig(level=logging.ERROR)
    for number in (signal.SIGTERM, signal.SIGINT):  # also when a shell started us with SIGINT ignored
        signal.signal(number, _interrupt)
    directory = arguments.dir.absolute()
    started_s = time.monotonic()
    try:
        with _taken(directory), Keeper(directory / "log") as keeper:
            pace = Pace(directory / "story-time", story_start(), arguments.scale, AHEAD_H)
            stack = Stack(
                keeper, directory, pace.clock, arguments.seed, web_port=arguments.port, prefer_broker=arguments.broker
            )
            code = _play(stack, pace, arguments, started_s)
        if not arguments.once:
            terminal.print(STOPPED)
        return code
    except KeyboardInterrupt:
        terminal.print(STOPPED)
        return 130
    except (ForestallError, OSError) as error:
        terminal.print(f"demo: {error}", style="red", markup=False)
        return 2


@contextlib.contextmanager
def _taken(directory: Path) -> Iterator[None]:
    """The folder, emptied, for this process alone until it ends. Raises BadConfig while another demo runs in it."""
    directory.mkdir(parents=True, exist_ok=True)
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadConfig(f"another demo runs in {directory}: stop it, or choose another folder with --dir") from None
        for entry in directory.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        yield
    finally:
        os.close(handle)


def _play(stack: Stack, pace: Pace, arguments: argparse.Namespace, started_s: float) -> int:
    cast = recorded_cast(stack, arguments.data) if arguments.data else simulated_cast(stack)
    terminal.print(
        f"[bold]Forestall demo[/bold]  story time: {_pace(pace.clock)}"
        f" (seed {arguments.seed}); logs in {stack.keeper.log_dir}"
    )
    with terminal.status("Starting broker, database, server, warehouse systems, mailbox ..."):
        stack.start(cast.registry, cast.histories)
    if not stack.broker.checks_rights:
        terminal.print(
            "[yellow]mosquitto is not installed: the demo uses a broker on loopback that checks no certificates and"
            " no rights. Never use it beyond this machine (Debian: apt-get install mosquitto).[/yellow]"
        )
    terminal.print(f"Everything is up after {time.monotonic() - started_s:.0f} s.")
    if not arguments.once:
        printed = stack.fleet_server("user", "add", "admin", "--role", "administrator", "--one-time", "--json")
        password = json.loads(printed)["password"]
        terminal.print(
            f"\nDashboard: [bold]{stack.url}[/bold]   user [bold]admin[/bold], one-time password"
            f" [bold]{password}[/bold]\n",
            soft_wrap=True,
        )
    played = [story.asset_id for story in cast.stories]
    with pace, Followed(stack, played, BEHIND_H) as followed, contextlib.ExitStack() as until_end:
        pace.follow(followed.at_work)
        cast.start()
        results = _play_stories(stack, cast, pace)
        held_s = pace.held_s
        if arguments.once:
            pace.follow(None)  # its agents end before it does
        document = _document(stack, cast, results, arguments)
        _summarise(document, time.monotonic() - started_s, held_s)
        if arguments.json:
            print(json.dumps(document, indent=1), flush=True)
        well = all(story["ok"] for story in document["stories"]) and _proofs_hold(document)
        if not arguments.once:
            pace.go_at(min(arguments.after, arguments.scale))
            cast.after_stories()
            until_end.enter_context(Engineer(stack, cast.swaps))
            terminal.print(
                f"\nThe vitals keep coming ({_pace(pace.clock)}), and the engineer does what is arranged."
                f"\nDashboard: [bold]{stack.url}[/bold]   user [bold]admin[/bold],"
                f" password [bold]{password}[/bold] (one session)\n"
                "Press Ctrl-C to stop everything.",
                soft_wrap=True,
            )
            with contextlib.suppress(KeyboardInterrupt):  # the ordinary end
                threading.Event().wait()
    return 0 if well else 1


def _pace(clock: Clock) -> str:
    minutes = clock.scale / 60
    return f"{minutes / 60:g} h a second" if minutes >= 60 else f"{minutes:g} min a second"


def _play_stories(stack: Stack, cast: Cast, pace: Pace) -> list[dict[str, Any]]:
    lock = threading.Lock()

    def tell(story: str, moment: datetime, text: str) -> None:
        with lock:
            terminal.print(f"[dim]{moment:%a %H:%M} UTC[/dim]  [bold]{story:<18}[/bold] {text}", soft_wrap=True)

    stage = Stage(stack, pace.real_at, tell)

    def play(story: Repair | HandOver) -> dict[str, Any]:
        return play_repair(stage, story) if isinstance(story, Repair) else play_hand_over(stage, story)

    with ThreadPoolExecutor(len(cast.stories)) as pool, contextlib.ExitStack() as until_end:
        until_end.callback(stage.over.set)  # Ctrl-C: the pool waits for its stories
        running: list[tuple[str, Future[dict[str, Any]]]] = [
            (story.name, pool.submit(play, story)) for story in cast.stories
        ]
        results = []
        for name, future in running:
            try:
                results.append(future.result())
            except (StoryFailed, httpx.HTTPError) as failure:
                terminal.print(f"{name}: {failure}", style="red", markup=False)
                results.append({"name": name, "ok": False, "why": str(failure)})
    return results


def _document(stack: Stack, cast: Cast, results: list[dict[str, Any]], arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.once:
        cast.stop()  # agents flush what they hold
        _settle(stack)
    ledger = json.loads(stack.fleet_server("ledger", "--json"))
    audit = json.loads(stack.fleet_server("audit", "verify", "--json"))
    names = ("batches", "stored", "quarantined", "gaps", "held", "unexplained")
    return {
        "time_scale": arguments.scale,
        "seed": arguments.seed,
        "broker": {"kind": stack.broker.kind, "certificates": stack.broker.checks_rights},
        "stories": results,
        "ledger": {name: ledger[name] for name in names},
        "audit": {"entries": audit["entries"], "verified": audit["verified"]},
    }


def _settle(stack: Stack, limit_s: float = 10.0) -> None:
    """Wait until the server has stored what the agents sent last."""
    until_s = time.monotonic() + limit_s
    with stack.console("auditor") as console:
        while time.monotonic() < until_s:
            totals = console.ledger()["totals"]
            if totals["held"] == 0 and totals["unexplained"] == 0 and console.audit()["pending"] == 0:
                return
            time.sleep(0.3)


def _proofs_hold(document: dict[str, Any]) -> bool:
    return document["ledger"]["unexplained"] == 0 and bool(document["audit"]["verified"])


def _summarise(document: dict[str, Any], elapsed_s: float, held_s: float) -> None:
    table = Table("story", "outcome", "", box=None, pad_edge=False)
    for story in document["stories"]:
        outcome = "[green]as it should[/green]" if story["ok"] else "[red]failed[/red]"
        if "window" in story:
            text = (
                f"{story['reservation']['part']} from {story['reservation']['centre']}, {story['engineer']},"
                f" {story['window']['start'][:16].replace('T', ' ')} {story['window']['time_zone']};"
                f" one announcement {story['finding_to_notification_s']} s after the finding; verified and closed"
            )
        else:
            text = f"asked {story['escalated_to']}" if story["ok"] else story.get("why", "see the case")
        table.add_row(story["name"], outcome, text)
    terminal.print()
    terminal.print(table)
    ledger, audit = document["ledger"], document["audit"]
    counts = ", ".join(f"{name} {ledger[name]}" for name in ledger)
    terminal.print(f"ledger: {counts}")
    state = "verified" if audit["verified"] else "NOT VERIFIED"
    waited = f"; the story waited {held_s:.0f} s for this machine" if held_s >= 1 else ""
    terminal.print(f"audit log: {audit['entries']} entries, {state}   ({elapsed_s:.0f} s in all{waited})")


def story_start() -> datetime:
    """The last Sunday evening: stories then run through a working week, whenever they are played."""
    today = datetime.now(UTC).replace(hour=STORY_START_HOUR_UTC, minute=0, second=0, microsecond=0)
    return today - timedelta(days=today.weekday() + 1)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo ARGS=...", description=__doc__.split("\n\n")[0])
    parser.add_argument("--once", action="store_true", help="play the stories once and end")
    parser.add_argument("--json", action="store_true", help="print one JSON document at the end")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of recorded data: play a real bearing")
    parser.add_argument("--seed", type=int, default=1, help="of devices and warehouses (default 1)")
    parser.add_argument("--port", type=int, default=0, help="of the dashboard (default: a free one)")
    parser.add_argument(
        "--broker", choices=("", "mosquitto", "iotcore"), default="", help="default: the best installed"
    )
    parser.add_argument("--scale", type=float, default=DEFAULT_SCALE, help="story seconds per real second")
    parser.add_argument(
        "--after", type=float, default=AFTER_SCALE, metavar="SCALE",
        help=f"story seconds per real second once the stories are over (default {AFTER_SCALE:g})",
    )  # fmt: skip
    parser.add_argument("--dir", type=Path, default=Path("var/demo"), help="state and logs; emptied at the start")
    arguments = parser.parse_args(argv)
    for needed in ("ims/1st_test.csv", "ims/2nd_test.csv"):
        if arguments.data and not (arguments.data / needed).is_file():
            parser.error(f"--data {arguments.data}: there is no {needed} in it")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
