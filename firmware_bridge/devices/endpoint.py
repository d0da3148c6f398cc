"""The device's side of the conversation: the reference of what firmware must do. Pure: bytes, records and times in.

A record (a row of samples, or a waveform) is kept until the host confirms it. It waits in the ``backlog`` while no
host listens, and in ``pending`` after it was sent and before it is confirmed. When a host says START, pending records
return to the backlog. Stored records are sent before live ones, so a stream is always in order of time. The backlog is
bounded; it drops its oldest records and declares them to the host (``Lost``).

A device that has not heard its host for ``host_silence_s`` sends nothing until the host asks for the time again. A host
that was only busy knows the streams' numbers and goes on from there; a new host does not know them and says START.

The output is a bounded buffer, like that of any UART: a frame that does not fit is lost, but uses up its sequence
number, so that the host notices.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from firmware_bridge import codec
from firmware_bridge.frames import DATA_STREAMS, SEQUENCE_MODULUS, Frame, FrameDecoder, Stream, encode_frame
from firmware_bridge.messages import (
    Ack,
    AckStatus,
    Command,
    CommandKind,
    Describe,
    Hello,
    Lost,
    Message,
    MetricInfo,
    Samples,
    TimeReply,
    TimeRequest,
)
from firmware_bridge.waveforms import fragments
from fleet_core.errors import BadInput

OUTPUT_LIMIT_BYTES = 64 * 1024
HISTORY_ROOM_BYTES = 16 * 1024
ROWS_PER_FRAME = 24


@dataclass(frozen=True, slots=True)
class Row:
    """One reading of all metrics, in the order of the description."""

    ticks: int
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Burst:
    """One waveform of ``channel``: int16 little-endian, times ``scale``."""

    ticks: int
    channel: MetricInfo
    data: bytes
    scale: float


Record = Row | Burst
Carry = Callable[[CommandKind, int], AckStatus]


class DeviceEndpoint:
    """One boot of one device. ``carry_out`` carries out the commands that are not part of the conversation itself."""

    def __init__(
        self,
        hello: Hello,
        describe: Describe,
        carry_out: Carry,
        history: Iterable[Record] = (),
        *,
        backlog_limit: int = 8192,
        host_silence_s: float = 3.0,
    ) -> None:
        self.hello = hello
        self.describe = describe
        self.live = False
        self.counters: Counter[str] = Counter()
        self._paused = False
        self._carry_out = carry_out
        self._backlog_limit = backlog_limit
        self._host_silence_s = host_silence_s
        self._decoder = FrameDecoder()
        self._backlog: deque[Record | Lost] = deque()
        self._pending: dict[Stream, deque[tuple[int, Record | Lost]]] = {stream: deque() for stream in DATA_STREAMS}
        self._next = dict.fromkeys(Stream, 0)
        self._output: deque[tuple[Stream, bytes]] = deque()
        self._output_bytes = 0
        self._heard_s = 0.0
        self._bursts = 0
        self._overflow: Lost | None = None
        for record in history:
            self._store(record)

    def receive(self, data: bytes, now_s: float, now_ticks: int) -> None:
        """Take bytes from the host. Damaged frames are counted and skipped; the host asks again."""
        for frame in self._decoder.feed(data):
            try:
                message = codec.decode(frame.payload)
            except BadInput as error:
                self.counters[error.reason] += 1
                continue
            self._heard_s = now_s
            if isinstance(message, Command):
                self._on_command(message, now_ticks)
            elif isinstance(message, TimeRequest):
                if frame.boot == self.hello.boot:
                    self._confirm(message.confirmed)
                    self._resume()
                self._send(Stream.CONTROL, TimeReply(message.id, now_ticks, self._upcoming()))
            else:
                self.counters["unexpected_message"] += 1

    def record(self, record: Record) -> None:
        """Take a new reading. It is sent at once when a host listens and nothing older waits, else stored."""
        if not self.live or self._backlog:
            self._store(record)
            return
        stream = Stream.SAMPLES if isinstance(record, Row) else Stream.WAVEFORM
        self._transmit(stream, [record])

    def describe_again(self, describe: Describe) -> None:
        """The description changed: send it unasked."""
        self.describe = describe
        self._send(Stream.CONTROL, describe)

    def announce(self) -> None:
        """Say hello unasked: after a boot, or when a component was swapped."""
        self._send(Stream.CONTROL, self.hello)

    def poll(self, now_s: float) -> None:
        """Notice that the host has gone; send stored records as far as the output has room."""
        if self.live and now_s - self._heard_s > self._host_silence_s:
            self.live, self._paused = False, True
        if self.live and self._overflow is not None:
            self._backlog.appendleft(self._overflow)
            self._overflow = None
        while self.live and self._backlog and self._output_bytes < HISTORY_ROOM_BYTES:
            batch = [self._backlog.popleft()]
            while isinstance(batch[0], Row) and self._backlog and isinstance(self._backlog[0], Row):
                if len(batch) == ROWS_PER_FRAME:
                    break
                batch.append(self._backlog.popleft())
            self._transmit(Stream.HISTORY, batch)

    def take_frame(self) -> tuple[Stream, bytes] | None:
        """The next frame for the line, with its stream."""
        if not self._output:
            return None
        stream, data = self._output.popleft()
        self._output_bytes -= len(data)
        return stream, data

    def _on_command(self, command: Command, now_ticks: int) -> None:
        status, since_ticks = AckStatus.OK, now_ticks
        match command.kind:
            case CommandKind.HELLO:
                self.announce()
                return
            case CommandKind.DESCRIBE:
                self._send(Stream.CONTROL, self.describe)
                return
            case CommandKind.START:
                self._recall()
                self.live, self._paused = True, False
                since_ticks = min((_ticks(record) for record in self._backlog), default=now_ticks)
            case CommandKind.STOP:
                self.live = self._paused = False
                self._recall()
            case _:
                status = self._carry_out(command.kind, command.argument)
        self._send(Stream.CONTROL, Ack(command.id, status, self._upcoming(), since_ticks))

    def _resume(self) -> None:
        if self._paused:
            self.live, self._paused = True, False
            self.counters["resumed"] += 1

    def _confirm(self, confirmed: tuple[int, ...]) -> None:
        for stream, upto in zip(DATA_STREAMS, confirmed, strict=True):
            pending = self._pending[stream]
            while pending and (pending[0][0] - upto) % SEQUENCE_MODULUS >= SEQUENCE_MODULUS // 2:
                pending.popleft()

    def _recall(self) -> None:
        """Store the records again that were sent but not confirmed, in order of time."""
        unconfirmed = [record for pending in self._pending.values() for _, record in pending]
        for pending in self._pending.values():
            pending.clear()
        merged = sorted([*unconfirmed, *self._backlog], key=_ticks)
        self._backlog.clear()
        for record in merged:
            self._store(record)

    def _store(self, record: Record | Lost) -> None:
        if len(self._backlog) >= self._backlog_limit:
            self._overflow = _merged(self._overflow, self._backlog.popleft())
            self.counters["backlog_dropped"] += 1
        self._backlog.append(record)

    def _transmit(self, stream: Stream, batch: list[Record | Lost] | list[Record]) -> None:
        """Send records of one kind and keep them pending under the number of the last frame they took."""
        historical = stream is Stream.HISTORY
        first = batch[0]
        if isinstance(first, Row):
            ids = tuple(metric.id for metric in self.describe.metrics if not metric.is_waveform)
            rows = tuple((row.ticks, row.values) for row in batch if isinstance(row, Row))
            last = self._send(stream, Samples(ids, rows, historical))
        elif isinstance(first, Burst):
            self._bursts += 1
            number = self._bursts
            for part in fragments(first.channel, number, first.ticks, first.data, first.scale, historical):
                last = self._send(stream, part)
        else:
            last = self._send(stream, first)
        pending = self._pending[stream]
        pending.extend((last, record) for record in batch)
        while len(pending) > self._backlog_limit:  # a host that listens and never confirms
            pending.popleft()

    def _send(self, stream: Stream, message: Message) -> int:
        """Queue one frame and return its sequence number, which is used up even when the frame had no room."""
        sequence = self._next[stream]
        self._next[stream] = (sequence + 1) % SEQUENCE_MODULUS
        data = encode_frame(Frame(stream, self.hello.boot, sequence, codec.encode(message)))
        if self._output_bytes + len(data) > OUTPUT_LIMIT_BYTES:
            self.counters[f"output_overflow_{stream.name.lower()}"] += 1
        else:
            self._output.append((stream, data))
            self._output_bytes += len(data)
        return sequence

    def _upcoming(self) -> tuple[int, ...]:
        return tuple(self._next[stream] for stream in DATA_STREAMS)


def _ticks(record: Record | Lost) -> int:
    return record.from_ticks if isinstance(record, Lost) else record.ticks


def _merged(lost: Lost | None, record: Record | Lost) -> Lost:
    """One declaration that covers the earlier losses and this record."""
    also = record if isinstance(record, Lost) else Lost(1, record.ticks, record.ticks)
    if lost is None:
        return also
    first, last = min(lost.from_ticks, also.from_ticks), max(lost.to_ticks, also.to_ticks)
    return Lost(lost.count + also.count, first, last)
