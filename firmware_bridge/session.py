"""The host's side of the conversation with one device. Pure: bytes and times in, events and bytes out.

The handshake is a short table: each phase keeps asking one question until its answer arrives::

    phase      asks           leaves it on            for
    HELLO      HELLO          Hello of this boot      DESCRIBE
    DESCRIBE   DESCRIBE       Describe                SYNC
    SYNC       TIME_REQUEST   SYNC_REPLIES replies    STARTING
    STARTING   START          Ack of that START       LIVE
    LIVE       -              a frame of another boot HELLO

Data count from the Ack of START on. That Ack names the first sequence numbers, so every later loss is known exactly: a
stream's numbers jump, or a reply says that more was sent than arrived. A loss is one ``Loss`` event with the span of
ticks it lies in. The caller confirms what it has stored; the device keeps the rest and sends it after the next START.

``events`` is bounded: when it is full, data frames are dropped (counted as ``overflow``) and their sequence numbers
then make the loss known like any other. Damage, unknown messages and repeats are counted in ``counters``.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from enum import Enum

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
    Samples,
    TimeReply,
    TimeRequest,
    WaveformFragment,
)
from firmware_bridge.timemap import TimeMap
from fleet_core.errors import BadInput

SYNC_REPLIES = 4
RETRY_S = 0.5


class Phase(Enum):
    HELLO = "hello"
    DESCRIBE = "describe"
    SYNC = "time sync"
    STARTING = "start"
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class Ready:
    """The device is known and its data follow. The event comes again after a reboot or a changed description."""

    hello: Hello
    describe: Describe
    time_map: TimeMap


@dataclass(frozen=True, slots=True)
class Received:
    """A data message, or the Ack of a command the caller sent."""

    message: Message
    stream: Stream
    sequence: int
    received_us: int


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss: ``frames`` frames of a stream, sent between these ticks of the present boot, did not arrive."""

    stream: Stream
    frames: int
    since_ticks: int
    until_ticks: int


Event = Ready | Received | Loss


