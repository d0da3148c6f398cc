"""The host's side of the conversation, word by word: what it asks, what it does with each answer, and what is lost."""

from __future__ import annotations

from typing import Any

import pytest

from firmware_bridge import codec
from firmware_bridge.frames import SEQUENCE_MODULUS, Frame, FrameDecoder, Stream, encode_frame
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
    WaveformFragment,
)
from firmware_bridge.session import HostSession, Loss, Phase, Ready, Received
from fleet_core.errors import BadInput
from fleet_core.telemetry import ComponentSpec

BOOT = 77
US = 1_790_000_000_000_000
METRIC = MetricInfo(1, "level", "1", "slot", 1000)
DESCRIBE = Describe((METRIC,))
HALF = SEQUENCE_MODULUS // 2


def hello(serial: str = "A", **more: Any) -> Hello:
    return Hello(
        "model", "serial", "1.0", **{"boot": BOOT, "components": (ComponentSpec("slot", "bearing", serial),), **more}
    )


def samples(*ticks: int, historical: bool = False) -> Samples:
    return Samples((1,), tuple((tick, (1.0,)) for tick in ticks), historical)


class Talk:
    """A host, and a device that says exactly what it is told to say."""

    def __init__(self, **options: Any) -> None:
        self.host = HostSession(0.0, **options)
        self._heard = FrameDecoder()

    def say(self, message: Message, stream: Stream = Stream.CONTROL, sequence: int = 0, *, boot: int = BOOT,
            now_s: float = 0.0, received_us: int = US) -> None:  # fmt: skip
        self.host.feed(encode_frame(Frame(stream, boot, sequence, codec.encode(message))), received_us, now_s)

    def frames(self, now_s: float) -> list[Frame]:
        """What the host sends when it is polled now."""
        self.host.poll(now_s)
        frames = self._heard.feed(self.host.take_output())
        assert not self._heard.rejected  # frames, and nothing between them
        return frames

    def asked(self, now_s: float) -> list[Message]:
        return [codec.decode(frame.payload) for frame in self.frames(now_s)]

    def events(self) -> list[Any]:
        events = list(self.host.events)
        self.host.events.clear()
        return events

    def go_live(self, upcoming: tuple[int, int, int] = (0, 0, 0), *, since_ticks: int = 0, ticks: int = 0) -> None:
        """The whole handshake at second 0; the last answer to the question for the time says ``ticks``."""
        self.say(hello())
        self.say(DESCRIBE)
        for _ in range(4):
            self.say(TimeReply(1, ticks, (0, 0, 0)))
        (start,) = self.asked(0.0)
        assert isinstance(start, Command) and start.kind is CommandKind.START
        self.say(Ack(start.id, AckStatus.OK, upcoming, since_ticks))
        (self.ready,) = self.events()
        assert isinstance(self.ready, Ready) and self.host.phase is Phase.LIVE


def live(*arguments: Any, **options: Any) -> Talk:
    talk = Talk()
    talk.go_live(*arguments, **options)
    return talk


def counted(talk: Talk) -> dict[str, int]:
    return {name: count for name, count in talk.host.statistics().items() if name not in ("frames", "accepted")}


def test_the_handshake_asks_one_question_after_the_other() -> None:
    talk = Talk()
    assert talk.host.phase is Phase.HELLO
    assert talk.asked(0.0) == [Command(1, CommandKind.HELLO)]
    talk.say(hello(), now_s=1.0)
    assert talk.host.phase is Phase.DESCRIBE
    assert talk.asked(1.0) == [Command(2, CommandKind.DESCRIBE)]
    talk.say(DESCRIBE, now_s=2.0)
    for number in (3, 4, 5, 6):  # four answers, each asked for as soon as the last one came
        assert talk.host.phase is Phase.SYNC
        assert talk.asked(2.0) == [TimeRequest(number, (0, 0, 0))]
        talk.say(TimeReply(number, 500, (0, 0, 0)), now_s=2.0)
    assert talk.host.phase is Phase.STARTING
    assert talk.asked(2.0) == [Command(7, CommandKind.START)]
    assert talk.events() == []
    talk.say(Ack(7, AckStatus.OK, (0, 0, 0), 0), now_s=3.0)
    assert talk.host.phase is Phase.LIVE
    (ready,) = talk.events()
    assert (ready.hello, ready.describe, ready.time_map.to_us(500)) == (hello(), DESCRIBE, US)
    assert talk.asked(3.0) == [TimeRequest(8, (0, 0, 0))]


