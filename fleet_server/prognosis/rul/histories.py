"""Lives of units as arrays: the input of every part of the engine for remaining useful life.

The rows of a unit ascend in time; ``values`` is NaN where a reading is missing. A unit that is not ``failed`` is
censored at its last time: it lived at least that long. Times are in the unit of the table (hours, cycles, charges).
The invariants are checked when a unit is made, so that no other module has to check them again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleet_core.errors import BadInput

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Unit:
    """One life.

    ``times`` (n,) strictly ascending and finite, ``values`` (n, channels) with NaN where missing, never infinite.

    Raises:
        BadInput: ``shape``, ``empty``, ``times`` or ``infinite``.
    """

    name: str
    times: Floats
    values: Floats
    failed: bool

    def __post_init__(self) -> None:
        if self.times.ndim != 1 or self.values.ndim != 2 or len(self.times) != len(self.values):
            raise BadInput("shape", f"unit {self.name}: times {self.times.shape}, values {self.values.shape}")
        if not len(self.times):
            raise BadInput("empty", f"unit {self.name} has no row")
        if not np.isfinite(self.times).all() or (np.diff(self.times) <= 0.0).any():
            raise BadInput("times", f"unit {self.name}: times must be finite and ascend")
        if np.isinf(self.values).any():
            raise BadInput("infinite", f"unit {self.name}: infinite readings")

    def __len__(self) -> int:
        return len(self.times)

    @property
    def remaining(self) -> Floats:
        """Time (n,) from each row to the last: the remaining life of a failed unit, a lower bound of a censored one."""
        return self.times[-1] - self.times

    def until(self, row: int) -> Unit:
        """The life as it was known at ``row`` (inclusive): its end is not known then."""
        return Unit(self.name, self.times[: row + 1], self.values[: row + 1], False)


@dataclass(frozen=True, slots=True)
class Histories:
    """Units that share the same channels, in the same order.

    Raises:
        BadInput: ``shape`` when a unit has another number of channels, ``duplicate`` when two have one name.
    """

    units: tuple[Unit, ...]
    channels: tuple[str, ...]

    def __post_init__(self) -> None:
        for unit in self.units:
            if unit.values.shape[1] != len(self.channels):
                raise BadInput("shape", f"unit {unit.name}: {unit.values.shape[1]} of {len(self.channels)} channels")
        if len({unit.name for unit in self.units}) != len(self.units):
            raise BadInput("duplicate", "two units have one name")

    def __len__(self) -> int:
        return len(self.units)

    def __iter__(self) -> Iterator[Unit]:
        return iter(self.units)

    @property
    def rows(self) -> int:
        """Rows of all units together."""
        return sum(len(unit) for unit in self.units)

    def pick(self, indices: Sequence[int]) -> Histories:
        """The units at ``indices``, in that order."""
        return Histories(tuple(self.units[index] for index in indices), self.channels)


@dataclass(frozen=True, slots=True)
class UnitRows:
    """The rows of several units under each other.

    ``values`` (n, channels), ``unit`` (n,) the number of the row's unit, ``row`` (n,) the row's place in its unit, from
    0, and ``life_share`` (n,) that place as a share 0..1 of the unit's rows.
    """

    values: Floats
    unit: Ints
    row: Ints
    life_share: Floats

    @classmethod
    def of(cls, units: Sequence[Unit]) -> UnitRows:
        """All rows of ``units`` (at least one)."""
        lengths = np.array([len(unit) for unit in units], dtype=np.int64)
        row = np.concatenate([np.arange(length) for length in lengths]).astype(np.int64)
        which = np.repeat(np.arange(len(units)), lengths).astype(np.int64)
        return cls(np.concatenate([unit.values for unit in units]), which, row, (row + 1.0) / lengths[which])
