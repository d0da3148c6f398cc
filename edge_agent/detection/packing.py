"""State trees as plain JSON values and back, exactly: arrays as base64 of their float64s."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from edge_agent.detection.restored import DAMAGED, items, whole
from fleet_core.errors import BadInput

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
