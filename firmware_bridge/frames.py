"""Bytes on a serial line <-> frames. Pure: no port, no clock.

A frame on the line is ``00 COBS(header payload crc) 00``. Consistent Overhead Byte Stuffing keeps the byte 00 out of
the frame's inside, so a receiver finds the next frame after any amount of garbage. The delimiter stands on *both*
sides, so that one damaged byte costs one frame, never two. All integers are little-endian::

    stream   u8     which sequence the frame belongs to (see Stream)
    boot     u32    the sender's boot id: a frame is never read with another boot's clock
    sequence u32    counts the stream's frames in this boot, wraps
    payload  0 .. MAX_PAYLOAD bytes
    crc      u32    CRC-32C (Castagnoli) of everything before it

An incomplete frame is not an error: the decoder waits for more bytes. A damaged frame is skipped and counted by reason
in ``FrameDecoder.rejected``. Memory is bounded by ``MAX_ENCODED`` whatever arrives.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from enum import IntEnum

from fleet_core.errors import BadInput

MAX_PAYLOAD = 4096
_HEADER = struct.Struct("<BII")
_CRC = struct.Struct("<I")
OVERHEAD = _HEADER.size + _CRC.size
MAX_ENCODED = MAX_PAYLOAD + OVERHEAD + (MAX_PAYLOAD + OVERHEAD) // 254 + 1
SEQUENCE_MODULUS = 1 << 32


class Stream(IntEnum):
    """The streams of a device. Every stream counts its own frames, so a lost answer is not taken for lost vitals."""

    CONTROL = 0
    SAMPLES = 1
    WAVEFORM = 2
    HISTORY = 3


DATA_STREAMS = (Stream.SAMPLES, Stream.WAVEFORM, Stream.HISTORY)


@dataclass(frozen=True, slots=True)
class Frame:
    """One checked frame; ``payload`` is a CBOR message (see messages.py)."""

    stream: Stream
    boot: int
    sequence: int
    payload: bytes


class FrameDecoder:
    """An incremental decoder: ``feed`` takes bytes as they come and returns the frames that they complete."""

    def __init__(self) -> None:
        self.rejected: Counter[str] = Counter()
        self._partial = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[Frame]:
        """Frames completed by ``data``, in order. Never raises, whatever the bytes."""
        frames: list[Frame] = []
        *complete, rest = data.split(b"\0")
        for piece in complete:
            if len(self._partial) + len(piece) > MAX_ENCODED:
                self._reject_oversize()
            elif not self._skipping and (self._partial or piece):
                self._collect(bytes(self._partial) + piece, frames)
            self._partial.clear()
            self._skipping = False
        if self._skipping or len(self._partial) + len(rest) > MAX_ENCODED:
            self._reject_oversize()
            self._partial.clear()
            self._skipping = True
        else:
            self._partial += rest
        return frames

    def _collect(self, encoded: bytes, frames: list[Frame]) -> None:
        try:
            frames.append(decode_frame(encoded))
        except BadInput as error:
            self.rejected[error.reason] += 1

    def _reject_oversize(self) -> None:
        if not self._skipping:
            self.rejected["frame_oversize"] += 1


def encode_frame(frame: Frame) -> bytes:
    """The bytes to write, delimiters included. Raises BadInput for a payload over MAX_PAYLOAD."""
    if len(frame.payload) > MAX_PAYLOAD:
        raise BadInput("frame_oversize", f"{len(frame.payload)} bytes of payload, at most {MAX_PAYLOAD}")
    body = _HEADER.pack(frame.stream, frame.boot, frame.sequence) + frame.payload
    return b"\0" + cobs_encode(body + _CRC.pack(crc32c(body))) + b"\0"


def decode_frame(encoded: bytes) -> Frame:
    """The frame in the bytes between two delimiters. Raises BadInput; its ``reason`` names the fault."""
    body = cobs_decode(encoded)
    if len(body) < OVERHEAD:
        raise BadInput("frame_short", f"{len(body)} bytes")
    if len(body) > MAX_PAYLOAD + OVERHEAD:
        raise BadInput("frame_oversize", f"{len(body)} bytes")
    content, (crc,) = body[: -_CRC.size], _CRC.unpack(body[-_CRC.size :])
    if crc32c(content) != crc:
        raise BadInput("frame_crc", "checksum does not match")
    stream, boot, sequence = _HEADER.unpack_from(content)
    if stream > max(Stream):
        raise BadInput("frame_stream", f"unknown stream {stream}")
    return Frame(Stream(stream), boot, sequence, content[_HEADER.size :])


def cobs_encode(data: bytes) -> bytes:
    """Consistent Overhead Byte Stuffing: the same data without a zero byte. It grows by at most 1 in 254, plus 1."""
    out = bytearray()
    for block in data.split(b"\0"):
        start = 0
        while len(block) - start >= 254:
            out.append(255)
            out += block[start : start + 254]
            start += 254
        out.append(len(block) - start + 1)
        out += block[start:]
    return bytes(out)


def cobs_decode(encoded: bytes) -> bytes:
    """Undo :func:`cobs_encode`. Raises BadInput("frame_cobs")."""
    out = bytearray()
    at, size = 0, len(encoded)
    while at < size:
        code = encoded[at]
        end = at + code
        if code == 0 or end > size:
            raise BadInput("frame_cobs", "byte stuffing is broken")
        out += encoded[at + 1 : end]
        at = end
        if code < 255 and at < size:
            out.append(0)
    return bytes(out)


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, reflected); 0xE3069283 for ``b"123456789"``."""
    crc = 0xFFFFFFFF
    table = _CRC_TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF
