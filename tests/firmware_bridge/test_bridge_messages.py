"""Messages: what is encoded comes back, what is hostile is BadInput and nothing else."""

from __future__ import annotations

import math
from array import array
from pathlib import Path

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge import cbor
from firmware_bridge.codec import decode, encode
from firmware_bridge.messages import (
    MAX_FRAGMENT_SAMPLES,
    MAX_METRICS,
    Ack,
    AckStatus,
    Command,
    CommandKind,
    Describe,
    Hello,
    Kind,
    Lost,
    Message,
    MetricInfo,
    Samples,
    TimeReply,
    TimeRequest,
    WaveformFragment,
)
from firmware_bridge.waveforms import WaveformAssembler, fragments, quantised
from fleet_core.errors import BadInput
from fleet_core.telemetry import ComponentSpec

u32 = st.integers(0, 2**32 - 1)
ticks = st.integers(-(2**60), 2**60)
texts = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=64)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,20}", fullmatch=True)
values = st.floats(allow_nan=False, allow_infinity=False)
triples = st.tuples(u32, u32, u32)
components = st.lists(st.builds(ComponentSpec, names, names, texts, texts), max_size=5, unique_by=lambda c: c.slot)
metrics = st.lists(
    st.builds(MetricInfo, u32, names, texts.filter(lambda t: len(t) <= 32), names | st.just(""), u32, st.just(0.0)),
    max_size=8,
    unique_by=(lambda m: m.id, lambda m: m.name),
)


@st.composite
def samples(draw: st.DrawFn) -> Samples:
    ids = tuple(draw(st.lists(u32, min_size=1, max_size=6, unique=True)))
    row = st.tuples(ticks, st.tuples(*[values] * len(ids)))
    return Samples(ids, tuple(draw(st.lists(row, min_size=1, max_size=8))), draw(st.booleans()))


@st.composite
def waveform_fragments(draw: st.DrawFn) -> WaveformFragment:
    data = draw(st.binary(min_size=2, max_size=200).filter(lambda b: len(b) % 2 == 0))
    offset = draw(st.integers(0, 1000))
    total = offset + len(data) // 2 + draw(st.integers(0, 100))
    return WaveformFragment(draw(u32), draw(u32), draw(ticks), offset, total, 25600.0, 0.5, data, draw(st.booleans()))


messages = st.one_of(
    st.builds(Hello, texts, texts, texts, u32, components.map(tuple), st.integers(1, 10**9)),
    st.builds(Describe, metrics.map(tuple)),
    samples(),
    waveform_fragments(),
    st.builds(lambda n, a, b: Lost(n, min(a, b), max(a, b)), st.integers(1, 10**6), ticks, ticks),
    st.builds(Command, u32, st.sampled_from(CommandKind), u32),
    st.builds(Ack, u32, st.sampled_from(AckStatus), triples, ticks),
    st.builds(TimeRequest, u32, triples),
    st.builds(TimeReply, u32, ticks, triples),
)


@given(messages)
def test_round_trip(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=400))
def test_any_payload_is_a_message_or_bad_input(payload: bytes) -> None:
    try:
        decode(payload)
    except BadInput:
        pass


@given(messages, st.data())
def test_a_damaged_payload_is_a_message_or_bad_input(message: Message, data: st.DataObject) -> None:
    payload = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(payload))
    except BadInput:
        pass


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 10), inner, max_size=4),
    max_leaves=12,
)


@given(st.integers(0, 12), st.dictionaries(st.integers(1, 10), json_like))
def test_well_formed_nonsense_is_bad_input_or_a_message(kind: int, fields: dict[int, object]) -> None:
    try:
        decode(cbor2.dumps({0: kind} | fields))
    except BadInput:
        pass


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc0\x60",  # a tag
        b"\xd8\x23\x63(a+",  # a regular expression
        b"\x9f\xff",  # indefinite array
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",  # an array of 2**64 - 1
        b"\x7b\x7f\xff\xff\xff\xff\xff\xff\xff",  # a text of 2**63 - 1
        b"\x81" * 3000 + b"\x01",  # nesting
        b"\xa1\x61a\x01",  # a text as key
        b"\xa1\x80\x01",  # a list as key
        b"\x61\xff",  # not UTF-8
        b"\x01\x01",  # two items
        b"\xf7",  # undefined
    ],
)
def test_cbor_outside_the_allowed_part(payload: bytes) -> None:
    with pytest.raises(BadInput, match="cbor"):
        cbor.loads(payload)


