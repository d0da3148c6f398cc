"""A device on a serial port (or pseudo-terminal): the thin shell around session.py. POSIX, asyncio.

``DeviceLink`` is an asynchronous context manager; ``receive`` returns the device's events. The port is read as soon as
bytes arrive, whatever the consumer does; the session's queue is bounded and counts the frames it dropped. Nothing here
blocks the event loop: when the output buffer is full the request is dropped, and the session asks again.

Failures: ``Retryable`` when the port is absent, busy, hung up or silent for ``silence_s``; ``BadConfig`` when the path
is no serial port, when it may not be opened, or when the device speaks another protocol version. A programming error
met while reading is raised to the consumer as well: nothing else would hear of it. ``connections`` reconnects with
exponential back-off and full jitter, for programs without a supervisor that would restart them.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import serial

from firmware_bridge.messages import CommandKind
from firmware_bridge.session import Event, HostSession, Phase, Ready, Received
from fleet_core.clock import Clock
from fleet_core.errors import BadConfig, BadInput, Retryable
from fleet_core.service import Backoff, end_tasks
from fleet_core.telemetry import to_us

POLL_S = 0.1
BACKOFF_FIRST_S = 0.25
BACKOFF_MOST_S = 15.0


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Settings of one link. Times are real seconds. ``queue_frames`` bounds the frames, of at most 4 KiB each, that
    wait for the consumer.
    """

    port: str
    baud: int = 115_200
    handshake_s: float = 10.0
    silence_s: float = 5.0
    ping_s: float = 1.0
    queue_frames: int = 1024

    def __post_init__(self) -> None:
        if not self.port or self.baud <= 0 or min(self.handshake_s, self.silence_s, self.ping_s) <= 0:
            raise BadConfig("serial link: port must be set; baud, handshake_s, silence_s, ping_s must be positive")
        if self.queue_frames < 1 or self.silence_s <= self.ping_s:
            raise BadConfig("serial link: queue_frames must be at least 1 and silence_s greater than ping_s")


class DeviceLink:
    """One connection to one device. ``statistics`` may be read at any time."""

    def __init__(self, settings: LinkSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._port: serial.Serial | None = None
        self._session = HostSession(time.monotonic())
        self._failure: Exception | None = None
        self._arrived = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None
        self._deadline_s = 0.0

    async def __aenter__(self) -> DeviceLink:
        settings, now_s = self._settings, time.monotonic()
        self._port = _open(settings)
        self._session = HostSession(now_s, queue_limit=settings.queue_frames, ping_s=settings.ping_s)
        self._deadline_s = now_s + settings.handshake_s
        asyncio.get_running_loop().add_reader(self._port.fileno(), self._on_readable)
        self._poller = asyncio.create_task(self._poll(), name="serial link")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._poller is not None:
            await end_tasks([self._poller])
        self._close()

    async def receive(self) -> Event:
        """The next event, in order. Raises Retryable or BadConfig once the queue is empty and the link has failed."""
        await asyncio.sleep(0)  # a long stored past must not keep the loop from reading the port and answering it
        while not self._session.events:
            if self._failure is not None:
                raise self._failure
            self._arrived.clear()
            await self._arrived.wait()
        return self._session.events.popleft()

    def confirm(self, received: Received) -> None:
        """Tell the device, with the next time request, that it need not keep the records of ``received`` any more."""
        self._session.confirm(received)

    def command(self, kind: CommandKind, argument: int = 0) -> int:
        """Send a command now; its Ack arrives through ``receive`` with the returned id."""
        number = self._session.command(kind, argument)
        self._write()
        return number

    def statistics(self) -> dict[str, int]:
        return self._session.statistics()

    def _on_readable(self) -> None:
        assert self._port is not None
        try:
            data = self._port.read(65_536)
            self._session.feed(data, to_us(self._clock.now()), time.monotonic())
            self._turn()
        except (serial.SerialException, OSError) as error:
            self._fail(Retryable(f"{self._settings.port}: the device hung up ({error})"))
        except BadInput as error:
            self._fail(BadConfig(f"{self._settings.port}: {error}; update the device or the bridge"))
        except Exception as error:  # noqa: BLE001 - raised to the consumer, whom the loop would not tell
            self._fail(error)

    async def _poll(self) -> None:
        while self._failure is None:
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 - likewise
                self._fail(error)
            await asyncio.sleep(POLL_S)

    def _turn(self) -> None:
        """Ask what is due, write it, notice silence, wake the consumer. Called after every read and every POLL_S."""
        now_s, session = time.monotonic(), self._session
        if session.phase is Phase.LIVE:
            self._deadline_s = now_s + self._settings.handshake_s
        elif now_s > self._deadline_s:
            self._fail(Retryable(f"{self._settings.port}: no answer to '{session.phase.value}'"))
        if now_s - session.last_heard_s > self._settings.silence_s:
            self._fail(Retryable(f"{self._settings.port}: silent for {self._settings.silence_s:g} s"))
        session.poll(now_s)
        self._write()
        if session.events:
            self._arrived.set()

    def _write(self) -> None:
        output = self._session.take_output()
        if self._port is None or not output:
            return
        try:  # not pyserial's write, which spins on a full buffer; a request that does not fit is asked again later
            written = os.write(self._port.fileno(), output)
        except BlockingIOError:
            written = 0
        except OSError as error:
            self._fail(Retryable(f"{self._settings.port}: the device hung up ({error.strerror})"))
            return
        if written < len(output):
            self._session.counters["requests_dropped"] += 1

    def _fail(self, failure: Exception) -> None:
        self._failure = self._failure or failure
        self._close()
        self._arrived.set()

    def _close(self) -> None:
        if self._port is not None:
            asyncio.get_running_loop().remove_reader(self._port.fileno())
            self._port.close()
            self._port = None


async def connections(
    settings: LinkSettings, clock: Clock, rng: random.Random
) -> AsyncIterator[tuple[DeviceLink, Event] | Retryable]:
    """The events of a device, without end. A lost link is opened again after a pause that doubles with every failure
    and is jittered fully.

    A failure is yielded as the exception, once for each lost or refused connection. Raises BadConfig.
    """
    backoff = Backoff(BACKOFF_FIRST_S, BACKOFF_MOST_S, rng=rng)
    while True:
        try:
            async with DeviceLink(settings, clock) as link:
                while True:
                    event = await link.receive()
                    if isinstance(event, Ready):
                        backoff.reset()
                    yield link, event
        except Retryable as failure:
            yield failure
        await asyncio.sleep(backoff.pause_s())


def _open(settings: LinkSettings) -> serial.Serial:
    """Open the port and flush it: bytes already in its buffer were meant for an earlier reader."""
    path = Path(settings.port)
    try:
        if not path.is_char_device() and path.exists():
            raise BadConfig(f"{settings.port} is not a serial port")
        port = serial.Serial(settings.port, settings.baud, timeout=0, exclusive=True)
        port.reset_input_buffer()
    except (serial.SerialException, OSError) as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise BadConfig(f"{settings.port}: not allowed to open it; add the user to the port's group") from None
        why = os.strerror(error.errno) if error.errno else str(error)
        raise Retryable(f"{settings.port}: cannot open it ({why})") from None
    except ValueError as error:
        raise BadConfig(f"{settings.port}: {error}") from None
    return port
