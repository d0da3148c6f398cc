"""Pull the plug: play the repair story while processes are killed, at named points and at random moments.

    make soak ARGS="--rounds 20 --seed 1"

A round plays one wearing drive on the real processes, from a printed seed that decides who dies when: agent, broker,
ingest, worker, sequencer, web, the whole server, the database. Whatever ends is started again, as systemd would.
Afterwards nothing may be lost, doubled or unproven: every batch the agent's outbox ever numbered is accounted for.

The story's time waits for the processes (:mod:`demo.pace`): how a round ends does not depend on how fast or how
busy the machine is, only how long it takes. All real limits here are bounds after which a round says what is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from demo.cast import ROBOT_17, simulated_cast
from demo.pace import Followed, Pace
from demo.processes import Keeper, StartFailed, http_ready
from demo.run import _settle, story_start
from demo.stack import Stack
from demo.stories import Repair, Stage, StoryFailed, play_repair
from fleet_core.errors import BadConfig
from tests.support.world import open_folder

SERVER_POINTS = {
    "ingest.before_commit": 20, "ingest.after_commit": 20, "act.after_intent": 5, "act.after_call": 5,
    "case.after_commit": 5, "notify.after_accept": 2, "sequencer.after_sign": 5,
}  # fmt: skip
"""Where a process dies, at the latest at which passage: a story passes some of them only a few times."""
AGENT_POINTS = {"outbox.before_commit": 40, "outbox.after_commit": 40, "uplink.after_publish": 40}
RANDOM_VICTIMS = ("agent-ams-1", "broker", "fleet-server", "ingest", "worker", "sequencer", "web", "postgres")
AGENT = "agent-ams-1"
WEARING = replace(ROBOT_17, seize_h=90.0)
"""The story's drive. A killed agent loses the evidence it has not saved, so several kills may delay the finding
by half a day; a part takes ``HANDLING_H`` to come. The drive wears slowly enough that a window is left even then:
else asking a person would be the right end of the story, and the round could not tell it from a fault."""
HANDLING_H = 0.5
DEVICE = f"device-{WEARING.asset_id}"
SETTLE_S = 120.0
SCALE = 2400.0
AHEAD_H = 1.0
"""What an outage costs at most, beside ``BEHIND_H``, of the bearing's last days."""
BEHIND_H = 1.0
"""How far vitals and due cases may lag while the processes count as being at work: 1.5 real seconds."""
STRIKES_H = (2.0, 50.0)
"""Story hours after the start within which processes are killed at random."""


@dataclass
class Round:
    """What a round did and what came of it."""

    seed: int
    killed: list[str] = field(default_factory=list)
    story: dict[str, Any] = field(default_factory=dict)
    ledger: dict[str, Any] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)
    outbox: dict[str, Any] = field(default_factory=dict)
    held_s: float = 0.0
    """Real seconds the story waited for the processes."""

    @property
    def faults(self) -> list[str]:
        """What went wrong, each a line; empty when nothing did."""
        ledger = self.ledger
        checks = {
            f"story: {self.story.get('why') or self.story}": self.story.get("ok"),
            "not exactly one announcement": self.story.get("notifications") == 1,
            f"ledger: {ledger}": ledger["unexplained"] == ledger["held"] == ledger["in_grace"] == 0,
            f"ledger --deep: {ledger['faults']}": not ledger["faults"],
            f"the outbox {self.outbox} is not what the ledger tells: {ledger}": self._same_numbers(),
            f"audit: {self.audit}": self.audit["verified"] and self.audit["pending"] == 0,
            "no fault point was reached": any("point" in victim for victim in self.killed),
        }
        return [fault for fault, holds in checks.items() if not holds]

    def _same_numbers(self) -> bool:
        streams = self.ledger["agents"]
        told = [(stream["outbox"], stream["batches"]) for stream in streams if stream["agent"] == AGENT]
        return told == [(self.outbox["id"], self.outbox["numbered"])] and self.outbox["held"] == 0


