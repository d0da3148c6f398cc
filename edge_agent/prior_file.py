"""Reads the file of a class's prior, which a configuration names by its path.

The path in the settings is replaced by the file's content, so that detection itself reads no disk. Failure: BadConfig
with the file's name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_agent.detection.prior.class_prior import prior_from_json
from edge_agent.files import read_bounded
from fleet_core.errors import BadConfig

SETTING = "prior"
MAX_PRIOR_BYTES = 1 << 20


def with_prior(detection: Mapping[str, Any], base_dir: Path) -> dict[str, Any]:
    """The detection's table with the content of the prior it names. The path counts from ``base_dir``.

    Raises BadConfig.
    """
    table = dict(detection)
    if isinstance(table.get(SETTING), str):
        table[SETTING] = _read(base_dir / table[SETTING])
    return table


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_bounded(path, MAX_PRIOR_BYTES)
        if content is None:
            raise BadConfig(f"there is no such file, or it is larger than {MAX_PRIOR_BYTES} bytes")
        text = content.decode("utf-8", "replace")
        prior_from_json(text)
    except OSError as error:
        raise BadConfig(f"detection.prior: {path} cannot be read: {error.strerror}") from None
    except BadConfig as error:
        raise BadConfig(f"detection.prior: {path}: {error}; make one with  fleet-models prior fit") from None
    table: dict[str, Any] = json.loads(text)
    return table
