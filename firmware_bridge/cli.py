"""``firmware-bridge``: simulate a device, monitor one, or check a port. Errors are one line and exit code 2."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from firmware_bridge.devices.drive import DriveIdentity, DriveSettings, SimulatedDrive
from firmware_bridge.devices.drive_model import DriveParams
from firmware_bridge.devices.faults import FaultRates, FaultyLine
from firmware_bridge.devices.pty_port import PtyDevice
from firmware_bridge.link import DeviceLink, LinkSettings, connections
from firmware_bridge.messages import Samples, WaveformFragment
from firmware_bridge.session import Event, Loss, Ready, Received
from fleet_core.clock import Clock, clock_from_environment
from fleet_core.errors import ForestallError, Retryable
from fleet_core.service import run_until_stopped, stop_on_signals
from fleet_core.telemetry import from_us


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return asyncio.run(options.command(options, clock_from_environment()))
    except ForestallError as error:
        print(f"firmware-bridge: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, BrokenPipeError):
        return 0
    except OSError as error:  # a port that is taken or gone, a folder that may not be written
        print(f"firmware-bridge: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="firmware-bridge", description=__doc__.partition(":")[2].strip())
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    simulate = commands.add_parser("simulate", help="run a simulated device on a pseudo-terminal")
    devices = simulate.add_subparsers(required=True, metavar="DEVICE")
    _drive_options(devices.add_parser("drive", help="a motor and a bearing that wears out"))
    monitor = commands.add_parser("monitor", help="print what a device sends (it is not told to forget it)")
    monitor.set_defaults(command=_monitor)
    monitor.add_argument("--count", type=int, default=0, help="stop after so many events")
    doctor = commands.add_parser("doctor", help="connect, listen for a while, report; exit 1 when something is wrong")
    doctor.set_defaults(command=_doctor)
    doctor.add_argument("--listen-s", type=float, default=5.0, help="how long, in real seconds")
    for command in (monitor, doctor):
        command.add_argument("port", help="serial device, e.g. /dev/ttyUSB0")
        command.add_argument("--baud", type=int, default=115_200)
        command.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


def _drive_options(drive: argparse.ArgumentParser) -> None:
    who, wear = DriveIdentity(), DriveParams()
    drive.set_defaults(command=_simulate_drive)
    drive.add_argument("--link", type=Path, required=True, help="path of the symbolic link to the terminal")
    drive.add_argument("--seed", type=int, default=1)
    drive.add_argument("--healthy-h", type=float, default=wear.healthy_h, help="hours before wear begins")
    drive.add_argument("--seize-after-h", type=float, default=wear.seize_after_onset_h, help="from then to seizure")
    drive.add_argument("--start-at-age-h", type=float, default=0.0, help="the age the drive starts with")
    drive.add_argument("--history-h", type=float, default=0.0, help="stored readings from before the start")
    drive.add_argument("--sample-period-s", type=float, default=600.0, help="domain seconds")
    drive.add_argument("--waveform-period-s", type=float, default=3600.0, help="domain seconds")
    drive.add_argument("--model", default=who.model)
    drive.add_argument("--serial", default=who.serial)
    drive.add_argument("--firmware", default=who.firmware)
    drive.add_argument("--component-serial", default=who.bearing_serial, help="of the bearing installed")
    drive.add_argument("--motor-serial", default=who.motor_serial)
    drive.add_argument("--fault", default="", help="e.g. drop=0.01,garble=0.01,stall=0.001,brownout=0.0005")


async def _simulate_drive(options: argparse.Namespace, clock: Clock) -> int:
    now = clock.now()
    params = DriveParams(
        healthy_h=options.healthy_h,
        seize_after_onset_h=options.seize_after_h,
        start_hour=(now.hour + now.minute / 60 - options.start_at_age_h) % 24,
    )
    settings = DriveSettings(
        params=params,
        seed=options.seed,
        start_at_age_h=options.start_at_age_h,
        history_h=options.history_h,
        sample_period_s=options.sample_period_s,
        waveform_period_s=options.waveform_period_s,
    )
    identity = DriveIdentity(
        model=options.model,
        serial=options.serial,
        firmware=options.firmware,
        bearing_serial=options.component_serial,
        motor_serial=options.motor_serial,
    )
    # The boot id must differ between processes of one seed: a host recognises a restart by it
    rng = random.Random(f"{options.seed}:{time.time_ns()}")
    faults = FaultyLine(FaultRates.parse(options.fault), random.Random(options.seed))
    device = PtyDevice(SimulatedDrive(identity, settings), clock, faults, rng, options.link)
    device.start()
    try:
        stop = stop_on_signals()
        hello = device.endpoint.hello
        components = {part.slot: part.serial for part in hello.components}
        ready = {"ready": True, "link": str(options.link), "port": device.port, "serial": hello.serial}
        print(json.dumps(ready | {"boot": hello.boot, "components": components}), flush=True)
        await run_until_stopped(stop, {"device": device.run()})
    finally:
        device.close()
    return 0


async def _monitor(options: argparse.Namespace, clock: Clock) -> int:
    seen, trouble = 0, ""
    settings = LinkSettings(options.port, options.baud)
    async for item in connections(settings, clock, random.Random()):
        if isinstance(item, Retryable):
            if str(item) != trouble:  # a failure is printed once, however often the link tries again
                print(f"firmware-bridge: {item}; trying again", file=sys.stderr)
            trouble = str(item)
            continue
        _, event = item
        trouble = ""
        record = _readable(event)
        text = json.dumps(record) if options.json else "  ".join(f"{key}={value}" for key, value in record.items())
        print(text, flush=True)
        seen += 1
        if options.count and seen >= options.count:
            break
    return 0


async def _doctor(options: argparse.Namespace, clock: Clock) -> int:
    report: dict[str, Any] = {"port": options.port}
    settings = LinkSettings(options.port, options.baud)
    async with DeviceLink(settings, clock) as link:
        ready = await link.receive()
        if isinstance(ready, Ready):
            report |= _readable(ready)
        try:
            async with asyncio.timeout(options.listen_s):
                while True:
                    await link.receive()
        except TimeoutError:
            report |= link.statistics()
    ok = not report.get("lost") and bool(report.get("accepted"))
    report["verdict"] = "ok" if ok else "frames were lost" if report.get("lost") else "no data came"
    if options.json:
        print(json.dumps(report))
    else:
        print("\n".join(f"{key:>20}  {value}" for key, value in report.items()))
    return 0 if ok else 1


def _readable(event: Event) -> dict[str, Any]:
    """An event as a flat record for people and ``--json``."""
    match event:
        case Ready():
            hello = event.hello
            components = {part.slot: f"{part.type} {part.serial}" for part in hello.components}
            metrics = [f"{metric.id} {metric.name} {metric.unit}" for metric in event.describe.metrics]
            about = {"model": hello.model, "serial": hello.serial, "firmware": hello.firmware, "boot": hello.boot}
            return {"event": "ready", **about, "components": components, "metrics": metrics}
        case Loss():
            return {"event": "loss", **asdict(event), "stream": event.stream.name.lower()}
        case Received(message=WaveformFragment() as part):
            fields = asdict(part)
            fields["data"] = f"{len(part.data)} bytes"
            return {"event": "waveform", "sequence": event.sequence, **fields}
        case Received(message=Samples() as samples):
            rows = {"ids": samples.ids, "rows": samples.rows, "historical": samples.historical}
            return {"event": "samples", "sequence": event.sequence, "received": f"{from_us(event.received_us)}", **rows}
        case _:
            return {"event": type(event.message).__name__.lower(), **asdict(event.message)}


if __name__ == "__main__":
    sys.exit(main())
