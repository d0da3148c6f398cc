"""What is a reading, and what is none: as samples enter detection, and as a snapshot gives them back. Pure.

Where firmware has nothing to say it often writes the largest number of its type (3.4e38, 1.8e308), and a garbled frame
may hold any. Such a number is missing, as an infinite one or NaN is: sensor health tells of the channel, nothing is
learnt from it, and no square of a reading overflows.
"""

from __future__ import annotations

import numpy as np

from edge_agent.arrays import FloatArray

LARGEST_READING = 1e30
"""No vital comes near it, in whatever unit."""


def only_readings(values: FloatArray) -> FloatArray:
    """The values, of any shape, with NaN for those that are no readings."""
    return np.where(np.abs(values) <= LARGEST_READING, values, np.nan)


def only_reading(value: float) -> float:
    """The value; NaN where it is no reading."""
    return value if abs(value) <= LARGEST_READING else np.nan
