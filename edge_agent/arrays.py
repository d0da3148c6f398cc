"""The array types of the agent's numeric code."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
FlagArray = NDArray[np.bool_]
RealArray = NDArray[np.floating[Any]]
"""Floats of either precision: traces are kept as float32."""
