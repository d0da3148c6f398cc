"""Host and device joined by a null modem that loses, garbles and stalls: every loss is known, exactly."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from firmware_bridge import codec
from firmware_bridge.devices.endpoint import Burst, DeviceEndpoint, Record, Row
from firmware_bridge.devices.faults import FaultRates, FaultyLine
from firmware_bridge.frames import Frame, Stream, encode_frame
from firmware_bridge.messages import (
    Ack,
    AckStatus,
    CommandKind,
    Describe,
    Hello,
    Lost,
    MetricInfo,
    Samples,
    TimeReply,
    WaveformFragment,
)
from firmware_bridge.session import Event, HostSession, Loss, Phase, Ready, Received
from fleet_core.errors import BadInput
from fleet_core.telemetry import ComponentSpec

METRIC = MetricInfo(1, "level", "1", "slot", 1000)
CHANNEL = MetricInfo(2, "wave", "[g]", "slot", 10_000, 1000.0)
DESCRIBE = Describe((METRIC, CHANNEL))
STORY_US = 1_790_000_000_000_000


def row(second: int) -> Row:
    return Row(second * 1_000_000, (float(second),))


def burst(second: int) -> Burst:
    return Burst(second * 1_000_000, CHANNEL, bytes(2 * 4000), 1.0)


@dataclass
class Bench:
    """One host, one device, a line between them, and a hand on the clock."""

    line: FaultyLine = field(default_factory=lambda: FaultyLine(FaultRates(), random.Random(1)))
    history: list[Record] = field(default_factory=list)
    backlog_limit: int = 1000
    queue_limit: int = 1024
    now_s: float = 0.0
    boot: int = 10
    booted_s: float = 0.0
    received: list[Event] = field(default_factory=list)
    confirming: bool = True

    def __post_init__(self) -> None:
        self.device = self._endpoint(self.history)
        self.host = HostSession(self.now_s, queue_limit=self.queue_limit)

    def _endpoint(self, history: list[Record]) -> DeviceEndpoint:
        hello = Hello("model", "serial", "1.0", self.boot, (ComponentSpec("slot", "bearing", "A"),))
        return DeviceEndpoint(hello, DESCRIBE, lambda *_: AckStatus.OK, history, backlog_limit=self.backlog_limit)

    def run(self, seconds: float, step_s: float = 0.1, *, listening: bool = True) -> None:
        until_s = self.now_s + seconds
        while self.now_s < until_s - 1e-9:
            self.now_s += step_s
            self.device.poll(self.now_s)
            self.host.poll(self.now_s)
            request = self.host.take_output()
            if listening:
                self.device.receive(request, self.now_s, self._ticks())
            self.device.poll(self.now_s)
            while not self.line.stalled(self.now_s) and (frame := self.device.take_frame()):
                data = self.line.pass_on(*frame, self.now_s)
                if listening:
                    self.host.feed(data, STORY_US + round(self.now_s * 1e6), self.now_s)
            if listening:
                self.consume()

    def consume(self) -> None:
        while self.host.events:
            event = self.host.events.popleft()
            self.received.append(event)
            if isinstance(event, Received) and self.confirming:
                self.host.confirm(event)

    def reboot(self) -> None:
        self.boot += 1
        self.booted_s = self.now_s
        self.device = self._endpoint([])
        self.device.announce()

    def restart_host(self) -> None:
        self.host = HostSession(self.now_s, queue_limit=self.queue_limit)

    def _ticks(self) -> int:
        return round((self.now_s - self.booted_s) * 1e6)

    def seconds(self, *, historical: bool | None = None) -> list[int]:
        return [
            ticks // 1_000_000
            for event in self.received
            if isinstance(event, Received) and isinstance(event.message, Samples)
            if historical in (None, event.message.historical)
            for ticks, _ in event.message.rows
        ]

    def losses(self) -> Counter[Stream]:
        counted: Counter[Stream] = Counter()
        for event in self.received:
            if isinstance(event, Loss):
                counted[event.stream] += event.frames
        return counted


def test_the_past_comes_first_then_live_without_a_seam() -> None:
    bench = Bench(history=[row(s) for s in range(-50, 0)])
    bench.run(3)
    for second in range(3, 10):
        bench.device.record(row(second))
        bench.run(1)
    assert isinstance(bench.received[0], Ready)
    assert bench.seconds(historical=True) == list(range(-50, 0))
    assert bench.seconds(historical=False) == list(range(3, 10))
    assert not bench.losses()


def test_time_is_mapped() -> None:
    bench = Bench()
    bench.run(2)
    ready = bench.received[0]
    assert isinstance(ready, Ready)
    assert abs(ready.time_map.to_us(2_000_000) - STORY_US - 2_000_000) <= 1


class DataFaults(FaultyLine):
    """Faults for data only: with an answer to START lost, frames are lost that nobody was told to expect."""

    def pass_on(self, stream: Stream, data: bytes, now_s: float) -> bytes:
        return data if stream is Stream.CONTROL else super().pass_on(stream, data, now_s)


@pytest.mark.parametrize("kind", [DataFaults, FaultyLine])
@pytest.mark.parametrize("seed", range(8))
def test_losses_are_declared_exactly(seed: int, kind: type[FaultyLine]) -> None:
    line = kind(FaultRates(drop=0.08, garble=0.08, stall=0.01, stall_s=1.5), random.Random(seed))
    bench = Bench(line, history=[row(s) for s in range(-400, 0)])
    produced = set(range(-400, 0))
    for second in range(1, 200):
        bench.run(1, 0.25)
        bench.device.record(row(second))
        produced.add(second)
        if second % 10 == 0:
            bench.device.record(burst(second))
    line._rates = FaultRates()
    bench.run(5)
    declared = bench.losses()
    assert declared.total() > 0
    assert bench.host.statistics()["lost"] == declared.total()
    if kind is DataFaults:
        assert declared == line.lost
    seen = bench.seconds()
    assert len(seen) == len(set(seen)), "nothing twice"
    spans = [(e.since_ticks // 10**6, e.until_ticks // 10**6) for e in bench.received if isinstance(e, Loss)]
    for second in produced - set(seen):
        assert any(since <= second <= until for since, until in spans), f"{second} is lost and not declared"


def test_the_last_frame_lost_is_known_without_another_one() -> None:
    bench = Bench()
    bench.run(2)
    assert bench.host.phase is Phase.LIVE
    bench.line._rates = FaultRates(drop=1.0)
    bench.device.record(row(2))
    bench.run(0.1)
    bench.line._rates = FaultRates()
    bench.run(3)
    assert bench.losses() == {Stream.SAMPLES: 1}


def test_what_happens_while_nobody_listens_is_kept() -> None:
    bench = Bench()
    bench.run(2)
    for second in range(2, 6):
        bench.device.record(row(second))
        bench.run(1)
    for second in range(6, 30):
        bench.device.record(row(second))
        bench.run(1, listening=False)
    bench.restart_host()
    bench.run(3)
    assert sorted(set(bench.seconds())) == list(range(2, 30))
    assert len(bench.seconds()) == 28
    assert not bench.losses()


@pytest.mark.parametrize("busy_s", [2, 4, 40])
def test_a_host_that_was_busy_goes_on_where_it_was(busy_s: int) -> None:
    """Busy beyond the device's patience, the line's bytes waiting for it: nothing stalls, is lost or comes twice."""
    bench = Bench()
    bench.run(2)
    waiting = bytearray()
    for second in range(2, 2 + busy_s):
        bench.device.record(row(second))
        bench.now_s += 1
        bench.device.poll(bench.now_s)
        while frame := bench.device.take_frame():
            waiting += frame[1]
    bench.host.feed(bytes(waiting), STORY_US + round(bench.now_s * 1e6), bench.now_s)
    bench.consume()
    bench.run(3)
    bench.device.record(row(100))
    bench.run(2)
    assert bench.seconds() == [*range(2, 2 + busy_s), 100]
    assert not bench.losses()
    assert bench.device.counters["resumed"] == (busy_s > 3)


def test_a_device_that_was_stopped_waits_for_start() -> None:
    bench = Bench()
    bench.run(2)
    bench.host.command(CommandKind.STOP)
    bench.run(6)
    bench.device.record(row(6))
    bench.run(6)
    assert not bench.seconds() and not bench.device.live


def test_what_the_host_did_not_confirm_comes_again() -> None:
    bench = Bench(confirming=False)
    bench.run(2)
    for second in range(2, 6):
        bench.device.record(row(second))
        bench.run(1)
    bench.restart_host()
    bench.run(2)
    assert bench.seconds() == [2, 3, 4, 5, 2, 3, 4, 5]


def test_a_store_that_overflows_says_so() -> None:
    bench = Bench(history=[row(s) for s in range(-150, 0)], backlog_limit=100)
    bench.run(2)
    lost = [e.message for e in bench.received if isinstance(e, Received) and isinstance(e.message, Lost)]
    assert lost == [Lost(50, -150_000_000, -101_000_000)]
    assert bench.seconds() == list(range(-100, 0))


def test_a_reboot_is_a_new_conversation() -> None:
    bench = Bench()
    bench.run(2)
    bench.device.record(row(2))
    bench.run(1)
    bench.reboot()
    bench.run(2)
    bench.device.record(row(2))
    bench.run(2)
    boots = [event.hello.boot for event in bench.received if isinstance(event, Ready)]
    assert boots == [10, 11]
    assert bench.seconds() == [2, 2]
    assert not bench.losses()


def test_a_reboot_is_noticed_even_when_its_hello_is_lost() -> None:
    bench = Bench()
    bench.run(2)
    bench.reboot()
    bench.device.take_frame()
    bench.run(3)
    assert [event.hello.boot for event in bench.received if isinstance(event, Ready)] == [10, 11]


def test_a_component_swapped_under_power_is_described_again() -> None:
    bench = Bench()
    bench.run(2)
    hello = bench.device.hello
    bench.device.hello = Hello("model", "serial", "1.0", hello.boot, (ComponentSpec("slot", "bearing", "B"),))
    bench.device.announce()
    bench.device.record(row(3))
    bench.run(2)
    serials = [event.hello.components[0].serial for event in bench.received if isinstance(event, Ready)]
    assert serials == ["A", "B"]
    assert bench.seconds() == [3]


def test_a_new_description_arrives_unasked() -> None:
    bench = Bench()
    bench.run(2)
    bench.device.describe_again(Describe((METRIC,)))
    bench.run(1)
    assert [len(e.describe.metrics) for e in bench.received if isinstance(e, Ready)] == [2, 1]


def test_commands_are_acknowledged_by_id() -> None:
    bench = Bench()
    bench.run(2)
    number = bench.host.command(CommandKind.IDENTIFY, 5)
    bench.run(1)
    acks = [e.message for e in bench.received if isinstance(e, Received) and isinstance(e.message, Ack)]
    assert [(ack.command_id, ack.status) for ack in acks] == [(number, AckStatus.OK)]


def test_a_slow_consumer_loses_and_is_told() -> None:
    bench = Bench(queue_limit=5)
    bench.run(2)
    for second in range(20):
        bench.device.record(row(second))
    while (frame := bench.device.take_frame()) is not None:
        bench.host.feed(frame[1], STORY_US, bench.now_s)
    bench.consume()
    assert len(bench.seconds()) == 5
    bench.run(2)
    assert bench.losses() == {Stream.SAMPLES: 15}
    assert bench.host.statistics()["overflow"] == 15


def test_the_device_output_is_bounded_and_its_overflow_known() -> None:
    bench = Bench()
    bench.run(2)
    for second in range(3, 43):
        bench.device.record(burst(second))
    bench.run(3)
    overflow = bench.device.counters["output_overflow_waveform"]
    assert overflow > 0
    assert bench.losses() == {Stream.WAVEFORM: overflow}


def test_noise_on_both_sides_is_counted_and_survived() -> None:
    bench = Bench()
    rng = random.Random(5)
    for _ in range(20):
        bench.host.feed(rng.randbytes(300), STORY_US, bench.now_s)
        bench.device.receive(rng.randbytes(300), bench.now_s, 0)
    for payload in (b"", b"\xa1\x00\x07", b"nonsense"):
        frame = encode_frame(Frame(Stream.SAMPLES, 10, 1, payload))
        bench.host.feed(frame, STORY_US, bench.now_s)
        bench.device.receive(frame, bench.now_s, 0)
    bench.run(3)
    assert bench.host.phase is Phase.LIVE
    assert bench.host.statistics()["cbor"] >= 1


def test_messages_out_of_place_are_counted() -> None:
    bench = Bench()
    bench.run(2)
    wrong = codec.encode(TimeReply(1, 1, (0, 0, 0)))
    bench.host.feed(encode_frame(Frame(Stream.SAMPLES, 10, 0, wrong)), STORY_US, 2.0)
    sample = codec.encode(Samples((1,), ((0, (1.0,)),)))
    bench.host.feed(encode_frame(Frame(Stream.CONTROL, 10, 0, sample)), STORY_US, 2.0)
    bench.device.receive(encode_frame(Frame(Stream.CONTROL, 10, 0, sample)), 2.0, 0)
    assert bench.host.statistics()["unexpected_message"] == 2
    assert bench.device.counters["unexpected_message"] == 1


def test_a_repeated_frame_is_taken_once() -> None:
    bench = Bench()
    bench.run(2)
    bench.device.record(row(2))
    frame = bench.device.take_frame()
    assert frame is not None
    bench.host.feed(frame[1] * 2, STORY_US, bench.now_s)
    bench.consume()
    assert bench.seconds() == [2]
    assert bench.host.statistics()["repeated"] == 1


def test_another_protocol_version_is_for_a_person() -> None:
    bench = Bench()
    bench.device.hello = Hello("m", "s", "f", 10, version=2)
    with pytest.raises(BadInput, match="protocol_version"):
        bench.run(1)


def test_waveforms_pass_in_fragments() -> None:
    bench = Bench()
    bench.run(2)
    bench.device.record(burst(3))
    bench.run(1)
    parts = [e.message for e in bench.received if isinstance(e, Received) and isinstance(e.message, WaveformFragment)]
    assert [part.offset for part in parts] == [0, 1920, 3840]