def play_round(directory: Path, seed: int, *, kills: int = 5) -> Round:
    """One round in an empty folder. Raises nothing for a failed story: the round then says why."""
    rng = random.Random(seed)
    result = Round(seed)
    faults = directory / "faults"
    faults.mkdir(parents=True)
    start_at = story_start()
    pace = Pace(directory / "story-time", start_at, SCALE, AHEAD_H)
    with Keeper(directory / "log") as keeper, contextlib.ExitStack() as until_end:
        stack = Stack(keeper, directory, pace.clock, seed, server_env=_armed(rng, SERVER_POINTS, faults))
        cast = simulated_cast(stack)
        registry = cast.registry.replace("handling_h = 3.0", f"handling_h = {HANDLING_H}")
        stack.start(registry, cast.histories)  # the story's time stands still meanwhile
        story = next(one for one in cast.stories if isinstance(one, Repair))
        table = WEARING.plug_in(stack)
        followed = until_end.enter_context(Followed(stack, [WEARING.asset_id], BEHIND_H))
        until_end.enter_context(pace)
        pace.follow(followed.at_work)
        # Only what was saved outlives a kill. An agent killed before it has saved what the device's past taught it
        # takes wear for health, and the story would rightly end otherwise.
        stack.start_agent(AGENT, "nw-amsterdam", table)
        _until(lambda: pace.caught_up_at > start_at, SETTLE_S)
        keeper.stop(AGENT)
        stack.start_agent(AGENT, "nw-amsterdam", table, env=_armed(rng, AGENT_POINTS, faults))
        over, peace = threading.Event(), threading.Event()
        chaos = threading.Thread(target=_strike, args=(stack, rng, kills, over, result.killed))
        revive = threading.Thread(target=_revive, args=(keeper, peace))
        chaos.start()
        revive.start()
        try:
            result.story = play_repair(Stage(stack, pace.real_at), story)
        except (StoryFailed, httpx.HTTPError) as failure:
            result.story = {"ok": False, "why": str(failure)}
        finally:
            over.set()
            chaos.join()
            pace.follow(None)
            _until(http_ready(f"{stack.url}/ready"), SETTLE_S)
            keeper.stop(DEVICE)  # nothing new comes: what the agent holds is delivered now
            _until(lambda: _outbox(directory)["held"] == 0, SETTLE_S)
            peace.set()
            revive.join()
        result.held_s = round(pace.held_s, 1)
        result.killed += sorted(f"{path.stem} (point)" for path in faults.glob("*.fired"))
        keeper.stop(AGENT)
        _settle(stack, SETTLE_S)
        result.outbox = _outbox(directory)
        result.ledger = json.loads(stack.fleet_server("ledger", "--deep", "--json"))
        result.audit = json.loads(stack.fleet_server("audit", "verify", "--json"))
    return result


def _outbox(directory: Path) -> dict[str, Any]:
    """What the agent's own file says: its id, how many batches it numbered, how many it still holds."""
    file = directory / "agents" / AGENT / "state" / "outbox.sqlite"
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5)) as db:
        meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
        (held,) = db.execute("SELECT count(*) FROM batches WHERE status = 0").fetchone()
        (undeclared,) = db.execute("SELECT count(*) FROM gaps").fetchone()
    return {"id": meta["outbox_id"], "numbered": meta["next_number"] - 1, "held": held + undeclared}


def _until(condition: Callable[[], bool], limit_s: float) -> None:
    """Wait for it, but not longer: what is wrong then shows in the round's checks."""
    until_s = time.monotonic() + limit_s
    while not condition() and time.monotonic() < until_s:
        time.sleep(0.2)


def _armed(rng: random.Random, points: dict[str, int], faults: Path) -> dict[str, str]:
    chosen = ",".join(f"{point}=kill@{rng.randint(1, latest)}" for point, latest in points.items())
    return {"FORESTALL_FAULTS": chosen, "FORESTALL_FAULTS_DIR": str(faults)}


def _strike(stack: Stack, rng: random.Random, kills: int, over: threading.Event, killed: list[str]) -> None:
    """Kill ``kills`` processes at random moments of the story."""
    began_at = stack.clock.now()
    for moment_h in sorted(rng.uniform(*STRIKES_H) for _ in range(kills)):
        while stack.clock.now() < began_at + timedelta(hours=moment_h):
            if over.wait(0.05):
                return
        victim = rng.choice(RANDOM_VICTIMS)
        killed.append(f"{victim} at {moment_h:.0f} h")
        if victim in stack.keeper.names():
            stack.keeper.kill9(victim)
            _start_again(stack.keeper, victim)
        else:
            _kill_inside_server(stack, victim)


def _kill_inside_server(stack: Stack, victim: str) -> None:
    status = stack.server_status()
    pid = status["postgres"] if victim == "postgres" else status["children"].get(victim, {}).get("pid")
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _revive(keeper: Keeper, peace: threading.Event) -> None:
    """What systemd does: start again whatever ended though nobody stopped it."""
    while not peace.wait(0.2):
        for name in keeper.crashed():
            _start_again(keeper, name)


def _start_again(keeper: Keeper, name: str) -> None:
    """A start may fail because another process was just killed: some tries, as systemd would make."""
    for _ in range(5):
        try:
            keeper.restart(name)
        except StartFailed:
            time.sleep(0.5)
        except BadConfig:  # the other thread was quicker
            return
        else:
            return


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make soak ARGS=...", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--kills", type=int, default=6, help="at random moments, beside the named points")
    arguments = parser.parse_args(argv)
    failed = 0
    for seed in range(arguments.seed, arguments.seed + arguments.rounds):
        began_s = time.monotonic()
        with open_folder("soak") as folder:
            outcome = play_round(folder / "round", seed, kills=arguments.kills)
        failed += bool(outcome.faults)
        line = {"seed": seed, "ok": not outcome.faults, "faults": outcome.faults, "killed": outcome.killed}
        counts = {name: value for name, value in outcome.ledger.items() if isinstance(value, int)}
        line |= {"story": outcome.story, "held_s": outcome.held_s}
        print(json.dumps({**line, "ledger": counts, "seconds": round(time.monotonic() - began_s)}), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
