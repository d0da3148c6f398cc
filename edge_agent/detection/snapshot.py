"""Detector state as bytes and back, exactly: JSON, arrays as base64 of their float64s, zlib around it.

State is kept by name. No pickle: a snapshot is a file, and a file may be damaged or planted. ``unpack``, ``load`` and
``read`` bound what they read and raise BadInput only.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np

from edge_agent.detection import snapshot_v2
from edge_agent.detection.restored import DAMAGED, items, whole
from fleet_core.errors import BadInput

VERSION = 3
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
    """The inverse of ``pack``. Raises BadInput; RecursionError when it is nested too deeply."""
    if isinstance(value, dict):
        if _ARRAY not in value:
            return {key: unpack(item) for key, item in value.items()}
        try:
            flat = np.frombuffer(base64.b64decode(value[_ARRAY], validate=True), dtype="<f8")
            return flat.reshape([whole(length) for length in items(value["shape"])]).astype(np.float64)
        except DAMAGED:
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
        tree = unpack(json.loads(text)) if stream.eof else None
    except (zlib.error, *DAMAGED):
        raise BadInput("snapshot", "not a snapshot, or damaged") from None
    if not isinstance(tree, dict):
        raise BadInput("snapshot", "not a snapshot, or larger than allowed")
    return tree


def read(data: bytes) -> dict[str, Any]:
    """A detection's state from the bytes of this version's snapshot, or of the one before. Raises BadInput."""
    tree = load(data)
    if tree.get("version") == VERSION:
        return tree
    if tree.get("version") == snapshot_v2.VERSION:
        try:
            return snapshot_v2.translated(tree, VERSION)
        except DAMAGED:
            raise BadInput("snapshot", "it is damaged") from None
    raise BadInput("snapshot", "it belongs to another version, asset or configuration")


def trace_of(tree: dict[str, Any], slot: Any) -> Any:
    """What the component of a snapshot's slot went through, of either version. Raises BadInput when it is not kept."""
    if not isinstance(slot, dict) or "trace" not in slot:
        raise BadInput("snapshot", "it was written by a version that keeps no trace; update the agent")
    if tree.get("version") != snapshot_v2.VERSION:
        return slot["trace"]
    try:
        return snapshot_v2.translated_trace(slot["trace"])
    except DAMAGED:
        raise BadInput("trace", "it is damaged") from None
