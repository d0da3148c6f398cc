"""Reads the C-MAPSS turbofan files as histories: 26 columns separated by spaces, one row per engine and cycle.

Training engines run to failure; test engines stop before it, and ``RUL_<subset>.txt`` holds the cycles that remained.
Files may be compressed. A missing RUL file is no error: the true remaining cycles are ``None`` then.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fleet_core.errors import BadInput
from fleet_server.prognosis.rul.histories import Floats, Histories, Unit

SETTINGS = 3
SENSORS = 21
CHANNELS = (*(f"setting_{i + 1}" for i in range(SETTINGS)), *(f"sensor_{i + 1}" for i in range(SENSORS)))
CAP = 125.0
"""The usual cap of the remaining life, in cycles: degradation does not show earlier."""


def load_cmapss(folder: Path, subset: str) -> tuple[Histories, Histories | None, Floats | None]:
    """Train, test (None when its file is absent) and the test engines' remaining cycles (engines,), uncapped.

    Raises:
        BadInput: ``missing`` without the training file, ``columns`` when a file has another shape.
    """
    train_path = _found(folder, f"train_{subset}.txt")
    if train_path is None:
        raise BadInput("missing", f"{folder} has no train_{subset}.txt[.gz]")
    test_path, rul_path = _found(folder, f"test_{subset}.txt"), _found(folder, f"RUL_{subset}.txt")
    train = _read(train_path, failed=True)
    test = _read(test_path, failed=False) if test_path else None
    return train, test, np.loadtxt(rul_path, ndmin=1) if rul_path else None


def _found(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read(path: Path, failed: bool) -> Histories:
    table = np.loadtxt(path, ndmin=2)
    if table.shape[1] != 2 + len(CHANNELS):
        raise BadInput("columns", f"{path}: {table.shape[1]} columns, expected {2 + len(CHANNELS)}")
    starts = np.flatnonzero(np.diff(table[:, 0], prepend=-1.0))
    lives = np.split(table, starts[1:])
    units = tuple(Unit(str(int(life[0, 0])), life[:, 1].copy(), life[:, 2:].copy(), failed) for life in lives)
    return Histories(units, CHANNELS)