class HostSession:
    """The state of one conversation. ``now_s`` is real, monotonic time; ``received_us`` is domain time, UTC."""

    def __init__(self, now_s: float, *, queue_limit: int = 1024, ping_s: float = 1.0) -> None:
        self.phase = Phase.HELLO
        self.events: deque[Event] = deque()
        self.counters: Counter[str] = Counter()
        self.last_heard_s = now_s
        self._queue_limit = queue_limit
        self._ping_s = ping_s
        self._decoder = FrameDecoder()
        self._output: list[bytes] = []
        self._sequence = 0
        self._command_id = 0
        self._start_id = -1
        self._ask_at_s = now_s
        self._boot = 0
        self._hello: Hello | None = None
        self._describe: Describe | None = None
        self._time_map = TimeMap(1)
        self._last_ticks = 0
        self._sync_replies = 0
        self._expected: dict[Stream, int] = {}
        self._seen_ticks: dict[Stream, int] = {}
        self._confirmed: dict[Stream, int] = {}

    def feed(self, data: bytes, received_us: int, now_s: float) -> None:
        """Take bytes from the line; see ``events`` afterwards."""
        for frame in self._decoder.feed(data):
            self._frame(frame, received_us, now_s)

    def poll(self, now_s: float) -> None:
        """Queue the question that is due: the phase's own, or the time once live."""
        if now_s < self._ask_at_s:
            return
        if self.phase is Phase.LIVE and self._describe is None:
            self.command(CommandKind.DESCRIBE)
        self._ask_at_s = now_s + (self._ping_s if self.phase is Phase.LIVE else RETRY_S)
        if self.phase is Phase.HELLO:
            self.command(CommandKind.HELLO)
        elif self.phase is Phase.DESCRIBE:
            self.command(CommandKind.DESCRIBE)
        elif self.phase is Phase.STARTING:
            self._start_id = self.command(CommandKind.START)
        else:
            self._command_id += 1
            self._send(TimeRequest(self._command_id, tuple(self._confirmed.get(stream, 0) for stream in DATA_STREAMS)))

    def command(self, kind: CommandKind, argument: int = 0) -> int:
        """Queue a command and return its id; the Ack comes as a ``Received`` with that id.

        The session does not repeat the command: whether to ask again is the caller's decision.
        """
        self._command_id += 1
        self._send(Command(self._command_id, kind, argument))
        return self._command_id

    def confirm(self, received: Received) -> None:
        """Note that ``received`` and everything before it in its stream is stored, so the device may forget it."""
        if received.stream in self._confirmed:
            self._confirmed[received.stream] = (received.sequence + 1) % SEQUENCE_MODULUS

    def take_output(self) -> bytes:
        """The bytes to write to the line."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def statistics(self) -> dict[str, int]:
        """Counters of everything received, lost and refused."""
        return dict(self.counters + self._decoder.rejected)

    def _frame(self, frame: Frame, received_us: int, now_s: float) -> None:
        self.counters["frames"] += 1
        try:
            message = codec.decode(frame.payload)
        except BadInput as error:
            self.counters[error.reason] += 1
            if error.reason == "protocol_version":
                raise  # only a person can mend it: new firmware or a new bridge
            return
        self.last_heard_s = now_s
        if isinstance(message, Hello):
            self._on_hello(frame, message, now_s)
        elif frame.boot != self._boot or self._hello is None:
            self.counters["before_hello"] += 1
            if self.phase is not Phase.HELLO:
                self._enter(Phase.HELLO, now_s)
        elif frame.stream is Stream.CONTROL:
            self._on_control(message, frame, received_us, now_s)
        elif self.phase is Phase.LIVE:
            self._on_data(message, frame, received_us)
        else:
            self.counters["before_start"] += 1

    def _on_hello(self, frame: Frame, hello: Hello, now_s: float) -> None:
        if hello.boot != frame.boot:
            self.counters["boot_mismatch"] += 1
        elif self._hello is None or hello.boot != self._boot or hello.tick_hz != self._hello.tick_hz:
            self._hello, self._boot = hello, hello.boot
            self._time_map = TimeMap(hello.tick_hz)
            self._sync_replies = 0
            self._confirmed = {}
            self._enter(Phase.DESCRIBE, now_s)
        elif self.phase is Phase.HELLO:  # a stray frame of another boot had made us ask
            self._hello = hello
            self._enter(Phase.DESCRIBE, now_s)
        elif hello != self._hello:  # a component was swapped under power
            self._hello, self._describe = hello, None
            self.command(CommandKind.DESCRIBE)

    def _on_control(self, message: Message, frame: Frame, received_us: int, now_s: float) -> None:
        match message:
            case Describe():
                self._on_describe(message, now_s)
            case TimeReply():
                self._time_map.observe(message.ticks, received_us)
                self._sync_replies += 1
                if self.phase is Phase.LIVE:
                    for stream, upcoming in zip(DATA_STREAMS, message.next_sequences, strict=True):
                        self._advance(stream, upcoming, message.ticks)
                elif self.phase is Phase.SYNC:
                    if self._sync_replies >= SYNC_REPLIES:
                        self._enter(Phase.STARTING, now_s)
                    self._ask_at_s = now_s
                self._last_ticks = message.ticks
            case Ack() if message.command_id == self._start_id:
                self._on_started(message, now_s)
            case Ack():
                self._queue(Received(message, frame.stream, frame.sequence, received_us))
            case _:
                self.counters["unexpected_message"] += 1

    def _on_describe(self, describe: Describe, now_s: float) -> None:
        changed, self._describe = describe != self._describe, describe
        if self.phase is Phase.DESCRIBE:
            self._enter(Phase.SYNC, now_s)
        elif self.phase is Phase.LIVE and changed:
            self._queue(self._ready())

    def _on_started(self, ack: Ack, now_s: float) -> None:
        if self.phase is not Phase.STARTING:
            return
        if ack.status is not AckStatus.OK:
            self.counters["start_refused"] += 1
            return
        self._expected = dict(zip(DATA_STREAMS, ack.next_sequences, strict=True))
        self._confirmed = dict(self._expected)
        self._seen_ticks = dict.fromkeys(DATA_STREAMS, self._last_ticks) | {Stream.HISTORY: ack.since_ticks}
        self._queue(self._ready())
        self._enter(Phase.LIVE, now_s)

    def _on_data(self, message: Message, frame: Frame, received_us: int) -> None:
        span = _span_ticks(message)
        if span is None:
            self.counters["unexpected_message"] += 1
        elif len(self.events) >= self._queue_limit:
            self.counters["overflow"] += 1  # the frame's number stays expected, so the next frame shows the loss
        elif (frame.sequence - self._expected[frame.stream]) % SEQUENCE_MODULUS >= SEQUENCE_MODULUS // 2:
            self.counters["repeated"] += 1
        else:
            first_ticks, last_ticks = span
            self._advance(frame.stream, frame.sequence, first_ticks)
            self._expected[frame.stream] = (frame.sequence + 1) % SEQUENCE_MODULUS
            self._seen_ticks[frame.stream] = last_ticks
            if frame.stream is not Stream.HISTORY:
                self._time_map.observe(last_ticks, received_us)
            self.counters["accepted"] += 1
            self._queue(Received(message, frame.stream, frame.sequence, received_us))

    def _advance(self, stream: Stream, upcoming: int, ticks: int) -> None:
        """Count as lost what is missing of ``stream`` before ``upcoming``: the device had sent it all by ``ticks``."""
        missing = (upcoming - self._expected[stream]) % SEQUENCE_MODULUS
        if 0 < missing < SEQUENCE_MODULUS // 2:
            since = self._seen_ticks[stream]
            self._queue(Loss(stream, missing, min(since, ticks), max(since, ticks)))
            self.counters["lost"] += missing
            self._expected[stream] = upcoming
            self._seen_ticks[stream] = max(since, ticks)

    def _ready(self) -> Ready:
        assert self._hello is not None and self._describe is not None  # the phases guarantee it
        return Ready(self._hello, self._describe, self._time_map)

    def _queue(self, event: Event) -> None:
        # Ready, Loss and Ack may exceed the limit: a data frame or a question of the host causes at most one of them.
        self.events.append(event)

    def _enter(self, phase: Phase, now_s: float) -> None:
        self.phase = phase
        self._ask_at_s = now_s

    def _send(self, message: Message) -> None:
        self._output.append(encode_frame(Frame(Stream.CONTROL, self._boot, self._sequence, codec.encode(message))))
        self._sequence = (self._sequence + 1) % SEQUENCE_MODULUS


def _span_ticks(message: Message) -> tuple[int, int] | None:
    """The first and last tick of a data message; None for any other message."""
    match message:
        case Samples():
            return message.rows[0][0], message.rows[-1][0]
        case WaveformFragment():
            return message.ticks, message.ticks
        case Lost():
            return message.from_ticks, message.to_ticks
        case _:
            return None
