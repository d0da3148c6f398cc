"""Detector state as bytes and back, exactly: JSON, arrays as base64 of their float64s, zlib around it.

No pickle: a snapshot is a file, and a file may be damaged or planted. ``unpack`` and ``load`` bound what they read
and raise BadInput only.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from typing import Any

import numpy as np

from fleet_core.errors import BadInput

MAX_BYTES = 32 * 1024 * 1024
_ARRAY = "__array__"


def pack(value: Any) -> Any:
    """A tree of dicts, lists, numbers, texts and float arrays as plain JSON values."""
    if isinstance(value, np.ndarray):
        data = np.ascontiguousarray(value, dtype="<f8")
        return {_ARRAY: base64.b64encode(data.tobytes()).decode(), "shape": list(value.shape)}
    if isinstance(value, dict):
        return {str(key): pack(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [pack(item) for item in value]
    return value


def unpack(value: Any) -> Any:
    """The inverse of ``pack``. Raises BadInput."""
    if isinstance(value, dict):
        if _ARRAY not in value:
            return {key: unpack(item) for key, item in value.items()}
        try:
            flat = np.frombuffer(base64.b64decode(value[_ARRAY], validate=True), dtype="<f8")
            return flat.reshape(value["shape"]).astype(np.float64)
        except (ValueError, TypeError, KeyError, binascii.Error):
            raise BadInput("snapshot", "an array in it is damaged") from None
    if isinstance(value, list):
        return [unpack(item) for item in value]
    return value


def dump(tree: dict[str, Any]) -> bytes:
    """A state tree as bytes."""
    return zlib.compress(json.dumps(pack(tree), separators=(",", ":")).encode(), 6)


def load(data: bytes) -> dict[str, Any]:
    """A state tree from bytes. Raises BadInput."""
    try:
        stream = zlib.decompressobj()
        text = stream.decompress(data, MAX_BYTES)
        tree = json.loads(text) if stream.eof else None
    except (zlib.error, ValueError, RecursionError):
        raise BadInput("snapshot", "not a snapshot, or damaged") from None
    if not isinstance(tree, dict):
        raise BadInput("snapshot", "not a snapshot, or larger than allowed")
    result: dict[str, Any] = unpack(tree)
    return result
