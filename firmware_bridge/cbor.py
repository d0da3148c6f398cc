"""The part of CBOR (RFC 8949) the bridge speaks, checked before it is decoded. Pure.

Allowed: integers, floats, texts, byte strings, arrays, maps with integer keys, false, true, null. Refused: tags
(a decoder may build dates, big numbers or regular expressions from them), indefinite lengths, other simple values,
deep nesting. A payload that passes the check cannot make cbor2 allocate more than the payload holds, nor run code.
"""

from __future__ import annotations

from typing import Any

import cbor2

from fleet_core.errors import BadInput

MAX_DEPTH = 6  # the deepest message, samples, needs 4: the map, its list of rows, a row, a value
_UINT, _NINT, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_WIDTH = {24: 1, 25: 2, 26: 4, 27: 8}


def dumps(value: Any) -> bytes:
    """The bytes of ``value``. A float takes the shortest form that loses nothing; equal messages give equal bytes."""
    return cbor2.dumps(value, canonical=True)


def loads(payload: bytes) -> Any:
    """Decode one item that fills ``payload``. Raises BadInput("cbor"), never anything else."""
    if _item(payload, 0, MAX_DEPTH) != len(payload):
        raise BadInput("cbor", "bytes after the message")
    try:
        return cbor2.loads(payload)
    except (cbor2.CBORDecodeError, ValueError):  # the check lets one fault pass: a text that is not UTF-8
        raise BadInput("cbor", "not decodable") from None


def _item(data: bytes, at: int, depth: int) -> int:
    """The offset after the item at ``at``."""
    if not depth:
        raise BadInput("cbor", "nested too deeply")
    major, count, at = _head(data, at)
    if major in (_UINT, _NINT, _SIMPLE):
        return at
    if count > len(data) - at:  # every element takes at least one byte
        raise BadInput("cbor", "longer than the message")
    if major in (_BYTES, _TEXT):
        return at + count
    for _ in range(count):
        if major == _MAP:
            key, _, at = _head(data, at)
            if key not in (_UINT, _NINT):
                raise BadInput("cbor", "map keys must be integers")
        at = _item(data, at, depth - 1)
    return at


def _head(data: bytes, at: int) -> tuple[int, int, int]:
    """(major type, value, offset after the head) of the item at ``at``."""
    if at >= len(data):
        raise BadInput("cbor", "ends too early")
    major, info = data[at] >> 5, data[at] & 0x1F
    at += 1
    if major == _TAG or info > 27 or (major == _SIMPLE and info not in (20, 21, 22, 25, 26, 27)):
        raise BadInput("cbor", "tags, indefinite lengths and other simple values are not allowed")
    if info < 24:
        return major, info, at
    end = at + _WIDTH[info]
    if end > len(data):
        raise BadInput("cbor", "ends too early")
    return major, int.from_bytes(data[at:end], "big"), end
