"""A simulated device on a pseudo-terminal: the shell that gives it a port, a clock and faults. POSIX.

The device's time is the domain clock's; its line is real. The device never blocks: bytes the line does not take wait in
the endpoint's bounded output, and frames that do not fit there are lost as on any UART. The symbolic link to the
terminal appears when the device can talk and is removed when it stops; a path that is no link is never replaced.
"""

from __future__ import annotations

import asyncio
import os
import pty
import random
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from firmware_bridge.devices.endpoint import DeviceEndpoint, Record
from firmware_bridge.devices.faults import FaultyLine
from firmware_bridge.messages import MAX_U32, AckStatus, CommandKind, Describe, Hello
from fleet_core.clock import Clock
from fleet_core.errors import BadConfig

TURN_S = 0.1


class SimulatedDevice(Protocol):
    """The interface of a device that can be put on a port; see drive.py."""

    def hello(self, boot: int) -> Hello: ...

    def describe(self) -> Describe: ...

    @property
    def next_due_s(self) -> float: ...

    def readings(self, until_s: float, boot_s: float) -> Iterator[Record]: ...

    def carry_out(self, kind: CommandKind, argument: int) -> AckStatus: ...


class PtyDevice:
    """Owns the terminal. ``start``, then ``run`` until cancelled, then ``close``."""

    def __init__(
        self, device: SimulatedDevice, clock: Clock, line: FaultyLine, rng: random.Random, link: Path | None = None
    ) -> None:
        self.port = ""
        self.boots = 0
        self._device = device
        self._clock = clock
        self._line = line
        self._rng = rng
        self._link = link
        self._master = self._slave = -1
        self._unsent = b""
        self._origin_s = clock.monotonic_s()
        self._boot()

    @property
    def endpoint(self) -> DeviceEndpoint:
        """The present boot's side of the conversation."""
        return self._endpoint

    def start(self) -> None:
        """Open the terminal and place the link. Raises BadConfig."""
        if self._link is not None and self._link.exists() and not self._link.is_symlink():
            raise BadConfig(f"{self._link} exists and is no link; name another path")
        self._master, self._slave = pty.openpty()  # holding the slave open keeps the terminal alive between hosts
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        asyncio.get_running_loop().add_reader(self._master, self._on_readable)
        if self._link is not None:
            _place_link(self._link, self.port)
        self._endpoint.announce()

    async def run(self) -> None:
        """Talk until cancelled."""
        while True:
            elapsed_s = self._elapsed_s()
            for record in self._device.readings(elapsed_s, self._boot_s):
                self._endpoint.record(record)
            self._turn()
            until_due_s = (self._device.next_due_s - self._elapsed_s()) / self._clock.scale
            await asyncio.sleep(min(TURN_S, max(0.0, until_due_s)))

    def close(self) -> None:
        """Hang up and remove the link."""
        if self._master < 0:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._master)
        loop.remove_writer(self._master)
        if self._link is not None and self._link.is_symlink() and self._link.readlink() == Path(self.port):
            self._link.unlink()
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1

    def reboot(self) -> None:
        """Lose power: memory and unsent bytes are gone, ticks start again."""
        self._unsent = b""
        self._boot()
        self._endpoint.announce()

    def _boot(self) -> None:
        self.boots += 1
        self._boot_s = self._elapsed_s()
        hello = self._device.hello(self._rng.randint(1, MAX_U32))
        past = self._device.readings(self._boot_s, self._boot_s) if self.boots == 1 else ()
        self._endpoint = DeviceEndpoint(hello, self._device.describe(), self._carry_out, past)

    def _carry_out(self, kind: CommandKind, argument: int) -> AckStatus:
        status = self._device.carry_out(kind, argument)
        if kind is CommandKind.SET_PERIOD and status is AckStatus.OK:
            self._endpoint.describe_again(self._device.describe())
        return status

    def _elapsed_s(self) -> float:
        return self._clock.monotonic_s() - self._origin_s

    def _on_readable(self) -> None:
        try:
            data = os.read(self._master, 4096)
        except BlockingIOError:
            return
        ticks = round((self._elapsed_s() - self._boot_s) * self._endpoint.hello.tick_hz)
        self._endpoint.receive(data, time.monotonic(), ticks)
        self._turn()

    def _turn(self) -> None:
        now_s = time.monotonic()
        self._endpoint.poll(now_s)
        while not self._line.stalled(now_s):
            if not self._unsent:
                frame = self._endpoint.take_frame()
                if frame is None:
                    break
                if self._line.brownout():
                    self.reboot()
                    return  # the other frames wait for the next turn: a brownout rate of 1 must not spin here
                self._unsent = self._line.pass_on(*frame, now_s)
                self._endpoint.poll(now_s)
                continue
            try:
                self._unsent = self._unsent[os.write(self._master, self._unsent) :]
            except BlockingIOError:
                asyncio.get_running_loop().add_writer(self._master, self._turn)
                return
        asyncio.get_running_loop().remove_writer(self._master)


def _place_link(link: Path, port: str) -> None:
    """Put the link in place atomically, so that no program sees a moment without it."""
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(port)
    fresh.replace(link)
