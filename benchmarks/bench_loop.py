"""Measures real seconds from the publication of a finding to its prognosis and to its announcement, over 100 cases.

    make bench-loop ARGS="--cases 100 --rate 1.0"

The prognosis counts when the case's timeline shows it, the announcement when its mail is accepted. Broker, PostgreSQL,
worker, warehouse system over HTTP and SMTP server are real, started as in the demo, on real (unscaled) time. Every case
has its own asset, agent and two days of vitals. As a lower bound the benchmark also prints a bare round trip of the
same messages through the same broker, which no server could beat.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import aiomqtt

from benchmarks.common import percentile, report
from demo.cast import SHIPPED_HISTORY
from demo.mail_sink import distinct
from demo.processes import Keeper
from demo.stack import LOOPBACK, Stack, scenario_text
from fleet_core.clock import SystemClock
from tests.support.wire import FakeAgent

SITE = "nw-amsterdam"
COURSE_H = 48
BASELINE_G = 0.1
SETTLE_S = 60.0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make bench-loop ARGS=...", description=__doc__.split("\n\n")[0])
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--rate", type=float, default=1.0, help="findings published in a second")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="forestall-bench-", ignore_cleanup_errors=True) as folder:
        directory = Path(folder)
        directory.chmod(0o755)  # the database's account must reach its folder
        with Keeper(directory / "log") as keeper:
            stack = Stack(keeper, directory, SystemClock(), arguments.seed, prefer_broker="iotcore")
            stack.start(scenario_text("world") + _fleet(arguments.cases), [SHIPPED_HISTORY])
            published, latencies_s, floor_s = asyncio.run(_run(stack, arguments))
            missing = _missing(stack, arguments.cases)
            judged_s = [] if missing else _judged(stack, published)
    for line in missing:
        print(line, file=sys.stderr)
    if missing:
        print(f"only {len(latencies_s)} of {arguments.cases} announcements arrived", file=sys.stderr)
        return 1
    peer = "the same messages through the broker alone"
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        for what, seconds in (("prognosis", judged_s), ("announcement", latencies_s)):
            report(f"finding_to_{what}_{name}", percentile(seconds, share), "s", peer=peer,
                   peer_value=percentile(floor_s, share))  # fmt: skip
    report("announcements_per_case", len(latencies_s) / arguments.cases, "1")
    return 0


async def _run(stack: Stack, arguments: argparse.Namespace) -> tuple[dict[str, float], list[float], list[float]]:
    """Publication time of each asset's finding (epoch seconds), and the seconds of announcements and round trips."""
    agents = [
        FakeAgent(f"bench-agent-{n}", SITE, f"bench-{n}", bearing_serial=f"BB-{n:04d}") for n in range(arguments.cases)
    ]
    rng = random.Random(arguments.seed)
    published: dict[str, float] = {}
    async with aiomqtt.Client(LOOPBACK, stack.broker.port, identifier="bench") as client:
        now = datetime.now().astimezone()
        for agent in agents:
            for topic, payload in (agent.node_birth(), agent.device_birth(), agent.samples(now, _course(rng))):
                await client.publish(topic, payload)
            await asyncio.sleep(0.02)
        await asyncio.sleep(3.0)
        floor_s = await _round_trips(client, agents)
        for agent in agents:
            published[agent.asset_id] = time.time()
            await client.publish(*agent.finding(datetime.now().astimezone()))
            await asyncio.sleep(1.0 / arguments.rate)
    until_s = time.monotonic() + SETTLE_S
    while len(accepted := _accepted(stack)) < len(agents) and time.monotonic() < until_s:  # noqa: ASYNC110
        await asyncio.sleep(0.5)  # the mailbox is a file of another process
    taken_s = sorted(accepted[asset] - at for asset, at in published.items() if asset in accepted)
    return published, taken_s, floor_s


