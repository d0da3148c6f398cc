"""Frames: any bytes are survived, whole frames come back whole, damage costs what it damaged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.frames import (
    MAX_ENCODED,
    MAX_PAYLOAD,
    Frame,
    FrameDecoder,
    Stream,
    cobs_decode,
    cobs_encode,
    crc32c,
    encode_frame,
)
from fleet_core.errors import BadInput

u32 = st.integers(0, 2**32 - 1)
frames = st.builds(Frame, st.sampled_from(Stream), u32, u32, st.binary(max_size=600))


def chunked(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def feed_all(decoder: FrameDecoder, chunks: list[bytes]) -> list[Frame]:
    return [frame for chunk in chunks for frame in decoder.feed(chunk)]


def test_crc32c_check_value() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0


@pytest.mark.parametrize("size", [0, 1, 253, 254, 255, 508, 509, 1000])
@pytest.mark.parametrize("byte", [b"\0", b"\x01", b"\xff"])
def test_cobs_at_block_borders(size: int, byte: bytes) -> None:
    for data in (byte * size, byte * size + b"\0", b"\0" + byte * size):
        encoded = cobs_encode(data)
        assert b"\0" not in encoded
        assert cobs_decode(encoded) == data
        assert len(encoded) <= len(data) + len(data) // 254 + 1


@given(st.binary(max_size=2000))
def test_cobs_round_trip(data: bytes) -> None:
    assert cobs_decode(cobs_encode(data)) == data


@given(st.lists(frames, max_size=6), st.integers(1, 97))
def test_frames_round_trip_in_any_chunks(sent: list[Frame], chunk: int) -> None:
    decoder = FrameDecoder()
    assert feed_all(decoder, chunked(b"".join(map(encode_frame, sent)), chunk)) == sent
    assert not decoder.rejected


@given(st.lists(st.binary(max_size=300)))
def test_any_bytes_are_survived_and_the_next_frame_is_read(noise: list[bytes]) -> None:
    decoder = FrameDecoder()
    feed_all(decoder, noise)
    frame = Frame(Stream.SAMPLES, 7, 9, b"after the noise")
    assert decoder.feed(encode_frame(frame))[-1:] == [frame]


@given(st.data(), st.lists(frames, min_size=3, max_size=3))
def test_one_damaged_byte_costs_exactly_its_frame(data: st.DataObject, sent: list[Frame]) -> None:
    first, second, third = map(encode_frame, sent)
    at = data.draw(st.integers(0, len(second) - 1))
    damaged = bytearray(second)
    damaged[at] ^= data.draw(st.integers(1, 255))
    decoder = FrameDecoder()
    assert decoder.feed(first + bytes(damaged) + third) == [sent[0], sent[2]]
    assert sum(decoder.rejected.values()) >= 1


@given(st.data())
def test_cut_anywhere_and_the_next_frame_is_read(data: st.DataObject) -> None:
    lost, kept = data.draw(frames), data.draw(frames)
    encoded = encode_frame(lost)
    cut = data.draw(st.integers(0, len(encoded) - 2))
    assert FrameDecoder().feed(encoded[:cut] + encode_frame(kept)) == [kept]


def test_an_endless_frame_is_bounded_and_counted_once() -> None:
    decoder = FrameDecoder()
    for _ in range(5):
        assert decoder.feed(b"\x05" * MAX_ENCODED) == []
        assert len(decoder._partial) <= MAX_ENCODED
    frame = Frame(Stream.CONTROL, 1, 2, b"x")
    assert decoder.feed(encode_frame(frame)) == [frame]
    assert decoder.rejected == {"frame_oversize": 1}


def test_the_largest_payload_fits_and_one_more_is_refused() -> None:
    frame = Frame(Stream.WAVEFORM, 1, 2, b"\xff" * MAX_PAYLOAD)
    assert FrameDecoder().feed(encode_frame(frame)) == [frame]
    with pytest.raises(BadInput, match="frame_oversize"):
        encode_frame(Frame(Stream.WAVEFORM, 1, 2, b"\0" * (MAX_PAYLOAD + 1)))


def test_reasons_tell_damages_apart() -> None:
    decoder = FrameDecoder()
    body = bytes([9]) + bytes(8)
    unknown_stream = cobs_encode(body + crc32c(body).to_bytes(4, "little"))
    decoder.feed(b"\0\x09abc\0" + b"\x03ab\0" + unknown_stream + b"\0" + cobs_encode(bytes(20)) + b"\0")
    assert decoder.rejected == {"frame_cobs": 1, "frame_short": 1, "frame_stream": 1, "frame_crc": 1}
