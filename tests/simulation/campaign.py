"""Pull the plug: play the repair story while processes are killed, at named points and at random moments.

    make soak ARGS="--rounds 20 --seed 1"

A round plays one wearing drive on the real processes, from a printed seed that decides who dies when: agent, broker,
ingest, worker, sequencer, web, the whole server, the database, the mail server, the warehouse system. Whatever ends
is started again, as systemd would. Afterwards nothing may be lost, doubled or unproven.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.cast import ROBOT_17, simulated_cast
from demo.processes import Keeper, StartFailed
from demo.run import _settle, story_start
from demo.stack import Stack
from demo.stories import Repair, StoryFailed, play_repair
from fleet_core.clock import ScaledClock

SERVER_POINTS = (
    "ingest.before_commit", "ingest.after_commit", "act.after_intent", "act.after_call", "case.after_commit",
    "notify.after_accept", "sequencer.after_sign",
)  # fmt: skip
AGENT_POINTS = ("outbox.before_commit", "outbox.after_commit", "uplink.after_publish")
KEPT_ALIVE = ("device-robot-17", "mail", "wms", "wms-leipzig", "enrolment")
RANDOM_VICTIMS = ("agent-ams-1", "broker", "fleet-server", "ingest", "worker", "sequencer", "web", "postgres")
AGENT = "agent-ams-1"


@dataclass
class Round:
    """What a round did and what came of it."""

    seed: int
    killed: list[str] = field(default_factory=list)
    story: dict[str, Any] = field(default_factory=dict)
    ledger: dict[str, Any] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return (
            bool(self.story.get("ok"))
            and self.ledger["unexplained"] == 0
            and self.ledger["held"] == 0
            and bool(self.audit["verified"])
        )


def play_round(directory: Path, seed: int, *, kills: int = 5) -> Round:
    """One round in an empty folder. Raises nothing for a failed story: the round then says why."""
    rng = random.Random(seed)
    result = Round(seed)
    faults = directory / "faults"
    faults.mkdir(parents=True)
    clock = ScaledClock.starting_now(3600, story_start())
    with Keeper(directory / "log") as keeper:
        stack = Stack(keeper, directory, clock, seed, server_env=_armed(rng, SERVER_POINTS, faults))
        cast = simulated_cast(stack)
        stack.start(cast.registry, cast.histories)
        story = next(one for one in cast.stories if isinstance(one, Repair))
        table = ROBOT_17.plug_in(stack)
        stack.start_agent(AGENT, "nw-amsterdam", table, env=_armed(rng, AGENT_POINTS, faults))
        over = threading.Event()
        chaos = threading.Thread(target=_strike, args=(stack, rng, kills, over, result.killed))
        revive = threading.Thread(target=_revive, args=(keeper, over, result.killed))
        chaos.start()
        revive.start()
        try:
            result.story = play_repair(stack, story, lambda name, moment, text: None)
        except StoryFailed as failure:
            result.story = {"ok": False, "why": str(failure)}
        finally:
            over.set()
            chaos.join()
            revive.join()
        result.killed += sorted(f"{path.stem} (point)" for path in faults.glob("*.fired"))
        keeper.stop(AGENT)
        _settle(stack, 20.0)
        result.ledger = json.loads(stack.fleet_server("ledger", "--json"))
        result.audit = json.loads(stack.fleet_server("audit", "verify", "--json"))
    return result


def _armed(rng: random.Random, points: tuple[str, ...], faults: Path) -> dict[str, str]:
    chosen = ",".join(f"{point}=kill@{rng.randint(1, 5)}" for point in points)
    return {"FORESTALL_FAULTS": chosen, "FORESTALL_FAULTS_DIR": str(faults)}


def _strike(stack: Stack, rng: random.Random, kills: int, over: threading.Event, killed: list[str]) -> None:
    """Kill ``kills`` processes at random moments of the story's first minute."""
    moments = sorted(rng.uniform(3.0, 55.0) for _ in range(kills))
    began_s = time.monotonic()
    for moment in moments:
        if over.wait(max(0.0, began_s + moment - time.monotonic())):
            return
        victim = rng.choice(RANDOM_VICTIMS)
        killed.append(f"{victim} at {moment:.0f} s")
        if victim in stack.keeper.names():
            stack.keeper.kill9(victim)
            with contextlib.suppress(StartFailed):  # the reviver tries again
                stack.keeper.restart(victim)
        else:
            _kill_inside_server(stack, victim)


def _kill_inside_server(stack: Stack, victim: str) -> None:
    status = stack.server_status()
    pid = status["postgres"] if victim == "postgres" else status["children"].get(victim, {}).get("pid")
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _revive(keeper: Keeper, over: threading.Event, killed: list[str]) -> None:
    """What systemd does: start again whatever ended though nobody stopped it."""
    while not over.wait(0.2):
        for name in keeper.crashed():
            with contextlib.suppress(StartFailed):
                keeper.restart(name)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make soak ARGS=...", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--kills", type=int, default=6, help="at random moments, beside the named points")
    arguments = parser.parse_args(argv)
    failed = 0
    for seed in range(arguments.seed, arguments.seed + arguments.rounds):
        with tempfile.TemporaryDirectory(prefix="forestall-soak-", ignore_cleanup_errors=True) as folder:
            outcome = play_round(Path(folder) / "round", seed, kills=arguments.kills)
        failed += not outcome.ok
        print(json.dumps({"seed": seed, "ok": outcome.ok, "killed": outcome.killed, "ledger": outcome.ledger,
                          "notifications": outcome.story.get("notifications"), "why": outcome.story.get("why")}),
              flush=True)  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