def _judged(stack: Stack, published: dict[str, float]) -> list[float]:
    """Seconds from each finding's publication to its prognosis."""
    taken_s = []
    with stack.console("engineer") as console:
        for asset, at in published.items():
            case = console.case_of(asset, "bearing-1")
            told = [event["at"] for event in case["timeline"] if event["kind"] == "judged"] if case else []
            taken_s.append(datetime.fromisoformat(min(told)).timestamp() - at if told else math.inf)
    return sorted(taken_s)


async def _round_trips(client: aiomqtt.Client, agents: list[FakeAgent]) -> list[float]:
    """A message of the same size, to the broker and back, once for each agent."""
    taken_s = []
    await client.subscribe("bench/echo")
    for agent in agents:
        spare = FakeAgent(agent.agent_id, SITE, agent.asset_id)
        _, payload = spare.finding(datetime.now().astimezone())
        started_s = time.perf_counter()
        await client.publish("bench/echo", payload)
        await anext(client.messages)
        taken_s.append(time.perf_counter() - started_s)
    return sorted(taken_s)


def _missing(stack: Stack, cases: int) -> list[str]:
    """The state of those cases that were not announced."""
    accepted = _accepted(stack)
    lines = []
    with stack.console("engineer") as console:
        for asset in (f"bench-{n}" for n in range(cases) if f"bench-{n}" not in accepted):
            case = console.case_of(asset, "bearing-1")
            lines.append(
                f"{asset}: " + (f"{case['summary']['state']}; {case['summary']['waits_for']}" if case else "no case")
            )
    return lines


def _accepted(stack: Stack) -> dict[str, float]:
    """Time at which the announcement was accepted (epoch seconds), by asset."""
    found: dict[str, float] = {}
    for mail in distinct(stack.mails()):
        name, _, rest = mail["subject"].partition(":")
        if rest.startswith(" repair arranged"):
            found[f"bench-{name.removeprefix('Bench ')}"] = datetime.fromisoformat(mail["received_at"]).timestamp()
    return found


def _course(rng: random.Random) -> list[float]:
    """Two days of vibration, one value in ten minutes: a healthy day, then a rise to about 1.5 times the baseline."""
    points = COURSE_H * 6
    healthy = points // 2
    levels = [1.0 + 0.5 * max(0.0, (index - healthy) / healthy) ** 1.5 for index in range(points)]
    return [BASELINE_G * level * math.exp(rng.gauss(0.0, 0.03)) for level in levels]


def _fleet(cases: int) -> str:
    """Registry tables: an agent, a robot and an engineer for each case, and parts next door."""
    tables = [
        f'[[agent]]\nagent_id = "bench-agent-{n}"\nsite_id = "{SITE}"\n'
        f'[[asset]]\nasset_id = "bench-{n}"\nagent_id = "bench-agent-{n}"\nname = "Bench {n}"\nasset_class = "robot"\n'
        f'model = "RX-2"\nserial = "SN-0001"\nequipment_ref = "BENCH-{n}"\n'
        f'[[asset.component]]\nslot = "bearing-1"\ntype = "bearing"\nserial = "BB-{n:04d}"\npart_no = "P-9100"\n'
        for n in range(cases)
    ]
    tables += [
        f'[[person]]\nperson_id = "bench.engineer.{n}"\nname = "Engineer {n}"\nemail = "e{n}@forestall.example"\n'
        f'role = "engineer"\nregion = "eu-west"\nskills = ["drive-mechanics"]\n'
        for n in range(cases)  # one each: this measures latency, not staffing
    ]
    tables.append('[[part]]\npart_no = "P-9100"\ncomponent_type = "bearing"\nlabel = "Bearing"\nprice_eur = 90.0\n')
    tables.append(
        '[[centre]]\ncentre_id = "bench-centre"\nname = "Next door"\nregion = "eu-west"\njurisdiction = "NL"\n'
        "latitude = 52.4\nlongitude = 4.8\nhandling_h = 0.5\n"
        f'[[stock]]\ncentre_id = "bench-centre"\npart_no = "P-9100"\non_hand = {cases}\n'
    )
    return "\n" + "\n".join(tables)


if __name__ == "__main__":
    sys.exit(main())