def test_each_phase_is_called_what_it_waits_for() -> None:
    assert [phase.value for phase in Phase] == ["hello", "describe", "time sync", "start", "live"]


def test_questions_are_numbered_frames_of_the_boot_they_are_for() -> None:
    talk = Talk()
    frames = talk.frames(0.0)
    talk.say(hello())
    frames += talk.frames(0.0) + talk.frames(0.5)
    assert [(frame.stream, frame.boot, frame.sequence) for frame in frames] == [
        (Stream.CONTROL, 0, 0), (Stream.CONTROL, BOOT, 1), (Stream.CONTROL, BOOT, 2),
    ]  # fmt: skip
    assert talk.host.take_output() == b""


@pytest.mark.parametrize("answers", range(4))
def test_a_question_without_an_answer_is_asked_again_after_half_a_second(answers: int) -> None:
    talk = Talk(ping_s=7.0)
    for message in (hello(), DESCRIBE, *[TimeReply(1, 0, (0, 0, 0))] * 4)[: answers if answers < 3 else 6]:
        talk.say(message)
    kinds = [type(message) for now_s in (0.0, 0.4, 0.5, 0.9, 1.0) for message in talk.asked(now_s)]
    assert kinds == [TimeRequest if answers == 2 else Command] * 3


def test_a_live_device_is_asked_for_the_time_every_second_or_as_it_was_set() -> None:
    assert [len(live().asked(0.0)), Talk().host._ping_s] == [1, 1.0]
    talk = Talk(ping_s=3.0)
    talk.go_live()
    assert [len(talk.asked(now_s)) for now_s in (0.0, 2.9, 3.0, 5.9, 6.0)] == [1, 0, 1, 0, 1]


def test_commands_have_ids_that_count_up_and_no_argument_unless_given() -> None:
    talk = live()
    assert talk.asked(0.0)
    first = talk.host.command(CommandKind.SNAPSHOT)
    assert talk.host.command(CommandKind.IDENTIFY, 5) == first + 1
    assert talk.asked(0.0) == [Command(first, CommandKind.SNAPSHOT, 0), Command(first + 1, CommandKind.IDENTIFY, 5)]
    answer = Ack(first, AckStatus.REFUSED, (0, 0, 0), 0)
    talk.say(answer, sequence=9, received_us=US + 5)
    assert talk.events() == [Received(answer, Stream.CONTROL, 9, US + 5)]


def test_an_answer_to_another_command_does_not_start_the_device() -> None:
    talk = Talk()
    for message in (hello(), DESCRIBE, *[TimeReply(1, 0, (0, 0, 0))] * 4):
        talk.say(message)
    (start,) = talk.asked(0.0)
    assert isinstance(start, Command)
    talk.say(Ack(start.id + 1, AckStatus.OK, (0, 0, 0), 0))
    assert talk.host.phase is Phase.STARTING and [type(event) for event in talk.events()] == [Received]
    talk.say(Ack(start.id, AckStatus.REFUSED, (0, 0, 0), 0))
    assert talk.host.phase is Phase.STARTING and talk.events() == []
    assert counted(talk) == {"start_refused": 1}
    (again,) = talk.asked(0.5)
    talk.say(Ack(start.id, AckStatus.OK, (0, 0, 0), 0))  # too late: another question stands
    assert talk.host.phase is Phase.STARTING
    talk.say(Ack(again.id, AckStatus.OK, (5, 0, 0), 0))  # a command
    assert talk.host.phase is Phase.LIVE


def test_a_start_answered_twice_changes_nothing() -> None:
    talk = Talk()
    for message in (hello(), DESCRIBE, *[TimeReply(1, 0, (0, 0, 0))] * 4):
        talk.say(message)
    (start,) = talk.asked(0.0)
    for upcoming in ((0, 0, 0), (9, 9, 9)):
        talk.say(Ack(start.id, AckStatus.OK, upcoming, 0))  # a command
    assert len(talk.events()) == 1
    talk.say(samples(5), Stream.SAMPLES, 0)
    assert [type(event) for event in talk.events()] == [Received] and counted(talk) == {}


def test_data_before_the_start_are_counted_and_not_taken() -> None:
    talk = Talk()
    talk.say(samples(1), Stream.SAMPLES)
    assert counted(talk) == {"before_hello": 1} and talk.host.phase is Phase.HELLO
    talk.say(hello())
    talk.say(samples(1), Stream.SAMPLES)
    assert counted(talk) == {"before_hello": 1, "before_start": 1}
    assert talk.events() == [] and talk.host.phase is Phase.DESCRIBE