def test_unknown_keys_are_ignored_and_unknown_kinds_refused() -> None:
    command = Command(5, CommandKind.START)
    assert decode(cbor2.dumps(cbor2.loads(encode(command)) | {99: [1, 2]})) == command
    for kind in (77, [1], None, True):
        with pytest.raises(BadInput):
            decode(cbor2.dumps({0: kind, 1: 1}))


def test_another_protocol_version_has_its_own_reason() -> None:
    hello = cbor2.loads(encode(Hello("m", "s", "f", 1)))
    with pytest.raises(BadInput) as caught:
        decode(cbor2.dumps(hello | {1: 2}))
    assert caught.value.reason == "protocol_version"


def test_what_breaks_a_bound_is_refused() -> None:
    many = tuple(MetricInfo(number, f"m{number}", "1") for number in range(MAX_METRICS + 1))
    twice = (MetricInfo(1, "a", "1"), MetricInfo(2, "a", "1"))
    one_slot = (ComponentSpec("s", "bearing", "A"), ComponentSpec("s", "bearing", "B"))
    for message in (
        Describe(many),
        Describe(twice),
        Hello("m", "s", "f", 1, one_slot),
        Hello("m" * 65, "s", "f", 1),
        Hello("m\n", "s", "f", 1),
        Samples((1, 1), ((0, (1.0, 2.0)),)),
        Samples((1,), ()),
        Lost(1, 5, 4),
        Command(1, CommandKind.START, -1),
        TimeReply(1, 2**62 + 1, (0, 0, 0)),
    ):
        with pytest.raises(BadInput):
            decode(encode(message))


def test_values_that_are_not_finite_are_nan() -> None:
    decoded = decode(encode(Samples((1, 2, 3), ((0, (math.nan, math.inf, 1.5)),))))
    assert isinstance(decoded, Samples)
    (_, row) = decoded.rows[0]
    assert math.isnan(row[0]) and math.isnan(row[1]) and row[2] == 1.5


@given(st.integers(1, 3 * MAX_FRAGMENT_SAMPLES), st.integers(0, 2**32 - 1))
def test_waveforms_survive_cutting(length: int, seed: int) -> None:
    wave = np.random.default_rng(seed).normal(0, 2, length)
    data, scale = quantised(wave)
    parts = fragments(MetricInfo(6, "v", "[g]", "", 0, 25600.0), 1, 0, data, scale, False)
    assembler = WaveformAssembler()
    results = [assembler.feed(decode(encode(part))) for part in parts]  # type: ignore[arg-type]  # a union member
    assert all(result is None for result in results[:-1])
    whole = results[-1]
    assert isinstance(whole, array) and whole.typecode == "f"
    np.testing.assert_allclose(whole, wave, atol=scale)


def test_a_missing_fragment_spoils_its_waveform_only() -> None:
    info = MetricInfo(6, "v", "[g]", "", 0, 25600.0)
    data, scale = quantised(np.ones(3 * MAX_FRAGMENT_SAMPLES))
    first, second = (fragments(info, number, number, data, scale, False) for number in (1, 2))
    assembler = WaveformAssembler()
    assert [assembler.feed(part) for part in (first[0], first[2])] == [None, None]
    assert [assembler.feed(part) is not None for part in second] == [False, False, True]
    assert assembler.incomplete == 1


def test_a_still_sensor_has_a_waveform_too() -> None:
    data, scale = quantised(np.zeros(4))
    assert data == bytes(8) and scale > 0


def test_the_document_lists_every_message_and_command() -> None:
    document = (Path(__file__).parents[2] / "docs" / "firmware-protocol.md").read_text()
    for member in (*Kind, *CommandKind):
        assert f"| {member.value} | {member.name.lower()} |" in document
