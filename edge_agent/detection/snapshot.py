"""Detector state as bytes and back, exactly: packed (``packing``) as JSON, zlib around it.

State is kept by name. No pickle: a snapshot is a file, and a file may be damaged or planted. ``load`` and ``read``
bound what they read and raise BadInput only.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

from edge_agent.detection.packing import pack, unpack
from edge_agent.detection.restored import DAMAGED
from fleet_core.errors import BadInput

VERSION = 3
FORMER_VERSION = 2
MAX_BYTES = 32 * 1024 * 1024


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
    if tree.get("version") == FORMER_VERSION:
        from edge_agent.detection import snapshot_v2  # loaded once after an update, if ever

        try:
            return snapshot_v2.translated(tree, VERSION)
        except DAMAGED:
            raise BadInput("snapshot", "it is damaged") from None
    raise BadInput("snapshot", "it belongs to another version, asset or configuration")


def trace_of(tree: dict[str, Any], slot: Any) -> Any:
    """What the component of a snapshot's slot went through, of either version. Raises BadInput when it is not kept."""
    if not isinstance(slot, dict) or "trace" not in slot:
        raise BadInput("snapshot", "it was written by a version that keeps no trace; update the agent")
    if tree.get("version") != FORMER_VERSION:
        return slot["trace"]
    from edge_agent.detection import snapshot_v2

    try:
        return snapshot_v2.translated_trace(slot["trace"])
    except DAMAGED:
        raise BadInput("trace", "it is damaged") from None