def test_a_hello_whose_frame_is_of_another_boot_is_not_believed() -> None:
    talk = Talk()
    talk.say(hello(), boot=BOOT + 1)
    assert counted(talk) == {"boot_mismatch": 1} and talk.host.phase is Phase.HELLO
    assert talk.asked(0.0) == [Command(1, CommandKind.HELLO)]


@pytest.mark.parametrize("changes", [{"boot": BOOT + 1}, {"tick_hz": 1000}])
def test_a_reboot_is_a_new_conversation_with_a_time_of_its_own(changes: dict[str, int]) -> None:
    talk = live(ticks=1000)
    talk.say(samples(2000), Stream.SAMPLES, 0)
    talk.host.confirm(talk.events()[0])
    boot = changes.get("boot", BOOT)
    talk.say(hello(**changes), boot=boot)
    assert talk.host.phase is Phase.DESCRIBE
    talk.say(samples(1), Stream.SAMPLES, 1, boot=boot)
    assert talk.events() == [] and counted(talk) == {"before_start": 1}
    talk.say(DESCRIBE, boot=boot)
    assert talk.asked(0.0) == [TimeRequest(2, (0, 0, 0))]  # what was confirmed was of the boot before
    for _ in range(3):
        talk.say(TimeReply(4, 7, (0, 0, 0)), boot=boot, received_us=US + 9)
    assert talk.host.phase is Phase.SYNC
    talk.say(TimeReply(4, 7, (0, 0, 0)), boot=boot, received_us=US + 9)
    (start,) = talk.asked(0.0)
    talk.say(Ack(start.id, AckStatus.OK, (3, 0, 0), 0), boot=boot)  # a command
    (ready,) = talk.events()
    assert ready.hello == hello(**changes) and ready.time_map.to_us(7) == US + 9


def test_a_stray_frame_of_another_boot_makes_the_host_ask_who_is_there() -> None:
    talk = live()
    assert talk.asked(0.0)
    talk.say(samples(1), Stream.SAMPLES, 0, boot=BOOT + 1, now_s=0.2)
    assert counted(talk) == {"before_hello": 1} and talk.host.phase is Phase.HELLO
    assert [message.kind for message in talk.asked(0.2)] == [CommandKind.HELLO]
    talk.say(samples(1), Stream.SAMPLES, 0, boot=BOOT + 1, now_s=0.3)
    assert talk.asked(0.3) == []  # asked already
    talk.say(hello("B"), now_s=0.4)
    assert talk.host.phase is Phase.DESCRIBE
    talk.say(DESCRIBE, now_s=0.4)
    talk.say(TimeReply(1, 0, (0, 0, 0)), now_s=0.4)
    (start,) = talk.asked(0.4)
    talk.say(Ack(start.id, AckStatus.OK, (0, 0, 0), 0))  # a command
    (ready,) = talk.events()
    assert ready.hello == hello("B")


def test_a_component_swapped_under_power_is_no_restart_and_hides_no_loss() -> None:
    talk = live(ticks=100)
    talk.say(samples(200), Stream.SAMPLES, 0)
    (before,) = talk.events()
    talk.host.confirm(before)
    assert talk.asked(0.0) == [TimeRequest(2, (1, 0, 0))]
    talk.say(hello("B"), now_s=0.5)
    assert talk.host.phase is Phase.LIVE
    assert talk.asked(0.5) == [Command(3, CommandKind.DESCRIBE)]  # at once
    assert talk.asked(1.0)[0] == Command(4, CommandKind.DESCRIBE)  # and again until it is answered
    assert talk.events() == []
    talk.say(samples(500), Stream.SAMPLES, 4)
    assert talk.events()[0] == Loss(Stream.SAMPLES, 3, 200, 500)
    talk.say(DESCRIBE)
    (ready,) = talk.events()
    assert (ready.hello, ready.describe) == (hello("B"), DESCRIBE)
    assert ready.time_map is talk.ready.time_map  # the time of the same boot
    assert talk.asked(2.0) == [TimeRequest(6, (1, 0, 0))]


def test_the_same_hello_and_the_same_description_again_are_no_news() -> None:
    talk = live()
    assert talk.asked(0.0)
    talk.say(hello())
    talk.say(DESCRIBE)
    assert (talk.events(), talk.asked(0.5), talk.host.phase) == ([], [], Phase.LIVE)
    other = Describe((METRIC, MetricInfo(2, "more", "1")))
    talk.say(other)
    assert [event.describe for event in talk.events()] == [other]


def test_a_description_out_of_turn_moves_nothing() -> None:
    talk = Talk()
    talk.say(hello())
    talk.say(DESCRIBE)
    talk.say(Describe((METRIC, MetricInfo(2, "more", "1"))))
    assert talk.host.phase is Phase.SYNC and talk.events() == []


def test_what_was_jumped_over_is_lost_between_what_was_seen_before_and_after() -> None:
    talk = live((10, 20, 30), ticks=1000, since_ticks=-500)
    first = samples(1400, 1500)
    talk.say(first, Stream.SAMPLES, 12, received_us=US + 7)
    assert talk.events() == [Loss(Stream.SAMPLES, 2, 1000, 1400), Received(first, Stream.SAMPLES, 12, US + 7)]
    talk.say(samples(1600, 1700), Stream.SAMPLES, 14)
    assert talk.events()[0] == Loss(Stream.SAMPLES, 1, 1500, 1600)
    part = WaveformFragment(1, 1, 1800, 0, 4, 1000.0, 1.0, bytes(8))
    talk.say(part, Stream.WAVEFORM, 21)
    assert talk.events()[0] == Loss(Stream.WAVEFORM, 1, 1000, 1800)
    talk.say(Lost(5, -400, -300), Stream.HISTORY, 31)
    talk.say(samples(-200, historical=True), Stream.HISTORY, 33)
    assert [event for event in talk.events() if isinstance(event, Loss)] == [
        Loss(Stream.HISTORY, 1, -500, -400),
        Loss(Stream.HISTORY, 1, -300, -200),
    ]
    assert talk.host.statistics() == {"frames": 12, "accepted": 5, "lost": 6}


def test_a_loss_is_a_span_of_time_even_when_ticks_run_backwards() -> None:
    talk = live(ticks=1000)
    talk.say(samples(400), Stream.SAMPLES, 1)
    assert talk.events()[0] == Loss(Stream.SAMPLES, 1, 400, 1000)


def test_what_was_seen_is_not_taken_again() -> None:
    talk = live((5, 0, 0))
    talk.say(samples(1), Stream.SAMPLES, 5)
    talk.events()
    for sequence in (5, 4, 5 + 1 + HALF):  # half the numbers lie before, half after
        talk.say(samples(2), Stream.SAMPLES, sequence)
    assert talk.events() == [] and counted(talk) == {"repeated": 3}
    talk.say(samples(3), Stream.SAMPLES, 6 + HALF - 1)
    loss, received = talk.events()
    assert loss == Loss(Stream.SAMPLES, HALF - 1, 1, 3) and received.sequence == 5 + HALF


def test_numbers_go_around() -> None:
    last = SEQUENCE_MODULUS - 1
    talk = live((last, last, last))
    talk.say(samples(1), Stream.SAMPLES, last)
    (first,) = talk.events()
    talk.host.confirm(first)
    assert talk.asked(0.0) == [TimeRequest(2, (0, last, last))]
    talk.say(samples(2), Stream.SAMPLES, 0)
    talk.say(samples(4), Stream.SAMPLES, 2)
    assert [type(event) for event in talk.events()] == [Received, Loss, Received]
    assert counted(talk) == {"lost": 1}


def test_a_reply_that_knows_of_more_than_arrived_declares_it_lost_until_then() -> None:
    talk = live((3, 3, 3), ticks=100)
    talk.say(TimeReply(9, 900, (3, 5, 4)))
    assert talk.events() == [Loss(Stream.WAVEFORM, 2, 100, 900), Loss(Stream.HISTORY, 1, 0, 900)]
    assert counted(talk) == {"lost": 3}
    talk.say(TimeReply(9, 950, (3, 5, 4)))
    talk.say(TimeReply(9, 950, (2, 4, 3)))  # an answer that was overtaken
    assert talk.events() == []
    talk.say(TimeReply(9, 1000, (3, 6, 4)))
    assert talk.events() == [Loss(Stream.WAVEFORM, 1, 900, 1000)]  # what is declared is not declared again
    talk.say(samples(990), Stream.SAMPLES, 3)
    assert [type(event) for event in talk.events()] == [Received]


def test_a_reply_of_before_the_latest_sample_does_not_turn_time_back() -> None:
    talk = live()
    talk.say(samples(800), Stream.SAMPLES, 0)
    talk.say(TimeReply(9, 700, (2, 0, 0)))
    assert talk.events()[-1] == Loss(Stream.SAMPLES, 1, 700, 800)
    talk.say(samples(900), Stream.SAMPLES, 3)
    assert talk.events()[0] == Loss(Stream.SAMPLES, 1, 800, 900)


def test_while_the_time_is_asked_for_nothing_is_declared_lost() -> None:
    talk = Talk()
    for message in (hello(), DESCRIBE, *[TimeReply(1, 0, (9, 9, 9))] * 4):
        talk.say(message)
    assert talk.events() == [] and counted(talk) == {}


def test_a_full_queue_drops_data_and_knows_it() -> None:
    talk = Talk(queue_limit=2)
    talk.go_live()
    for sequence in range(4):
        talk.say(samples(sequence), Stream.SAMPLES, sequence)
    assert counted(talk) == {"overflow": 2}
    assert [event.sequence for event in talk.events()] == [0, 1]
    talk.say(samples(9), Stream.SAMPLES, 4)
    assert talk.events()[0] == Loss(Stream.SAMPLES, 2, 1, 9)
    many = live()
    for sequence in range(1030):
        many.say(samples(sequence), Stream.SAMPLES, sequence)
    assert (len(many.events()), counted(many)) == (1024, {"overflow": 6})


def test_only_what_is_confirmed_is_told_to_the_device() -> None:
    talk = live((10, 20, 30))
    talk.say(samples(1), Stream.SAMPLES, 10)
    talk.say(samples(-5, historical=True), Stream.HISTORY, 30)
    talk.say(Ack(99, AckStatus.OK, (0, 0, 0), 0), sequence=5)
    _, old, answer = talk.events()
    assert talk.asked(0.0) == [TimeRequest(2, (10, 20, 30))]
    talk.host.confirm(old)
    talk.host.confirm(answer)  # no data: nothing to be kept
    assert talk.asked(1.0) == [TimeRequest(3, (10, 20, 31))]


def test_live_data_and_replies_set_the_time_and_the_stored_past_does_not() -> None:
    talk = live(ticks=0)
    talk.say(samples(-1_000_000, historical=True), Stream.HISTORY, 0, received_us=US - 2_000_000)
    talk.say(samples(2_000_000, 4_000_000), Stream.SAMPLES, 0, received_us=US + 4_000_000)
    talk.say(DESCRIBE)
    talk.say(Describe((METRIC, MetricInfo(2, "more", "1"))))
    time_map = talk.events()[-1].time_map
    assert time_map.to_us(4_000_000) == US + 4_000_000
    talk.say(samples(6_000_000), Stream.SAMPLES, 1, received_us=US + 5_900_000)  # quicker on its way than any before
    assert time_map.to_us(6_000_000) == US + 5_900_000
    talk.say(TimeReply(1, 8_000_000, (2, 0, 1)), received_us=US + 7_800_000)
    assert time_map.to_us(8_000_000) == US + 7_800_000


def test_messages_where_they_do_not_belong_are_counted() -> None:
    talk = live()
    talk.say(samples(1))
    talk.say(TimeReply(1, 1, (0, 0, 0)), Stream.SAMPLES, 0)
    assert counted(talk) == {"unexpected_message": 2} and talk.events() == []


def test_what_cannot_be_read_is_counted_by_its_reason_and_is_no_sign_of_life() -> None:
    talk = live()
    talk.host.feed(b"\x05noise\x00", US, 5.0)
    talk.host.feed(encode_frame(Frame(Stream.SAMPLES, BOOT, 0, b"nonsense")), US, 6.0)
    assert talk.host.last_heard_s == 0.0
    statistics = talk.host.statistics()
    assert statistics["cbor"] == 1 and sum(n for name, n in statistics.items() if name.startswith("frame_")) == 1
    assert statistics["frames"] == 8
    talk.say(samples(1), Stream.SAMPLES, 0, now_s=7.5)
    assert talk.host.last_heard_s == 7.5 and Talk().host.last_heard_s == 0.0


def test_another_protocol_version_is_for_a_person_to_mend() -> None:
    talk = Talk()
    with pytest.raises(BadInput, match="protocol_version"):
        talk.say(hello(version=2))
    assert counted(talk) == {"protocol_version": 1}
